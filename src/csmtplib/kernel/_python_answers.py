"""The meaning of the replies to the pure pipeline."""

from __future__ import annotations

from ._python_sending import PART_START, PROBE, Sending
from .errors import (
    CLOSED,
    CLOSED_IN_CONTENT,
    NO_CHUNKING,
    ChunkingRefused,
    SessionClosed,
    unexpected,
)
from .transaction import CHUNKING, CONTENT, DATA, FLIGHT, IN_DOUBT, LOST, MAIL, RCPT, is_success

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._python import ReplyBuffer
    from ._python_message import Message
    from .transaction import Reply

# Indices into errors.UNEXPECTED.
_SURPLUS, _PREMATURE, _INVALID_CODE, _UNEXPECTED_SUCCESS = range(4)

# The replies of a server that does not know BDAT at all.
_UNKNOWN_COMMAND = range(500, 505)


class Answers(Sending):
    def __init__(
        self,
        replies: ReplyBuffer,
        mode: int,
        lmtp: bool,
        strict: bool,
        proof: int,
        large: int,
    ) -> None:
        super().__init__(mode, lmtp, strict, proof, large)
        self._replies = replies
        self._reset_refused = False  # the last reply was 554 to RSET

    def _book(self, code: int, text: bytes) -> None:
        self.booked += 1
        self._reset_refused = False
        head = self._expected[0] if self._expected else None
        is_due = head is not None and head[0] <= self._written
        message = head[2] if head is not None else None
        if code >= 400 and self._is_inside_content():
            # The server does not want the rest of the message.
            assert message is not None
            if message.stage == LOST:
                message.reply = (code, text)
                message.stage = CONTENT
            self._fail(
                SessionClosed(CLOSED_IN_CONTENT, code, text)
                if code == 421
                else unexpected(_PREMATURE, code, text),
                in_doubt=True,
            )
            return
        if head is None or not is_due:
            if code == 421:
                self._close(code, text)
            else:
                self._fail(unexpected(_SURPLUS, code, text), in_doubt=True)
            return
        if not (200 <= code <= 599 if self.strict else not 100 <= code <= 199):
            self._fail(unexpected(_INVALID_CODE, code, text), in_doubt=True)
            return
        kind, index = head[1], head[3]
        if self.strict and not _may_answer(kind, code, message):
            self._fail(unexpected(_UNEXPECTED_SUCCESS, code, text), in_doubt=True)
            return
        if message is None:
            self._expected.popleft()
            self._reset_refused = code == 554
            if kind == PROBE:
                self._steps.book_probe(is_success(code))
        else:
            self._answer(message, kind, index, (code, text))
        if code == 421:
            self._close(code, text)
        elif self.failure is None:
            self._complete_answered()

    def _refuse_surplus(self) -> None:
        """Fail if the buffer holds the beginning of a reply that answers nothing: it would be taken
        for the answer to what is written next."""
        if not self.strict or not len(self._replies):
            return
        begun = self._replies.peek(len(self._replies))
        head = self._expected[0] if self._expected else None
        if head is not None and head[0] <= self._written:
            return
        if self._is_inside_content() and begun[:1] in b"45":
            # A refusal of this content, which can't be taken for anything else.
            return
        if begun[:3] == b"421"[: len(begun)]:
            self._close(421, begun[4:])
        else:
            self._fail(unexpected(_SURPLUS, 0, begun), in_doubt=True)

    def _close(self, code: int, text: bytes) -> None:
        self._fail(SessionClosed(CLOSED, code, text), in_doubt=False)

    def _is_inside_content(self) -> bool:
        """Whether a part of the content that waits for a reply next has been sent, but not all of
        it. Only then may a refusal be about that content.

        What the server says before is about the session: for example, it gives up on an idle
        client.
        """
        if not self._expected:
            return False
        due, kind, message, _ = self._expected[0]
        if kind != CONTENT or due <= self._written:
            return False
        assert message is not None
        count = message.content.byte_count
        if self._mode == CHUNKING:
            count += len(b"BDAT %d LAST\r\n" % count)
        return self._written > due - count

    def _answer(self, message: Message, kind: int, index: int, reply: Reply) -> None:
        if kind == CONTENT and message.accepted:
            if self._is_bdat_unknown(message, reply[0]):
                error = ChunkingRefused(NO_CHUNKING, b"%d %b" % reply)
                self._fail(error, in_doubt=False)
                return
            if self._lmtp and len(message.accepted) > 1:
                has_more = self._answer_next_recipient(message, reply)
                if has_more:
                    return
        self._expected.popleft()
        message.unanswered -= 1
        if kind == MAIL:
            self._answer_mail(message, reply)
        elif kind == RCPT:
            self._answer_rcpt(message, index, reply)
        elif kind == DATA:
            self._answer_data(message, reply)
        elif kind == CONTENT:
            self._answer_content(message, reply)

    def _is_bdat_unknown(self, message: Message, code: int) -> bool:
        """Whether this is how a server answers BDAT that does not know the command at all."""
        is_unproved = self._mode == CHUNKING and self._steps.proof < FLIGHT
        return is_unproved and message.answered == message.recipients and code in _UNKNOWN_COMMAND

    def _is_accepted(self, command: int, code: int) -> bool:
        """Whether the server has carried out MAIL or RCPT. smtplib goes by the codes that RFC 5321
        names."""
        if self.strict:
            return is_success(code)
        return code == 250 or (code == 251 and command == RCPT)

    def _answer_mail(self, message: Message, reply: Reply) -> None:
        if not self._is_accepted(MAIL, reply[0]):
            message.reply = reply
            message.stage = MAIL
            self._steps.doubt(message, MAIL, reply)

    def _answer_rcpt(self, message: Message, index: int, reply: Reply) -> None:
        message.answered += 1
        if self._is_accepted(RCPT, reply[0]):
            message.accepted.append(index)
        elif message.stage != MAIL:
            message.has_uncounted_success = message.has_uncounted_success or is_success(reply[0])
            message.own_replies[index] = (int(RCPT), reply)
            self._steps.doubt(message, RCPT, reply)
        doubted = message.doubted
        if doubted is not None and message.accepted and not message.retried:
            self._steps.clear_doubt(message)

    def _answer_data(self, message: Message, reply: Reply) -> None:
        message.data_ok = reply[0] == 354
        if message.data_ok:
            # The server would deliver whatever comes next: from the sender that it refused, or an
            # empty message to a recipient that it accepted with a code that does not count.
            is_from_nobody = message.stage == MAIL and bool(message.accepted)
            is_for_nobody = not message.accepted and message.has_uncounted_success
            if is_from_nobody or is_for_nobody:
                self._fail(unexpected(_UNEXPECTED_SUCCESS, *reply), in_doubt=True)
        elif message.stage == LOST:
            message.reply = reply
            message.stage = DATA
            if message.accepted:
                self._steps.doubt(message, DATA, reply)

    def _answer_content(self, message: Message, reply: Reply) -> None:
        is_refused = not is_success(reply[0])
        if message.accepted and is_refused:
            self._steps.doubt(message, CONTENT, reply)
        has_own = len(message.own_replies) == message.recipients
        if message.accepted and message.stage == LOST and not has_own:
            message.reply = reply
            message.stage = CONTENT
        if not is_refused:
            self._steps.prove_content(message)
        elif self.strict and self._must_reset and self._part == PART_START and reply[0] != 421:
            # No message that waits may find the transaction open.
            self._send_reset()

    def _answer_next_recipient(self, message: Message, reply: Reply) -> bool:
        """Book the reply for one recipient of an LMTP message (RFC 2033 section 4.2). Return
        whether there are more to come."""
        if is_success(reply[0]):
            self._steps.prove_content(message)
        finals = message.answered - message.recipients
        message.own_replies[message.accepted[finals]] = (int(CONTENT), reply)
        message.answered += 1
        has_more = finals + 1 < len(message.accepted)
        if has_more and reply[0] == 421 and message.stage == LOST:
            # The server may have stored the message for the others.
            message.stage = IN_DOUBT
        return has_more


def _may_answer(kind: int, code: int, message: Message | None) -> bool:
    """Whether a reply can be the answer to the command that waits for one: any refusal can.

    To book another one all the same would be to report a message as accepted that was never sent.
    """
    if code >= 400:
        return True
    if kind == RCPT:
        assert message is not None
        return is_success(code) and message.stage != MAIL
    if kind == DATA:
        return code == 354
    return is_success(code)
