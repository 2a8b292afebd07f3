"""A job in progress: which recipients are left, and how often it was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol import mail_object
from ..protocol.envelope import mailbox_key
from ..protocol.mail_object import MailObject
from ..protocol.outcome import Reply

if TYPE_CHECKING:
    from ..protocol.result import Result


class Task:
    """A job and those of its recipients that have no result yet.

    ids: of the recipients in the journal, or None if they are not in it yet. attempts: how often
    they were sent to, including this time. first: Unix time of the first attempt. cut_offs: how
    often the connection was lost while this message was the first in progress. refusals: the last
    replies about the recipients, empty if they were not tried. result: of the attempt in progress.
    """

    __slots__ = (
        "attempts",
        "cut_offs",
        "first",
        "ids",
        "key",
        "mail",
        "recipients",
        "refusals",
        "result",
    )

    def __init__(
        self, key: str | int, mail: MailObject, recipients: list[str], unix: float
    ) -> None:
        """unix: the current Unix time."""
        self.key = key
        self.mail = mail
        self.recipients = recipients
        self.ids: list[int] | None = None
        self.attempts = 1
        self.first = unix
        self.cut_offs = 0
        self.refusals: list[Reply | None] = []
        self.result: Result | None = None

    def to_send(self) -> MailObject:
        """Return the mail object for the recipients that are left."""
        to_addrs = self.mail.to_addrs
        if len(self.recipients) == 1 and (
            to_addrs is self.recipients[0] or to_addrs == self.recipients
        ):
            return self.mail
        return self.mail._replace(to_addrs=self.recipients)

    def part(self, places: list[int]) -> Task:
        """Return a task for some of the recipients, by their places."""
        recipients = [self.recipients[at] for at in places]
        other = Task(self.key, self.mail, recipients, self.first)
        if self.ids is not None:
            other.ids = [self.ids[at] for at in places]
        if self.refusals:
            other.refusals = [self.refusals[at] for at in places]
        other.attempts = self.attempts
        other.cut_offs = self.cut_offs
        return other


def recipients_of(mail: MailObject) -> list[str]:
    """Return the recipients of an envelope, each once, ignoring the case of its domain. Raises
    TypeError if one is not an address, ValueError if there are none."""
    to_addrs = mail.to_addrs
    if type(to_addrs) is str:
        return [to_addrs]
    recipients = mail_object.recipients_of(to_addrs)
    if len(recipients) == 1:
        return recipients
    by_mailbox: dict[str, str] = {}
    for each in recipients:
        by_mailbox.setdefault(mailbox_key(each), each)
    return list(by_mailbox.values())
