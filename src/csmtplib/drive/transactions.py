"""Runs a pipeline over whatever socket there is: the one place that chooses a driver."""

from __future__ import annotations

import contextlib
import select
import socket

from .. import kernel
from ..protocol import limits
from .pump import Pump, pump, pump_together

try:
    import ssl
except ImportError:
    ssl = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..kernel import Pipeline, ReplyBuffer
    from ..protocol.limits import Limits

# There is no poll() on Windows: the pump serves there.
_has_poll = hasattr(select, "poll")
_has_fd_loop = kernel.implementation == "c" and _has_poll
if _has_fd_loop:
    from . import _fd


def _genuine() -> frozenset[type]:
    """The classes of sockets that are the standard library's own, plain and TLS."""
    classes = set()
    if socket.socket.__module__ == "socket":
        classes.add(socket.socket)
        if ssl is not None and ssl.SSLSocket.__module__ == "ssl":
            classes.add(ssl.SSLSocket)
    return frozenset(classes)


# As many connections as one run takes. select() on Windows has room for 512 sockets.
MOST_TOGETHER = 1000 if _has_poll else 500

# As they are when this is imported. Where they had been patched by then (gevent, eventlet), or are
# later, real sockets are of other classes, and how those wait is not ours to go around.
GENUINE = _genuine()
_PLAIN = GENUINE & {socket.socket}


def prepare(sock: Any) -> None:
    """Has what is written leave at once: a whole group of commands waits for nothing."""
    with contextlib.suppress(OSError, AttributeError):
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def run(
    pipeline: Pipeline,
    replies: ReplyBuffer,
    sock: Any,
    target: int,
    allowed: Limits,
    *,
    seconds: float | None = None,
    before_content: Callable[[], object] | None = None,
) -> None:
    """Runs a pipeline over a connected socket until `target` messages are left (with 0: and every
    reply is in), the connection is lost, or so many seconds have passed, where that is not None.

    before_content: is called when content that is held could leave, which then is released. What
    comes of it is the pipeline's to tell: a failure of the socket is its `failure`. Raises what a
    signal handler raises; nobody knows then what has been sent.
    """
    if len(replies):
        pipeline.receive()
    if pipeline.failure is not None:
        return
    if _has_fd_loop and type(sock) in _PLAIN:
        line = _fd.Line(pipeline, sock.fileno(), allowed.phases, allowed.idle)
        _fd.run(line, target, limits.RECEIVE_OCTETS, seconds, before_content)
        return
    _pump(pipeline, replies, sock, target, allowed, seconds)
    if before_content is not None and len(pipeline) and pipeline.failure is None:
        before_content()
        pipeline.release()
        _pump(pipeline, replies, sock, target, allowed, seconds)


class Line:
    """A connection that is run together with others: a pipeline over a connected socket.

    target: how many messages may be left when a run comes back.
    """

    def __init__(
        self, pipeline: Pipeline, replies: ReplyBuffer, sock: Any, allowed: Limits
    ) -> None:
        self.target = 0
        self._pump = Pump(pipeline, replies, sock, allowed, can_poll=type(sock) in GENUINE)
        self._by_fd: _fd.Line | None = None
        if _has_fd_loop and type(sock) in _PLAIN:
            self._by_fd = _fd.Line(pipeline, sock.fileno(), allowed.phases, allowed.idle)
        if len(replies):
            pipeline.receive()


def run_together(lines: Sequence[Line], seconds: float, wake: socket.socket) -> None:
    """Runs several lines until one of them has no more messages left than its target (with 0: and
    every reply is in) or is lost, for at most so many seconds, or until there is something to read
    from `wake`. Time between the runs does not count where a server is waited for.

    What comes of it is the pipelines' to tell. Raises what a signal handler raises; nobody knows
    then what has been sent.
    """
    by_fd = [each._by_fd for each in lines if each._by_fd is not None]
    targets = [each.target for each in lines]
    if _has_fd_loop and len(by_fd) == len(lines):
        _fd.run_together(by_fd, targets, wake.fileno(), limits.RECEIVE_OCTETS, seconds)
    else:
        pump_together([each._pump for each in lines], targets, seconds, wake)


def _pump(
    pipeline: Pipeline,
    replies: ReplyBuffer,
    sock: Any,
    target: int,
    allowed: Limits,
    seconds: float | None,
) -> None:
    can_poll = type(sock) in GENUINE
    try:
        pump(pipeline, replies, sock, target, allowed, seconds=seconds, can_poll=can_poll)
    except OSError as error:
        pipeline.lose(error)
