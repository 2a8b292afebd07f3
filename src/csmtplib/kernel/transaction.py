"""What a pipeline of transactions is told and tells, by the same numbers in C and in Python."""

from __future__ import annotations

from enum import IntEnum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Reply: TypeAlias = tuple[int, bytes]

    # A message that is done with: its tag; the stage and the reply that decided, for all recipients
    # but those that have others, which are by their index. There is no reply for LOST and IN_DOUBT,
    # nor where all have others.
    Settled: TypeAlias = tuple[object, int, Reply | None, dict[int, tuple[int, Reply]]]


class Gear(IntEnum):
    """How many commands may leave before the reply to the first of them is there."""

    LOCKSTEP = 0  # one
    PIPELINED = 1  # MAIL, RCPT and DATA (RFC 2920), the next message's behind the content
    CHUNKED = 2  # whole transactions, by BDAT (RFC 3030)


class Stage(IntEnum):
    """What the decisive reply answered, or how the message ended without one."""

    LOST = 0  # the end of the message had not left, or the server will not come to it any more
    IN_DOUBT = 1  # it had left, and there is no telling
    MAIL = 2
    RCPT = 3
    DATA = 4
    CONTENT = 5


class Want(IntEnum):
    """What a driver is to do, as bits."""

    NOTHING = 0
    WRITE = 1
    READ = 2  # also while writing, or two full buffers wait for each other for ever


class Phase(IntEnum):
    """What is being waited for; each has a time limit of its own (RFC 5321 section 4.5.3.2)."""

    COMMAND = 0
    DATA = 1
    BLOCK = 2  # for a block of a message to leave
    CONTENT = 3


# The members as names of the module: before Python 3.12 it takes several times as long to look one
# up in its enumeration, and they are asked for at every message.
LOCKSTEP, PIPELINED, CHUNKED = Gear
LOST, IN_DOUBT, MAIL, RCPT, DATA, CONTENT = Stage
