"""The connection under csmtplib.aio.SMTP: settings, connecting, one command and its reply."""

from __future__ import annotations

import asyncio
import functools
import os
import smtplib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..drive import tls
from ..drive.event_loop import LoopConnection
from ..drive.hostname import local_hostname
from ..drive.loop_transport import TLS, tls_options
from ..kernel.errors import ReplyError
from ..protocol import envelope, extension_policy, limits
from ..protocol.dialogue import Dialogue, Exchange, Flow, StartTLS
from ..protocol.failures import ConnectionLost
from . import errors
from .response import SMTPResponse, SMTPStatus, reply_text, response_of
from .time_limit import time_limit
from .typing import Default, SMTPTokenGenerator, SocketPathType, Timeout

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from ..kernel.transaction import Reply

Self = TypeVar("Self", bound="Connection")
Item = TypeVar("Item")

SMTP_PORT = 25
SMTP_TLS_PORT = 465
SMTP_STARTTLS_PORT = 587
DEFAULT_TIMEOUT = 60

# Stands for no limit. Timers of event loops do not take infinity.
_NO_TIMEOUT_SECONDS = 10 * 365 * 86400.0

# The arguments of connect() that the client keeps, and the attributes that have them.
_SETTINGS = {
    "hostname": "hostname",
    "port": "port",
    "username": "_login_username",
    "password": "_login_password",
    "oauth_token_generator": "_oauth_token_generator",
    "local_hostname": "local_hostname",
    "source_address": "source_address",
    "use_tls": "use_tls",
    "start_tls": "_start_tls_on_connect",
    "validate_certs": "validate_certs",
    "client_cert": "client_cert",
    "client_key": "client_key",
    "tls_context": "tls_context",
    "cert_bundle": "cert_bundle",
    "socket_path": "socket_path",
    "sock": "sock",
}
# None leaves these as they are; for the others it is a value.
_FLAGS = frozenset(("use_tls", "validate_certs"))


