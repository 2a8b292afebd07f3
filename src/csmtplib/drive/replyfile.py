"""Replies read from a socket, through a receive buffer of our own.

A buffered file over the socket would hide what it has read ahead: bytes that a man in the middle
puts after the reply to STARTTLS would pass for the server's first reply inside TLS
(CVE-2021-38371). This buffer shows them.
"""

from __future__ import annotations

import io
import time

from .. import kernel
from ..protocol import limits
from . import acks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Receiver(Protocol):
        """A socket, plain or TLS, the standard library's or another with its methods."""

        def recv(self, size: int, /) -> bytes: ...
        def gettimeout(self) -> float | None: ...


class ReplyFile(io.BufferedIOBase):
    """The receiving side of a connection: whole replies, or lines and bytes as from a file.

    buffer: what was received and not read, for a caller that reads the socket itself.
    """

    def __init__(self, sock: Receiver, max_line: int) -> None:
        self._sock = sock
        self.buffer = kernel.ReplyBuffer(max_line, limits.REPLY_BYTES)

    def _receive(self) -> bool:
        """Waits for more bytes; False at the end of the stream."""
        data = self._sock.recv(limits.RECEIVE_BYTES)
        self.buffer.feed(data)
        return bool(data)

    def read_reply(self) -> tuple[int, bytes]:
        """Returns the next reply: its code, or -1 if a line has none, and its joined text.

        The socket's timeout bounds each wait. A reply that has begun must be complete within that,
        or the longest wait of RFC 5321's if that is longer, so that a server can't hold up the
        caller with one byte now and then. Raises EOFError if the stream ends first, TimeoutError,
        kernel.ReplyError, and whatever OSError the socket raises.
        """
        begun = None
        while (reply := self.buffer.reply()) is None:
            begun = self._wait(begun)
        return reply

    def reply_lines(self, size: int) -> Iterator[bytes]:
        """Yields the lines of the next reply and of what follows, at most `size` bytes of each,
        until the caller stops; bounded in time, and raising, as read_reply()."""
        begun = None
        while True:
            while (line := self.buffer.readline(size)) is None:
                begun = self._wait(begun)
            yield line

    def _wait(self, begun: float | None) -> float:
        """Waits for more of a reply; returns the time at which its first bytes came. begun: that
        time, None until then."""
        if begun is not None:
            seconds = max(limits.TERMINATOR_SECONDS, self._sock.gettimeout() or 0.0)
            if time.monotonic() > begun + seconds:
                raise TimeoutError(f"the reply was not complete within {seconds:g} s")
            # Its next line may be waiting for that.
            acks.acknowledge(self._sock)
        # As _receive(), without a call for each reply.
        data = self._sock.recv(limits.RECEIVE_BYTES)
        self.buffer.feed(data)
        if not data and not self.buffer.end_of_stream():
            raise EOFError("the stream ended before the reply")
        return time.monotonic() if begun is None else begun

    def peek(self, size: int = 0) -> bytes:
        """Returns what was received and not read yet, at most `size` bytes unless that is 0. Does
        not wait for more."""
        return self.buffer.peek(size or len(self.buffer))

    def readline(self, size: int | None = -1, /) -> bytes:
        """Returns the bytes up to the next LF, at most `size`; what is left at the end of the
        stream."""
        limit = -1 if size is None else size
        while (line := self.buffer.readline(limit)) is None:
            if not self._receive():
                return self.buffer.take(len(self.buffer))
        return line

    def read1(self, size: int = -1, /) -> bytes:
        """Returns at least one byte, at most `size`; none at the end of the stream."""
        if size and not len(self.buffer):
            self._receive()
        return self.buffer.take(len(self.buffer) if size < 0 else size)

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns `size` bytes, fewer if the stream ends first; without a size, all bytes up to the
        end."""
        wanted = -1 if size is None else size
        parts: list[bytes] = []
        while wanted and (part := self.read1(wanted)):
            parts.append(part)
            wanted -= len(part) if wanted > 0 else 0
        return b"".join(parts)

    def readable(self) -> bool:
        return True
