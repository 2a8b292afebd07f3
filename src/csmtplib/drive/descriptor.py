"""The descriptor of an asyncio transport without TLS, for the loop in C, which reads and writes
without the transport's calls for each read and write.

The transport stays: it closes the connection, and writes what no pipeline sends. It does not read
any more, as only one of the two can. Event loops refuse to watch the descriptor of a transport, so
this is a duplicate of it.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from ..kernel.transaction import Want
from ..protocol import limits
from .transactions import HAS_FD_LOOP, ORIGINAL, by_descriptor

if HAS_FD_LOOP:
    from . import _fd

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from ..kernel import Content, Pipeline
    from ..protocol.limits import Limits

_, _WRITE, _READ = Want


class Descriptor:
    """It is watched by an event loop in place of the transport, and pipelines are run over it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Any,
        sock: Any,
        on_ready: Callable[[], object],
    ) -> None:
        """sock: the transport's. on_ready: called when there may be something to read, or room to
        write what did not fit. Raises NotImplementedError if the loop can't watch descriptors,
        OSError if the process may have no more of them."""
        self._loop = loop
        self._transport = transport
        self._on_ready = on_ready
        self._is_waiting_for_room = False
        self._connection: _fd.Connection | None = None
        self._sock = socket.socket(fileno=os.dup(sock.fileno()))
        try:
            # Programs may have set a default time limit.
            self._sock.setblocking(False)
            loop.add_reader(self._sock, on_ready)
        except BaseException:
            self._sock.close()
            raise
        transport.pause_reading()

    def close(self) -> None:
        """Leave the connection to the transport, which does not read."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
        self._connection = None

    def give_back(self) -> None:
        """Leave the connection to the transport, which reads again."""
        self.close()
        self._transport.resume_reading()

    def read(self) -> bytes | None:
        """Return what was received: nothing at its end, None if there is nothing yet. Raises
        OSError."""
        try:
            return self._sock.recv(limits.RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return None

    def begin(self, pipeline: Pipeline, allowed: Limits) -> None:
        """Have a pipeline use the connection, until end()."""
        self._connection = by_descriptor(pipeline, self._sock, allowed, end_cuts_off=True)

    def end(self) -> float:
        """Take the connection away from the pipeline. Return the longest wait between two replies
        to one flight, in seconds."""
        gap = 0.0 if self._connection is None else self._connection.gap
        self._connection = None
        if self._is_waiting_for_room:
            self._wait_for_room(False)
        return gap

    def run(self, pipeline: Pipeline, before_content: Callable[[], Content | None]) -> int:
        """Do what is possible without waiting for the pipeline of begin(). Return what it wants
        then."""
        assert self._connection is not None
        _fd.run(self._connection, 0, limits.RECEIVE_BYTES, 0.0, before_content)
        want = pipeline.want()
        if bool(want & _WRITE) != self._is_waiting_for_room:
            self._wait_for_room(not self._is_waiting_for_room)
        return want

    @property
    def seconds_left(self) -> float:
        """The seconds that are left before a time limit ends the connection."""
        assert self._connection is not None
        return self._connection.seconds_left

    def _wait_for_room(self, is_waiting: bool) -> None:
        self._is_waiting_for_room = is_waiting
        if is_waiting:
            self._loop.add_writer(self._sock, self._on_ready)
        elif self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock)


def descriptor_of(
    loop: asyncio.AbstractEventLoop, transport: Any, on_ready: Callable[[], object]
) -> Descriptor | None:
    """Return the descriptor of a transport, None where the loop in C can't have it."""
    if not HAS_FD_LOOP or socket.socket not in ORIGINAL:
        return None
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or transport.get_extra_info("sslcontext") is not None:
        return None
    try:
        return Descriptor(loop, transport, sock, on_ready)
    except (NotImplementedError, OSError):
        # The transport can do it all.
        return None
