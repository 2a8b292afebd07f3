from collections.abc import Callable, Sequence
from typing import final

from typing_extensions import Self

from ..kernel import Pipeline

@final
class Line:
    """A connection that is run, by its descriptor."""

    def __new__(
        cls, pipeline: Pipeline, fd: int, phases: Sequence[float], idle: float | None, /
    ) -> Self:
        """phases: seconds for each transaction.Phase. idle: seconds without an octet, or None."""

def run(
    line: Line,
    target: int,
    receive_octets: int,
    seconds: float | None,
    before_content: Callable[[], object] | None,
    /,
) -> None:
    """Runs a line, without the GIL, until `target` messages are left, the connection is lost, or so
    many seconds have passed, where that is not None. Content that is held is released, after
    `before_content` was called, where that is not None.

    receive_octets: how much is read at once. Raises what a signal handler raises.
    """

def run_together(
    lines: Sequence[Line],
    targets: Sequence[int],
    wake: int,
    receive_octets: int,
    seconds: float,
    /,
) -> None:
    """Runs several lines, without the GIL, until one of them has no more than its target of
    messages left or is lost, for so many seconds, or until there is something to read from the
    descriptor `wake`. Time between the runs is left out of the limits.

    receive_octets: how much is read at once. Raises what a signal handler raises.
    """
