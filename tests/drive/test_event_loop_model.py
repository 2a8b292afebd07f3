"""The driver of event loops by the model of tests/kernel: over a transport that takes as much as it
likes, and hands over what comes as it likes."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from csmtplib.drive.event_loop import LoopConnection
from csmtplib.kernel.transaction import Mode, Want
from csmtplib.protocol import limits

from ..kernel.conftest import TWINS
from ..kernel.talking import EVERYTHING, Talk
from ..kernel.test_pipeline_model import Habit, Model, Sent, hosts, shapes

# Bytes that the system takes, and bytes above which a transport wants no more.
ROOMS = [1, 30, EVERYTHING]
HIGH_WATER = [0, 0, 20, 200]


class Wire(asyncio.Transport):
    """A transport, and the system below it."""

    def __init__(self, protocol: asyncio.BaseProtocol, room: int, high: int) -> None:
        super().__init__()
        self.handed = b""
        """All that was written."""
        self._protocol = protocol
        self._room, self._high = room, high
        self._system = self._buffer = b""
        self.is_paused = self._is_closing = False

    @property
    def pending(self) -> bytes:
        """The bytes that have not left."""
        return self._system + self._buffer

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._is_closing
        assert not self.is_paused
        self.handed += data
        self._buffer += data
        self._sink()
        if len(self._buffer) > self._high:
            self.is_paused = True
            self._protocol.pause_writing()

    def leave(self, limit: int) -> bytes:
        """Let at most so many bytes leave; return them."""
        left = b""
        while self._system and len(left) < limit:
            count = limit - len(left)
            left, self._system = left + self._system[:count], self._system[count:]
            self._sink()
            if self.is_paused and len(self._buffer) <= self._high // 4:
                self.is_paused = False
                self._protocol.resume_writing()
        return left

    def _sink(self) -> None:
        count = max(self._room - len(self._system), 0)
        self._system, self._buffer = self._system + self._buffer[:count], self._buffer[count:]

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def abort(self) -> None:
        self._is_closing = True
        self._system = self._buffer = b""


class LoopTalk(Talk):
    """The client's side of a session, by the driver."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mode: Mode,
        room: int,
        high: int,
        *,
        lmtp: bool,
        proved: bool,
        large: int,
    ) -> None:
        super().__init__(TWINS[-1], mode, lmtp=lmtp, proved=proved, large=large)
        self._loop = loop
        self.connection = LoopConnection(loop)
        self.connection.replies = self.replies
        self.wire = Wire(self.connection, room, high)
        self.connection.connection_made(self.wire)
        self.connection.begin(self.pipeline, limits.at_least(None))
        self.has_more = False
        """Whether messages were pushed that the driver has not been told of."""
        self._running: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        return self._running is not None and not self._running.done()

    def run(self, target: int = 0) -> None:
        """Have a task wait for the pipeline, unless one does."""
        if not self.is_running:
            self._running = self._loop.create_task(self.connection.run(target))
        elif self.has_more:
            self.connection.flush()
        self.has_more = False
        self.turn()

    def turn(self) -> None:
        """Let the task do what it can."""
        for _ in range(2):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()

    def sent(self, limit: int = EVERYTHING, piece: int = EVERYTHING) -> bytes:
        self.run()
        return self.wire.leave(limit)

    def hear(self, said: bytes, piece: int = EVERYTHING) -> None:
        while said and not self.wire.is_closing():
            buffer = self.connection.get_buffer(-1)
            part, said = said[: len(buffer)], said[len(buffer) :]
            buffer[: len(part)] = part
            self.connection.buffer_updated(len(part))

    def end_of_stream(self) -> None:
        if not self.wire.is_closing():
            self.connection.eof_received()
            self.check()
            assert not self.is_running
            self.lost(None)

    def lost(self, error: Exception | None) -> None:
        """The transport has closed."""
        if not self.wire.is_closing():
            self.wire.abort()
            self.connection.connection_lost(error)

    def lose(self, error: Exception) -> None:
        """The task is cancelled, and the pipeline given up by who has cancelled it."""
        if self._running is not None and self._running.cancel():
            self.turn()
            assert self._running.cancelled()
        self.pipeline.lose(error)

    def end(self) -> None:
        """Leave the connection, which goes on."""
        self.lose(TimeoutError())
        self.connection.end()
        self.connection.abort()

    def check(self) -> None:
        """Check what holds between two turns."""
        self.turn()
        if not (self.has_more or self.wire.is_paused):
            assert not self.pipeline.want() & Want.WRITE
        if self.is_running:
            # Nobody but it wakes it up.
            pipeline, target = self.pipeline, self.connection.target
            assert pipeline.failure is None
            assert pipeline.want()
            assert not 0 < target >= len(pipeline)
        elif self._running is not None and not self._running.cancelled():
            assert self._running.exception() is None


class LoopModel(Model):
    talk: LoopTalk

    @initialize(
        # That is where most is written at once.
        host=hosts | st.just((Habit.NONE, Mode.CHUNKING, False)),
        proved=st.booleans(),
        large=st.sampled_from([0, 20, 10_000]),
        quota=st.integers(1, 4),
        shapes=shapes,
        room=st.sampled_from(ROOMS),
        high=st.sampled_from(HIGH_WATER),
    )
    def connect(self, room: int, high: int, **host: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.room, self.high = room, high
        super().connect(**host)

    def new_talk(self, proved: bool) -> LoopTalk:
        if hasattr(self, "talk"):
            self.talk.end()
        return LoopTalk(
            self.loop,
            self.mode,
            self.room,
            self.high,
            lmtp=self.lmtp,
            proved=proved,
            large=self.large,
        )

    def push_to(self, number: int, names: list[str]) -> None:
        super().push_to(number, names)
        self.talk.has_more = True

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            super().teardown()
        finally:
            self.talk.end()
            self.loop.close()
        assert not asyncio.all_tasks(self.loop)

    @rule(left=st.integers(0, 3))
    def run(self, left: int) -> None:
        self.talk.run(left)

    @rule(limit=st.sampled_from([1, 30]), shapes=shapes)
    def trickle(self, limit: int, shapes: list[tuple[int, str]]) -> None:
        """More messages come while the transport is full."""
        for shape in shapes:
            self.push([shape])
            self.write(limit)

    @rule(limit=st.sampled_from([1, 30, EVERYTHING]), often=st.integers(0, 2))
    def interrupt(self, limit: int, often: int) -> None:
        """T1: the connection is lost. Of what was handed to the transport, nobody knows what has
        left."""
        if often == 0 and not self.talk.wire.is_closing():
            self.server.take(self.talk.wire.pending[:limit])
            self.is_lost = True
            self.talk.lost(TimeoutError())

    @invariant()
    def wakes_up(self) -> None:
        if hasattr(self, "talk"):
            self.talk.check()

    def is_silent(self) -> bool:
        return not self.talk.wire.pending and super().is_silent()

    def has_left(self, message: Sent) -> bool:
        # Handed over, it counts as having left.
        self.stream = self.talk.wire.handed
        return super().has_left(message)


LoopModel.TestCase.settings = settings(max_examples=200, stateful_step_count=40)


TestLoopModel = LoopModel.TestCase
