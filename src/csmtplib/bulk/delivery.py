"""What goes into a bulk sender, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..protocol.mail_object import MailObject, mail_object
from ..protocol.outcome import Reply, State


class Job(NamedTuple):
    """A message to be sent, and the key that names it in results and in the journal.

    Keys are the caller's, and no two jobs of a campaign have the same: a campaign that is resumed
    knows by them what it has sent.
    """

    key: str | int
    mail: MailObject


@dataclass(slots=True)
class Delivery:
    """What became of a job for one recipient.

    key: of the job. recipient: the address. state: what became of it. reply: what the server said
    last of it. fault: what went wrong where it said nothing, or what ended the tries. attempts: how
    often it was sent. host: the server, as "host:port". time: Unix time of the result.
    """

    key: str | int
    recipient: str
    state: State
    reply: Reply | None
    fault: str | None
    attempts: int
    host: str | None
    time: float

    @property
    def code(self) -> int | None:
        """The code of the reply."""
        return None if self.reply is None else self.reply.code

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code of the reply (RFC 3463)."""
        return None if self.reply is None else self.reply.enhanced

    @property
    def text(self) -> str:
        """The reply without its code, and the fault, as they may be shown."""
        if self.reply is None:
            return self.fault or ""
        said = self.reply.shown
        return f"{said}; {self.fault}" if self.fault else said


def job(item: object, number: int) -> Job:
    """An item as a job; one that is none yet has its number for a key.

    Raises TypeError and ValueError for what is no message (protocol.mail_object.mail_object), and
    for a key that no journal could hold.
    """
    if type(item) is Job:
        key = item.key
        if type(key) is int:
            if not -(1 << 63) <= key < 1 << 63:
                raise ValueError(f"the key {key} has more than 64 bits")
        elif not isinstance(key, str):
            raise TypeError(f"a key is an int or a str, not {key!r}")
        elif not key.isascii():
            key.encode()
        return item
    return Job(number, mail_object(item))
