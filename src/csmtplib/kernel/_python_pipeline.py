"""The transaction table in pure Python: same names, same results, octet for octet, as
`_c_pipeline`."""

from __future__ import annotations

from collections import deque

from . import _python
from .errors import (
    ChunkingRefused,
    ReplyError,
    SessionClosed,
    unexpected,
)
from .transaction import CHUNKED, CONTENT, DATA, IN_DOUBT, LOCKSTEP, LOST, MAIL, RCPT, Phase, Want

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from . import Octets
    from .transaction import Reply, Settled

# Indices into errors.UNEXPECTED.
_SURPLUS, _PREMATURE, _NO_SMTP, _WRONG_SUCCESS = range(4)

# What a reply is to answer, beside the stages of a message.
_RSET, _NOBODY = -1, -2

# What is to be sent next of a message.
_START, _MAIL, _RCPT, _DATA, _CONTENT = range(5)

# The replies of a server that does not know BDAT at all.
_UNKNOWN_COMMAND = range(500, 505)


class Content:
    """The octets of one message, as they go over the wire."""

    __slots__ = ("chunks", "has_8bit", "has_nul", "longest_line", "octets", "size", "terminator")

    def __init__(
        self, buffers: bytes | Iterable[Octets], dots: bool, end: bytes | None = None, /
    ) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.longest_line = 0
        self.has_nul = self.has_8bit = False
        pieces = [buffers] if isinstance(buffers, bytes) else buffers
        whole = filter(None, map(_python._as_bytes, pieces))
        if end is None:
            end = self._encode(whole, dots)
        else:
            self.chunks.extend(whole)
        text = sum(map(len, self.chunks))
        self.octets = text + len(end)
        # From where on there is no telling whether the server has it all: the first octet of what
        # may end it, or the last of a chunk that BDAT has counted.
        self.terminator = text if dots else self.octets - 1
        if end:
            self.chunks.append(end)

    def _encode(self, buffers: Iterable[bytes], dots: bool) -> bytes:
        encoder = _python.BodyEncoder(dots)
        open_line = gained = 0
        at_line_start = True
        for chunk in buffers:
            self.has_nul = self.has_nul or b"\0" in chunk
            self.has_8bit = self.has_8bit or not chunk.isascii()
            lines = list(map(len, chunk.replace(b"\r", b"\n").split(b"\n")))
            lines[0] += open_line
            open_line = lines[-1]
            self.longest_line = max(self.longest_line, *lines)
            encoded = encoder.encode(chunk)
            if dots:
                gained += encoded.count(b"\n..") + (at_line_start and encoded.startswith(b".."))
                at_line_start = encoded.endswith(b"\n")
            self.size += len(encoded)
            self.chunks.append(encoded)
        end = encoder.finish()
        # Neither the dots that lines have gained count, nor the terminator (RFC 1870 section 5).
        self.size += len(end) - gained - (len(b".\r\n") if dots else 0)
        return end


class _Message:
    __slots__ = (
        "accepted",
        "answered",
        "begins",
        "commands",
        "content",
        "data_ok",
        "others",
        "recipients",
        "reply",
        "sent",
        "stage",
        "tag",
        "terminator",
        "unanswered",
    )

    def __init__(self, tag: object, commands: Sequence[bytes], content: Content) -> None:
        self.tag = tag
        self.commands = list(commands)
        self.content = content
        self.stage: int = LOST
        self.reply: Reply | None = None
        self.others: dict[int, tuple[int, Reply]] = {}
        self.recipients = len(self.commands) - 1
        self.answered = 0
        self.accepted: list[int] = []
        self.data_ok = False
        # Offsets in all that is written: of the content, and from where on it may be complete.
        self.begins: int | None = None
        self.terminator: int | None = None
        self.sent = False
        self.unanswered = 0


