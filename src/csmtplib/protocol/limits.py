"""How long, how large, how often: the bounds of RFC 5321 section 4.5.3 and our own."""

from __future__ import annotations

from functools import lru_cache

# Seconds that a client waits for each answer (RFC 5321 section 4.5.3.2).
GREETING_SECONDS = 300.0
COMMAND_SECONDS = 300.0
DATA_SECONDS = 120.0
BODY_SECONDS = 180.0  # for one block of a body to leave
TERMINATOR_SECONDS = 600.0
PROBE_SECONDS = 1.0  # ours: for RSET behind the first message, in addition to the round trips
EARLY_SECONDS = 30.0  # ours: for MAIL behind a message, when the reply to that is there
# Both in addition to this many times the server's slowest reply to a command so far.
EARLY_ROUND_TRIPS = 10
QUIT_SECONDS = 10.0  # ours: every message is completed by then, so there is little to wait for

# Bytes of one line of a message, its CR LF not counted (RFC 5321 section 4.5.3.1.6).
MESSAGE_LINE_BYTES = 998

# Bytes of a line of a reply, and of a reply with all its lines, line ends counted. RFC 5321 allows
# 512 for a line and does not limit replies; the stdlib accepts lines of this length, and a server
# that sends a longer reply is not answering any more.
REPLY_LINE_BYTES = 8192
REPLY_BYTES = 65536

# Bytes that are received at once: more than a reply usually has, and a memory page or two.
RECEIVE_BYTES = 8192

# Challenges of one AUTH exchange. The longest mechanism in use has three.
AUTH_CHALLENGES = 5

# Iterations of SCRAM's key derivation: fewer make stolen keys cheap to search (RFC 7677 section 4
# asks for 4096), more are a server's way to keep a client busy.
SCRAM_ITERATIONS = range(4096, 10_000_001)

# Messages that may be in progress at once on one connection, and so in doubt if it is lost, and
# their bytes that are held in memory meanwhile.
MAX_IN_FLIGHT = 100
IN_FLIGHT_BYTES = 8 << 20

# A message of more bytes waits for the server to accept its recipients: sending it in vain costs
# more than waiting.
LARGE_MESSAGE_BYTES = 1 << 18


# The error when a time limit has passed.
NO_PROGRESS = "the server sent no reply within %g s"


class Limits:
    """Time limits of a run of transactions.

    phases: seconds for each kernel.transaction.Phase. idle: seconds without a byte in either
    direction, None for no such limit. early_round_trips: a reply to what was sent early may take
    this many times as long as the slowest reply to a command so far, in addition to the seconds of
    its phase; the sum is at most that of Phase.COMMAND.
    """

    __slots__ = ("early_round_trips", "idle", "phases")

    def __init__(
        self,
        phases: tuple[float, ...],
        idle: float | None,
        early_round_trips: float = EARLY_ROUND_TRIPS,
    ) -> None:
        self.phases = phases
        self.idle = idle
        self.early_round_trips = early_round_trips


# In the order of kernel.transaction.Phase.
_PHASES = (COMMAND_SECONDS, DATA_SECONDS, BODY_SECONDS, TERMINATOR_SECONDS)
_EARLY_PHASES = (PROBE_SECONDS, EARLY_SECONDS)


@lru_cache(maxsize=64)
def at_least(timeout: float | None) -> Limits:
    """Return the limits for a socket with this timeout: that long without a byte ends the wait, as
    in smtplib; while bytes come now and then, the limit is RFC 5321's, or the timeout if that is
    longer."""
    longest = timeout or 0.0
    return Limits((*(max(longest, each) for each in _PHASES), *_EARLY_PHASES), timeout)


@lru_cache(maxsize=64)
def at_most(timeout: float | None) -> Limits:
    """Return RFC 5321's limits, or the timeout if that is shorter."""
    if timeout is None:
        return Limits((*_PHASES, *_EARLY_PHASES), None)
    return Limits(tuple(min(timeout, each) for each in (*_PHASES, *_EARLY_PHASES)), None)
