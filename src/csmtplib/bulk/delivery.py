"""Jobs, which go into a bulk sender, and deliveries, which come out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..protocol.mail_object import MailObject, mail_object
from ..protocol.outcome import Reply, State


class Job(NamedTuple):
    """A message to be sent, and the key that names it in results and in the journal.

    You choose the keys. Each job of a campaign needs its own: by the keys, a resumed campaign knows
    what it has sent. Within a run, a second job with the same key is rejected.
    """

    key: str | int
    mail: MailObject


@dataclass(slots=True)
class Delivery:
    """The result of a job for one recipient.

    key: of the job. recipient: the address. state: the result. reply: the server's last reply about
    it. fault: what went wrong if there is no reply, or why there is no further attempt. attempts:
    how often it was sent, 0 if it was not tried. host: the server, as "host:port". time: Unix time
    of the result.
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
        """The code of the reply, or None."""
        return None if self.reply is None else self.reply.code

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code of the reply (RFC 3463), or None."""
        return None if self.reply is None else self.reply.enhanced

    @property
    def text(self) -> str:
        """The reply without its code, and the fault, safe to print."""
        if self.reply is None:
            return self.fault or ""
        said = self.reply.shown
        return f"{said}; {self.fault}" if self.fault else said


def keyed_mail(job: Job) -> tuple[str | int, MailObject]:
    """Return the key and the mail object of a job.

    Raises TypeError and ValueError for an invalid message (see protocol.mail_object), and for a key
    that no journal can hold.
    """
    key, mail = job
    if type(key) is int:
        if not -(1 << 63) <= key < 1 << 63:
            raise ValueError(f"the key {key} has more than 64 bits")
    elif not isinstance(key, str):
        raise TypeError(f"key must be an int or a str, not {key!r}")
    elif not key.isascii():
        key.encode()
    return key, mail if type(mail) is MailObject else mail_object(mail)
