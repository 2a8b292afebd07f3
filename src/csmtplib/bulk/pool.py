"""What a pool of connections does next: how many there are, which come, which go, and how soon.

It decides and does no I/O. `now` is a reading of a monotonic clock, in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# After a sign that it is too much, the server is left so long without another connection on top.
EASE_SECONDS = 5.0

# What comes within this time is one sign, not several.
SIGN_SECONDS = 1.0

# How long nothing is sent after a sign that is about the session: twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0

# The same for connections that can't be opened.
FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0

# How long a server may be away, in a run that has seen it, before the run ends.
OUTAGE_SECONDS = 600.0

# A server that closes a connection before it has been idle so long has not done it for that.
LEAST_IDLE_SECONDS = 1.0


@dataclass(slots=True)
class Slot:
    """The account of one connection.

    used: when the server has said something to a message. rested: how long it had been idle before
    what is under way on it, of which nothing was answered yet. given, answered: messages.
    """

    opened: float
    used: float
    rested: float = 0.0
    given: int = 0
    answered: int = 0

    def give(self, now: float) -> None:
        """It takes a message."""
        if self.given == self.answered:
            self.rested = now - self.used
        self.given += 1

    def answer(self, now: float, messages: int) -> None:
        """The server has said something to so many messages."""
        self.answered += messages
        self.used = now
        self.rested = 0.0


class Pool:
    """The connections to one server."""

    def __init__(
        self,
        connections: int,
        *,
        max_per_connection: int | None,
        max_connection_seconds: float | None,
        idle_seconds: float,
    ) -> None:
        self._most = connections
        # How many there may be now.
        self.limit = connections
        self.slots: list[Slot] = []
        self.opening = 0
        self.idle_seconds = idle_seconds
        self.max_per_connection = math.inf if max_per_connection is None else max_per_connection
        self._seconds = math.inf if max_connection_seconds is None else max_connection_seconds
        self._quota = 0
        # Whether the server has let us in once.
        self.has_opened = False
        self._eased = self._signed = -math.inf
        self._pause = 0.0
        self._resumes = -math.inf
        self._failures = 0
        self._opens = -math.inf
        self._away_since: float | None = None

    # What to do

    def to_open(self, now: float, messages: int) -> int:
        """How many connections to open, for so many messages that wait or are under way."""
        if self.limit < self._most and now - self._eased >= EASE_SECONDS:
            self.limit += 1
            self._eased = now
        if now < self._opens or now < self._resumes:
            return 0
        # The first shows whether there is a server, and whether it lets us in.
        limit = min(messages, self.limit if self.has_opened else 1)
        return max(0, limit - len(self.slots) - self.opening)

    def resumes_in(self, now: float) -> float:
        """Seconds in which nothing is to be sent."""
        return max(0.0, self._resumes - now)

    def opens_in(self, now: float) -> float:
        """Seconds in which no connection is to be opened."""
        return max(0.0, self._opens - now, self._resumes - now)

    def room(self, slot: Slot) -> float:
        """How many messages more the connection may take."""
        return self.max_per_connection - slot.given

    def is_spent(self, slot: Slot, now: float) -> bool:
        """Whether the connection, on which nothing is under way, is to be closed."""
        return (
            slot.given >= self.max_per_connection
            or len(self.slots) > self.limit
            or now - slot.opened >= self._seconds
            or now - slot.used >= self.idle_seconds
        )

    def is_away(self, now: float) -> bool:
        """Whether the server has been away for too long to be waited for."""
        since = self._away_since
        return since is not None and not self.slots and now - since >= OUTAGE_SECONDS

    # What has happened

    def begun(self) -> None:
        """A connection is being opened."""
        self.opening += 1

    def opened(self, now: float) -> Slot:
        """It is open."""
        self.opening -= 1
        self.has_opened = True
        self._failures = 0
        self._opens = -math.inf
        self._away_since = None
        slot = Slot(now, now)
        self.slots.append(slot)
        return slot

    def failed(self, now: float, *, is_busy: bool) -> None:
        """It could not be opened. is_busy: the server says that it has too many."""
        self.opening -= 1
        if is_busy:
            self.limit = max(1, min(self.limit, len(self.slots)))
            self._eased = now
        # Those that fail together are one failure.
        if now >= self._opens:
            self._opens = now + min(LONGEST_DELAY, FIRST_DELAY * 2.0**self._failures)
            self._failures = min(self._failures + 1, 20)
        if self._away_since is None and not self.slots:
            self._away_since = now

    def closed(self, slot: Slot, now: float, *, by_server: bool, with_421: bool = False) -> None:
        """A connection is closed. with_421: the server has said so."""
        self.slots.remove(slot)
        if not by_server:
            return
        if slot.rested >= LEAST_IDLE_SECONDS:
            self.idle_seconds = min(self.idle_seconds, max(slot.rested / 2, LEAST_IDLE_SECONDS))
        elif with_421 and slot.answered and slot.answered == self._quota:
            # Twice the same number is no accident: from now on we close first.
            self.max_per_connection = min(self.max_per_connection, self._quota)
        elif with_421:
            self._quota = slot.answered
            self.throttled(now, pause=not slot.answered)

    def throttled(self, now: float, *, pause: bool) -> None:
        """The server has shown that it is too much. pause: it has not to do with a recipient."""
        self._eased = now
        if now - self._signed >= SIGN_SECONDS:
            self._signed = now
            self.limit = max(1, min(self.limit, len(self.slots)) // 2)
        if pause and now >= self._resumes:
            self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self._pause))
            self._resumes = now + self._pause

    def accepted(self) -> None:
        """Messages were accepted: what had been too much is so no more."""
        if self._pause:
            self._pause = self._pause / 2 if self._pause > FIRST_PAUSE else 0.0
