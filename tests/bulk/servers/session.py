"""One connection of a test server: RFC 5321 with PIPELINING and CHUNKING, quick and bounded.

A Session answers what it takes with 250, and asks its subclass: a reply that one of the methods
greet(), mail(), rcpt() and message() returns is sent instead. One with the code 421 ends the
session. Commands are read in bulk, and so are their replies written.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

LINE_BYTES = 4096
MESSAGE_BYTES = 64 * 1024 * 1024
# How long a client may take to close once the session is over.
CLOSING_SECONDS = 5.0

# For addresses: what is no UTF-8 is taken too, and encoded as it was.
UTF_8 = ("utf-8", "surrogateescape")

EXTENSIONS = ("8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")

_MAIL = re.compile(rb"MAIL FROM:<([^>]*)>(?: .*)?", re.IGNORECASE | re.DOTALL)
_RCPT = re.compile(rb"RCPT TO:<([^>]+)>(?: .*)?", re.IGNORECASE | re.DOTALL)
_BDAT = re.compile(rb"BDAT ([0-9]{1,9})( LAST)?", re.IGNORECASE)

OK = b"250 2.0.0 ok\r\n"


class Session(asyncio.Protocol):
    """A connection. pipelining, chunking: whether they are offered.

    A client that sends a command before it has the reply to the last one, without PIPELINING, or
    anything behind DATA, hears 503 and is thrown out.
    """

    extensions: tuple[str, ...] = EXTENSIONS
    """Extensions that EHLO offers, too."""

    def __init__(self, *, pipelining: bool = True, chunking: bool = True) -> None:
        self._pipelining = pipelining
        self._chunking = chunking
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._replies: list[bytes] = []
        self._take: Callable[[int], int | None] = self._take_command
        self._closing: asyncio.TimerHandle | None = None
        self.is_over = False
        self.command = b""
        """The command line that is answered."""
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._searched = 0  # bytes of the buffer without the end of the content
        self._chunks: list[bytes] = []
        self._chunk_bytes = 0
        self._is_last_chunk = False
        self._refusal: str | None = None  # of the chunk that is being read

    # What a subclass may say instead of 220 and 250. Replies have no line end.

    def greet(self) -> str | None:
        """Asked when the client has connected."""
        return None

    def mail(self) -> str | None:
        """Asked at MAIL."""
        return None

    def rcpt(self, recipient: str) -> str | None:
        """Asked at each RCPT."""
        return None

    def message(self, sender: str, recipients: list[str], message: bytes) -> str | None:
        """Asked when a message has come as a whole. message: with CR LF, and no stuffed dots."""
        return None

    def closed(self) -> None:
        """Told once, when the session is over, or the connection lost."""

    def end(self, reply: str | None = None) -> None:
        """Says that, and no more; reads on until the client closes, but heeds nothing."""
        # A close with bytes unread would be a reset, and might cost the client the reply.
        if self.is_over:
            return
        self.is_over = True
        if reply is not None:
            self._replies.append(f"{reply}\r\n".encode())
        self._flush()
        self._buffer.clear()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._closing = asyncio.get_running_loop().call_later(
            CLOSING_SECONDS, self._transport.abort
        )
        self.closed()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._begin()

    def data_received(self, data: bytes) -> None:
        if self.is_over:
            return
        self._buffer += data
        position = 0
        while not self.is_over and (taken := self._take(position)) is not None:
            position = taken
        if not self.is_over:
            del self._buffer[:position]
            self._flush()

    def pause_writing(self) -> None:
        # A client that reads no replies is not read either.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        if not self.is_over:
            self.is_over = True
            self.closed()

    # Each takes what stands at a position of the buffer and returns the position behind it; None:
    # there is no more to take, or not yet.

    def _take_command(self, position: int) -> int | None:
        end = self._buffer.find(b"\r\n", position)
        if end < 0:
            if len(self._buffer) - position > LINE_BYTES:
                self.end("500 5.5.2 line too long")
            return None
        self.command = command = bytes(self._buffer[position:end])
        after = end + 2
        verb = command[:4].upper()
        # A reply that has not left yet is one that the client did not wait for.
        if (verb == b"DATA" and after < len(self._buffer)) or (
            self._replies and not self._pipelining
        ):
            self.end("503 5.5.0 improper pipelining")
            return None
        answer = _ANSWERS.get(verb)
        if answer is None:
            self._say("500 5.5.1 unknown command")
            return after
        getattr(self, answer)()
        # The line end before a content counts when its own end is looked for.
        return end if self._take == self._take_content else after

    def _take_content(self, position: int) -> int | None:
        end = self._buffer.find(b"\r\n.\r\n", max(position, self._searched))
        if end < 0:
            self._searched = len(self._buffer) - position - 4
            if self._searched > MESSAGE_BYTES:
                self.end("421 4.3.4 message too big")
            return None
        content = bytes(self._buffer[position + 2 : end + 2])
        content = content[1:] if content.startswith(b".") else content
        self._take = self._take_command
        self._end_message(content.replace(b"\r\n.", b"\r\n"))
        return end + 5

    def _take_chunk(self, position: int) -> int | None:
        after = position + self._chunk_bytes
        if len(self._buffer) < after:
            return None
        self._take = self._take_command
        if self._refusal is not None:
            self._say(self._refusal)
        elif self._is_last_chunk:
            self._chunks.append(bytes(self._buffer[position:after]))
            self._end_message(b"".join(self._chunks))
        else:
            self._chunks.append(bytes(self._buffer[position:after]))
            self._say(None)
        return after

    # Commands

    def _begin(self) -> None:
        self._say(self.greet(), b"220 mx.test\r\n")
        self._flush()

    def _hello(self) -> None:
        self._forget()
        offered = [*self.extensions]
        if self._pipelining:
            offered.append("PIPELINING")
        if self._chunking:
            offered.append("CHUNKING")
        if self.command[:4].upper() == b"HELO":
            offered = []
        lines = ["mx.test", *offered]
        self._replies += [f"250-{line}\r\n".encode() for line in lines[:-1]]
        self._replies.append(f"250 {lines[-1]}\r\n".encode())

    def _mail(self) -> None:
        written = _MAIL.fullmatch(self.command)
        if written is None:
            self._say("501 5.5.4 MAIL FROM:<address>")
        elif self._sender is not None:
            self._say("503 5.5.1 nested MAIL")
        elif (reply := self.mail()) is not None:
            self._say(reply)
        else:
            self._sender = written[1].decode(*UTF_8)
            self._say(None)

    def _rcpt(self) -> None:
        written = _RCPT.fullmatch(self.command)
        if written is None:
            self._say("501 5.5.4 RCPT TO:<address>")
        elif self._sender is None:
            self._say("503 5.5.1 MAIL first")
        else:
            recipient = written[1].decode(*UTF_8)
            reply = self.rcpt(recipient)
            if reply is None:
                self._recipients.append(recipient)
            self._say(reply)

    def _data(self) -> None:
        refusal = self._content_refusal()
        if refusal is not None:
            self._say(refusal)
        elif self._chunks:
            self._say("503 5.5.1 BDAT before")
        else:
            self._take = self._take_content
            self._searched = 0
            self._replies.append(b"354 go on\r\n")

    def _bdat(self) -> None:
        written = _BDAT.fullmatch(self.command)
        if written is None or not self._chunking:
            # Where the bytes end that follow, nobody knows.
            self.end("421 5.5.4 no such BDAT here")
            return
        # The bytes follow, whatever is said of them (RFC 3030 section 2).
        self._chunk_bytes = int(written[1])
        self._is_last_chunk = written[2] is not None
        self._refusal = self._content_refusal()
        if self._chunk_bytes + sum(map(len, self._chunks)) > MESSAGE_BYTES:
            self.end("421 4.3.4 message too big")
        self._take = self._take_chunk

    def _content_refusal(self) -> str | None:
        if self._sender is None:
            return "503 5.5.1 MAIL first"
        return None if self._recipients else "554 5.5.1 no valid recipients"

    def _reset(self) -> None:
        self._forget()
        self._say(None)

    def _noop(self) -> None:
        self._say(None)

    def _quit(self) -> None:
        self.end("221 2.0.0 bye")

    # Transactions and replies

    def _forget(self) -> None:
        self._sender = None
        self._recipients = []
        self._chunks = []

    def _end_message(self, message: bytes) -> None:
        assert self._sender is not None
        sender, recipients = self._sender, self._recipients
        self._forget()
        self._say(self.message(sender, recipients, message))

    def _say(self, reply: str | None, otherwise: bytes = OK) -> None:
        if reply is None:
            self._replies.append(otherwise)
        elif reply.startswith("421"):
            self.end(reply)
        else:
            self._replies.append(f"{reply}\r\n".encode())

    def _flush(self) -> None:
        if self._replies:
            self._transport.write(b"".join(self._replies))
            self._replies.clear()


# The methods, by name: a subclass may have its own.
_ANSWERS = {
    b"EHLO": "_hello",
    b"HELO": "_hello",
    b"MAIL": "_mail",
    b"RCPT": "_rcpt",
    b"DATA": "_data",
    b"BDAT": "_bdat",
    b"RSET": "_reset",
    b"NOOP": "_noop",
    b"QUIT": "_quit",
}
