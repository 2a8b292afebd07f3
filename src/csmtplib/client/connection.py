"""The connection under the client classes: connecting, sending, replies."""

from __future__ import annotations

import datetime
import socket
import sys
from _thread import get_ident
from functools import cached_property, partial
from smtplib import SMTPConnectError, SMTPResponseException, SMTPServerDisconnected

from .. import fastpath, kernel
from ..drive import tls, transactions
from ..drive.hostname import local_hostname
from ..drive.replyfile import ReplyFile
from ..kernel.errors import ReplyError, ReplyTooLong
from ..protocol import envelope, extension_policy, limits
from ..protocol.envelope import CRLF
from ..protocol.failures import disconnected, surplus_reply
from .owner import Channel, LazyOwnerLock
from .public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias, TypeVar

    from ..kernel import BytesLike
    from ..kernel.transaction import Reply

    # An address as in the socket module: a tuple for IP.
    SourceAddress: TypeAlias = tuple[Any, ...] | str | BytesLike

    Self = TypeVar("Self", bound="Connection")

SMTP_PORT = 25

DEFAULT_TIMEOUT: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]


@fastpath.original
class Connection:
    """A connection to a server, with commands and replies: the base of SMTP."""

    debuglevel: int = 0
    sock: socket.socket | None = None
    file: Any | None = None
    helo_resp: bytes | None = None
    ehlo_msg: str = "ehlo"
    ehlo_resp: bytes | None = None
    does_esmtp: bool = False
    default_port: int = SMTP_PORT

    esmtp_features: dict[str, str]

    # Programs make objects without __init__ and set what they need themselves.
    _host: str = ""
    _is_lmtp: bool = False
    _lock = LazyOwnerLock()
    _prepared_sock: Any | None = None  # by drive.transactions
    _connected_host: str = ""
    _connected_port: object = 0  # or the path of its socket
    _known_policy: extension_policy.Policy | None = None

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        local_hostname: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        source_address: SourceAddress | None = None,
    ) -> None:
        self._host = self._connected_host = host
        self.timeout = timeout
        self.esmtp_features = {}
        self.command_encoding = "ascii"
        self.source_address = source_address
        self._auth_challenge_count = 0
        if local_hostname is not None:
            self.local_hostname = local_hostname

        if host:
            code, text = self.connect(host, port)
            if code != 220:
                self.close()
                raise SMTPConnectError(code, text)

    @cached_property
    def local_hostname(self) -> str:
        """The name of this host for EHLO and HELO: its full name, else an address literal (RFC 5321
        section 4.1.4)."""
        # Looked up late, unlike the stdlib, as a name server that is out of reach costs seconds.
        return local_hostname(public.socket)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        if self._lock.is_streaming:
            # QUIT can't be sent while messages are in progress. Whoever takes the remaining results
            # learns that the connection was closed.
            self.close()
            return
        try:
            code, text = self.docmd("QUIT")
            if code != 221:
                raise SMTPResponseException(code, text)
        except SMTPServerDisconnected:
            pass
        finally:
            self.close()

    def set_debuglevel(self, debuglevel: int) -> None:
        """Sets the debug level: 1 prints the dialogue with the server to stderr, 2 adds the
        time."""
        self.debuglevel = debuglevel

    def _print_debug(self, *args: object) -> None:
        if self.debuglevel > 1:
            print(datetime.datetime.now().time(), *args, file=sys.stderr)
        else:
            print(*args, file=sys.stderr)

    # The connection

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        if timeout is not None and not timeout:
            raise ValueError("Non-blocking socket (timeout=0) is not supported")
        if self.debuglevel > 0:
            self._print_debug("connect: to", (host, port), self.source_address)
        sock: socket.socket = public.socket.create_connection(
            (host, port), timeout, self.source_address
        )
        return sock

    def connect(
        self, host: str = "localhost", port: int = 0, source_address: SourceAddress | None = None
    ) -> Reply:
        """Connects to a server and returns its greeting.

        If `port` is 0, a port that follows the host is used. Raises OSError if the connection
        fails, or if that port is not a number.
        """
        self._lock.check_not_in_use()
        if source_address:
            self.source_address = source_address
        if not port or host[:1] == "[":
            host, port_suffix = _split_port(host)
            if not port and port_suffix is not None:
                try:
                    port = int(port_suffix)
                except ValueError:
                    raise OSError("nonnumeric port") from None
        if not port:
            port = self.default_port
        self._remember_host(host, port)
        sys.audit("smtplib.connect", self, host, port)
        return self._greeted_by(self._get_socket(host, port, self.timeout))

    def _remember_host(self, host: str, port: object) -> None:
        # The certificate is verified against this name. Programs set another one for a tunnel.
        if self._host == self._connected_host:
            self._host = host
        self._connected_host, self._connected_port = host, port

    def _greeted_by(self, sock: socket.socket) -> Reply:
        self._forget_session()
        self._known_policy = None
        self.sock = sock
        self.file = None
        self._lock.awaited_replies = 0
        code, text = self.getreply()
        if extension_policy.is_pix(text):
            self._known_policy = extension_policy.no_extensions()
        if self.debuglevel > 0:
            self._print_debug("connect:", repr(text))
        return code, text

    def _policy(self) -> extension_policy.Policy:
        """Return how the server's extensions may be used."""
        policy = self._known_policy
        if policy is None:
            policy = extension_policy.policy(self._connected_host, self._connected_port)
            self._known_policy = policy
        return policy

    def _forget_session(self) -> None:
        # Also done by connect(), unlike in the stdlib: what the previous server offered says
        # nothing about this one.
        self.helo_resp = None
        self.ehlo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False
        self.command_encoding = "ascii"

    def close(self) -> None:
        """Closes the connection without sending QUIT."""
        lock = self._lock
        is_mine = lock.is_mine
        if not is_mine:
            try:
                lock.acquire(to_send=False)
            except RuntimeError:
                # Another thread uses the socket: if it were closed here, that thread could write to
                # whatever gets its descriptor next. Now it sees the end of the stream, and closes.
                sock = self.sock
                if sock:
                    _end_stream(sock)
                return
        try:
            lock.forget_replies()
            try:
                file, self.file = self.file, None
                if file:
                    file.close()
            finally:
                self._prepared_sock = None
                sock, self.sock = self.sock, None
                if sock:
                    tls.remember(sock)
                    sock.close()
        finally:
            if not is_mine:
                lock.release()

    # One thread at a time

    def _acquire(self) -> Channel:
        """Take the connection for a pipeline, until the channel's lock is released."""
        lock = self._lock
        lock.acquire()
        try:
            sock = self.sock
            if not sock:
                raise SMTPServerDisconnected("please run connect() first")
            file = self.file
            if file is None:
                self.file = file = self._open_reply_file()
            if type(file) is not ReplyFile:
                raise TypeError(
                    "the socket's own recv() is read here: leave smtp.file None, and have a socket "
                    "with recv_into() and gettimeout()"
                )
            if self._prepared_sock is not sock:
                transactions.prepare(sock)
                self._prepared_sock = sock
            return Channel(
                sock,
                file.buffer,
                lock,
                self._policy(),
                self._is_lmtp,
                partial(sys.audit, "smtplib.send", self),
                self.close,
            )
        except BaseException:
            lock.release()
            raise

    # Commands and replies

    def send(self, s: BytesLike | str) -> None:
        """Sends bytes unchanged, or a str in the command encoding."""
        if self.debuglevel > 0:
            self._print_debug("send:", repr(s))
        if not self.sock:
            raise SMTPServerDisconnected("please run connect() first")
        data = s.encode(self.command_encoding) if isinstance(s, str) else s
        sys.audit("smtplib.send", self, data)
        sent = memoryview(data)
        lock = self._lock
        is_outermost = lock.begin_step()
        try:
            # Programs send several commands at once, one per line. Anything longer is a message.
            if sent.nbytes <= limits.RECEIVE_BYTES:
                lock.awaited_replies += sent.tobytes().count(b"\n")
            self._send_all(data)
        finally:
            if is_outermost:
                lock.release()

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Sends a command. Raises ValueError, before anything is sent, for control characters."""
        line = _line(cmd, args)
        envelope.check_command(line)
        lock = self._lock
        is_outermost = lock.begin_step()
        try:
            self._refuse_surplus_reply()
            awaited = lock.awaited_replies
            if not fastpath.is_overridden(self, "getreply"):
                # Only our own getreply() clears it.
                lock.asker = get_ident()
            self.send(line + CRLF)
            lock.awaited_replies = awaited + 1
        finally:
            if is_outermost:
                lock.release()

    def _refuse_surplus_reply(self) -> None:
        file = self.file
        if type(file) is not ReplyFile or self._lock.awaited_replies:
            return
        # A server may send 421 at any time: it then answers the next command.
        if len(file.buffer) and (surplus := surplus_reply(file.buffer, allowed=b"421")):
            self.close()
            raise SMTPServerDisconnected(f"Connection closed: {surplus}")

    def getreply(self) -> Reply:
        """Reads a reply; returns its code, -1 if it has none, and its text.

        The lines of a reply are joined by LF, each stripped of white space at its ends. Raises
        SMTPResponseException(500) for a line of more than 8192 bytes or a reply of more than 64
        KiB; the connection is then closed.
        """
        lock = self._lock
        is_outermost = lock.begin_step(to_send=False)
        try:
            return self._getreply()
        finally:
            if is_outermost:
                lock.release()

    def _getreply(self) -> Reply:
        if self.file is None:
            self.file = self._open_reply_file()
        try:
            if type(self.file) is ReplyFile and self.debuglevel <= 0:
                code, text = self.file.read_reply()
            else:
                code, text = self._read_reply_by_lines(self.file)
        except OSError as error:
            self.close()
            raise SMTPServerDisconnected(f"Connection unexpectedly closed: {error}") from error
        except (EOFError, ReplyError) as error:
            self.close()
            raise disconnected(error) from None
        except BaseException:
            # Interrupted: the reply will come, and the next command would take it for its own.
            self.close()
            raise
        lock = self._lock
        if 100 <= code < 200 and lock.awaited_replies:
            # SMTP has no 1xx replies: another one would follow, and be taken for the next
            # command's.
            self.close()
            raise SMTPServerDisconnected(
                f"Connection closed: the server sent a preliminary reply: {code} {text!r}"
            )
        if lock.awaited_replies:
            lock.awaited_replies -= 1
        lock.asker = 0
        if self.debuglevel > 0:
            self._print_debug(f"reply: retcode ({code}); Msg: {text!a}")
        return code, text

    def _open_reply_file(self) -> Any:
        if self.sock is None:
            raise SMTPServerDisconnected("please run connect() first")
        # Only classes of real sockets have these. Mock sockets expect the stdlib's makefile().
        kind = type(self.sock)
        if hasattr(kind, "recv_into") and hasattr(kind, "gettimeout"):
            return ReplyFile(self.sock, public._MAXLINE)
        return self.sock.makefile("rb")

    def _read_reply_by_lines(self, file: Any) -> Reply:
        # For a file that the program has set, or to print each line as it comes.
        buffer = kernel.ReplyBuffer(public._MAXLINE, limits.REPLY_BYTES)
        size = public._MAXLINE + 1
        if type(file) is ReplyFile:
            lines = file.reply_lines(size)
        else:
            lines = iter(lambda: file.readline(size), b"")
        for line in lines:
            if self.debuglevel > 0:
                self._print_debug("reply:", repr(line))
            if len(line) >= size:
                raise ReplyTooLong("Line too long.", line)
            buffer.feed(line)
            buffer.end_of_stream()  # not every file ends its lines
            reply = buffer.reply()
            if reply is not None:
                return reply
        raise EOFError

    # Within a step of this thread, if the methods above are not overridden and print nothing:

    def _ask(self, command: bytes) -> Reply:
        """Send a checked command and return the reply, as putcmd() and getreply() do."""
        file = self.file
        if type(file) is ReplyFile and len(file.buffer):
            self._refuse_surplus_reply()
        return self._exchange(command)

    def _exchange(self, data: bytes) -> Reply:
        """Send a command or a message and return the reply, as send() and getreply() do."""
        self._send_checked(data)
        return self._getreply()

    def _send_checked(self, data: bytes) -> None:
        """Send a command or a message that was checked, as send() does."""
        if not self.sock:
            raise SMTPServerDisconnected("please run connect() first")
        sys.audit("smtplib.send", self, data)
        self._send_all(data)
        self._lock.awaited_replies += 1

    def _send_all(self, data: BytesLike) -> None:
        assert self.sock is not None
        try:
            self.sock.sendall(data)
        except OSError as error:
            self.close()
            raise SMTPServerDisconnected("Server not connected") from error
        except BaseException:
            self.close()  # see getreply()
            raise

    def docmd(self, cmd: str, args: str = "") -> Reply:
        """Sends a command and returns the reply."""
        return self._command(cmd, args)

    def _command(self, cmd: str, args: str) -> Reply:
        """Call putcmd() and getreply(), or take a shortcut if they are not overridden."""
        lock = self._lock
        is_outermost = lock.begin_step()
        try:
            if self.debuglevel <= 0 and not fastpath.is_overridden(
                self, "putcmd", "send", "getreply"
            ):
                return self._ask(envelope.command(_line(cmd, args), self.command_encoding))
            self.putcmd(cmd, args)
            return self.getreply()
        finally:
            if is_outermost:
                lock.release()


def _line(cmd: str, args: str) -> str:
    return f"{cmd} {args}" if args != "" else cmd


def _end_stream(sock: Any) -> None:
    """End the stream for another thread that reads or writes the socket."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    except (AttributeError, TypeError):
        # Third-party sockets may have no shutdown(), or a different one.
        sock.close()


def _split_port(host: str) -> tuple[str, str | None]:
    """Return host and port of "host:port" and "[address]:port"; None for a missing port."""
    if host.startswith("["):
        address, bracket, rest = host[1:].partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return address, rest[1:] if rest else None
    elif host.count(":") == 1:
        name, _, port = host.partition(":")
        return name, port
    return host, None
