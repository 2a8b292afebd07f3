"""TLS over a connected socket, which resumes the session of an earlier connection.

A full handshake costs another round trip (before TLS 1.3) and milliseconds of CPU on both sides.
But a resumed one shows no certificate: it relies on what the full handshake verified. So a session
is kept only if the certificate was verified, and resumed only if a full handshake would verify the
same now: by the same context with the same settings, while all certificates of the chain are valid,
and for a short time. If one of these can't be known, the handshake is a full one.
"""

from __future__ import annotations

import os
import socket
import time
from _thread import RLock
from collections import OrderedDict
from functools import lru_cache, wraps
from weakref import WeakKeyDictionary, ref

try:
    import ssl
except ImportError:
    ssl = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    # Context, the name that the certificate has to have, and the peer's address.
    Place: TypeAlias = tuple[ssl.SSLContext, str | None, object]

# A session keeps its context alive, which is about a megabyte.
_MOST_SESSIONS = 16

# How long a certificate counts as verified, in seconds.
_LONGEST_SECONDS = 600.0


@lru_cache(maxsize=1)
def default_context() -> ssl.SSLContext:
    """Return the context that verifies servers by the system's authorities: one for the process, as
    loading those takes long."""
    return ssl.create_default_context()


def context(
    verify: bool,
    cafile: str | None,
    certfile: str | None,
    keyfile: str | None,
    *,
    with_system: bool,
) -> ssl.SSLContext:
    """Return the same context for all connections with the same settings, as TLS sessions are
    resumed only within one; a new one if a file has changed.

    verify: whether the server's certificate has to be valid. cafile: authorities; with_system: in
    addition to the system's. certfile, keyfile: a client certificate. Raises OSError (ssl.SSLError
    among them) for files that can't be loaded.
    """
    if verify and cafile is None and certfile is None:
        return default_context()
    files = (cafile, certfile, keyfile)
    return _context(verify, with_system, *files, tuple(map(_version, files)))


@lru_cache(maxsize=8)
def _context(
    verify: bool,
    with_system: bool,
    cafile: str | None,
    certfile: str | None,
    keyfile: str | None,
    versions: tuple[object, ...],
) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=None if with_system else cafile)
    if with_system and cafile is not None:
        made.load_verify_locations(cafile)
    if certfile is not None:
        made.load_cert_chain(certfile, keyfile)
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def _version(file: str | None) -> object:
    """Return a value that changes with a file; raise OSError if there is no such file."""
    if file is None:
        return None
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def wrap(context: ssl.SSLContext, sock: socket.socket, server_hostname: str | None) -> Any:
    """Return the socket inside TLS, as context.wrap_socket() does; raise what that raises."""
    place = _place(context, sock, server_hostname)
    if place is None:
        return context.wrap_socket(sock, server_hostname=server_hostname)
    settings = _settings(context)
    kept = _find(place, settings)
    if kept is None:
        tls_sock = context.wrap_socket(sock, server_hostname=server_hostname)
    else:
        try:
            tls_sock = context.wrap_socket(
                sock, server_hostname=server_hostname, session=kept.session
            )
        except OSError:
            # Some servers fail on a session that they have forgotten, or that was resumed before.
            # After one such failure, resume none.
            _keep(place, None)
            raise
        if tls_sock.session_reused:
            # The same session serves the next connection, too: reading the new one that the server
            # offers takes as long as resuming saves.
            return tls_sock
    handshake = _verified(place, settings, tls_sock)
    # Else another thread has changed the context, and it is unknown what was verified.
    if handshake is not None and settings == _settings(context):
        _handshakes[tls_sock] = handshake
    return tls_sock


def remember(sock: object) -> None:
    """Keeps the session of a socket that is about to be closed, if it is one of wrap()'s."""
    if ssl is None or type(sock) is not ssl.SSLSocket:
        return
    handshake = _handshakes.pop(sock, None)
    if handshake is None or sock.context is not handshake.place[0]:
        return
    try:
        session = sock.session
    except (OSError, ValueError):
        return  # the other side has gone
    if session is not None and session.has_ticket:
        _keep(handshake.place, _Kept(session, handshake))


class _Handshake:
    """A full handshake that has verified the certificate of a server.

    settings: of the context then. valid_from, valid_until: Unix times between which every
    certificate of the chain is valid.
    """

    __slots__ = ("place", "settings", "since", "valid_from", "valid_until")

    def __init__(
        self, place: Place, settings: tuple[object, ...], valid_from: float, valid_until: float
    ) -> None:
        self.place = place
        self.settings = settings
        self.since = time.monotonic()
        self.valid_from = valid_from
        self.valid_until = valid_until

    def stands(self) -> bool:
        """Return whether the result still holds: it is recent, and the certificates are valid
        now."""
        is_recent = time.monotonic() - self.since < _LONGEST_SECONDS
        return is_recent and self.valid_from <= time.time() < self.valid_until


