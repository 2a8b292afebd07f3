"""TLS over a connected socket, resuming the session that the last connection to a server had.

A full handshake costs a round trip more (before TLS 1.3) and milliseconds of both sides' CPU.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from weakref import WeakKeyDictionary

try:
    import ssl
except ImportError:
    ssl = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, TypeAlias

    Peer: TypeAlias = tuple[str | None, object]

# A session is worth nothing to another context, and nothing to another name, whose certificate
# would not be looked at.
_sessions: WeakKeyDictionary[ssl.SSLContext, dict[Peer, ssl.SSLSession]] = WeakKeyDictionary()


@lru_cache(maxsize=1)
def default_context() -> ssl.SSLContext:
    """The context that verifies servers by the system's authorities: one for the process, as it
    takes long to load those."""
    return ssl.create_default_context()


def wrap(context: ssl.SSLContext, sock: socket.socket, server_hostname: str | None) -> Any:
    """The socket inside TLS, as by context.wrap_socket(); raises what that raises."""
    # Programs pass contexts of other makes, which may not know of sessions.
    if type(context) is ssl.SSLContext:
        session = _sessions.get(context, {}).get(_peer(sock, server_hostname))
        if session is not None:
            return context.wrap_socket(sock, server_hostname=server_hostname, session=session)
    return context.wrap_socket(sock, server_hostname=server_hostname)


def remember(sock: object) -> None:
    """Keeps the session of a socket that is about to be closed, if it is one of TLS."""
    if ssl is None or type(sock) is not ssl.SSLSocket or type(sock.context) is not ssl.SSLContext:
        return
    # By now a handshake may have failed, or the other side have gone.
    with contextlib.suppress(OSError, ValueError):
        session = sock.session
        if session is not None and session.has_ticket:
            peers = _sessions.setdefault(sock.context, {})
            peers[_peer(sock, sock.server_hostname)] = session


def _peer(sock: socket.socket, server_hostname: str | None) -> Peer:
    return server_hostname, sock.getpeername()
