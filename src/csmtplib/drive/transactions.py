"""Runs a pipeline over whatever socket there is: the one place that chooses a driver."""

from __future__ import annotations

import contextlib
import select
import socket

from .. import kernel
from ..protocol import limits
from . import acks
from .pump import Pump, pump, pump_together

try:
    import ssl
except ImportError:
    ssl = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..kernel import Content, Pipeline, ReplyBuffer
    from ..protocol.limits import Limits

# Windows has no poll(), so the pump runs there.
_has_poll = hasattr(select, "poll")
HAS_FD_LOOP = kernel.implementation == "c" and _has_poll
if HAS_FD_LOOP:
    from . import _fd


def _original() -> frozenset[type]:
    """Return the classes of sockets that are the standard library's own, plain and TLS."""
    classes = set()
    if socket.socket.__module__ == "socket":
        classes.add(socket.socket)
        if ssl is not None and ssl.SSLSocket.__module__ == "ssl":
            classes.add(ssl.SSLSocket)
    return frozenset(classes)


# The most connections that one run takes. select() on Windows has room for 512 sockets.
MOST_TOGETHER = 1000 if _has_poll else 500

# As they are when this is imported. If sockets were patched before (gevent, eventlet), or are
# later, real ones have other classes, whose way of waiting must not be bypassed.
ORIGINAL = _original()
_PLAIN = ORIGINAL & {socket.socket}


def prepare(sock: Any) -> None:
    """Make the system send at once whatever is written, without waiting for the acknowledgement of
    what was written before."""
    with contextlib.suppress(OSError, AttributeError):
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            acks.prepare(sock)


def run(
    pipeline: Pipeline,
    replies: ReplyBuffer,
    sock: Any,
    target: int,
    allowed: Limits,
    *,
    seconds: float | None = None,
    before_content: Callable[[], Content | None] | None = None,
) -> float:
    """Runs a pipeline over a connected socket until `target` messages are left (with 0: and every
    reply is in), the connection is lost, or so many seconds have passed, unless that is None.
    Returns the longest wait between two replies to one flight, in seconds.

    before_content: called when content that is held could be sent. Then the content is sent, or
    what this returns instead, unless that is None. The pipeline has the result of the run, and a
    `failure` if the socket fails. Raises what a signal handler or before_content raises; it is then
    unknown what was sent.
    """
    if len(replies):
        pipeline.receive()
    if pipeline.failure is not None:
        return 0.0
    if HAS_FD_LOOP and type(sock) in _PLAIN:
        connection = by_descriptor(pipeline, sock, allowed)
        _fd.run(connection, target, limits.RECEIVE_BYTES, seconds, before_content)
        return connection.gap
    return pump(
        pipeline,
        replies,
        sock,
        target,
        allowed,
        seconds=seconds,
        can_poll=type(sock) in ORIGINAL,
        before_content=before_content,
    )


def by_descriptor(
    pipeline: Pipeline, sock: socket.socket, allowed: Limits, *, end_cuts_off: bool = False
) -> _fd.Connection:
    """Return the connection of a pipeline for the loop in C. end_cuts_off: see _fd.Connection."""
    return _fd.Connection(
        pipeline,
        sock.fileno(),
        allowed.phases,
        allowed.idle,
        allowed.early_round_trips,
        acks.is_quick,
        end_cuts_off,
    )


class Connection:
    """A connection that is run together with others: a pipeline over a connected socket.

    target: how many messages may be left when a run ends.
    """

    def __init__(
        self, pipeline: Pipeline, replies: ReplyBuffer, sock: Any, allowed: Limits
    ) -> None:
        self.target = 0
        self._pump = Pump(pipeline, replies, sock, allowed, can_poll=type(sock) in ORIGINAL)
        self._by_fd: _fd.Connection | None = None
        if HAS_FD_LOOP and type(sock) in _PLAIN:
            self._by_fd = by_descriptor(pipeline, sock, allowed)
        if len(replies):
            pipeline.receive()


def run_together(
    connections: Sequence[Connection], seconds: float, wake: socket.socket | None = None
) -> None:
    """Runs several connections until one of them has at most its target of messages left (with 0:
    and every reply is in) or is lost, until so many seconds have passed, or until the socket `wake`
    (non-blocking, or None) becomes readable. Time between the runs does not count for the time
    limits.

    The pipelines have the results. Raises what a signal handler raises; it is then unknown what was
    sent.
    """
    by_fd = [each._by_fd for each in connections if each._by_fd is not None]
    targets = [each.target for each in connections]
    if HAS_FD_LOOP and len(by_fd) == len(connections):
        wake_fd = -1 if wake is None else wake.fileno()
        _fd.run_together(by_fd, targets, wake_fd, limits.RECEIVE_BYTES, seconds)
    else:
        pump_together([each._pump for each in connections], targets, seconds, wake)
