"""The connection under the client classes: connecting, sending, replies."""

from __future__ import annotations

import datetime
import socket
import sys
from _thread import allocate_lock, get_ident
from contextlib import suppress
from functools import cached_property
from smtplib import SMTPConnectError, SMTPResponseException, SMTPServerDisconnected

import csmtplib as public

from .. import fastpath, kernel
from ..drive import tls
from ..drive.hostname import local_hostname
from ..drive.replyfile import ReplyFile
from ..kernel.errors import ReplyError, ReplyTooLong
from ..protocol import envelope, limits, switches
from ..protocol.envelope import CRLF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from ..kernel.transaction import Gear
    from .types import Octets, Reply, SourceAddress

    Self = TypeVar("Self", bound="Connection")

SMTP_PORT = 25

IN_USE = (
    "the connection is in use: by another thread, which needs one of its own, or by send_many(), "
    "whose results are not all taken yet"
)

DEFAULT_TIMEOUT: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]


@fastpath.genuine
class Connection:
    """A connection to a server, and the dialogue on it: what SMTP is made of first."""

    debuglevel: int = 0
    sock: socket.socket | None = None
    file: Any | None = None
    helo_resp: bytes | None = None
    ehlo_msg: str = "ehlo"
    ehlo_resp: bytes | None = None
    does_esmtp: bool = False
    default_port: int = SMTP_PORT

    esmtp_features: dict[str, str]

    # Extensions that may be used where they are offered; None while nobody has asked. The gears
    # that have brought a message through on this connection.
    _usable: frozenset[str] | None = None
    _proved_gears: frozenset[Gear] = frozenset()

    # Programs make objects without __init__ and set what they need themselves.
    _host: str = ""
    _connected_host: str = ""
    _awaited_replies: int = 0
    _in_use: Any = None  # a lock
    _occupant: int = 0  # the thread that holds it
    _is_by_methods: bool = False  # who calls send(), getreply() and the others meanwhile
    _asker: int = 0  # the thread that waits for the reply to a command

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
        try:
            code, text = self.docmd("QUIT")
            if code != 221:
                raise SMTPResponseException(code, text)
        except SMTPServerDisconnected:
            pass
        finally:
            self.close()

    def set_debuglevel(self, debuglevel: int) -> None:
        """Prints the dialogue with the server to stderr from 1 on, with the time from 2 on."""
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

        A port behind the host counts where `port` is 0. Raises OSError where there is no connection
        to be had, or the port is no number.
        """
        if self._in_use is not None and self._in_use.locked() and not self._is_within_a_step():
            raise RuntimeError(IN_USE)
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
        self._remember_host(host)
        sys.audit("smtplib.connect", self, host, port)
        return self._greeted_by(self._get_socket(host, port, self.timeout))

    def _remember_host(self, host: str) -> None:
        # By this name its certificate is verified. Programs set another by hand, for a tunnel.
        if self._host == self._connected_host:
            self._host = host
        self._connected_host = host

    def _greeted_by(self, sock: socket.socket) -> Reply:
        self._forget_session()
        self._usable = None
        self.sock = sock
        self.file = None
        self._awaited_replies = 0
        code, text = self.getreply()
        if switches.is_pix(text):
            self._usable = frozenset()
        if self.debuglevel > 0:
            self._print_debug("connect:", repr(text))
        return code, text

    def _forget_session(self) -> None:
        # Also done by connect(), unlike in the stdlib: what the server before offered says nothing
        # about this one.
        self.helo_resp = None
        self.ehlo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False
        self.command_encoding = "ascii"
        self._proved_gears = frozenset()

    def close(self) -> None:
        """Closes the connection without a word to the server."""
        is_mine = self._occupant == get_ident()
        if not is_mine:
            try:
                self._take_hold(to_send=False)
            except RuntimeError:
                # To close it under another thread would let that one write into whatever is opened
                # next. It sees the end of the stream now, and closes.
                sock = self.sock
                if sock:
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
                return
        try:
            self._awaited_replies = self._asker = 0
            try:
                file, self.file = self.file, None
                if file:
                    file.close()
            finally:
                sock, self.sock = self.sock, None
                if sock:
                    tls.remember(sock)
                    sock.close()
        finally:
            if not is_mine:
                self._let_go()

    # One thread at a time. By a lock that is taken or refused in one step: what is looked at first
    # and changed then, two threads find free.

    def _take_hold(self, *, to_send: bool = True) -> None:
        """Has the connection for this thread alone, until _let_go(). Raises RuntimeError where it
        is in use already, and to send also where another thread waits for its reply."""
        if self._in_use is None:
            # Not made with the object: programs make some by __new__ alone.
            self.__dict__.setdefault("_in_use", allocate_lock())
        if not self._in_use.acquire(False):
            raise RuntimeError(IN_USE)
        self._occupant = get_ident()
        if to_send and self._asker not in (0, self._occupant):
            # It would get the reply to this command, sooner or later, and a message the recipients
            # of another.
            self._let_go()
            raise RuntimeError(IN_USE)

    def _let_go(self) -> None:
        self._is_by_methods = False
        self._occupant = 0
        self._in_use.release()

    def _occupy(self) -> kernel.ReplyBuffer:
        """_take_hold() for who reads the socket himself; what was received and not read."""
        self._take_hold()
        try:
            if not self.sock:
                raise SMTPServerDisconnected("please run connect() first")
            if self.file is None:
                self.file = self._open_reply_file()
            file = self.file
            if type(file) is not ReplyFile:
                raise TypeError(
                    "the socket's own recv() is read here: leave smtp.file None, and have a socket "
                    "with recv_into() and gettimeout()"
                )
        except BaseException:
            self._let_go()
            raise
        return file.buffer

    def _is_within_a_step(self) -> bool:
        """Whether this thread is in one of the methods below, or of what consists of them."""
        return self._is_by_methods and self._occupant == get_ident()

    def _begin_step(self, *, to_send: bool = True) -> bool:
        """_take_hold() for who sends or reads by the methods below; whether to let go then, which
        is not so within a longer step of the same thread."""
        if self._is_within_a_step():
            return False
        self._take_hold(to_send=to_send)
        self._is_by_methods = True
        return True

    # Commands and replies

    def send(self, s: Octets | str) -> None:
        """Sends octets, or a str in the command encoding, as they are."""
        if self.debuglevel > 0:
            self._print_debug("send:", repr(s))
        if not self.sock:
            raise SMTPServerDisconnected("please run connect() first")
        octets = s.encode(self.command_encoding) if isinstance(s, str) else s
        sys.audit("smtplib.send", self, octets)
        sent = memoryview(octets)
        is_outermost = self._begin_step()
        try:
            # Programs send several commands at once. A message is no command, and longer.
            if sent.nbytes <= limits.RECEIVE_OCTETS:
                self._awaited_replies += sent.tobytes().count(b"\n")
            self.sock.sendall(octets)
        except OSError as error:
            self.close()
            raise SMTPServerDisconnected("Server not connected") from error
        except BaseException:
            self.close()  # see getreply()
            raise
        finally:
            if is_outermost:
                self._let_go()

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Sends a command. Raises ValueError, before anything is sent, for control characters."""
        line = f"{cmd} {args}" if args != "" else cmd
        envelope.check_command(line)
        is_outermost = self._begin_step()
        try:
            self._refuse_surplus_reply()
            awaited = self._awaited_replies
            if fastpath.untouched(self, "getreply"):
                # By which it ends.
                self._asker = get_ident()
            self.send(line + CRLF)
            self._awaited_replies = awaited + 1
        finally:
            if is_outermost:
                self._let_go()

    def _refuse_surplus_reply(self) -> None:
        # The stdlib takes a reply that answers nothing for the answer to its next command, and each
        # after it for the one before: a recipient that was refused then counts as accepted. A 421
        # is no such reply: a server may say it at any time, and the next command is told.
        file = self.file
        if type(file) is not ReplyFile or self._awaited_replies:
            return
        surplus = file.peek(200)
        if surplus and not surplus.startswith(b"421"):
            self.close()
            raise SMTPServerDisconnected(
                f"Connection closed: the server sent a reply that answers no command: {surplus!r}"
            )

    def getreply(self) -> Reply:
        """Reads a reply: its code, -1 where it begins with none, and its text.

        The lines of a reply are joined by LF, each stripped of white space at its ends. Raises
        SMTPResponseException(500) for a line of more than 8192 octets and a reply of more than
        64 KiB; the connection is then closed.
        """
        is_outermost = self._begin_step(to_send=False)
        try:
            return self._getreply()
        finally:
            if is_outermost:
                self._let_go()

    def _getreply(self) -> Reply:
        if self.file is None:
            self.file = self._open_reply_file()
        try:
            if type(self.file) is ReplyFile and self.debuglevel <= 0:
                code, text = self.file.read_reply()
            else:
                code, text = self._read_reply_by_lines(self.file)
        except EOFError:
            self.close()
            raise SMTPServerDisconnected("Connection unexpectedly closed") from None
        except OSError as error:
            self.close()
            raise SMTPServerDisconnected(f"Connection unexpectedly closed: {error}") from error
        except ReplyTooLong as error:
            self.close()
            raise SMTPResponseException(500, error.reason) from None
        except ReplyError as error:
            self.close()
            raise SMTPServerDisconnected(f"Connection closed: the server sent {error}") from None
        except BaseException:
            # Interrupted: the reply will come, and the next command would take it for its own.
            self.close()
            raise
        if 100 <= code < 200 and self._awaited_replies:
            # SMTP has none: another reply would follow, and be taken for the next command's.
            self.close()
            raise SMTPServerDisconnected(
                f"Connection closed: the server sent a preliminary reply: {code} {text!r}"
            )
        if self._awaited_replies:
            self._awaited_replies -= 1
        self._asker = 0
        if self.debuglevel > 0:
            self._print_debug(f"reply: retcode ({code}); Msg: {text!a}")
        return code, text

    def _open_reply_file(self) -> Any:
        if self.sock is None:
            raise SMTPServerDisconnected("please run connect() first")
        # Only real sockets' classes have these. Stand-ins expect what the stdlib does.
        if all(hasattr(type(self.sock), name) for name in ("recv_into", "gettimeout")):
            return ReplyFile(self.sock, public._MAXLINE)
        return self.sock.makefile("rb")

    def _read_reply_by_lines(self, file: Any) -> Reply:
        # From a file of the caller's, or to print each line as it comes.
        buffer = kernel.ReplyBuffer(public._MAXLINE, limits.REPLY_OCTETS)
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

    def docmd(self, cmd: str, args: str = "") -> Reply:
        """Sends a command and returns the reply."""
        is_outermost = self._begin_step()
        try:
            self.putcmd(cmd, args)
            return self.getreply()
        finally:
            if is_outermost:
                self._let_go()


def _split_port(host: str) -> tuple[str, str | None]:
    """Host and port of "host:port" and "[address]:port"; None for a port that is not there."""
    if host.startswith("["):
        address, bracket, rest = host[1:].partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return address, rest[1:] if rest else None
    elif host.count(":") == 1:
        name, _, port = host.partition(":")
        return name, port
    return host, None
