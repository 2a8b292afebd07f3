"""One message of the pure pipeline: its commands and content, and what the server has answered."""

from __future__ import annotations

from .transaction import LOST, MAIL, RCPT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._python_content import Content
    from .transaction import Completed, Reply


class Message:
    __slots__ = (
        "accepted",
        "answered",
        "commands",
        "content",
        "data_ok",
        "doubted",
        "has_uncounted_success",
        "in_flight",
        "own_replies",
        "recipients",
        "reply",
        "retried",
        "sent",
        "sent_early",
        "stage",
        "streamed",
        "tag",
        "terminator",
        "unanswered",
    )

    def __init__(self, tag: object, commands: Sequence[bytes], content: Content) -> None:
        self.tag = tag
        self.commands = list(commands)
        self.content = content
        self.recipients = len(self.commands) - 1
        self.unanswered = 0
        # MAIL was sent before the replies to everything before it.
        self.sent_early = False
        # RCPT got a 2xx code that smtplib does not know.
        self.has_uncounted_success = False
        # The message is sent again, one command at a time.
        self.retried = False
        # The command whose refusal may be about sending early, the code, the index of the recipient
        # if it was RCPT, and sent_early then.
        self.doubted: tuple[int, int, int, bool] | None = None
        self.forget_answers()

    def forget_answers(self) -> None:
        """Forget every reply, to send the message again or to call it unsent."""
        self.stage: int = LOST
        self.reply: Reply | None = None
        # Replies of single recipients, by index.
        self.own_replies: dict[int, tuple[int, Reply]] = {}
        self.answered = 0
        self.accepted: list[int] = []
        self.data_ok = False
        # Some commands were sent before the replies to others.
        self.in_flight = False
        # The offset in everything written from which on the content may be complete.
        self.terminator: int | None = None
        # The content was sent before the replies to RCPT.
        self.streamed = False
        self.sent = False

    def is_cut_short(self) -> bool:
        """Whether commands were sent together, and not all were answered. Some hosts lose commands
        that follow close behind others; then nobody knows which reply answers which command."""
        is_partial = self.unanswered > 0 and not self.data_ok and self.stage != MAIL
        return is_partial and self.in_flight and self.terminator is None

    def forget_refusals(self) -> None:
        """Forget the replies that refused recipients, except 421, which is about the session."""
        self.own_replies = {
            index: own for index, own in self.own_replies.items() if own[1][0] == 421
        }

    def has_no_recipient(self) -> bool:
        """Whether it is known that no recipient will get the message."""
        if self.stage != LOST:
            return True
        return self.answered == self.recipients and not self.accepted

    def outcome(self) -> Completed:
        """Return what to report of the message, which is done."""
        if len(self.own_replies) == self.recipients:
            stages = {stage for stage, _ in self.own_replies.values()}
            self.stage = max(stages, default=RCPT)
            self.reply = None
        return self.tag, int(self.stage), self.reply, self.own_replies
