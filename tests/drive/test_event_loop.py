"""The driver of event loops, over transports that do what asyncio's do seldom."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from csmtplib import kernel
from csmtplib.drive.event_loop import LoopConnection
from csmtplib.kernel.transaction import Mode, Stage, Step
from csmtplib.protocol import limits

from ..kernel.talking import envelope

SECONDS = 30


class BrokenTLS(asyncio.Transport):
    """TLS over a connection that is lost with the first write. As asyncio's: it takes all that is
    written then, and reports the loss in the next turn of the loop."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"sslcontext": object()})
        self._protocol = protocol
        self.taken = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.taken:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._protocol.connection_lost, ConnectionResetError("reset"))
        self.taken += len(data)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


def test_what_is_swallowed_by_tls_is_not_all_in_doubt() -> None:
    """Case 60. Only what was handed over in the turn of the loss counts as sent."""

    async def main() -> tuple[list[Any], int]:
        connection = LoopConnection(asyncio.get_running_loop())
        transport = BrokenTLS(connection)
        connection.connection_made(transport)
        pipeline = kernel.Pipeline(connection.replies, Mode.CHUNKING, False, True, Step.NEXT, 0)
        connection.begin(pipeline, limits.at_least(None))
        pipeline.push("m", envelope("s", ["r"]), kernel.Content([b"x" * 3_000_000], False, b"\r\n"))
        connection.replies.feed(b"250 ok\r\n250 ok\r\n")
        pipeline.wrote(len(pipeline.pull(1 << 20)))
        pipeline.receive()
        await asyncio.wait_for(connection.run(), SECONDS)
        return pipeline.take(), transport.taken

    told, taken = asyncio.run(main())
    assert told == [("m", Stage.LOST, None, {})]
    assert 0 < taken < 1_000_000


def test_the_wait_between_replies_is_known_when_the_connection_is_lost() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        here.setblocking(False)
        _, connection = await loop.create_connection(lambda: LoopConnection(loop), sock=here)
        pipeline = kernel.Pipeline(connection.replies, Mode.PIPELINING, False, True, Step.FLIGHT, 0)
        connection.begin(pipeline, limits.at_least(None))
        pipeline.push("m", envelope("s", ["r"]), kernel.Content([b"x"], True))
        run = asyncio.ensure_future(connection.run())
        for _ in range(2):
            await asyncio.sleep(0.05)
            there.send(b"250 ok\r\n")
        await asyncio.sleep(0.05)
        there.close()
        await asyncio.wait_for(run, SECONDS)
        assert pipeline.failure is not None
        return connection.end()

    assert 0.02 < asyncio.run(main()) < 1
