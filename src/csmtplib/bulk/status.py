"""The state of a run, and requests to stop it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A fraction of rejected recipients applies once this many have a result.
_SHARE_OF = 100


@dataclass(slots=True)
class Status:
    """The state of a run, in recipients.

    taken: recipients of the messages taken from the caller. accepted, rejected, in_doubt: their
    results. waiting: deferred, to be tried again. suppressed: left out because of the suppression
    list. completed_before: left out because the journal has their result from a former run.
    in_doubt_before: left out because a former run left them in doubt and nobody has decided yet.
    connections: open now. stopped: why the run ends early, or None.
    """

    taken: int = 0
    accepted: int = 0
    rejected: int = 0
    in_doubt: int = 0
    waiting: int = 0
    suppressed: int = 0
    completed_before: int = 0
    in_doubt_before: int = 0
    connections: int = 0
    stopped: str | None = None

    @property
    def queued(self) -> int:
        """Recipients taken that are being sent, or wait for their first try."""
        completed = self.accepted + self.rejected + self.in_doubt
        return self.taken - completed - self.waiting


class StopRequest:
    """A request to stop the current run, or the next one. Any thread and signal handlers may make
    it.

    reason: why, or None if there is no request. at_once: messages in progress are given up.
    """

    __slots__ = ("at_once", "reason")

    def __init__(self) -> None:
        self.reason: str | None = None
        self.at_once = False

    def make(self, reason: str, *, at_once: bool = False) -> None:
        """Ask the run to stop. The first reason stands."""
        if self.reason is None:
            self.reason = reason
        self.at_once = self.at_once or at_once


class Rejections:
    """Counts rejected recipients in a status, and stops the run when there are too many."""

    def __init__(
        self, status: Status, max_failed: float | None, stop: Callable[[str], object]
    ) -> None:
        """max_failed: a value below 1 is a fraction of the recipients that have a result."""
        self._status = status
        self._most = math.inf if max_failed is None else max_failed
        self._stop = stop

    def count(self) -> None:
        """Count another rejected recipient."""
        status, most = self._status, self._most
        status.rejected += 1
        if most < 1:
            completed = status.rejected + status.accepted
            most = most * completed if completed >= _SHARE_OF else math.inf
        if status.rejected >= most:
            self._stop(f"{status.rejected} recipients were rejected")