class Connection:
    """A connection to a server, with commands and replies: the base of SMTP."""

    protocol: LoopConnection | None = None
    transport: Any | None = None  # an asyncio.Transport
    loop: asyncio.AbstractEventLoop | None = None
    default_port: int = SMTP_PORT

    _is_lmtp: bool = False
    _is_streaming: bool = False  # send_many() is in progress

    def __init__(
        self,
        *,
        hostname: str | None = None,
        port: int | None = None,
        username: str | bytes | None = None,
        password: str | bytes | None = None,
        oauth_token_generator: SMTPTokenGenerator | None = None,
        local_hostname: str | None = None,
        source_address: tuple[str, int] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        use_tls: bool = False,
        start_tls: bool | None = None,
        validate_certs: bool = True,
        client_cert: str | None = None,
        client_key: str | None = None,
        tls_context: ssl.SSLContext | None = None,
        cert_bundle: str | None = None,
        socket_path: SocketPathType | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        """hostname: the server, by default localhost. port: by default 465 with use_tls, 587 if
        start_tls is True, else 25. socket_path, sock: the path of a Unix socket, or a connected
        socket, instead of these two.

        username, password: what connect() logs in with. oauth_token_generator: returns an access
        token for XOAUTH2, instead of the password. local_hostname: the name for EHLO, by default
        this host's. source_address: host and port to connect from. timeout: seconds that connecting
        or a reply may take; None for no limit, but in a transaction for those of RFC 5321.

        use_tls: TLS from the start. start_tls: STARTTLS, which None uses if the server offers it,
        True demands, and False does not use. validate_certs: whether the server's certificate is
        verified. cert_bundle: a file with authorities in addition to the system's. client_cert,
        client_key: the files of a client certificate. tls_context: a context instead of these.

        Raises ValueError for arguments that contradict each other.
        """
        self.hostname = hostname
        self.port = port
        self._login_username = username
        self._login_password = password
        self._oauth_token_generator = oauth_token_generator
        self.local_hostname = local_hostname
        self.source_address = source_address
        self.timeout = timeout
        self.use_tls = use_tls
        self._start_tls_on_connect = start_tls
        self.validate_certs = validate_certs
        self.client_cert = client_cert
        self.client_key = client_key
        self.tls_context = tls_context
        self.cert_bundle = cert_bundle
        self.socket_path = socket_path
        self.sock = sock

        self._connect_lock: asyncio.Lock | None = None
        self._command_lock: asyncio.Lock | None = None
        self._sendmail_lock: asyncio.Lock | None = None
        self._policy = extension_policy.no_extensions()
        self._forget_session()
        self._check_settings()

    async def __aenter__(self: Self) -> Self:
        if not self.is_connected:
            await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_cancelled = error is not None and not isinstance(error, Exception)
        is_lost = isinstance(error, (ConnectionError, TimeoutError, asyncio.TimeoutError))
        # Nothing is awaited in a cancelled task, and QUIT can't be sent while messages are in
        # progress.
        if is_cancelled or is_lost or self._is_streaming:
            self.close()
            return
        timeout = self.timeout
        try:
            await self._quit(
                limits.QUIT_SECONDS if timeout is None else min(timeout, limits.QUIT_SECONDS)
            )
        except errors.SMTPException:
            pass
        finally:
            self.close()

    # State

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return self.protocol is not None and self.protocol.is_connected

    def get_transport_info(self, key: str) -> Any:
        """Return what asyncio's transport knows under this key: "peername", "socket", "sockname",
        "cipher", "peercert", "sslcontext", "ssl_object". Raises SMTPServerDisconnected."""
        if not self.is_connected or self.transport is None:
            raise errors.SMTPServerDisconnected("Server not connected")
        return self.transport.get_extra_info(key)

    def _forget_session(self) -> None:
        """Forget what the server has said about itself."""

    # Settings

    def _update_settings(self, given: Mapping[str, object]) -> None:
        for name, value in given.items():
            if value is not Default.token and not (value is None and name in _FLAGS):
                setattr(self, _SETTINGS[name], value)

    def _check_settings(self) -> None:
        """Raises ValueError for settings that contradict each other."""
        if self._login_password is not None and self._oauth_token_generator is not None:
            raise ValueError(
                "password and oauth_token_generator are mutually exclusive: give one of them"
            )
        if self._start_tls_on_connect and self.use_tls:
            raise ValueError(
                "start_tls and use_tls are not compatible: TLS begins with the connection, or later"
            )
        if self.tls_context is not None and self.client_cert is not None:
            raise ValueError("give tls_context or client_cert, not both")
        has_socket = bool(self.sock or self.socket_path)
        if self.sock is not None and self.socket_path is not None:
            raise ValueError("give sock or socket_path, not both")
        if has_socket and self.port is not None:
            raise ValueError("port has no meaning with sock or socket_path: leave it out")
        if has_socket and self.use_tls and self.hostname is None:
            raise ValueError(
                "use_tls needs hostname, also with sock or socket_path: it is the name that the "
                "server's certificate has to have"
            )
        if self.local_hostname is not None:
            self.local_hostname = checked_hostname(self.local_hostname)
        if self.hostname is not None and ("\r" in self.hostname or "\n" in self.hostname):
            raise ValueError(f"hostname has a line break: {self.hostname!r}")

    def _default_port(self) -> int:
        if self.use_tls:
            return SMTP_TLS_PORT
        return SMTP_STARTTLS_PORT if self._start_tls_on_connect else self.default_port

    def _seconds(self, timeout: Timeout) -> float | None:
        return self.timeout if timeout is Default.token else timeout

    # Connecting

    async def connect(
        self,
        *,
        hostname: str | Default | None = Default.token,
        port: int | Default | None = Default.token,
        username: str | bytes | Default | None = Default.token,
        password: str | bytes | Default | None = Default.token,
        oauth_token_generator: SMTPTokenGenerator | Default | None = Default.token,
        local_hostname: str | Default | None = Default.token,
        source_address: tuple[str, int] | Default | None = Default.token,
        timeout: Timeout = Default.token,
        use_tls: bool | None = None,
        start_tls: bool | Default | None = Default.token,
        validate_certs: bool | None = None,
        client_cert: str | Default | None = Default.token,
        client_key: str | Default | None = Default.token,
        tls_context: ssl.SSLContext | Default | None = Default.token,
        cert_bundle: str | Default | None = Default.token,
        socket_path: SocketPathType | Default | None = Default.token,
        sock: socket.socket | Default | None = Default.token,
    ) -> SMTPResponse:
        """Connect, begin TLS and log in as the settings say; return the server's greeting.

        The arguments are those of the class. What is given is kept for later calls, but for
        `timeout`. While another task connects, waits until the client is closed again.

        Raises SMTPConnectTimeoutError, SMTPConnectResponseError for a greeting other than 220,
        SMTPConnectError for other failures, what starttls() and login() raise, SMTPException if it
        is connected, and ValueError for arguments that contradict each other.
        """
        given = dict(locals())
        self._update_settings({name: given[name] for name in _SETTINGS})
        self._check_settings()
        self.loop = asyncio.get_running_loop()
        if self._connect_lock is None:
            self._connect_lock = asyncio.Lock()
        if self.is_connected:
            raise errors.SMTPException("SMTP instance is already connected")
        await self._connect_lock.acquire()  # until close()
        try:
            if self.local_hostname is None:
                self.local_hostname = await self._get_default_local_hostname()
            response = await self._create_connection(self._seconds(timeout))
            await self._begin_session()
        except BaseException:
            self.close()
            raise
        return response

    async def _get_default_local_hostname(self) -> str:
        if not _own_hostname.cache_info().currsize:
            # Name servers are asked once a process, in a thread.
            await asyncio.to_thread(_own_hostname)
        return _own_hostname()

    async def _begin_session(self) -> None:
        """Do what the settings ask for once the server has greeted."""

    async def _create_connection(self, timeout: float | None) -> SMTPResponse:
        loop = self.loop
        if loop is None:
            raise RuntimeError("No event loop set: call connect()")
        context, name = None, None
        if self.use_tls:
            context, name = await self._tls_context(), self.hostname
        options: dict[str, Any] = {"ssl": context}
        if context is not None:
            options |= {"ssl_handshake_timeout": timeout or None, **tls_options()}
        protocol = LoopConnection(loop, self._on_connection_lost)
        hostname = self.hostname if self.hostname is not None else "localhost"
        port = self.port if self.port is not None else self._default_port()
        place: object = port
        opening: Awaitable[tuple[Any, LoopConnection]]
        if self.sock is not None:
            place = None
            if self.sock.fileno() < 0:
                raise errors.SMTPConnectError("The socket is closed: give connect() another one")
            opening = loop.create_connection(
                lambda: protocol, sock=self.sock, server_hostname=name, **options
            )
        elif self.socket_path is not None:
            place = path = os.fsdecode(self.socket_path)
            opening = loop.create_unix_connection(
                lambda: protocol, path=path, server_hostname=name, **options
            )
        else:
            opening = loop.create_connection(
                lambda: protocol,
                host=hostname,
                port=port,
                local_addr=self.source_address,
                **options,
            )
        where = f"{hostname} on port {place}"
        try:
            async with time_limit(timeout):
                await opening
        except TimeoutError as error:
            protocol.abort()
            raise errors.SMTPConnectTimeoutError(f"Timed out connecting to {where}") from error
        except OSError as error:
            protocol.abort()
            raise errors.SMTPConnectError(f"Error connecting to {where}: {error}") from error
        except BaseException:
            # Cancelled, it may have been connected a moment before.
            protocol.abort()
            raise
        self._use(protocol, hostname, place)
        return await self._greeting(timeout, where)

    def _use(self, protocol: LoopConnection, hostname: str, place: object) -> None:
        self.protocol, self.transport = protocol, protocol.transport
        self._command_lock = asyncio.Lock()
        self._sendmail_lock = asyncio.Lock()
        # Of a socket that was connected elsewhere it is unknown who is at its other end.
        known = "" if self.sock is not None else hostname
        self._policy = extension_policy.policy(known, place)

    async def _greeting(self, timeout: float | None, where: str) -> SMTPResponse:
        try:
            response = await self._exchange(b"", timeout)
        except errors.SMTPTimeoutError as error:
            raise errors.SMTPConnectTimeoutError(
                "Timed out waiting for server ready message"
            ) from error
        except errors.SMTPServerDisconnected as error:
            raise errors.SMTPConnectError(f"Error connecting to {where}: {error}") from error
        if response.code != SMTPStatus.ready:
            raise errors.SMTPConnectResponseError(response.code, response.message)
        if extension_policy.is_pix(reply_text(response.message)):
            self._policy = extension_policy.no_extensions()
        return response

    def _on_connection_lost(self, protocol: LoopConnection) -> None:
        if protocol is self.protocol:
            self.close()

    def close(self) -> None:
        """Close the connection without sending QUIT. A transaction that is in progress is aborted;
        who awaits it gets an exception with its result."""
        protocol, self.protocol, self.transport = self.protocol, None, None
        if protocol is not None:
            protocol.close()
        if self._connect_lock is not None and self._connect_lock.locked():
            self._connect_lock.release()
        self._forget_session()

    async def _tls_context(self) -> ssl.SSLContext:
        if self.tls_context is not None:
            return self.tls_context
        files = (self.cert_bundle, self.client_cert, self.client_key)
        # Loading the authorities takes long: that happens once a process, in a thread.
        make = functools.partial(tls.context, bool(self.validate_certs), *files, with_system=True)
        return await asyncio.to_thread(make)

    # Commands and replies

    async def execute_command(self, *args: bytes, timeout: Timeout = Default.token) -> SMTPResponse:
        """Send a command, whose words are given, and return the reply. After 421 the connection is
        closed.

        Raises ValueError for control characters, before anything is sent; SMTPServerDisconnected;
        SMTPReadTimeoutError, and SMTPResponseException(-1) for a reply that can't be read: the
        connection is then closed.
        """
        for each in args:
            envelope.check_command(each.decode("latin-1"))
        return await self._command(b" ".join(args) + b"\r\n", self._seconds(timeout))

    async def _command(self, line: bytes, seconds: float | None) -> SMTPResponse:
        """Send a command line that was checked; return the reply."""
        protocol, _, lock = self._connected()
        async with lock:
            self._check_still(protocol)
            response = await self._exchange(line, seconds)
        if response.code == SMTPStatus.domain_unavailable:
            self._drop(protocol)
        return response

    def _connected(self) -> tuple[LoopConnection, asyncio.Lock, asyncio.Lock]:
        """Return the connection, and the locks of messages and of commands, in the order in which
        they are acquired. Raises SMTPServerDisconnected."""
        protocol, lock, command_lock = self.protocol, self._sendmail_lock, self._command_lock
        if protocol is None or lock is None or command_lock is None:
            raise errors.SMTPServerDisconnected("Server not connected")
        return protocol, lock, command_lock

    def _check_still(self, protocol: LoopConnection) -> None:
        """Raises SMTPServerDisconnected if the client has closed this connection, and perhaps
        opened another one, since its locks were asked for."""
        if protocol is not self.protocol:
            raise errors.SMTPServerDisconnected("Connection lost")

    async def _exchange(self, data: bytes, seconds: float | None) -> SMTPResponse:
        """Send bytes (none for the greeting) and return the reply; for the owner of the command
        lock."""
        return response_of(await self._run(_one_exchange(data, seconds)))

    async def _run(
        self,
        flow: Flow[Item],
        encryption: Callable[[], Awaitable[TLS]] | None = None,
        timeout: float | None = None,
    ) -> Item:
        """Perform a flow; for the owner of the command lock. timeout: in seconds, for steps that
        allow more."""
        protocol = self.protocol
        if protocol is None:
            raise errors.SMTPServerDisconnected("Server not connected")
        dialogue = Dialogue(protocol.replies, timeout)
        try:
            return await protocol.perform(dialogue.operations(flow), encryption)
        except ConnectionLost as lost:
            self._drop(protocol)
            cause = lost.__cause__
            is_known = isinstance(cause, (TimeoutError, ReplyError))
            raise errors.lost(cause if is_known and cause is not None else lost) from lost
        except smtplib.SMTPException as error:
            raise errors.translated(error) from error
        except BaseException:
            self._drop(protocol)
            raise

    def _drop(self, protocol: LoopConnection) -> None:
        """Close a connection that can't be used any more."""
        protocol.abort()
        if protocol is self.protocol:
            self.close()

    async def _encrypt(self, tls: TLS) -> SMTPResponse:
        """Send STARTTLS, and begin TLS if the server is ready (RFC 3207)."""

        async def encryption() -> TLS:
            return tls

        protocol, _, lock = self._connected()
        async with lock:
            self._check_still(protocol)
            try:
                reply = await self._run(_starttls(tls.seconds), encryption)
            except (TimeoutError, ConnectionAbortedError) as error:
                # asyncio ends a handshake that takes too long by the second.
                if isinstance(error, errors.SMTPException):
                    raise
                raise errors.SMTPTimeoutError("Timed out while upgrading transport") from error
            except ConnectionError as error:
                if isinstance(error, errors.SMTPException):
                    raise
                raise errors.lost(error) from error
        if reply[0] == SMTPStatus.ready:
            self.transport = protocol.transport
        elif reply[0] == SMTPStatus.domain_unavailable:
            self._drop(protocol)
        return response_of(reply)

    async def quit(self, *, timeout: Timeout = Default.token) -> SMTPResponse:
        """Send QUIT, and close the connection. Raises SMTPResponseException if the reply is not
        221, SMTPServerDisconnected if there is no connection."""
        return await self._quit(self._seconds(timeout))

    async def _quit(self, seconds: float | None) -> SMTPResponse:
        try:
            response = await self._command(b"QUIT\r\n", seconds)
        except errors.SMTPServerDisconnected as error:
            if not isinstance(error.__cause__, ConnectionLost):
                raise
            # It has closed the connection instead of answering, which is what QUIT asks for.
            response = SMTPResponse(int(SMTPStatus.closing), "")
        if response.code != SMTPStatus.closing:
            raise errors.SMTPResponseException(response.code, response.message)
        self.close()
        return response


def _one_exchange(data: bytes, seconds: float | None) -> Flow[Reply]:
    return (yield Exchange(data, _NO_TIMEOUT_SECONDS if seconds is None else seconds))


def _starttls(seconds: float | None) -> Flow[Reply]:
    reply = yield from _one_exchange(b"STARTTLS\r\n", seconds)
    if reply[0] == SMTPStatus.ready:
        yield StartTLS()
    return reply


def checked_hostname(name: str) -> str:
    """Return a name for EHLO without white space around it. Raises ValueError if it could not be
    sent as one word."""
    name = name.strip()
    if not name:
        raise ValueError("local_hostname is empty: give the name of this host, or leave it out")
    if any(each.isspace() or ord(each) < 32 or ord(each) == 127 for each in name):
        raise ValueError(f"local_hostname has white space or control characters: {name!r}")
    return name


_own_hostname = functools.lru_cache(maxsize=1)(local_hostname)
