"""The pipeline of transactions in pure Python: same names, same results, byte for byte, as
`_c_pipeline`.

Unlike there, an exception can interrupt it at any bytecode. After that the pipeline can only be
lost, and its completed messages taken. So a reply is stored before the stage that says there is
one.

The code is cut as in csrc/: one message, how early to send, what is sent, what replies mean, and
here the rest.
"""

from __future__ import annotations

from ._python_answers import Answers
from ._python_content import Content
from ._python_message import Message
from .errors import (
    END_OF_CONNECTION,
    NOTHING_HELD,
    TOO_FEW_COMMANDS,
    WROTE_TOO_MUCH,
    ReplyError,
    ResetRefused,
)
from .transaction import CHUNKING, NEXT, Want

__all__ = ["Content", "Pipeline"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._python import ReplyBuffer
    from .transaction import Completed


class Pipeline(Answers):
    """The transactions of one connection, without I/O."""

    strict: bool
    failure: Exception | None
    byte_count: int
    booked: int

    def __init__(
        self,
        replies: ReplyBuffer,
        mode: int,
        lmtp: bool,
        strict: bool,
        proof: int,
        large: int,
        /,
    ) -> None:
        if not 0 <= mode <= CHUNKING or not 0 <= proof <= NEXT:
            raise ValueError(f"invalid mode or step: {mode}, {proof}")
        super().__init__(replies, mode, lmtp, strict, proof, large)
        self._pulled = 0

    @property
    def proof(self) -> int:
        return self._steps.proof

    @property
    def limit(self) -> int:
        return self._steps.limit

    @property
    def doubts(self) -> int:
        return self._steps.doubts

    def __len__(self) -> int:
        return len(self._messages)

    def push(self, tag: object, commands: Sequence[bytes], content: Content, /) -> None:
        if len(commands) < 2:
            raise ValueError(TOO_FEW_COMMANDS)
        message = Message(tag, commands, content)
        self._messages.append(message)
        self.byte_count += content.byte_count
        if self.failure is None:
            self._unsent.append(message)
            self._advance()
        else:
            self._complete_all(in_doubt=False)

    def send_content(self, content: Content | None = None, /) -> None:
        if content is not None:
            # BDAT has announced the size.
            message = self._next_message()
            if message is None or not self._is_held(message) or self._mode == CHUNKING:
                raise ValueError(NOTHING_HELD)
            if len(content.chunks) > len(message.content.chunks):
                raise ValueError(NOTHING_HELD)
            self.byte_count += content.byte_count - message.content.byte_count
            message.content = content
        self._held = False
        if self.failure is None:
            self._advance()

    def learn(self, proof: int, limit: int, /) -> None:
        if proof not in range(NEXT + 1) or limit not in range(NEXT + 1):
            raise ValueError(f"invalid step: {proof}, {limit}")
        self._steps.learn(proof, limit)
        if self.failure is None:
            self._advance()

    def want(self) -> int:
        return (Want.WRITE if self._segments else 0) | (Want.READ if self._expected else 0)

    def phase(self) -> int:
        return self._phase()

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
        self._handed = self._written + len(pulled)
        return pulled

    def wrote(self, count: int, /) -> None:
        if self.failure is not None:
            return
        if count > self._emitted - self._written:
            raise ValueError(WROTE_TOO_MUCH)
        if count:
            self._pulled = 0
        self._written += count
        # Not before: an interrupt between the two lines leaves the larger number.
        self._handed = self._written
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

    def lose(self, error: Exception, /) -> None:
        if self.failure is not None:
            if self._messages:
                # An exception interrupted _fail().
                self._complete_all(in_doubt=True)
        elif self._reset_refused and isinstance(error, END_OF_CONNECTION):
            self._fail(ResetRefused(), in_doubt=False)
        else:
            self._fail(error, in_doubt=True)

    def end_of_stream(self) -> None:
        if not self.strict and self._replies.end_of_stream():
            self.receive()
        self.lose(EOFError("the server closed the connection"))

    def take(self) -> list[Completed]:
        completed, self._completed = self._completed, []
        return completed
