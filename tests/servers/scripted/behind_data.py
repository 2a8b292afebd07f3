"""Servers that do not carry out what comes behind the end of a message, though they offer
PIPELINING (RFC 2920 section 3.1 lets a client send it there)."""

from __future__ import annotations

import asyncio
from typing import Any

from .mta import ScriptedMTA, ScriptedSession

# BUFSIZ of glibc.
COURIER_READ = 8192
# More than that behind a message, and Haraka hangs up.
HARAKA_MOST_BEHIND = 8192


class Courier(ScriptedMTA):
    """Courier's ESMTP server, which discards what it has read with the end of a message.

    It reads content into a buffer of its own, of 8192 bytes, and forgets what stands behind the
    final dot in there; the next command is read from the connection anew. So nothing is said to
    what came in the same read(), and a client waits for its replies for ever; half a command is
    cut. What a later read() brings is carried out. It has no CHUNKING. Each reply is a write, as
    it flushes before it reads a command, and Nagle's algorithm is on.

    Source: courier/module.esmtp/courieresmtpd.c, data(), and esmtpiov.c, iovreadline(), of
    https://github.com/svarshavchik/courier.
    """

    def __init__(self, *, nagle: bool = True, write_each: bool = True, **options: Any) -> None:
        super().__init__(nagle=nagle, write_each=write_each, chunking=False, **options)

    def session(self) -> CourierSession:
        return CourierSession(self)


class CourierSession(ScriptedSession):
    extensions = ("XVERP", "8BITMIME", "SIZE", "DSN")

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), COURIER_READ):
            super().data_received(data[start : start + COURIER_READ])

    def _take_content(self, position: int) -> int | None:
        end = super()._take_content(position)
        return None if end is None else len(self._buffer)


class HarakaLike(ScriptedMTA):
    """Haraka 3.3, as the tests without Node have it: everything that has come behind the end of a
    message by the time of its reply is answered with 503, line by line, and not carried out; half
    a line is lost without an answer. What comes after the reply is carried out.

    store_seconds: how long it takes to store a message, before the reply. Each reply is a write,
    and Nagle's algorithm is on. No CHUNKING.

    Source: connection.js of Haraka 3.3.4, data_done() and respond(); see GHSA-rp4q-8m6x-c43c.
    """

    def __init__(
        self,
        *,
        store_seconds: float = 0.0,
        nagle: bool = True,
        write_each: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(nagle=nagle, write_each=write_each, chunking=False, **options)
        self.store_seconds = store_seconds

    def session(self) -> HarakaSession:
        return HarakaSession(self, self.store_seconds)


class HarakaSession(ScriptedSession):
    extensions = ("8BITMIME", "SMTPUTF8", "SIZE 26214400")

    def __init__(self, server: ScriptedMTA, store_seconds: float) -> None:
        super().__init__(server)
        self._store_seconds = store_seconds
        self._stored = b""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._stored and len(self._buffer) > HARAKA_MOST_BEHIND:
            self.end()

    def _take_content(self, position: int) -> int | None:
        end = super()._take_content(position)
        if end is not None and not self.is_over:
            self._stored = self._replies.pop()
            self._take = self._take_nothing
            loop = asyncio.get_running_loop()
            loop.call_later(self._store_seconds, self._answer_content)
        return end

    def _answer_content(self) -> None:
        if self.is_over:
            return
        refused = self._buffer.count(b"\n")
        self._buffer.clear()
        line = b"503 Bad sequence of commands - pipelined after end of DATA\r\n"
        self._replies.append(self._stored + refused * line)
        self._stored = b""
        self._take = self._take_command
        self._flush()
