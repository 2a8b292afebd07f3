"""Pipelines over a connection of an event loop.

The callbacks of the transport, or those of the descriptor that is watched in its place, advance the
pipeline, and the task that waits for it wakes up once.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING

from ..kernel.errors import unexpected
from ..kernel.transaction import Want
from ..protocol import limits
from ..protocol.failures import ConnectionLost
from ..protocol.watch import Watch
from . import acks
from .loop_transport import WRITE_BYTES, LoopTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel import Content, Pipeline
    from ..protocol.limits import Limits

_, _WRITE, _READ = Want


class LoopConnection(LoopTransport):
    """A connection of an event loop that also runs pipelines, one at a time.

    target: how many messages may be left when a run ends.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[LoopConnection], object] | None = None,
    ) -> None:
        """on_lost: called when the connection is lost."""
        super().__init__(loop, on_lost)
        self._pipeline: Pipeline | None = None
        self._is_direct = False  # the loop in C runs it, over the descriptor
        self._watch: Watch | None = None  # where it does not
        self._gap = 0.0  # see end(), of a descriptor that was left since
        self.target = 0
        self._one_by_one = False
        self._asked = -1  # how many replies there were when something was written last
        self._unsent = 0  # bytes that the transport held when it was looked at last
        # Of a run that ends early: whether a message was completed since the last one, and how long
        # it goes on then.
        self._has_completed = False
        self._patience: float | None = None
        self._due: asyncio.TimerHandle | None = None
        self._is_due = False

    def close(self) -> None:
        """Close the connection. What is in progress is aborted."""
        if self._pipeline is not None:
            self.abort()
        else:
            super().close()

    def _leave_descriptor(self) -> None:
        if self._descriptor is not None and self._is_direct:
            self._gap = self._descriptor.end()
        super()._leave_descriptor()

    # What the transport and the descriptor report

    def _receive_bytes(self, data: memoryview | bytes) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            super()._receive_bytes(data)
            return
        self.replies.feed(data)
        count = len(pipeline)
        pipeline.receive()
        if len(pipeline) < count:
            self._has_completed = True
        self._advance(read=True)

    def _on_ready(self) -> None:
        if self._is_direct and self._pipeline is not None and self._pipeline.want():
            self._advance_directly()
        else:
            super()._on_ready()

    def _on_end(self, end: Exception) -> None:
        pipeline = self._pipeline
        if pipeline is None or pipeline.failure is not None:
            return
        if isinstance(end, EOFError):
            _end_stream(pipeline)
        else:
            pipeline.lose(end)

    def resume_writing(self) -> None:
        if self._pipeline is None:
            super().resume_writing()
        else:
            self._is_paused = False
            self._advance(wrote=True)

    def _go_on(self) -> None:
        if self._pipeline is not None:
            self._advance()

    def _on_limit(self) -> None:
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

    # Runs

    def begin(self, pipeline: Pipeline, allowed: Limits, *, one_by_one: bool = False) -> None:
        """Have a pipeline use the connection, until end(). one_by_one: each command waits for the
        reply to the one before."""
        self._one_by_one, self._asked = one_by_one, -1
        if self._received:
            self.replies.feed(self._received)
            self._received.clear()
        self._pipeline = pipeline
        self.target, self._gap = 0, 0.0
        if not one_by_one and self.is_connected and not self._held() and self._watch_descriptor():
            assert self._descriptor is not None
            self._descriptor.begin(pipeline, allowed)
            self._is_direct = True
        else:
            self._watch = Watch(pipeline, allowed, monotonic())
        if len(self.replies):
            pipeline.receive()
        if self._end is not None:
            self._on_end(self._end)

    def end(self) -> float:
        """Take the connection away from the pipeline. Return the longest wait between two replies
        to one flight, in seconds."""
        gap = self._gap
        if self._watch is not None:
            gap = self._watch.gap
        elif self._descriptor is not None:
            gap = self._descriptor.end()
        self._pipeline = self._watch = None
        self._is_direct = False
        self._deadline = math.inf
        return gap

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
        pipeline, watch = self._pipeline, self._watch
        assert pipeline is not None
        assert watch is not None
        want = pipeline.want()
        while True:
            if self._refuse_surplus(pipeline, want):
                break
            if want & _WRITE and not self._is_paused:
                transport = self.transport
                if transport is None or self._end is not None or transport.is_closing():
                    pipeline.lose(self._end or ConnectionLost("the connection is closed"))
                    break
                self._asked = pipeline.booked
                data = pipeline.pull(WRITE_BYTES)
                # From here on, all of it counts as sent.
                transport.write(data)
                pipeline.wrote(len(data))
                wrote = True
                if len(data) == WRITE_BYTES and self.is_encrypted:
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
        pipeline, descriptor = self._pipeline, self._descriptor
        assert pipeline is not None
        count, want = len(pipeline), 0
        if descriptor is None:
            pipeline.lose(self._end or ConnectionLost("the connection is closed"))
        elif pipeline.failure is None:
            want = descriptor.run(pipeline, self._before_content)
            self._refuse_surplus(pipeline, want)
        if len(pipeline) < count:
            self._has_completed = True
        failure = pipeline.failure
        if isinstance(failure, (OSError, EOFError)) and not isinstance(failure, TimeoutError):
            self._fail(failure)
        if self._has_ended(pipeline, want):
            return True
        assert descriptor is not None
        now = monotonic()
        self._set_deadline(now + descriptor.seconds_left, now)
        return False

    def _before_content(self) -> Content | None:
        assert self._pipeline is not None
        self._refuse_surplus(self._pipeline, self._pipeline.want())
        return None

    def _refuse_surplus(self, pipeline: Pipeline, want: int) -> bool:
        """Lose the pipeline if what was received answers nothing that was sent: it would be read as
        the reply to what is sent next. Return whether it is lost for that."""
        replies = self.replies
        if not len(replies) or pipeline.failure is not None:
            return False
        is_next = self._one_by_one and want & _WRITE and pipeline.booked > self._asked
        if want & _READ and not is_next:
            return False
        pipeline.lose(unexpected(0, 0, replies.peek(200)))
        return True

    def _has_ended(self, pipeline: Pipeline, want: int) -> bool:
        """Return whether the run is over; if so, wake who waits for it. Else limit its patience."""
        if self._is_over(pipeline, want):
            self._deadline = math.inf
            self._wake()
            return True
        if self._patience is not None and self._has_completed and self._due is None:
            self._due = self._loop.call_later(self._patience, self._end_run)
        return False

    def _is_over(self, pipeline: Pipeline, want: int) -> bool:
        return not want or pipeline.failure is not None or 0 < self.target >= len(pipeline)


def _end_stream(pipeline: Pipeline) -> None:
    if pipeline.strict:
        pipeline.end_of_stream()
    else:
        # smtplib takes a last reply that has no line end; here it counts as cut off.
        pipeline.lose(EOFError("the server closed the connection"))
