"""Replies read from a socket, through a receive buffer of our own.

A buffered file over the socket would hide what it has read ahead: octets that a man in the middle
put behind the answer to STARTTLS would pass for the server's first words inside TLS
(CVE-2021-38371). Here they are seen.
"""

from __future__ import annotations

import io
import time

from .. import kernel
from ..protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Receiver(Protocol):
        """A socket, plain or TLS, the standard library's or another with its methods."""

        def recv(self, size: int, /) -> bytes: ...
        def gettimeout(self) -> float | None: ...


class ReplyFile(io.BufferedIOBase):
    """The receiving side of a connection: whole replies, or lines and octets as from a file.

    buffer: what was received and not read, for who reads the socket himself.
    """

    def __init__(self, sock: Receiver, max_line: int) -> None:
        self._sock = sock
        self.buffer = kernel.ReplyBuffer(max_line, limits.REPLY_OCTETS)

    def _receive(self) -> bool:
        """Waits for more octets; False at the end of the stream."""
        octets = self._sock.recv(limits.RECEIVE_OCTETS)
        self.buffer.feed(octets)
        return bool(octets)

    def read_reply(self) -> tuple[int, bytes]:
        """The next reply: its code, or -1 where a line has none, and its joined text.

        The socket's timeout bounds each wait. A reply that has begun must be there within that, or
        the longest wait of RFC 5321's if that is longer, so that a server can't hold the caller
        with one octet now and then. Raises EOFError where the stream ends first, TimeoutError,
        kernel.ReplyError, and whatever OSError the socket raises.
        """
        begun = None
        while (reply := self.buffer.reply()) is None:
            begun = self._wait(begun)
        return reply

    def reply_lines(self, size: int) -> Iterator[bytes]:
        """The lines of the next reply and of what follows, at most `size` octets of each, for the
        caller to stop; bounded in time, and raising, as read_reply()."""
        begun = None
        while True:
            while (line := self.buffer.readline(size)) is None:
                begun = self._wait(begun)
            yield line

    def _wait(self, begun: float | None) -> float:
        """Waits for more of a reply; when its first octets came, which is None before."""
        if begun is not None:
            seconds = max(limits.TERMINATOR_SECONDS, self._sock.gettimeout() or 0.0)
            if time.monotonic() > begun + seconds:
                raise TimeoutError(f"the reply did not come to its end within {seconds:g} seconds")
        if not self._receive() and not self.buffer.end_of_stream():
            raise EOFError("the stream ended before the reply")
        return time.monotonic() if begun is None else begun

    def peek(self, size: int = 0) -> bytes:
        """What was received and not read yet, at most `size` octets where that is not 0. Does not
        wait for more."""
        return self.buffer.peek(size or len(self.buffer))

    def readline(self, size: int | None = -1, /) -> bytes:
        """The octets up to the next LF, at most `size`; what is left at the end of the stream."""
        limit = -1 if size is None else size
        while (line := self.buffer.readline(limit)) is None:
            if not self._receive():
                return self.buffer.take(len(self.buffer))
        return line

    def read1(self, size: int = -1, /) -> bytes:
        """At least one octet, at most `size`; none at the end of the stream."""
        if size and not len(self.buffer):
            self._receive()
        return self.buffer.take(len(self.buffer) if size < 0 else size)

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` octets, fewer where the stream ends before, or all that come until it does."""
        wanted = -1 if size is None else size
        parts: list[bytes] = []
        while wanted and (part := self.read1(wanted)):
            parts.append(part)
            wanted -= len(part) if wanted > 0 else 0
        return b"".join(parts)

    def readable(self) -> bool:
        return True
