"""The sending side of the pure pipeline, up to where a message is done."""

from __future__ import annotations

from collections import deque

from ._python_steps import Steps
from .transaction import (
    ALONE,
    CHUNKING,
    CONTENT,
    DATA,
    FLIGHT,
    IN_DOUBT,
    LOST,
    MAIL,
    NEXT,
    RCPT,
    WHOLE,
    Phase,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._python_message import Message
    from .transaction import Completed

# Commands that decide nothing about a message, in addition to transaction.Stage.
RSET, LONE_DOT, PROBE = -1, -2, -3

# What is to be sent next of a message.
PART_START, PART_MAIL, PART_RCPT, PART_DATA, PART_CONTENT = range(5)


class Sending:
    def __init__(self, mode: int, lmtp: bool, strict: bool, proof: int, large: int) -> None:
        self.strict = strict
        self._mode = mode
        self._lmtp = lmtp
        self._large = large
        self._steps = Steps(mode, lmtp, strict, proof)
        self._held = not strict and not (mode == CHUNKING and proof > ALONE)
        self.failure: Exception | None = None
        self._failed_in: int = Phase.BLOCK
        self.byte_count = 0
        self.booked = 0
        self._messages: deque[Message] = deque()
        self._unsent: deque[Message] = deque()
        self._current: Message | None = None  # the one being sent
        self._retry: Message | None = None  # the first of all, if it is sent again
        self._completed: list[Completed] = []
        self._segments: deque[bytes | memoryview] = deque()
        # How many bytes have to be written before the reply can be the answer, the command that it
        # answers, its message, the index of the recipient.
        self._expected: deque[tuple[int, int, Message | None, int]] = deque()
        self._emitted = self._written = 0
        self._handed = 0  # how many bytes may have been sent: at least those written
        self._part = PART_START
        self._recipient = 0
        self._must_reset = False

    def _phase(self) -> int:
        if self.failure is not None:
            return self._failed_in
        if not self._expected or self._expected[0][0] > self._written:
            return Phase.BLOCK
        _, kind, message, _ = self._expected[0]
        if kind == DATA:
            return Phase.DATA
        if kind == PROBE:
            return Phase.PROBE
        if kind == MAIL and message is not None and message.sent_early and self._mode != CHUNKING:
            return Phase.EARLY
        return Phase.CONTENT if kind in (CONTENT, LONE_DOT) else Phase.COMMAND

    def _send(self, data: bytes, kind: int, message: Message | None = None, index: int = 0) -> None:
        self._segments.append(data)
        self._emitted += len(data)
        self._expect(kind, message, index)

    def _expect(self, kind: int, message: Message | None, index: int) -> None:
        self._expected.append((self._emitted, kind, message, index))
        if message is not None:
            message.unanswered += 1

    def _send_reset(self, kind: int = RSET) -> None:
        self._must_reset = False
        self._send(b"RSET\r\n", kind)

    def _advance(self) -> None:
        """Send what may be sent by now."""
        message = self._next_message()
        while message is not None and not self._must_wait(message):
            if self._send_next_part(message):
                continue
            if message is self._retry:
                self._retry = None
            else:
                self._unsent.popleft()
            self._part = PART_START
            self._current = None
            message.sent = True
            self._complete_answered()
            message = self._next_message()

    def _next_message(self) -> Message | None:
        """Return the message that is being sent, or is next to be sent."""
        if self._current is not None:
            return self._current
        if self._retry is not None:
            return self._retry
        return self._unsent[0] if self._unsent else None

    def _must_wait(self, message: Message) -> bool:
        """Whether the next part of a message must wait, usually for replies to what was sent
        before."""
        if not self._expected:
            return self._held and self._is_held(message)
        steps = self._steps
        if steps.limit == ALONE or message.retried:
            return True
        if self._part == PART_START:
            # If an LMTP server sent too few replies to a message, its replies to the next one would
            # be taken for the missing ones.
            is_large = message.content.byte_count > self._large
            may_follow = steps.proof == NEXT or (steps.answers_behind and is_large)
            return not may_follow or self._lmtp or steps.doubts > 0
        if self._part != PART_CONTENT:
            return False
        return not steps.may_stream() or message.content.byte_count > self._large

    def _is_held(self, message: Message) -> bool:
        is_asked_for = message.data_ok or self._mode == CHUNKING
        is_content = self._part == PART_CONTENT and bool(message.accepted) and not self._expected
        return self._held and is_content and is_asked_for

    def _send_next_part(self, message: Message) -> bool:
        """Send the next part of a message. Return False after the last."""
        if self._part == PART_START:
            self._part = PART_MAIL
            self._current = message
            message.sent_early = bool(self._expected)
            if self._must_reset:
                self._send_reset()
        elif self._part == PART_MAIL:
            self._part = PART_RCPT
            self._recipient = 0
            self._send(message.commands[0], MAIL, message)
        elif self._part == PART_RCPT and message.stage != MAIL:
            index = self._recipient
            self._recipient += 1
            message.in_flight = message.in_flight or bool(self._expected)
            self._send(message.commands[1 + index], RCPT, message, index)
            if self._recipient == message.recipients:
                self._part = PART_CONTENT if self._mode == CHUNKING else PART_DATA
        elif message.has_no_recipient() and not message.data_ok:
            if self.strict:
                # The transaction may still be open.
                self._send_reset()
            return False
        elif self._part == PART_DATA:
            self._part = PART_CONTENT
            # As smtplib writes it, like the other commands that the pipeline is given then.
            self._send(b"DATA\r\n" if self.strict else b"data\r\n", DATA, message)
        else:
            self._send_content(message)
            return False
        return True

    def _send_content(self, message: Message) -> None:
        content = message.content
        if self._mode == CHUNKING:
            # If BDAT fails, what becomes of the transaction is up to the server (RFC 3030 section
            # 2), and another message must not be sent in it.
            self._must_reset = True
            command = b"BDAT %d LAST\r\n" % content.byte_count
            self._segments.append(command)
            self._emitted += len(command)
        elif not message.accepted:
            # The server wants a message for no recipient. It gets an empty one and nothing else.
            self._send(b".\r\n", LONE_DOT, message)
            return
        message.streamed = message.answered < message.recipients
        # An empty chunk is complete with its command.
        message.terminator = self._emitted + content.terminator
        self._segments.extend(content.chunks)
        self._emitted += content.byte_count
        self._expect(CONTENT, message, 0)
        if self._steps.should_probe(message, message is self._messages[-1]):
            self._send_reset(PROBE)

    def _complete_answered(self) -> None:
        """Complete the messages at the head that have all their replies, or send one again."""
        while self._messages and self._messages[0].sent and not self._messages[0].unanswered:
            message = self._messages[0]
            if message.doubted is not None and self.strict:
                if not message.retried:
                    message.forget_answers()
                    message.retried = True
                    self._retry = message
                    return
                self._steps.resolve_doubt(message)
            self._complete(self._messages.popleft())

    def _complete(self, message: Message) -> None:
        self.byte_count -= message.content.byte_count
        self._completed.append(message.outcome())

    def _complete_all(self, in_doubt: bool) -> None:
        """Complete all messages; no reply will come any more."""
        left = max(self._written, self._handed)
        while self._messages:
            message = self._messages.popleft()
            if message.doubted is not None and not message.retried and self.strict:
                message.forget_answers()
            elif self.strict and message.is_cut_short():
                message.forget_refusals()
            if (
                in_doubt
                and message.stage == LOST
                and message.terminator is not None
                and left > message.terminator
            ):
                message.stage = IN_DOUBT
            self._complete(message)

    def _fail(self, error: Exception, *, in_doubt: bool) -> None:
        self._failed_in = self._phase()
        self.failure = error
        self._steps.restrict(self._limit_after(error))
        self._complete_all(in_doubt)
        self._expected.clear()
        self._segments.clear()
        self._unsent.clear()
        self._current = self._retry = None

    def _limit_after(self, error: Exception) -> int:
        """Return the last step that is not under suspicion after the loss of the connection."""
        is_silent = isinstance(error, TimeoutError)
        if self._failed_in == Phase.PROBE or (self._failed_in == Phase.EARLY and is_silent):
            return WHOLE
        if is_silent and self._failed_in in (Phase.COMMAND, Phase.DATA):
            # The host has answered some commands but not all: some hosts lose commands that follow
            # close behind others.
            return ALONE if self._steps.proof < FLIGHT and self.booked else NEXT
        return NEXT
