from collections.abc import Callable, Sequence
from typing import final

from typing_extensions import Self

from ..kernel import Content, Pipeline

@final
class Connection:
    """A connection to run, by its descriptor."""

    def __new__(
        cls,
        pipeline: Pipeline,
        fd: int,
        phases: Sequence[float],
        idle: float | None,
        early_round_trips: float,
        quick_acks: bool = True,
        end_cuts_off: bool = False,
        /,
    ) -> Self:
        """phases, idle, early_round_trips: as in protocol.limits.Limits. quick_acks: acknowledge
        replies at once while more are expected. end_cuts_off: a last reply without a line end is
        none, also where the pipeline is not strict."""

    @property
    def gap(self) -> float:
        """Return the longest wait between two replies to one flight, in seconds."""

    @property
    def seconds_left(self) -> float:
        """Return how long the connection may wait by its time limits, after a run of 0 s that did
        not end it."""

def run(
    connection: Connection,
    target: int,
    receive_bytes: int,
    seconds: float | None,
    before_content: Callable[[], Content | None] | None,
    /,
) -> None:
    """Run a connection, without the GIL, until `target` messages are left, the connection is lost,
    or `seconds` have passed, unless that is None. If content is held, call `before_content`, unless
    that is None, and release the content. What `before_content` returns replaces it, unless that is
    None.

    receive_bytes: the size of one read. Raises what a signal handler raises.
    """

def run_together(
    connections: Sequence[Connection],
    targets: Sequence[int],
    wake: int,
    receive_bytes: int,
    seconds: float,
    /,
) -> None:
    """Run several connections, without the GIL, until one of them is lost or has at most its target
    of messages left, until `seconds` have passed, or until the descriptor `wake` becomes readable,
    unless that is negative. Time between the runs does not count for the limits.

    receive_bytes: the size of one read. Raises what a signal handler raises.
    """
