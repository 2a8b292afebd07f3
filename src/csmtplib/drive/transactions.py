"""Runs a pipeline over whatever socket there is: the one place that chooses a driver."""

from __future__ import annotations

import contextlib
import socket
import sys

from .. import kernel
from ..protocol import limits
from .pump import pump

try:
    import ssl
except ImportError:
    ssl = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel import Pipeline, ReplyBuffer
    from ..protocol.limits import Limits

# There is no poll() on Windows: the pump serves there.
_has_fd_loop = kernel.implementation == "c" and sys.platform != "win32"
if _has_fd_loop:
    from ._fd import run as _run_fd


def _genuine() -> frozenset[type]:
    """The classes of sockets that are the standard library's own, plain and TLS."""
    classes = set()
    if socket.socket.__module__ == "socket":
        classes.add(socket.socket)
        if ssl is not None and ssl.SSLSocket.__module__ == "ssl":
            classes.add(ssl.SSLSocket)
    return frozenset(classes)


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
        _run_fd(
            pipeline,
            sock.fileno(),
            target,
            allowed.phases,
            allowed.idle,
            limits.RECEIVE_OCTETS,
            seconds,
            before_content,
        )
        return
    _pump(pipeline, replies, sock, target, allowed, seconds)
    if before_content is not None and len(pipeline) and pipeline.failure is None:
        before_content()
        pipeline.release()
        _pump(pipeline, replies, sock, target, allowed, seconds)


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
