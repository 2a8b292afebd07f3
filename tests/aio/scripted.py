"""Servers on loopback, in a thread, that answer as a script says, and runs of one asynchronous
program against such a server by aiosmtplib and by csmtplib.aio."""

from __future__ import annotations

import asyncio
import contextlib
import re
import selectors
import socket
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

SERVER_SECONDS = 10.0
PROGRAM_SECONDS = 20.0


class Cut(NamedTuple):
    """An answer: these bytes, and then the end of the connection."""

    data: bytes = b""


class Silence(NamedTuple):
    """An answer that never comes."""


Answer: TypeAlias = str | bytes | Cut | Silence
"""A str gets a line end. After a str with 421 the server closes the connection."""

Answers: TypeAlias = Answer | list[Answer] | Callable[[str], Answer]
"""Of a list the last is said again and again. A function is given the command line."""

Script: TypeAlias = Mapping[str, Answers]
"""By the verb of a command in lower case; by "greeting", "message", and "response", which is a line
within AUTH. What is missing has a good answer."""

GOOD = {"greeting": "220 mx.test", "starttls": "220 go", "auth": "235 in", "response": "235 in"}
GOOD |= {"data": "354 go on", "message": "250 queued", "quit": "221 bye", "ehlo": "250 mx.test"}


def offer(*extensions: str, **answers: Answers) -> dict[str, Answers]:
    """Return the script of a server that offers these extensions."""
    *before, last = "mx.test", *extensions
    hello = "\r\n".join([*(f"250-{each}" for each in before), f"250 {last}"])
    return {"ehlo": hello, **answers}


class Delivery(NamedTuple):
    """A message that was accepted: its envelope as it was sent, and its text."""

    sender: str
    recipients: tuple[str, ...]
    text: bytes


class Server:
    """Serves any number of connections until the with block ends.

    lines: the commands, of all connections. tls: TLS from the start. context: for STARTTLS; without
    it clients wait for the handshake.
    """

    def __init__(
        self,
        script: Script,
        *,
        tls: ssl.SSLContext | None = None,
        context: ssl.SSLContext | None = None,
        unix: bool = False,
    ) -> None:
        self.script, self.tls, self.context = script, tls, context
        self.lines: list[str] = []
        self.deliveries: list[Delivery] = []
        self.connections: list[Connection] = []
        # pytest's own directories have names longer than a unix socket may have.
        self._directory = tempfile.TemporaryDirectory() if unix else None
        self.port, self.path = 0, ""
        if self._directory is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
        else:
            self.path = f"{self._directory.name}/socket"
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self.path)
            self._listener.listen()
        self._stop, self._stopped = socket.socketpair()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Server:
        self._threads[0].start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.close()
        for each in self._threads:
            each.join(SERVER_SECONDS)
        self._stopped.close()
        self._listener.close()
        if self._directory is not None:
            self._directory.cleanup()
        if exception[0] is None:
            assert not any(each.is_alive() for each in self._threads), "a client has not closed"

    @property
    def verbs(self) -> list[str]:
        """The verbs of the commands, in lower case."""
        return [verb_of(each) for each in self.lines]

    def say(self, text: str) -> None:
        """Say something unasked on the last connection."""
        self.connections[-1].send(text)

    def hang_up(self) -> None:
        """Close the last connection."""
        self.connections[-1].end()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._listener in ready:
                    self._serve(self._listener.accept()[0])
                elif self._stopped in ready:
                    return

    def _serve(self, sock: socket.socket) -> None:
        connection = Connection(sock, self)
        self.connections.append(connection)
        self._threads.append(threading.Thread(target=connection.serve, daemon=True))
        self._threads[-1].start()


