"""Jobs that another thread hands over, in the place of an iterable that is asked for them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class NothingYet(Exception):
    """There is no job now; there may be one later."""


class Inbox:
    """Jobs on their way from another thread to a run.

    The other thread calls put() while has_room(), and end(), and may stop() the run; on_room is
    called, in the thread of the run, when there is room again.

    stop_request: the reason for which the run is to stop, and whether at once; None if it is not.
    """

    def __init__(
        self, wake: Callable[[], object], on_room: Callable[[], object], *, size: int
    ) -> None:
        """wake: ends the wait of the run. size: how many jobs may wait here."""
        self._wake = wake
        self._on_room = on_room
        self._size = size
        self._jobs: deque[object] = deque()
        self._is_over = False
        self._error: BaseException | None = None
        self.stop_request: tuple[str, bool] | None = None

    def has_room(self) -> bool:
        """Return whether put() may be called."""
        return len(self._jobs) < self._size

    def put(self, job: object) -> None:
        """Hand over a job."""
        self._jobs.append(job)
        if len(self._jobs) == 1:
            # Otherwise there were some already, and the run has been woken for them.
            self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """Hand over no more. error: what asking for the next job has raised."""
        if not self._is_over:
            self._error = error
            self._is_over = True
        self._wake()

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """Have this run stop, and no other, as BulkSender.stop() does."""
        self.stop_request = reason, at_once
        self.end()

    @property
    def is_waiting(self) -> bool:
        """Whether the run has taken all jobs, and more may come."""
        return not self._jobs and not self._is_over

    def take(self) -> object:
        """Return the next job. Raises NothingYet; StopIteration or the error after the last."""
        is_over = self._is_over  # first, as the last job comes before it
        try:
            job = self._jobs.popleft()
        except IndexError:
            if not is_over:
                raise NothingYet from None
            raise (self._error or StopIteration) from None
        if len(self._jobs) == self._size // 2:
            self._on_room()
        return job
