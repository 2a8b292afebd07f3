"""The base of the scripted servers: a log of what they took, and how their replies leave."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from typing import Any

from ...bulk.servers.session import Session
from ...bulk.servers.throttling import ThrottlingServer, ThrottlingSession

_MESSAGE_ID = re.compile(rb"^Message-ID: (\S+)\r$", re.MULTILINE | re.IGNORECASE)


class ScriptedMTA(ThrottlingServer):
    """A server on `port` of 127.0.0.1, for as long as the with block; `log` has what it took.

    nagle: leave Nagle's algorithm on, so that a second small segment waits until the client has
    acknowledged the first. write_each: write each reply by itself, instead of all that a read has
    brought about in one. reply_seconds: how long the server works on each reply. Everything else is
    ThrottlingServer's, first of all `refuse`, the reply to RCPT of a recipient.
    """

    def __init__(
        self,
        *,
        nagle: bool = False,
        write_each: bool = False,
        reply_seconds: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.nagle = nagle
        self.write_each = write_each
        self.reply_seconds = reply_seconds

    def session(self) -> ThrottlingSession:
        return ScriptedSession(self)

    def stored(self) -> list[tuple[str, bytes]]:
        """Return each recipient of each message with the message, sorted."""
        return sorted(
            (recipient, accepted.message)
            for accepted in self.log.accepted
            for recipient in accepted.recipients
        )

    def message_ids(self) -> list[bytes]:
        """Return the Message-ID of each message, b"" where it has none, in their order."""
        found = (_MESSAGE_ID.search(accepted.message) for accepted in self.log.accepted)
        return [each[1] if each else b"" for each in found]


class ScriptedSession(ThrottlingSession):
    """A connection to a ScriptedMTA."""

    def __init__(self, server: ScriptedMTA) -> None:
        super().__init__(server)
        self._write_each = server.write_each
        self._reply_seconds = server.reply_seconds
        self._nagle = server.nagle
        self._waiting: deque[bytes] = deque()
        self._worker: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio turns the algorithm off for every connection.
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, not self._nagle)
        super().connection_made(transport)

    def end(self, reply: str | None = None) -> None:
        # The last reply leaves behind all others, and then at once.
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        self._reply_seconds = 0.0
        self._replies[:0] = self._waiting
        self._waiting.clear()
        super().end(reply)

    def closed(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
        super().closed()

    def _flush(self) -> None:
        if self._reply_seconds:
            self._waiting += self._replies
            self._replies.clear()
            self._work()
        elif self._write_each:
            for reply in self._replies:
                self._transport.write(reply)
            self._replies.clear()
        else:
            super()._flush()

    def _work(self) -> None:
        if self._waiting and self._worker is None:
            loop = asyncio.get_running_loop()
            self._worker = loop.call_later(self._reply_seconds, self._finish)

    def _finish(self) -> None:
        self._worker = None
        self._transport.write(self._waiting.popleft())
        self._work()

    # For subclasses.

    def _pipelined(self, position: int) -> bytes | None:
        """The verb of the command at a position of the buffer, if something stands behind it."""
        end = self._buffer.find(b"\r\n", position)
        if 0 <= end < len(self._buffer) - 2:
            return bytes(self._buffer[position : position + 4]).upper()
        return None

    def _take_nothing(self, position: int) -> None:
        """Leave everything in the buffer."""


class LateGreeting(ScriptedSession):
    """A connection that is greeted after a while, before which the client has nothing to say.

    A subclass says what becomes of one that talks early, in `talked_early` and `greeted`.
    """

    def __init__(self, server: ScriptedMTA, greet_seconds: float) -> None:
        super().__init__(server)
        self._greet_seconds = greet_seconds
        self._greeter: asyncio.TimerHandle | None = None
        self.is_early_talker = False

    def talked_early(self) -> None:
        """Called when the client sends something before the greeting, once."""

    def greeted(self) -> None:
        """Called when it is time for the greeting, early talker or not: says it."""
        super()._begin()

    def _begin(self) -> None:
        self._take = self._take_nothing
        loop = asyncio.get_running_loop()
        self._greeter = loop.call_later(self._greet_seconds, self._greet)

    def _greet(self) -> None:
        self._greeter = None
        self._take = self._take_command
        self.greeted()
        # What the client has said meanwhile.
        if not self.is_over:
            Session.data_received(self, b"")

    def data_received(self, data: bytes) -> None:
        if self._greeter is not None and not self.is_early_talker:
            self.is_early_talker = True
            self.talked_early()
        super().data_received(data)

    def closed(self) -> None:
        if self._greeter is not None:
            self._greeter.cancel()
        super().closed()
