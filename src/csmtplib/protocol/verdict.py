"""The outcome of a transaction in the terms of smtplib: what sendmail() returns, or raises."""

from __future__ import annotations

from enum import Enum
from smtplib import SMTPDataError, SMTPException, SMTPRecipientsRefused, SMTPSenderRefused

from ..kernel.errors import SessionClosed
from ..kernel.transaction import CONTENT, DATA, IN_DOUBT, LOST, MAIL, RCPT
from .failures import disconnected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from ..kernel.transaction import Completed, Reply

    Refusals: TypeAlias = dict[str, Reply]


class Ending(Enum):
    """The end of a transaction: what has to be done on the connection."""

    NOTHING = 0
    RESET = 1  # RSET: the transaction may still be open
    CLOSE = 2


# By names of the module, see kernel.transaction.
NOTHING, RESET, CLOSE = Ending


def is_taken(code: int) -> bool:
    """Return whether a reply to RCPT accepts the recipient, by the codes that smtplib knows."""
    return code in (250, 251)


class Verdict:
    """The outcome of one transaction.

    refused: the recipients that were refused, each with the reply. error: what sendmail() raises,
    None if it returns `refused`. ending: what has to be done first. replies: what the server
    answered to the content for each recipient (LMTP); None in SMTP, and if LMTP has kept them
    already, one by one.
    """

    __slots__ = ("ending", "error", "refused", "replies")

    def __init__(self) -> None:
        self.refused: Refusals = {}
        self.error: SMTPException | None = None
        self.ending = NOTHING
        self.replies: Refusals | None = None

    def refuse_sender(self, reply: Reply, from_addr: str) -> None:
        """Note that MAIL was refused."""
        self.error = SMTPSenderRefused(*reply, from_addr)
        self._end_after(reply[0])

    def refuse_recipient(self, recipient: str, reply: Reply) -> bool:
        """Note that RCPT was refused; return whether the server thereby closes the session."""
        self.refused[recipient] = reply
        if reply[0] != 421:
            return False
        self.error = SMTPRecipientsRefused(self.refused)
        self.ending = CLOSE
        return True

    def refuse_all(self) -> None:
        """Note that no recipient was accepted."""
        self.error = SMTPRecipientsRefused(self.refused)
        self.ending = RESET

    def refuse_message(self, error: SMTPDataError) -> None:
        """Note that DATA or the content was refused."""
        # Unlike the stdlib, reset (or close after 421) also if DATA itself is refused.
        self.error = error
        self._end_after(error.smtp_code)

    def _end_after(self, code: int) -> None:
        self.ending = CLOSE if code == 421 else RESET

    def answer_content(self, replies: Refusals) -> None:
        """Note the replies to the content, one for each recipient that was accepted (LMTP)."""
        self.replies = replies
        reply = reply_for_all(replies)
        if reply[0] != 250:
            self.refuse_message(SMTPDataError(*reply))
        else:
            self.refused.update(refused_after_content(replies))


def judge(
    completed: Completed,
    failure: Exception | None,
    from_addr: str,
    recipients: Sequence[str],
    *,
    lmtp: bool = False,
) -> Verdict:
    """Return the verdict on a transaction that a pipeline has run; failure: of the pipeline."""
    verdict = Verdict()
    if lmtp:
        verdict.replies = {}
    _, stage, reply, others = completed
    if stage == MAIL:
        assert reply is not None
        verdict.refuse_sender(reply, from_addr)
    else:
        for index, (its_stage, its_reply) in others.items():
            if its_stage == RCPT:
                verdict.refused[recipients[index]] = its_reply
        if stage == RCPT:
            verdict.refuse_all()
        elif failure is not None and stage in (LOST, IN_DOUBT):
            _judge_failure(verdict, completed, failure, from_addr, recipients, lmtp=lmtp)
        elif lmtp and stage == CONTENT:
            verdict.answer_content(_replies_to_content(completed, recipients))
        else:
            assert reply is not None
            if stage == DATA or reply[0] != 250:
                verdict.refuse_message(SMTPDataError(*reply))
    if failure is not None:
        verdict.ending = CLOSE
    return verdict


def _judge_failure(
    verdict: Verdict,
    completed: Completed,
    failure: Exception,
    from_addr: str,
    recipients: Sequence[str],
    *,
    lmtp: bool,
) -> None:
    """Judge a transaction whose connection was lost before the message was answered."""
    others = completed[3]
    if isinstance(failure, SessionClosed) and len(verdict.refused) < len(others):
        # LMTP, between two replies to the content: 421 stands for those that are missing.
        last = (None, int(CONTENT), failure.reply, others)
        verdict.answer_content(_replies_to_content(last, recipients))
        return
    if lmtp:
        verdict.replies = _replies_to_content(completed, recipients)
    if not isinstance(failure, SessionClosed):
        verdict.error = disconnected(failure)
        verdict.error.__cause__ = failure
    elif verdict.refused:
        verdict.error = SMTPRecipientsRefused(verdict.refused)
    else:
        # 421 came before the transaction: in the stdlib it answers the first command.
        verdict.error = SMTPSenderRefused(*failure.reply, from_addr)


# LMTP


def _replies_to_content(completed: Completed, recipients: Sequence[str]) -> Refusals:
    _, stage, reply, others = completed
    replies: Refusals = {}
    for index, recipient in enumerate(recipients):
        its_stage, its_reply = others.get(index, (stage, reply))
        if its_stage == CONTENT and its_reply is not None:
            keep_reply(replies, recipient, its_reply)
    return replies


def keep_reply(replies: Refusals, recipient: str, reply: Reply) -> None:
    """Add the reply to the content for a recipient. One that was named twice has the message if it
    was accepted once."""
    if replies.get(recipient, reply)[0] != 250 or reply[0] == 250:
        replies[recipient] = reply


def reply_for_all(replies: Refusals) -> Reply:
    """Return the reply that stands for those of all recipients: 250 if anybody has the message."""
    answers = replies.values()
    return next((each for each in answers if each[0] == 250), next(iter(answers)))


def refused_after_content(replies: Refusals) -> Refusals:
    """Return the recipients that the server refused once it had the message."""
    return {each: reply for each, reply in replies.items() if reply[0] != 250}
