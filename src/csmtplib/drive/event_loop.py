"""Connections over an asyncio transport, whatever is below it: TCP, TLS, a Unix socket, uvloop.

The callbacks of the transport advance what is in progress, and the task that waits for it wakes up
once. There is no task besides, and one timer for all time limits.
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
from ..kernel.errors import unexpected
from ..kernel.transaction import Want
from ..protocol import limits
from ..protocol.dialogue import Operation, Operations, Receive, Result, Send, Wrap
from ..protocol.failures import ConnectionLost
from ..protocol.watch import Watch
from . import acks
from .descriptor import Descriptor, descriptor_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from typing import Any

    from ..kernel import Content, Pipeline
    from ..protocol.limits import Limits

_, _WRITE, _READ = Want

# Bytes that the transport is handed at once. What the system does not take is held in memory.
_WRITE_BYTES = 1 << 17

# How long the end of TLS may take: the server has nothing to say by then.
_SHUTDOWN_SECONDS = 1.0


class TLS(NamedTuple):
    """How to begin TLS. server_hostname: what the certificate has to have, None for a name that is
    not checked. seconds: for the handshake; None for what the loop allows."""

    context: ssl.SSLContext
    server_hostname: str | None
    seconds: float | None


class LoopConnection(asyncio.BufferedProtocol):
    """A connection of an event loop: it performs the operations of a dialogue, and runs pipelines,
    one at a time. Its owner sees to that.

    replies: the receive buffer. target: how many messages may be left when a run ends. Whatever
    goes wrong closes the connection, and so does a cancellation while something is in progress:
    nobody knows what the next reply answers then.
    """

    transport: Any | None = None  # an asyncio.Transport, until the connection is lost

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[LoopConnection], object] | None = None,
    ) -> None:
        """on_lost: called when the connection is lost."""
        self.replies = kernel.ReplyBuffer(limits.REPLY_LINE_BYTES, limits.REPLY_BYTES)
        self._loop = loop
        self._on_lost = on_lost
        self._end: Exception | None = None  # why nothing more can be received
        self._sock: Any | None = None  # if it is not inside TLS
        self._poll: Any | None = None
        # With the loop in C, once there was a pipeline; and whether it runs the one there is.
        self._descriptor: Descriptor | None = None
        self._is_direct = False
        self._is_paused = False  # the transport wants no more for now
        # asyncio would allocate 256 KiB for each read.
        self._buffer = memoryview(bytearray(limits.RECEIVE_BYTES))
        # For operations: what was received.
        self._received = bytearray()
        self._pipeline: Pipeline | None = None
        self._watch: Watch | None = None
        self.target = 0
        self._one_by_one = False
        self._asked = -1  # how many replies there were when something was written last
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._unsent = 0  # bytes that the transport held when it was looked at last
        # Of a run that ends early: whether a message was completed since the last one, and how long
        # it goes on then.
        self._has_completed = False
        self._patience: float | None = None
        self._due: asyncio.TimerHandle | None = None
        self._is_due = False

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
        pipeline = self._pipeline
        if pipeline is not None:
            self.replies.feed(data)
            count = len(pipeline)
            pipeline.receive()
            if len(pipeline) < count:
                self._has_completed = True
            self._advance(read=True)
            return
        self._received += data
        if self._waiter is None and len(self._received) > limits.REPLY_BYTES:
            # It talks without being asked, and this process does not have memory without end.
            self._end = ConnectionLost("the server sent more than a reply, unasked")
            self.abort()
        self._wake()

    def _on_ready(self) -> None:
        """Go on, where the descriptor is watched in place of the transport."""
        pipeline, descriptor = self._pipeline, self._descriptor
        assert descriptor is not None
        if self._is_direct and pipeline is not None and pipeline.want():
            self._advance_directly()
            return
        try:
            data = descriptor.read()
        except OSError as error:
            self._fail(error)
            return
        if data:
            self._receive_bytes(data)
        elif data is not None:
            self._stop_direct()
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
        if self._pipeline is not None:
            _end_stream(self._pipeline)
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and self._end is None:
            self._read_the_rest()
        if self._end is None:
            self._end = EOFError() if error is None else error
        if self._pipeline is not None and self._pipeline.failure is None:
            if isinstance(self._end, EOFError):
                _end_stream(self._pipeline)
            else:
                self._pipeline.lose(self._end)
        self._cancel_timer()
        self._stop_direct()
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
        if self._pipeline is not None:
            self._advance(wrote=True)
        else:
            self._wake()

    def _go_on(self) -> None:
        if self._pipeline is not None:
            self._advance()

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
        if self._waiter is not None or self._pipeline is not None or self._is_paused:
            self.abort()
        elif self.transport is not None:
            self._stop_direct()
            self.transport.close()
            self._cancel_timer()

    def abort(self) -> None:
        """Close the connection at once; nothing of what is left is sent."""
        if self._end is None:
            self._end = ConnectionLost("the connection was closed")
        if self.transport is not None:
            self._stop_direct()
            self.transport.abort()
            self._cancel_timer()

    def _stop_direct(self) -> None:
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
        pipeline, watch = self._pipeline, self._watch
        if self._is_direct:
            self._advance_directly()
            return
        if pipeline is None or watch is None:
            self._wake()
            return
        # The transport does not report each write.
        unsent = self._held()
        left = watch.note(monotonic(), unsent < self._unsent, False)
        self._unsent = unsent
        if left > 0:
            self._limit(left)
        else:
            pipeline.lose(TimeoutError(limits.NO_PROGRESS % watch.allowed_seconds))
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
            self.transport.write(bytes(data[:_WRITE_BYTES]))
            data = data[_WRITE_BYTES:]
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

    # Pipelines

    def begin(self, pipeline: Pipeline, allowed: Limits, *, one_by_one: bool = False) -> None:
        """Have a pipeline use the connection, until end(). one_by_one: each command waits for the
        reply to the one before."""
        self._one_by_one, self._asked = one_by_one, -1
        if self._received:
            self.replies.feed(self._received)
            self._received.clear()
        self._pipeline = pipeline
        self.target = 0
        if not one_by_one and self._can_be_direct():
            assert self._descriptor is not None
            self._descriptor.begin(pipeline, allowed)
            self._is_direct = True
        else:
            self._watch = Watch(pipeline, allowed, monotonic())
        if len(self.replies):
            pipeline.receive()
        if isinstance(self._end, EOFError):
            _end_stream(pipeline)
        elif self._end is not None:
            pipeline.lose(self._end)

    def end(self) -> float:
        """Take the connection away from the pipeline. Return the longest wait between two replies
        to one flight, in seconds."""
        gap = 0.0
        if self._watch is not None:
            gap = self._watch.gap
        elif self._descriptor is not None:
            gap = self._descriptor.end()
        self._pipeline = self._watch = None
        self._is_direct = False
        self._deadline = math.inf
        return gap

    def _can_be_direct(self) -> bool:
        """Return whether the loop in C can run a pipeline now; have the descriptor for it."""
        if not self.is_connected or self._held():
            return False
        if self._descriptor is None and self._sock is not None:
            self._descriptor = descriptor_of(self._loop, self.transport, self._on_ready)
        return self._descriptor is not None

    def flush(self) -> None:
        """Send what the pipeline has to send, without waiting."""
        self._advance()

    async def run(self, target: int = 0, *, patience: float | None = None) -> None:
        """Run the pipeline until so many messages are left (with 0: and every reply is in), or the
        connection is lost. The pipeline has the result.

        patience: seconds after which the run also ends once a message was completed. If this is
        cancelled, the pipeline goes on: lose() it, or run it again.
        """
        pipeline = self._pipeline
        assert pipeline is not None
        self.target = target
        self._patience, self._is_due = patience, False
        try:
            is_over = self._advance()
            while not is_over:
                # As in _wait(), without a call for each message.
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
                is_over = self._is_due or self._is_over(pipeline, pipeline.want())
        finally:
            self._has_completed, self._patience = False, None
            if self._due is not None:
                self._due.cancel()
                self._due = None

    def _end_run(self) -> None:
        self._due, self._is_due = None, True
        self._wake()

    def _advance(self, *, read: bool = False, wrote: bool = False) -> bool:
        """Write what can be written; return whether the run is over."""
        if self._is_direct:
            return self._advance_directly()
        pipeline, watch, replies = self._pipeline, self._watch, self.replies
        assert pipeline is not None
        assert watch is not None
        want = pipeline.want()
        while True:
            if len(replies) and self._is_surplus(pipeline, want):
                pipeline.lose(unexpected(0, 0, replies.peek(200)))
                break
            if want & _WRITE and not self._is_paused:
                transport = self.transport
                if transport is None or self._end is not None or transport.is_closing():
                    pipeline.lose(self._end or ConnectionLost("the connection is closed"))
                    break
                self._asked = pipeline.booked
                data = pipeline.pull(_WRITE_BYTES)
                # From here on, all of it counts as sent.
                transport.write(data)
                pipeline.wrote(len(data))
                wrote = True
                if len(data) == _WRITE_BYTES and self.is_encrypted:
                    # asyncio's TLS goes on taking data after the connection below it is lost, and
                    # reports the loss in the next turn of the loop. What it takes counts as sent.
                    self._loop.call_soon(self._go_on)
                    want = pipeline.want()
                    break
            elif not want and len(pipeline) and pipeline.failure is None:
                # It holds its content until it is asked for.
                pipeline.send_content()
            else:
                break
            want = pipeline.want()
        if read and not wrote and want == _READ and self._sock is not None:
            # A server that leaves Nagle's algorithm on waits for it with the next reply.
            acks.acknowledge(self._sock)
        if self._has_ended(pipeline, want):
            return True
        if self._is_paused:
            self._unsent = self._held()
        now = monotonic()
        self._set_deadline(now + watch.note(now, wrote, read), now)
        return False

    def _advance_directly(self) -> bool:
        """Write and read what is possible without waiting; return whether the run is over."""
        pipeline, descriptor, left = self._pipeline, self._descriptor, math.inf
        assert pipeline is not None
        count = len(pipeline)
        if descriptor is None:
            pipeline.lose(self._end or ConnectionLost("the connection is closed"))
        elif pipeline.failure is None:
            left = descriptor.run(self._before_content)
            self._refuse_surplus()
        if len(pipeline) < count:
            self._has_completed = True
        failure = pipeline.failure
        if isinstance(failure, (OSError, EOFError)) and not isinstance(failure, TimeoutError):
            self._fail(failure)
        if self._has_ended(pipeline, pipeline.want()):
            return True
        now = monotonic()
        self._set_deadline(now + left, now)
        return False

    def _before_content(self) -> Content | None:
        self._refuse_surplus()
        return None

    def _refuse_surplus(self) -> None:
        pipeline, replies = self._pipeline, self.replies
        assert pipeline is not None
        if len(replies) and self._is_surplus(pipeline, pipeline.want()):
            pipeline.lose(unexpected(0, 0, replies.peek(200)))

    def _has_ended(self, pipeline: Pipeline, want: int) -> bool:
        """Return whether the run is over; if so, wake who waits for it. Else limit its patience."""
        if self._is_over(pipeline, want):
            self._deadline = math.inf
            self._wake()
            return True
        if self._patience is not None and self._has_completed and self._due is None:
            self._due = self._loop.call_later(self._patience, self._end_run)
        return False

    def _is_surplus(self, pipeline: Pipeline, want: int) -> bool:
        """Return whether what was received answers nothing that was sent: it would be read as the
        reply to what is sent next."""
        if pipeline.failure is not None:
            return False
        is_next = self._one_by_one and want & _WRITE and pipeline.booked > self._asked
        return bool(is_next or not want & _READ)

    def _is_over(self, pipeline: Pipeline, want: int) -> bool:
        return not want or pipeline.failure is not None or 0 < self.target >= len(pipeline)


def _end_stream(pipeline: Pipeline) -> None:
    if pipeline.strict:
        pipeline.end_of_stream()
    else:
        # smtplib takes a last reply that has no line end; here it counts as cut off.
        pipeline.lose(EOFError("the server closed the connection"))


def tls_options() -> dict[str, Any]:
    """Return the options for TLS that this Python's event loops have."""
    return {"ssl_shutdown_timeout": _SHUTDOWN_SECONDS} if sys.version_info >= (3, 11) else {}
