"""A job on its way: which recipients are left, and how often it was tried."""

from __future__ import annotations

from ..protocol.mail_object import MailObject
from .delivery import Job


class Task:
    """A job and those of its recipients that have no result yet.

    ids: of the recipients in the journal, None where they are not in it yet. attempts: how often
    they were sent, this time counted. first: Unix time of the first attempt. cut_offs: how often
    the connection was lost with this message the first one under way.
    """

    __slots__ = ("attempts", "cut_offs", "first", "ids", "key", "mail", "recipients")

    def __init__(self, job: Job, recipients: list[str], *, now: float) -> None:
        self.key, self.mail = job
        self.recipients = recipients
        self.ids: list[int] | None = None
        self.attempts = 1
        self.first = now
        self.cut_offs = 0

    def to_send(self) -> MailObject:
        """The mail object for the recipients that are left."""
        to_addrs = self.mail.to_addrs
        if len(self.recipients) == 1 and (
            to_addrs is self.recipients[0] or to_addrs == self.recipients
        ):
            return self.mail
        return self.mail._replace(to_addrs=self.recipients)

    def part(self, places: list[int]) -> Task:
        """A task for some of the recipients, by their places."""
        other = Task(
            Job(self.key, self.mail), [self.recipients[at] for at in places], now=self.first
        )
        if self.ids is not None:
            other.ids = [self.ids[at] for at in places]
        other.attempts = self.attempts
        other.cut_offs = self.cut_offs
        return other


def recipients_of(mail: MailObject) -> list[str]:
    """The recipients of an envelope, each once. Raises ValueError where there is none."""
    to_addrs = mail.to_addrs
    if isinstance(to_addrs, str):
        return [to_addrs]
    recipients = list(to_addrs)
    if not recipients:
        raise ValueError("the message has no recipient")
    return recipients if len(recipients) == 1 else list(dict.fromkeys(recipients))
