from collections.abc import Callable, Sequence

from ..kernel import Pipeline

def run(
    pipeline: Pipeline,
    fd: int,
    target: int,
    phases: Sequence[float],
    idle: float | None,
    receive_octets: int,
    seconds: float | None,
    before_content: Callable[[], object] | None,
) -> None:
    """Runs a pipeline over a descriptor, without the GIL, until `target` messages are left, the
    connection is lost, or so many seconds have passed, where that is not None. Content that is held
    is released, after `before_content` was called, where that is not None.

    phases: seconds for each transaction.Phase. idle: seconds without an octet, or None.
    receive_octets: how much is read at once. Raises what a signal handler raises.
    """