class Connection:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self._sock = sock
        self._server = server
        self._answers = {
            name: list(answers) if isinstance(answers, list) else answers
            for name, answers in {**GOOD, **server.script}.items()
        }
        self._unread = bytearray()
        self._is_over = False
        self._sender: str | None = None
        self._recipients: list[str] = []

    def serve(self) -> None:
        """Answer until the client closes, whose failures are for the test to judge."""
        try:
            self._sock.settimeout(SERVER_SECONDS)
            if self._sock.family == socket.AF_INET:
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._server.tls is not None:
                self._encrypt(self._server.tls)
            self._say("greeting")
            while not self._is_over:
                self._answer(self._line())
            self._drain()
        except (OSError, EOFError):
            pass
        finally:
            self._sock.close()

    def send(self, answer: Answer) -> None:
        """Send an answer, and do what it stands for."""
        if isinstance(answer, Silence):
            self._is_over = True
            return
        data = answer.encode() + b"\r\n" if isinstance(answer, str) else answer
        self._sock.sendall(data.data if isinstance(data, Cut) else data)
        if isinstance(answer, Cut) or (isinstance(answer, str) and answer.startswith("421")):
            self.end()

    def end(self) -> None:
        """Close the sending direction."""
        self._is_over = True
        # As on a plain socket: that of TLS would forget how to read.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def _encrypt(self, context: ssl.SSLContext) -> None:
        self._sock = context.wrap_socket(self._sock, server_side=True)

    def _read(self) -> None:
        data = self._sock.recv(1 << 16)
        if not data:
            raise EOFError
        self._unread += data

    def _drain(self) -> None:
        while True:
            self._read()

    def _take(self, end: bytes) -> bytes:
        while end not in self._unread:
            self._read()
        size = self._unread.index(end)
        taken = bytes(self._unread[:size])
        del self._unread[: size + len(end)]
        return taken

    def _line(self) -> str:
        line = self._take(b"\r\n").decode()
        # The case of commands does not matter, nor is it the same.
        self._server.lines.append("DATA" if line == "data" else line)
        return line

    def _say(self, name: str, line: str = "", default: Answer = "250 ok") -> str:
        """Say what the script has; return its code, or nothing."""
        answers = self._answers.get(name, default)
        if callable(answers):
            answer: Answer = answers(line)
        elif isinstance(answers, list):
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        else:
            answer = answers
        self.send(answer)
        # Whether the test has hung up meanwhile does not change what was said.
        if isinstance(answer, (Cut, Silence)):
            return ""
        said = answer.encode() if isinstance(answer, str) else answer
        return said[:3].decode("latin-1")

    def _answer(self, line: str) -> None:
        verb = verb_of(line)
        if verb == "data" and not self._recipients:
            self.send("554 no valid recipients")
            return
        code = self._say(verb, line)
        if verb == "mail" and code == "250":
            self._sender, self._recipients = line, []
        elif verb == "rcpt" and code in ("250", "251") and self._sender is not None:
            self._recipients.append(line)
        elif verb == "data" and code == "354":
            self._take_message()
        elif verb == "rset":
            self._sender, self._recipients = None, []
        elif verb == "quit" and code == "221":
            self.end()
        elif verb == "starttls" and code == "220":
            if self._server.context is None:
                self._drain()
            else:
                self._encrypt(self._server.context)
        while verb == "auth" and code == "334":
            code = self._say("response", self._line())

    def _take_message(self) -> None:
        # The line end before the dot may be the one of DATA.
        self._unread[:0] = b"\r\n"
        text = re.sub(rb"(?m)^\.", b"", (self._take(b"\r\n.\r\n") + b"\r\n")[2:])
        if self._say("message").startswith("2"):
            assert self._sender is not None
            self._server.deliveries.append(Delivery(self._sender, tuple(self._recipients), text))
        self._sender, self._recipients = None, []


def verb_of(line: str) -> str:
    return re.split("[ :]", line)[0].lower()


