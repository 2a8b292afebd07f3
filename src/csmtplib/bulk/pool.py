"""The policy of a pool: how many connections there are, and when they are opened and closed.

It decides, without I/O. `now` is a reading of a monotonic clock, in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# After a sign of overload, no connection is added for this long.
EASE_SECONDS = 5.0

# Signs of overload within this time count as one.
SIGN_SECONDS = 1.0

# How long nothing is sent after a sign that concerns the session: twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0

# The same for connections that can't be opened.
FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0

# The run ends if a server that was reached before stays away for this long.
OUTAGE_SECONDS = 600.0

# If a server closes a connection that was idle for less, idleness was not the reason.
LEAST_IDLE_SECONDS = 1.0


@dataclass(slots=True)
class ConnectionStatistics:
    """The history of one connection, in numbers.

    opened: when. used: when the server last replied to a message. rested: how long the connection
    was idle before the messages in progress, if none of them has a reply yet. given, answered:
    messages. begun: messages whose MAIL the server accepted; without any, the connection is fresh.
    accepted: messages accepted for all recipients.
    """

    opened: float
    used: float
    rested: float = 0.0
    given: int = 0
    answered: int = 0
    begun: int = 0
    accepted: int = 0

    @property
    def in_progress(self) -> int:
        """Messages that were given and not answered."""
        return self.given - self.answered

    @property
    def waits_since(self) -> float:
        """Since when the messages in progress wait for a reply."""
        return self.used + self.rested

    def give(self, now: float, messages: int) -> None:
        """Count messages that the connection was given."""
        if self.given == self.answered:
            self.rested = now - self.used
        self.given += messages

    def answer(self, now: float, messages: int) -> None:
        """Count messages to which the server has replied."""
        self.answered += messages
        self.used = now
        self.rested = 0.0


class _Quota:
    """The server's limit for messages of one kind per connection, as observed.

    most: infinite until two connections have ended after the same number: once may be an accident.
    """

    def __init__(self) -> None:
        self.most = math.inf
        self._met = 0

    def met(self, count: int) -> bool:
        """Note that a connection has ended after `count` messages. Return whether that is the
        server's limit."""
        is_known = count > 0 and count in (self._met, self.most)
        if is_known:
            self.most = min(self.most, count)
        self._met = count
        return is_known


