"""How early commands may be sent to a host: what it has proved to handle, and what it has not.

A step that the host has not proved yet is tried with something that can't be lost: the first
envelope, whose refusal is doubted at first; one whole BDAT transaction with no other behind it; a
RSET behind the end of a message. If a refusal may be about sending early and not about the message,
the pipeline sends the message again, one command at a time. The second reply shows which it was.
"""

from __future__ import annotations

import re

from .transaction import (
    ALONE,
    CHUNKING,
    CONTENT,
    DATA,
    FLIGHT,
    LAST_STEP,
    MAIL,
    NEXT,
    RCPT,
    WHOLE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._python_message import Message
    from .transaction import Reply

# An enhanced status code at the start of a reply's text (RFC 3463 section 2).
_ENHANCED = re.compile(rb"([45])\.([0-9])\.([0-9]{1,2})")


class Steps:
    __slots__ = ("answers_behind", "doubts", "limit", "lmtp", "mode", "proof", "strict")

    def __init__(self, mode: int, lmtp: bool, strict: bool, proof: int) -> None:
        self.mode = mode
        self.lmtp = lmtp
        self.strict = strict
        self.proof = int(proof)
        self.limit = int(LAST_STEP[mode])
        # The number of messages whose refusal may be about sending early.
        self.doubts = 0
        # The host has answered a RSET behind the end of a message.
        self.answers_behind = False

    def restrict(self, limit: int) -> None:
        """Lower the limit, and the proof if it is above that."""
        self.limit = min(self.limit, limit)
        self.proof = min(self.proof, self.limit)

    def learn(self, proof: int, limit: int) -> None:
        """Take over what other connections to the host have shown."""
        self.proof = max(self.proof, proof)
        self.restrict(limit)

    def prove(self, step: int) -> None:
        """Note that the host has handled a step."""
        if self.proof < step <= self.limit:
            self.proof = int(step)
        before_next = WHOLE if self.mode == CHUNKING else FLIGHT
        if self.answers_behind and self.proof >= before_next and self.limit == NEXT:
            self.proof = int(NEXT)

    def prove_content(self, message: Message) -> None:
        """Note that the host has handled the step that the content was sent by."""
        self.prove(WHOLE if message.streamed else FLIGHT)

    def may_stream(self) -> bool:
        """Whether whole transactions may be sent without waiting for the replies to RCPT."""
        return self.mode == CHUNKING and self.limit >= WHOLE and self.proof >= FLIGHT

    def should_probe(self, message: Message, is_last: bool) -> bool:
        """Whether to send a RSET behind a message now, to see whether the host answers what follows
        the end of one."""
        # RSET can do no harm there; behind BDAT it has to be sent before the next message anyway.
        if not self.strict or self.lmtp or message.retried or is_last:
            return False
        if self.mode == CHUNKING and self.proof < FLIGHT:
            # First the host has to show that it supports BDAT.
            return False
        return self.proof < NEXT == self.limit and not self.answers_behind

    def book_probe(self, is_success: bool) -> None:
        """Note the reply to that RSET."""
        if not is_success:
            self.restrict(WHOLE)
            return
        self.answers_behind = True
        self.prove(self.proof)

    def doubt(self, message: Message, command: int, reply: Reply) -> None:
        """Note that a refusal may be about sending early, if it may."""
        left_early = message.sent_early
        if command in (RCPT, DATA):
            left_early = left_early or self.proof < FLIGHT or reply[0] == 503
        elif command == CONTENT:
            left_early = message.streamed and not self.lmtp
        is_open = message.doubted is None and not message.retried
        if left_early and is_open and self.limit > ALONE and _is_about_order(command, *reply):
            message.doubted = (int(command), reply[0], message.answered - 1, message.sent_early)
            self.doubts += 1

    def clear_doubt(self, message: Message) -> None:
        """Note that a refusal is about what the command says: others sent with it were accepted."""
        message.doubted = None
        self.doubts -= 1

    def resolve_doubt(self, message: Message) -> None:
        """Draw the conclusion from a message that was sent again, one command at a time."""
        assert message.doubted is not None
        self.doubts -= 1
        if not _is_refused_again(message):
            command, _, _, early = message.doubted
            limit = WHOLE if early else ALONE
            self.restrict(FLIGHT if command == CONTENT else limit)


def _is_refused_again(message: Message) -> bool:
    """Whether the doubted reply has come again although nothing was sent early.

    A RCPT is only doubted where no other was accepted, so one that is accepted now was refused for
    being early.
    """
    assert message.doubted is not None
    stage, code, index, _ = message.doubted
    if stage == RCPT:
        at, reply = message.own_replies.get(index, (None, None))
        return not message.accepted and at == RCPT and reply is not None and reply[0] == code
    return message.stage == stage and message.reply is not None and message.reply[0] == code


def _is_about_order(command: int, code: int, text: bytes) -> bool:
    """Whether a refusal can be about the order of commands (RFC 5321 section 4.2.4).

    An enhanced code tells: x.5.z is about the protocol, but x.5.3 about the number of recipients
    (RFC 3463 section 3.6). Without one, 554 to MAIL is how servers turn away clients that talk too
    early; to other commands it is about the message.
    """
    if not 400 <= code <= 599:
        return False
    is_sequence = 500 <= code <= 503
    enhanced = _ENHANCED.match(text)
    if enhanced is None or int(enhanced[1]) != code // 100:
        return is_sequence or (code == 554 and command == MAIL)
    if enhanced[2] == b"0":
        return is_sequence
    return enhanced[2] == b"5" and enhanced[3] != b"3"