class Pipeline:
    """The transactions of one connection, without I/O."""

    def __init__(
        self,
        replies: _python.ReplyBuffer,
        gear: int,
        lmtp: bool,
        strict: bool,
        proved: bool,
        large: int,
        /,
    ) -> None:
        self._replies = replies
        self._gear = gear
        self._lmtp = lmtp
        self.strict = strict
        self._large = large
        self._held = not strict and not (gear == CHUNKED and proved)
        self.proved = proved
        self.failure: Exception | None = None
        self._failed_in: int = Phase.BLOCK
        self.octets = 0
        self.booked = 0
        self._messages: deque[_Message] = deque()
        self._unsent: deque[_Message] = deque()
        self._settled: list[Settled] = []
        self._segments: deque[bytes | memoryview] = deque()
        self._expected: deque[tuple[int, int, _Message | None, int]] = deque()
        self._emitted = self._written = self._pulled = 0
        self._step = _START
        self._recipient = 0
        self._must_reset = False

    def __len__(self) -> int:
        return len(self._messages)

    def push(self, tag: object, commands: Sequence[bytes], content: Content, /) -> None:
        if len(commands) < 2:
            raise ValueError("a transaction needs MAIL and at least one RCPT")
        message = _Message(tag, commands, content)
        self._messages.append(message)
        self.octets += content.octets
        if self.failure is None:
            self._unsent.append(message)
            self._advance()
        else:
            self._settle_all(in_doubt=False)

    def release(self) -> None:
        self._held = False
        if self.failure is None:
            self._advance()

    # For the driver

    def want(self) -> int:
        return (Want.WRITE if self._segments else 0) | (Want.READ if self._expected else 0)

    def phase(self) -> int:
        if self.failure is not None:
            return self._failed_in
        if not self._expected or self._expected[0][0] > self._written:
            return Phase.BLOCK
        kind = self._expected[0][1]
        if kind == DATA:
            return Phase.DATA
        return Phase.CONTENT if kind in (CONTENT, _NOBODY) else Phase.COMMAND

    def pull(self, limit: int, /) -> bytes:
        taken: list[bytes | memoryview] = []
        if self._pulled:
            limit = min(limit, self._pulled)
        for segment in self._segments:
            if len(segment) >= limit:
                taken.append(memoryview(segment)[:limit])
                break
            taken.append(segment)
            limit -= len(segment)
        pulled = b"".join(taken)
        self._pulled = len(pulled)
        return pulled

    def wrote(self, count: int, /) -> None:
        if self.failure is not None:
            return
        if count > self._emitted - self._written:
            raise ValueError("more was written than there is to write")
        if count:
            self._pulled = 0
        self._written += count
        while count:
            first = self._segments[0]
            if count < len(first):
                self._segments[0] = memoryview(first)[count:]
                return
            count -= len(first)
            self._segments.popleft()

    def receive(self) -> None:
        while self.failure is None:
            try:
                reply = self._replies.reply()
            except ReplyError as error:
                self.lose(error)
                return
            if reply is None:
                self._refuse_surplus()
                return
            self._book(*reply)
            if self.failure is None:
                self._advance()

    def _refuse_surplus(self) -> None:
        """What has begun and answers nothing would be taken for the answer to what is written
        next."""
        begun = self._replies.peek(len(self._replies))
        head = self._expected[0] if self._expected else None
        if not self.strict or not begun or (head is not None and head[0] <= self._written):
            return
        if head is not None and head[1] == CONTENT and begun[:1] in b"45":
            # A refusal in the midst of the message, which can't be taken for more than that.
            return
        if begun[:3] == b"421"[: len(begun)]:
            self._closed(421, begun[4:])
        else:
            self._fail(unexpected(_SURPLUS, 0, begun), in_doubt=True)

    def lose(self, error: Exception, /) -> None:
        if self.failure is None:
            self._fail(error, in_doubt=True)

    def end_of_stream(self) -> None:
        if not self.strict and self._replies.end_of_stream():
            self.receive()
        self.lose(EOFError("the server closed the connection"))

    def take(self) -> list[Settled]:
        settled, self._settled = self._settled, []
        return settled

    # What leaves

    def _send(
        self, octets: bytes, kind: int, message: _Message | None = None, index: int = 0
    ) -> None:
        self._segments.append(octets)
        self._emitted += len(octets)
        self._expect(kind, message, index)

    def _expect(self, kind: int, message: _Message | None, index: int) -> None:
        self._expected.append((self._emitted, kind, message, index))
        if message is not None:
            message.unanswered += 1

    def _advance(self) -> None:
        while self._unsent and not self._waits():
            message = self._unsent[0]
            if self._step_on(message):
                continue
            self._unsent.popleft()
            self._step = _START
            message.sent = True
            self._settle_answered()

    def _waits(self) -> bool:
        """Whether the next step waits for something: mostly for the answers to those before."""
        message = self._unsent[0]
        if not self._expected:
            is_asked_for = message.data_ok or self._gear == CHUNKED
            is_content = self._step == _CONTENT and bool(message.accepted)
            return self._held and is_content and is_asked_for
        if self._gear == LOCKSTEP:
            return True
        if self._step == _START:
            # An LMTP server that answers for fewer recipients than it should would have what it
            # says to the next message taken for the rest.
            return not self.proved or self._lmtp
        if self._step != _CONTENT:
            return False
        is_streamed = self._gear == CHUNKED and self.proved
        return not is_streamed or message.content.octets > self._large

    def _step_on(self, message: _Message) -> bool:
        """Sends what comes next of a message; False where there is nothing more of it."""
        if self._step == _START:
            self._step = _MAIL
            if self._must_reset:
                self._must_reset = False
                self._send(b"RSET\r\n", _RSET)
        elif self._step == _MAIL:
            self._step = _RCPT
            self._recipient = 0
            self._send(message.commands[0], MAIL, message)
        elif self._step == _RCPT and message.stage != MAIL:
            index = self._recipient
            self._recipient += 1
            self._send(message.commands[1 + index], RCPT, message, index)
            if self._recipient == message.recipients:
                self._step = _CONTENT if self._gear == CHUNKED else _DATA
        elif self._nobody_is_left(message) and not message.data_ok:
            if self.strict:
                # The transaction may still be open.
                self._send(b"RSET\r\n", _RSET)
            return False
        elif self._step == _DATA:
            self._step = _CONTENT
            # As smtplib writes it, like the commands that the pipeline is given then.
            self._send(b"DATA\r\n" if self.strict else b"data\r\n", DATA, message)
        else:
            self._send_content(message)
            return False
        return True

    def _nobody_is_left(self, message: _Message) -> bool:
        """Whether it is known that the message is for nobody any more."""
        if message.stage != LOST:
            return True
        return message.answered == message.recipients and not message.accepted

    def _send_content(self, message: _Message) -> None:
        content = message.content
        if self._gear == CHUNKED:
            # What becomes of a transaction whose BDAT fails is up to the server (RFC 3030 section
            # 2), and another message must not be sent in it.
            self._must_reset = True
            command = b"BDAT %d LAST\r\n" % content.octets
            self._segments.append(command)
            self._emitted += len(command)
        elif not message.accepted:
            # The server wants a message for nobody; it gets an empty one, and that is all it gets.
            self._send(b".\r\n", _NOBODY, message)
            return
        message.begins = self._emitted
        # An empty chunk is complete with its command.
        message.terminator = self._emitted + content.terminator
        self._segments.extend(content.chunks)
        self._emitted += content.octets
        self._expect(CONTENT, message, 0)

    # What comes

    def _book(self, code: int, text: bytes) -> None:
        self.booked += 1
        head = self._expected[0] if self._expected else None
        is_due = head is not None and head[0] <= self._written
        message = head[2] if head is not None else None
        if head is not None and not is_due and head[1] == CONTENT and code >= 400:
            # In the midst of the message: the server has heard enough.
            assert message is not None
            if message.stage == LOST:
                message.stage, message.reply = CONTENT, (code, text)
            self._fail(
                SessionClosed("the server refuses a message that it has not got", code, text)
                if code == 421
                else unexpected(_PREMATURE, code, text),
                in_doubt=True,
            )
            return
        if head is None or not is_due:
            if code == 421:
                self._closed(code, text)
            else:
                self._fail(unexpected(_SURPLUS, code, text), in_doubt=True)
            return
        if not (200 <= code <= 599 if self.strict else not 100 <= code <= 199):
            self._fail(unexpected(_NO_SMTP, code, text), in_doubt=True)
            return
        kind, index = head[1], head[3]
        if self.strict and not _may_answer(kind, code, message):
            self._fail(unexpected(_WRONG_SUCCESS, code, text), in_doubt=True)
            return
        if message is None:
            self._expected.popleft()
        else:
            self._answer(message, kind, index, (code, text))
        if code == 421:
            self._closed(code, text)
        elif self.failure is None:
            self._settle_answered()

    def _answer(self, message: _Message, kind: int, index: int, reply: Reply) -> None:
        code = reply[0]
        finals = message.answered - message.recipients
        is_content = kind == CONTENT and bool(message.accepted)
        is_unproved = self._gear == CHUNKED and not self.proved
        if is_content and is_unproved and not finals and code in _UNKNOWN_COMMAND:
            error = ChunkingRefused("the server does not know BDAT", b"%d %b" % reply)
            self._fail(error, in_doubt=False)
            return
        if is_content and self._lmtp and len(message.accepted) > 1:
            # One reply a recipient (RFC 2033 section 4.2).
            self.proved = self.proved or 200 <= code <= 299
            message.others[message.accepted[finals]] = (int(CONTENT), reply)
            message.answered += 1
            if finals + 1 < len(message.accepted):
                if code == 421 and message.stage == LOST:
                    # The server has the message, and may have stored it for them.
                    message.stage = IN_DOUBT
                return
        self._expected.popleft()
        message.unanswered -= 1
        if kind == MAIL:
            if code != 250:
                message.stage, message.reply = MAIL, reply
        elif kind == RCPT:
            message.answered += 1
            if code in (250, 251):
                message.accepted.append(index)
            elif message.stage != MAIL:
                message.others[index] = (int(RCPT), reply)
        elif kind == DATA:
            message.data_ok = code == 354
            if message.data_ok:
                if message.stage == MAIL and message.accepted:
                    # It would deliver whatever comes next, in the name of whom it refused.
                    self._fail(unexpected(_WRONG_SUCCESS, *reply), in_doubt=True)
            elif message.stage == LOST:
                message.stage, message.reply = DATA, reply
        elif kind == CONTENT:
            self._answer_content(message, reply)

    def _answer_content(self, message: _Message, reply: Reply) -> None:
        code = reply[0]
        has_own = len(message.others) == message.recipients
        if message.accepted and message.stage == LOST and not has_own:
            message.stage, message.reply = CONTENT, reply
        if 200 <= code <= 299:
            self.proved = True
        elif self.strict and self._must_reset and self._step == _START and code != 421:
            # Nothing that waits may find the transaction open.
            self._must_reset = False
            self._send(b"RSET\r\n", _RSET)

    def _settle_answered(self) -> None:
        while self._messages and self._messages[0].sent and not self._messages[0].unanswered:
            self._settle(self._messages.popleft())

    def _settle(self, message: _Message) -> None:
        self.octets -= message.content.octets
        if len(message.others) == message.recipients:
            stages = {stage for stage, _ in message.others.values()}
            message.stage = max(stages, default=RCPT)
            message.reply = None
        self._settled.append((message.tag, int(message.stage), message.reply, message.others))

    def _closed(self, code: int, text: bytes) -> None:
        self._fail(SessionClosed("the server closes the session", code, text), in_doubt=False)

    def _fail(self, error: Exception, *, in_doubt: bool) -> None:
        self._failed_in = self.phase()
        self.failure = error
        self._settle_all(in_doubt)
        self._expected.clear()
        self._segments.clear()
        self._unsent.clear()

    def _settle_all(self, in_doubt: bool) -> None:
        while self._messages:
            message = self._messages.popleft()
            if (
                in_doubt
                and message.stage == LOST
                and message.terminator is not None
                and self._written > message.terminator
            ):
                message.stage = IN_DOUBT
            self._settle(message)


def _may_answer(kind: int, code: int, message: _Message | None) -> bool:
    """Whether a reply that is no refusal can be the answer to what it is taken for.

    To book it all the same would be to call a message accepted that was never sent.
    """
    if code >= 400:
        return True
    if kind == MAIL:
        return code == 250
    if kind == RCPT:
        assert message is not None
        return code in (250, 251) and message.stage != MAIL
    if kind == DATA:
        return code == 354
    return 200 <= code <= 299
