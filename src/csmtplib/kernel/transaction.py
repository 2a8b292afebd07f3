"""The values that a pipeline takes and returns, with the same numbers in C and in Python."""

from __future__ import annotations

from enum import IntEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from typing_extensions import Buffer

    BytesLike: TypeAlias = Buffer
    Reply: TypeAlias = tuple[int, bytes]

    # A message that is done: its tag; the stage and the reply that decided for all recipients
    # without a reply of their own; the stages and replies of single recipients, by index. There is
    # no reply for LOST and IN_DOUBT, nor if every recipient has its own.
    Completed: TypeAlias = tuple[object, int, Reply | None, dict[int, tuple[int, Reply]]]


class Mode(IntEnum):
    """How many commands may be sent before the reply to the first of them."""

    SEQUENTIAL = 0  # one
    PIPELINING = 1  # MAIL, RCPT and DATA (RFC 2920); the next message's follow the content
    CHUNKING = 2  # whole transactions, with BDAT (RFC 3030)


class Step(IntEnum):
    """How early a command may be sent. A host proves each step before more depends on it."""

    ALONE = 0  # after every reply
    FLIGHT = 1  # with the other commands of its envelope
    WHOLE = 2  # with its whole transaction (BDAT)
    NEXT = 3  # behind the end of the message before it


# The last step of each mode.
LAST_STEP: dict[int, Step] = {
    Mode.SEQUENTIAL: Step.ALONE,
    Mode.PIPELINING: Step.NEXT,
    Mode.CHUNKING: Step.NEXT,
}


class Stage(IntEnum):
    """The command whose reply decided the fate of a message, or how it ended without one."""

    LOST = 0  # its end was not sent, or the server will not process it any more
    IN_DOUBT = 1  # its end was sent, but no reply came
    MAIL = 2
    RCPT = 3
    DATA = 4
    CONTENT = 5


class Want(IntEnum):
    """The next action of the driver, as bits."""

    NOTHING = 0
    WRITE = 1
    READ = 2  # also while writing: otherwise two full buffers may wait for each other for ever


class Phase(IntEnum):
    """The event that the pipeline waits for, each with a time limit (RFC 5321 section 4.5.3.2)."""

    COMMAND = 0
    DATA = 1
    BLOCK = 2  # until a block of a message is written
    CONTENT = 3
    PROBE = 4  # the reply to the first RSET behind the end of a message
    EARLY = 5  # the reply to a MAIL that was sent behind the end of a message


def is_success(code: int) -> bool:
    """Return whether a code reports success, by its first digit, as a client reads codes that it
    does not know (RFC 5321 sections 4.2.1 and 4.3.2). But 220 is a greeting and 221 a farewell;
    neither answers a command of a transaction."""
    return 200 <= code <= 299 and code not in (220, 221)


# The members as names of the module, as they are needed for every message: before Python 3.12,
# looking one up in its enumeration takes several times as long.
SEQUENTIAL, PIPELINING, CHUNKING = Mode
LOST, IN_DOUBT, MAIL, RCPT, DATA, CONTENT = Stage
ALONE, FLIGHT, WHOLE, NEXT = Step
