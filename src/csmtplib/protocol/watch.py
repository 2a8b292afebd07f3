"""The time limits of a pipeline: how long its driver may wait. csmtp_watch is its twin in C."""

from __future__ import annotations

from ..kernel.transaction import Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel import Pipeline
    from .limits import Limits

# By names of the module, see kernel.transaction.
_COMMAND, _DATA, _BLOCK, _CONTENT, _PROBE, _EARLY = Phase


class Watch:
    """Time limits of what a pipeline waits for. It has no clock: each call passes the time.

    gap: the longest wait so far between two reads of replies to one flight, in seconds.
    allowed_seconds: the whole of the limit that is reached next.
    """

    __slots__ = (
        "_allowed",
        "_booked",
        "_phase",
        "_phase_since",
        "_pipeline",
        "_progress_since",
        "_read_at",
        "_slowest_reply",
        "allowed_seconds",
        "gap",
    )

    def __init__(self, pipeline: Pipeline, allowed: Limits, now: float) -> None:
        self._pipeline = pipeline
        self._allowed = allowed
        self._phase_since = self._progress_since = now
        self._phase = pipeline.phase()
        self._booked = pipeline.booked
        # When replies were read last since anything was written.
        self._read_at: float | None = None
        self._slowest_reply = 0.0
        self.gap = 0.0
        self.allowed_seconds = 0.0

    def shift(self, seconds: float) -> None:
        """Leave out this much time: the driver was not running."""
        self._phase_since += seconds
        self._progress_since += seconds
        if self._read_at is not None:
            self._read_at += seconds

    def note(self, now: float, wrote: bool, read: bool) -> float:
        """Note what happened since the last call; return the seconds that are left."""
        phase, booked = self._pipeline.phase(), self._pipeline.booked
        is_booked = booked != self._booked
        if is_booked and self._phase in (_COMMAND, _DATA):
            self._slowest_reply = max(self._slowest_reply, now - self._phase_since)
        if is_booked or phase != self._phase or (wrote and phase == _BLOCK):
            self._phase_since = now
        if wrote:
            self._progress_since = now
            self._read_at = None
        if read:
            if self._read_at is not None:
                self.gap = max(self.gap, now - self._read_at)
            self._progress_since = self._read_at = now
        self._phase, self._booked = phase, booked
        allowed = self._allowed
        seconds = allowed.phases[phase]
        if phase in (_PROBE, _EARLY):
            seconds = self._seconds_early(seconds)
        self.allowed_seconds = seconds
        left = self._phase_since + seconds - now
        idle = allowed.idle
        if idle is not None and self._progress_since + idle - now < left:
            self.allowed_seconds = idle
            left = self._progress_since + idle - now
        return left

    def _seconds_early(self, seconds: float) -> float:
        """Return how long the reply to what was sent early may take, given the least."""
        longest = self._allowed.phases[_COMMAND]
        return min(seconds + self._allowed.early_round_trips * self._slowest_reply, longest)