class _Kept:
    """A session, and the handshake that it relies on."""

    __slots__ = ("handshake", "session")

    def __init__(self, session: ssl.SSLSession, handshake: _Handshake) -> None:
        self.session = session
        self.handshake = handshake


# Least recently used first. None: the server has failed a handshake that was to resume a session,
# so all are full ones.
_sessions: OrderedDict[Place, _Kept | None] = OrderedDict()
# A signal handler may connect, too.
_lock = RLock()

# Of connections that are open, and had a full handshake.
_handshakes: WeakKeyDictionary[ssl.SSLSocket, _Handshake] = WeakKeyDictionary()


def _place(
    context: ssl.SSLContext, sock: socket.socket, server_hostname: str | None
) -> Place | None:
    """Return the key of a session with this server; None if no session may be resumed."""
    # Third-party contexts may verify by themselves, and not know of sessions. Some replace the
    # standard library's class.
    if type(context) is not ssl.SSLContext or ssl.SSLContext.__module__ != "ssl":
        return None
    if context.verify_mode != ssl.CERT_REQUIRED:
        return None
    if context.verify_flags & ssl.VERIFY_CRL_CHECK_CHAIN:
        # What is revoked in the meantime is for a full handshake to see.
        return None
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return None  # an address that may be anybody's
        return context, server_hostname, sock.getpeername()
    except (OSError, AttributeError):
        return None


def _find(place: Place, settings: tuple[object, ...]) -> _Kept | None:
    """Return the session that may be resumed now."""
    with _lock:
        for each, kept in list(_sessions.items()):
            if kept is not None and not kept.handshake.stands():
                del _sessions[each]
        kept = _sessions.get(place)
        if kept is None or kept.handshake.settings != settings:
            return None
        _sessions.move_to_end(place)
        return kept


def _keep(place: Place, kept: _Kept | None) -> None:
    with _lock:
        if _sessions.get(place, kept) is None:
            kept = None  # even if a full handshake has brought a session since
        _sessions[place] = kept
        _sessions.move_to_end(place)
        while len(_sessions) > _MOST_SESSIONS:
            _sessions.popitem(last=False)


def _verified(
    place: Place, settings: tuple[object, ...], tls_sock: ssl.SSLSocket
) -> _Handshake | None:
    """Return the handshake that a socket has just had; None if its chain can't be read."""
    try:
        # The public method, since Python 3.13, returns only bytes. PyPy has neither.
        chain = tls_sock._sslobj.get_verified_chain()  # type: ignore[attr-defined]
        dates = [each.get_info() for each in chain]
        valid_from = max(ssl.cert_time_to_seconds(each["notBefore"]) for each in dates)
        valid_until = min(ssl.cert_time_to_seconds(each["notAfter"]) for each in dates)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return _Handshake(place, settings, valid_from, valid_until)


# The settings of a context


class _Changes:
    """Counts the changes to a context that can't be read from it."""

    __slots__ = ("__weakref__", "count")

    def __init__(self) -> None:
        self.count = 0


_changes: WeakKeyDictionary[ssl.SSLContext, _Changes] = WeakKeyDictionary()


def _settings(context: ssl.SSLContext) -> tuple[object, ...]:
    """Return the settings of a context that can be read, and how often others were changed."""
    readable, _ = _attributes()
    return (
        _watch(context).count,
        context.cert_store_stats(),
        [getattr(context, name, None) for name in readable],
    )


@lru_cache(maxsize=1)
def _attributes() -> tuple[list[str], list[str]]:
    """Return the names of a context's settings that can be read, and of the methods that set
    others: a client certificate, for example, which a server can only ask for in a full
    handshake."""
    names = [name for name in dir(ssl.SSLContext) if not name.startswith("__")]
    readable = [name for name in names if hasattr(getattr(ssl.SSLContext, name), "__set__")]
    return readable, [name for name in names if name.startswith(("load_", "set_"))]


def _watch(context: ssl.SSLContext) -> _Changes:
    """Make the context count the calls of the methods that set what can't be read."""
    with _lock:
        changes = _changes.get(context)
        if changes is None:
            changes = _changes[context] = _Changes()
            for name in _attributes()[1]:
                setattr(context, name, _counted(context, name, changes))
        return changes


def _counted(context: ssl.SSLContext, name: str, changes: _Changes) -> Callable[..., Any]:
    method = getattr(ssl.SSLContext, name)
    # A context that refers to itself would live until the garbage collector runs.
    context_ref = ref(context)

    @wraps(method)
    def change(*arguments: Any, **named: Any) -> Any:
        # Counted before and after: a handshake in another thread may begin in between.
        changes.count += 1
        try:
            return method(context_ref(), *arguments, **named)
        finally:
            changes.count += 1

    return change
