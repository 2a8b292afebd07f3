"""A pipeline with methods for tests: send, receive replies, take results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from csmtplib.kernel.transaction import LAST_STEP, Mode

if TYPE_CHECKING:
    from csmtplib.kernel.transaction import Completed

EVERYTHING = 1 << 30


class Core(NamedTuple):
    """Both modules of one implementation. They belong together: a pipeline of one implementation
    does not accept a buffer of the other."""

    kernels: ModuleType
    pipelines: ModuleType


def envelope(sender: str, recipients: Iterable[str]) -> list[bytes]:
    commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients)]
    return [command.encode() + b"\r\n" for command in commands]


class Talk:
    """The client's side of a session: a pipeline with its receive buffer."""

    def __init__(
        self,
        core: Core,
        mode: Mode,
        *,
        lmtp: bool = False,
        strict: bool = True,
        proved: bool = False,
        large: int = 1 << 20,
    ) -> None:
        self.core = core
        self.mode = mode
        self.replies = core.kernels.ReplyBuffer(8192, 65536)
        self.pipeline: Any = core.pipelines.Pipeline(
            self.replies, mode, lmtp, strict, LAST_STEP[mode] if proved else 0, large
        )

    def content(self, *chunks: bytes) -> Any:
        return self.core.pipelines.Content(chunks, self.mode != Mode.CHUNKING)

    def push(
        self, tag: object = "m", recipients: Sequence[str] = ("r",), text: bytes = b"text\r\n"
    ) -> None:
        self.pipeline.push(tag, envelope("s", recipients), self.content(text))

    def sent(self, limit: int = EVERYTHING, piece: int = EVERYTHING) -> bytes:
        """Pull and write at most `limit` bytes, `piece` by `piece`, and return them."""
        sent = b""
        while pulled := self.pipeline.pull(min(piece, limit - len(sent))):
            self.pipeline.wrote(len(pulled))
            sent += pulled
        return sent

    def hear(self, said: bytes, piece: int = EVERYTHING) -> None:
        for start in range(0, len(said), piece):
            self.replies.feed(said[start : start + piece])
            self.pipeline.receive()

    def end_of_stream(self) -> None:
        """The server has closed the connection."""
        self.pipeline.end_of_stream()

    def lose(self, error: Exception) -> None:
        """Give the connection up."""
        self.pipeline.lose(error)

    def told(self) -> list[Completed]:
        completed: list[Completed] = self.pipeline.take()
        return completed
