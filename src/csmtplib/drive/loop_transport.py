"""Connections over an asyncio transport, whatever is below it: TCP, TLS, a Unix socket, uvloop.

There is no task besides those of the caller, and one timer for all time limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import select
import sys
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from .. import kernel
from ..protocol import limits
from ..protocol.dialogue import Operation, Operations, Receive, Result, Send, Wrap
from ..protocol.failures import ConnectionLost
from . import acks
from .descriptor import Descriptor, descriptor_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from typing import Any

# Bytes that the transport is handed at once. What the system does not take is held in memory.
WRITE_BYTES = 1 << 17

# How long the end of TLS may take: the server has nothing to say by then.
_SHUTDOWN_SECONDS = 1.0


class TLS(NamedTuple):
    """How to begin TLS. server_hostname: what the certificate has to have, None for a name that is
    not checked. seconds: for the handshake; None for what the loop allows."""

    context: ssl.SSLContext
    server_hostname: str | None
    seconds: float | None


class LoopTransport(asyncio.BufferedProtocol):
    """A connection of an event loop that performs the operations of a dialogue, one at a time. Its
    owner sees to that.

    replies: the receive buffer. Whatever goes wrong closes the connection, and so does a
    cancellation while something is in progress: nobody knows what the next reply answers then.
    """

    transport: Any | None = None  # an asyncio.Transport, until the connection is lost

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Any], object] | None = None,
    ) -> None:
        """on_lost: called with this when the connection is lost."""
        self.replies = kernel.ReplyBuffer(limits.REPLY_LINE_BYTES, limits.REPLY_BYTES)
        self._loop = loop
        self._on_lost = on_lost
        self._end: Exception | None = None  # why nothing more can be received
        self._sock: Any | None = None  # if it is not inside TLS
        self._poll: Any | None = None
        self._descriptor: Descriptor | None = None  # if it is watched in place of the transport
        self._is_paused = False  # the transport wants no more for now
        # asyncio would allocate 256 KiB for each read.
        self._buffer = memoryview(bytearray(limits.RECEIVE_BYTES))
        self._received = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._use(transport)

    def _use(self, transport: Any) -> None:
        self.transport = transport
        self._sock = self._poll = None
        sock = transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return
        if not self.is_encrypted:
            self._sock = sock
            acks.prepare(sock)
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._receive_bytes(self._buffer[:nbytes])

    def _receive_bytes(self, data: memoryview | bytes) -> None:
        self._received += data
        if self._waiter is None and len(self._received) > limits.REPLY_BYTES:
            # It talks without being asked, and this process does not have memory without end.
            self._end = ConnectionLost("the server sent more than a reply, unasked")
            self.abort()
        self._wake()

    def _on_ready(self) -> None:
        """Go on, where the descriptor is watched in place of the transport."""
        assert self._descriptor is not None
        try:
            data = self._descriptor.read()
        except OSError as error:
            self._fail(error)
            return
        if data:
            self._receive_bytes(data)
        elif data is not None:
            self._leave_descriptor()
            self.eof_received()
            if self.transport is not None:
                self.transport.close()

    def _fail(self, error: Exception) -> None:
        """Close the connection, which was lost."""
        if self._end is None:
            self._end = error
        self.abort()

    def eof_received(self) -> None:
        if self._end is None:
            self._end = EOFError()
        self._on_end(self._end)
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and self._end is None:
            self._read_the_rest()
        if self._end is None:
            self._end = EOFError() if error is None else error
        self._on_end(self._end)
        self._cancel_timer()
        self._leave_descriptor()
        self.transport = self._sock = self._poll = None
        self._wake()
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(self)

    def _read_the_rest(self) -> None:
        """Read what the server said before it closed the connection, which tells more than the
        error of a write."""
        if self._sock is None or os.name != "posix":
            return
        with contextlib.suppress(OSError):
            while data := os.read(self._sock.fileno(), limits.RECEIVE_BYTES):
                self._receive_bytes(data)
            self.eof_received()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._wake()

    def _on_end(self, end: Exception) -> None:
        """Take note of why nothing more will be received."""

    # The connection

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open, as far as is known."""
        transport = self.transport
        return transport is not None and self._end is None and not transport.is_closing()

    @property
    def has_received(self) -> bool:
        """Whether there is something to read that nothing in progress has asked for."""
        return bool(self._received) or len(self.replies) > 0

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is in use."""
        transport = self.transport
        return transport is not None and transport.get_extra_info("sslcontext") is not None

    def close(self) -> None:
        """Close the connection. What is in progress is aborted."""
        if self._waiter is not None or self._is_paused:
            self.abort()
        elif self.transport is not None:
            self._leave_descriptor()
            self.transport.close()
            self._cancel_timer()

    def abort(self) -> None:
        """Close the connection at once; nothing of what is left is sent."""
        if self._end is None:
            self._end = ConnectionLost("the connection was closed")
        if self.transport is not None:
            self._leave_descriptor()
            self.transport.abort()
            self._cancel_timer()

    def _watch_descriptor(self) -> bool:
        """Have the descriptor watched in place of the transport; return whether it is."""
        if self._descriptor is None and self._sock is not None:
            self._descriptor = descriptor_of(self._loop, self.transport, self._on_ready)
        return self._descriptor is not None

    def _leave_descriptor(self) -> None:
        if self._descriptor is not None:
            self._descriptor.close()
            self._descriptor = None

    @property
    def is_readable(self) -> bool:
        """Whether the server may have sent something, or closed the connection, since the loop has
        looked."""
        return self._poll is None or bool(self._poll.poll(0))

    async def catch_up(self) -> None:
        """Take what the server has sent unasked, or that it has closed the connection, without
        waiting."""
        if self.is_readable:
            # In the first turn the loop sees that there is something; in the second it is here.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def encrypt(self, tls: TLS) -> None:
        """Begin TLS on the connection. Raises OSError (ssl.SSLError among them)."""
        assert self.transport is not None
        if self._descriptor is not None:
            self._descriptor.give_back()
            self._descriptor = None
        try:
            transport = await self._loop.start_tls(
                self.transport,
                self,
                tls.context,
                server_hostname=tls.server_hostname,
                ssl_handshake_timeout=tls.seconds or None,
                **tls_options(),
            )
        except BaseException:
            # Python 3.10 does not call connection_lost() before there is TLS.
            self.abort()
            self.connection_lost(None)
            raise
        self._use(transport)
        if not self.is_connected:
            raise ConnectionResetError("the server closed it")

    async def _wait(self) -> None:
        """Wait until something has happened, or a time limit has passed."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # Time limits: a timer that comes too early is set again, which costs less than one for each.

    def _limit(self, seconds: float) -> None:
        """Set the time limit."""
        now = monotonic()
        self._set_deadline(now + seconds, now)

    def _set_deadline(self, at: float, now: float) -> None:
        self._deadline = at
        if at < self._timer_at:
            self._cancel_timer()
            self._timer_at = at
            self._timer = self._loop.call_later(max(at - now, 0.0), self._check_limit)

    def _check_limit(self) -> None:
        self._timer, self._timer_at = None, math.inf
        left = self._deadline - monotonic()
        if left == math.inf:
            return
        if left > 0:
            self._limit(left)
            return
        self._on_limit()

    def _on_limit(self) -> None:
        """Do what the time limit asks for."""
        self._wake()

    def _held(self) -> int:
        """Return how many bytes the transport has been handed, and holds."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    # The operations of a dialogue

    async def perform(
        self,
        operations: Operations[Result],
        encryption: Callable[[], Awaitable[TLS]] | None = None,
    ) -> Result:
        """Perform operations to their end; return their result, or raise what they raise.

        encryption: called for the operation that begins TLS.
        """
        try:
            operation = next(operations)
            while True:
                try:
                    answer = await self._perform(operation, encryption)
                except OSError as error:
                    operation = operations.throw(error)
                except BaseException:
                    # Cancelled: nobody knows where the session is.
                    self.abort()
                    raise
                else:
                    operation = operations.send(answer)
        except StopIteration as done:
            result: Result = done.value
            return result

    async def _perform(
        self, operation: Operation, encryption: Callable[[], Awaitable[TLS]] | None
    ) -> bytes | None:
        if isinstance(operation, Receive):
            return await self._receive(operation)
        if isinstance(operation, Send):
            await self._send(operation)
        elif isinstance(operation, Wrap):
            assert encryption is not None
            await self.encrypt(await encryption())
        else:
            self.abort()
        return None

    async def _send(self, operation: Send) -> None:
        data = memoryview(operation.data)
        while len(data):
            if not self.is_connected:
                raise self._end or ConnectionLost("the connection is closed")
            assert self.transport is not None
            self.transport.write(bytes(data[:WRITE_BYTES]))
            data = data[WRITE_BYTES:]
            if self._is_paused:
                await self._drain(operation.seconds)

    async def _drain(self, seconds: float) -> None:
        """Wait until the transport takes more."""
        self._limit(seconds)
        while self._is_paused and self._end is None:
            await self._wait()
            if self._is_paused and monotonic() >= self._deadline:
                raise TimeoutError(limits.NO_PROGRESS % seconds)

    async def _receive(self, operation: Receive) -> bytes | None:
        seconds = operation.seconds
        if seconds == 0:
            await self.catch_up()
        elif seconds is not None:
            self._limit(seconds)
        while not self._received and self._end is None:
            if seconds == 0 or monotonic() >= self._deadline:
                return None
            await self._wait()
        if self._received:
            data = bytes(self._received)
            self._received.clear()
            return data
        if isinstance(self._end, OSError):
            raise self._end
        return b""


def tls_options() -> dict[str, Any]:
    """Return the options for TLS that this Python's event loops have."""
    return {"ssl_shutdown_timeout": _SHUTDOWN_SECONDS} if sys.version_info >= (3, 11) else {}