class Run:
    """One run of a program by one of the modules, and what it was told.

    mail: the module. story: the results, exceptions and states that are compared. complaints: what
    the event loop has logged.
    """

    def __init__(self, mail: ModuleType, server: Server) -> None:
        self.mail: Any = mail
        self.server = server
        self.story: list[object] = []
        self.complaints: list[str] = []
        self._clients: list[Any] = []

    def options(self, **others: Any) -> dict[str, Any]:
        """Return arguments for a connection to the server, without STARTTLS unless it is among the
        others."""
        options = {"local_hostname": "client.test", "timeout": 5, "start_tls": False}
        if self.server.path:
            options["socket_path"] = self.server.path
        elif "sock" not in others:
            options |= {"hostname": "127.0.0.1", "port": self.server.port}
        return options | others

    def client(self, **others: Any) -> Any:
        """Return a client for the server."""
        return self.watch(self.mail.SMTP(**self.options(**others)))

    def watch(self, client: Any) -> Any:
        """Note the state of this client from here on."""
        self._clients.append(client)
        return client

    async def connected(self, **options: Any) -> Any:
        """Return a client that is connected."""
        client = self.client(**options)
        await client.connect()
        return client

    async def tell(self, action: Awaitable[Any]) -> Any:
        """Await something, and note the end of it; return its result, None for an exception."""
        result = None
        try:
            result = await action
        except (Exception, asyncio.CancelledError) as error:
            self.story.append(told(error))
        else:
            self.story.append(told(result))
        self.story.extend(state(each) for each in self._clients)
        return result

    def do(self, program: Program, *, debug: bool = False) -> None:
        """Run the program to its end."""
        asyncio.run(asyncio.wait_for(self._do(program), PROGRAM_SECONDS), debug=debug)

    async def _do(self, program: Program) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.complaints.append(str(context)))
        before = asyncio.all_tasks()
        await program(self)
        for each in self._clients:
            each.close()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - before
        self.complaints.extend(f"left behind: {each}" for each in left)


Program: TypeAlias = Callable[[Run], Coroutine[Any, Any, object]]


def state(client: Any) -> dict[str, object]:
    """Return what a client knows of its session."""
    return {
        "is_connected": client.is_connected,
        "is_ehlo_or_helo_needed": client.is_ehlo_or_helo_needed,
        "last_ehlo_response": told(client.last_ehlo_response),
        "last_helo_response": told(client.last_helo_response),
        "esmtp_extensions": sorted(client.esmtp_extensions),
        "server_auth_methods": list(client.server_auth_methods),
        "supported_auth_methods": list(client.supported_auth_methods),
        "supports_esmtp": client.supports_esmtp,
    }


def told(value: object) -> object:
    """Return a result or an exception in terms that do not depend on the module."""
    if isinstance(value, BaseException):
        return _told_error(value)
    if isinstance(value, dict):
        return {key: told(each) for key, each in value.items()}
    if isinstance(value, tuple):
        kind = type(value).__name__
        return (kind, *map(told, value))
    if isinstance(value, list):
        return [told(each) for each in value]
    # Each run has a server of its own.
    return re.sub(r"port \d+", "port", value) if isinstance(value, str) else value


# Their texts are ours: there is no reply to show.
_IN_OTHER_WORDS = (
    "SMTPConnectError",
    "SMTPException",
    "SMTPServerDisconnected",
    "SMTPTimeoutError",
    "UnicodeEncodeError",
    "ValueError",
)


# Ours is more exact where aiosmtplib raises the base class.
_MORE_EXACT = {"SMTPNotSupported": "SMTPException"}


def _told_error(error: BaseException) -> dict[str, object]:
    kind = type(error).__name__
    kind = _MORE_EXACT.get(kind, kind)
    found: dict[str, object] = {
        "class": kind,
        "is_connection_error": isinstance(error, ConnectionError),
        "is_timeout": isinstance(error, (TimeoutError, asyncio.TimeoutError)),
        "is_value_error": isinstance(error, ValueError),
    }
    for name in ("code", "sender", "recipient", "recipients"):
        if hasattr(error, name):
            found[name] = told(getattr(error, name))
    if kind not in _IN_OTHER_WORDS and found.get("code") != -1:
        found["message"] = told(getattr(error, "message", None))
        found["args"] = told(error.args)
    elif hasattr(error, "message"):
        assert isinstance(error.message, str)
        assert error.message in error.args
    return found