class Pool:
    """The connections to one server, as far as the policy knows them.

    limit: how many there may be now. open: the statistics of those that are open. opening: how many
    are being opened. pause: the seconds of the last pause after a sign of overload, halved, down to
    0, as messages are accepted. has_opened: whether the server was reached before. has_no_quota:
    whether connections take any number of messages.
    """

    def __init__(
        self,
        connections: int,
        *,
        max_per_connection: int | None,
        max_connection_seconds: float | None,
        idle_seconds: float,
    ) -> None:
        self._most = connections
        self.limit = connections
        self.open: list[ConnectionStatistics] = []
        self.opening = 0
        self.idle_seconds = self._asked_idle = idle_seconds
        self._per_connection = math.inf if max_per_connection is None else max_per_connection
        self._seconds = math.inf if max_connection_seconds is None else max_connection_seconds
        self._forget_quotas()
        self._replaced = -math.inf
        self.has_opened = False
        self._eased = self._signed = -math.inf
        self.pause = 0.0
        self._resumes = -math.inf
        self._failures = 0
        self._opens = -math.inf
        self._away_since: float | None = None

    @property
    def max_per_connection(self) -> float:
        """How many messages a connection takes: the option, or fewer if that was learned."""
        return min(self._per_connection, self._begun.most)

    @property
    def learned(self) -> list[str]:
        """The server's limits as learned so far, in words."""
        limits = []
        most = min(self._begun.most, self._accepted.most)
        if most < self._per_connection:
            limits.append(f"it takes {most:.0f} messages per connection")
        if self.idle_seconds < self._asked_idle:
            limits.append(
                "it closes idle connections; they are closed first, "
                f"after {self.idle_seconds:.1f} s"
            )
        if self.limit < self._most:
            limits.append(f"it has room for {self.limit} of {self._most} connections now")
        return limits

    # What to do

    def to_open(self, now: float, messages: int) -> int:
        """Return how many connections to open. messages: those waiting or in progress."""
        if self.limit < self._most and now - self._eased >= EASE_SECONDS:
            self.limit += 1
            self._eased = now
        if now < self._opens or now < self._resumes:
            return 0
        # The first connection shows whether the server can be reached, and opens sessions.
        limit = min(messages, self.limit if self.has_opened else 1)
        return max(0, limit - len(self.open) - self.opening)

    def resumes_in(self, now: float) -> float:
        """Return the seconds until sending may resume."""
        return max(0.0, self._resumes - now)

    def room(self, statistics: ConnectionStatistics) -> float:
        """Return how many more messages the connection may take."""
        if self.has_no_quota:
            return math.inf
        return min(
            self._per_connection - statistics.given,
            self._begun.most - statistics.begun - statistics.in_progress,
            self._accepted.most - statistics.accepted - statistics.in_progress,
        )

    def is_spent(self, statistics: ConnectionStatistics, now: float) -> bool:
        """Return whether a connection without messages in progress is to be closed."""
        return (
            self.room(statistics) <= 0
            or len(self.open) > self.limit
            or now - statistics.opened >= self._seconds
            or now - statistics.used >= self.idle_seconds
        )

    @property
    def away_since(self) -> float | None:
        """Since when no connection can be opened and none is left, or None."""
        return None if self.open else self._away_since

    def is_away(self, now: float) -> bool:
        """Return whether the server has been away for too long to wait for it."""
        since = self._away_since
        return since is not None and not self.open and now - since >= OUTAGE_SECONDS

    # What happens

    def begun(self) -> None:
        """Note that a connection is being opened."""
        self.opening += 1

    def opened(self, now: float) -> ConnectionStatistics:
        """Note that a connection is open. Return its statistics."""
        self.opening -= 1
        self.has_opened = True
        self._failures = 0
        self._opens = -math.inf
        self._away_since = None
        statistics = ConnectionStatistics(now, now)
        self.open.append(statistics)
        return statistics

    def failed(self, now: float, *, is_busy: bool) -> None:
        """Note that one could not be opened. is_busy: the server says that it has too many."""
        self.opening -= 1
        if is_busy:
            self.limit = max(1, min(self.limit, len(self.open)))
            self._eased = now
        # Connections that fail together count as one failure.
        if now >= self._opens:
            self._opens = now + min(LONGEST_DELAY, FIRST_DELAY * 2.0**self._failures)
            self._failures = min(self._failures + 1, 20)
        if self._away_since is None and not self.open:
            self._away_since = now

    def closed(
        self,
        statistics: ConnectionStatistics,
        now: float,
        *,
        by_server: bool,
        with_421: bool = False,
    ) -> None:
        """Note that a connection is closed. with_421: the server announced it with that reply."""
        self.open.remove(statistics)
        if statistics.given == statistics.answered:
            statistics.rested = now - statistics.used
        if (
            by_server
            and not self._was_idle(statistics)
            and with_421
            and not self._met_quota(statistics)
        ):
            self.throttled(now, pause=not statistics.answered)

    def replaced(self, statistics: ConnectionStatistics, now: float) -> None:
        """Note that a connection is closed because the server begins no more messages on it, after
        it has begun some: that is no sign of overload, and another one is opened at once."""
        self.open.remove(statistics)
        self._replaced = now
        if not self._was_idle(statistics):
            self._met_quota(statistics)

    def refused_fresh(self, now: float) -> None:
        """Note that the server begins no message on a fresh connection. If another one was replaced
        just before, the reason was not its number of messages."""
        if now - self._replaced < EASE_SECONDS:
            self._forget_quotas()

    def _was_idle(self, statistics: ConnectionStatistics) -> bool:
        """Return whether a connection has ended because it was idle, and learn from that."""
        if statistics.rested < LEAST_IDLE_SECONDS:
            return False
        self.idle_seconds = min(self.idle_seconds, max(statistics.rested / 2, LEAST_IDLE_SECONDS))
        return True

    def _met_quota(self, statistics: ConnectionStatistics) -> bool:
        """Return whether a connection has ended after as many messages as the server is known to
        allow. From the second time on, connections are closed before that."""
        # Some servers count messages that were begun, others those that were accepted.
        begun, accepted = self._begun.met(statistics.begun), self._accepted.met(statistics.accepted)
        self._note_quotas()
        return begun or accepted

    def _forget_quotas(self) -> None:
        self._begun, self._accepted = _Quota(), _Quota()
        self._note_quotas()

    def _note_quotas(self) -> None:
        # Looked up often.
        quotas = (self._per_connection, self._begun.most, self._accepted.most)
        self.has_no_quota = math.isinf(min(quotas))

    def throttled(self, now: float, *, pause: bool) -> None:
        """Reduce the load: the server signalled overload. pause: also stop sending for a while."""
        self._eased = now
        if now - self._signed >= SIGN_SECONDS:
            self._signed = now
            self.limit = max(1, min(self.limit, len(self.open)) // 2)
        if pause and now >= self._resumes:
            self.pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * self.pause))
            self._resumes = now + self.pause

    def accepted(self) -> None:
        """Note that messages were accepted: the server is no longer overloaded."""
        self.pause = self.pause / 2 if self.pause > FIRST_PAUSE else 0.0
