"""A scripted SMTP server on loopback: it says, byte by byte, what a test's script says.

A script is a function that is given the server's end of a connection, a Peer, and drives it:

    def script(peer: Peer) -> None:
        peer.say("220 ready")
        peer.expect("EHLO")
        peer.deliver(b"250-mx.test\r\n250 PIPELINING\r\n")

    with ScriptedServer(script, delivery=Delivery(split=5)) as server:
        ...
    assert server.received == b"EHLO client.test\r\nQUIT\r\n"

A client that departs from the script fails the test when the with block ends. Where the script
ends, the client may say QUIT or close, nothing else. No wait is longer than DEADLINE seconds.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import pytest

DEADLINE = 10.0
SEGMENT_PAUSE = 0.001
RECEIVE_SIZE = 65536
SEGMENT_SIZE = 1024
HELLO = re.compile(rb"(EH|LH)LO client\.test\r\n", re.IGNORECASE)
BDAT = re.compile(rb"BDAT \d+ LAST\r\n", re.IGNORECASE)
TLS_HANDSHAKE = b"\x16\x03"
# More than any limit on a reply, and more than the socket buffers of both ends can hide.
FLOOD_SIZE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Delivery:
    """How the bytes of the answer under test leave the server."""

    split: int | None = None
    """The length of the first of two segments; 0: every byte in a segment; None: one segment."""

    def segments(self, data: bytes) -> list[bytes]:
        if self.split is None:
            return [data]
        if self.split == 0:
            return [data[i : i + 1] for i in range(len(data))]
        return [part for part in (data[: self.split], data[self.split :]) if part]

    def __str__(self) -> str:
        return {None: "whole", 0: "data"}.get(self.split, f"split-{self.split}")


WHOLE = Delivery()


def delivered(*answers: bytes) -> pytest.MarkDecorator:
    """Runs a test with every answer in every delivery: whole, byte by byte, split everywhere.

    The test takes them as `answer` and `delivery`. Where only what does not take long is run, each
    answer is split in one place, between CR and LF.
    """
    return pytest.mark.parametrize(
        ("answer", "delivery"),
        [
            pytest.param(
                answer,
                Delivery(split),
                marks=[pytest.mark.long] if split not in (None, 0, len(answer) - 1) else [],
                id=f"{ascii(answer)[2:-1]}-{Delivery(split)}",
            )
            for answer in answers
            for split in (None, 0, *range(1, len(answer)))
        ],
    )


class ScriptError(AssertionError):
    """The client did something that the script does not provide for."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket, server: ScriptedServer) -> None:
        self.received = bytearray()
        """Every byte that the client sent, deciphered where TLS was on."""
        self.received_in_clear = 0
        """How many of them came before TLS."""
        self.segments: list[bytes] = []
        """The same bytes, as each read got them."""
        self._socket = connection
        self._server = server
        self._unread = bytearray()
        self._deadline = time.monotonic() + DEADLINE
        self._closed = False
        self._is_tls = False
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def say(self, *lines: str) -> None:
        """Sends the lines in one segment, each with CRLF."""
        self._send("".join(f"{line}\r\n" for line in lines).encode("ascii"))

    def greet(self, *extensions: str) -> None:
        """Says a greeting, and answers EHLO or LHLO with the extensions."""
        self.say("220 mx.test")
        self.answer_hello(*extensions)

    def answer_hello(self, *extensions: str) -> None:
        """Answers EHLO or LHLO with the extensions."""
        self.expect(HELLO)
        *before, last = "mx.test", *extensions
        self.say(*(f"250-{line}" for line in before), f"250 {last}")

    def accept_message(self, recipients: int = 1) -> bytes:
        """Takes a transaction, DATA included; returns the body as `read_body` does."""
        self.expect("MAIL FROM:")
        self.say("250 sender ok")
        for _ in range(recipients):
            self.expect("RCPT TO:")
            self.say("250 recipient ok")
        self.expect("DATA\r\n")
        self.say("354 go on")
        body = self.read_body()
        self.say("250 queued")
        return body

    def deliver(self, data: bytes) -> None:
        """Sends the bytes as they are, the way the server's delivery says."""
        for count, segment in enumerate(self._server.delivery.segments(data)):
            if count > 0 and self._server.delivery.split != 0:
                time.sleep(SEGMENT_PAUSE)
            if not self._send(segment):
                return

    def dribble(self, data: bytes, interval: float) -> None:
        """Sends the bytes for ever, one each interval (seconds), until the client closes."""
        position = 0
        while self._send(data[position : position + 1]):
            position = (position + 1) % len(data)
            if self._read(wait=interval) is False:
                return
        self.drain()

    def flood(self, data: bytes) -> None:
        """Sends the bytes for ever, as fast as the client reads, until it closes."""
        block = data * max(1, RECEIVE_SIZE // len(data))
        for _ in range(FLOOD_SIZE // len(block)):
            if not self._send(block):
                return
        raise ScriptError(f"the client took {FLOOD_SIZE} bytes of {data!r} and did not give up")

    def expect(self, command: str | re.Pattern[bytes] = "") -> bytes:
        """Reads a command line and returns it with its CRLF.

        It has to begin with command, in upper or lower case, or to match the whole pattern.
        """
        line = self._read_to(b"\r\n", f"the command {command!r}")
        if isinstance(command, str):
            matches = line.upper().startswith(command.upper().encode("ascii"))
        else:
            matches = command.fullmatch(line) is not None
        if not matches:
            raise self._error(f"expected the command {command!r}, the client sent {line!r}")
        return line

    def read_body(self) -> bytes:
        """Reads a message body as it is on the wire, its terminator included."""
        start = self._read_to(b"\r\n", "a message body")
        if start == b".\r\n":
            return start
        # The line end before the dot may be the one that start has already taken.
        self._unread[:0] = start[-2:]
        return start[:-2] + self._read_to(b"\r\n.\r\n", "the end of the message body")

    def read_chunk(self) -> bytes:
        """Reads BDAT, which has to be the last of its message, and the bytes that it counts."""
        command = self.expect(BDAT)
        return self.take(int(command.split()[1]))

    def take(self, count: int) -> bytes:
        """Reads so many bytes."""
        while len(self._unread) < count:
            if not self._read():
                raise self._error(f"expected {count} bytes, {len(self._unread)} came")
        data = bytes(self._unread[:count])
        del self._unread[:count]
        return data

    def expect_one_segment(self, *commands: str) -> None:
        """Reads these commands, which have to come together, and nothing with them."""
        assert not self._unread
        before = len(self.segments)
        for command in commands:
            self.expect(command)
        if self._unread or len(self.segments) != before + 1:
            raise self._error(f"expected {commands} in one segment: {self.segments[before:]}")

    def take_rset(self) -> bool:
        """Answers RSET where that is what the client sends next; whether it is."""
        while b"\r\n" not in self._unread:
            if not self._read():
                return False
        if self._unread[:6].upper() != b"RSET\r\n":
            return False
        self.take(6)
        self.say("250 reset")
        return True

    @property
    def is_closed(self) -> bool:
        """Whether this end has closed, which it does where the client has."""
        return self._closed

    @property
    def unread(self) -> bytes:
        """The bytes of the client that were read and that the script has not asked for."""
        return bytes(self._unread)

    def expect_silence(self, seconds: float) -> None:
        """The client has to wait, with the connection open, for so long."""
        if self._unread or self._read(wait=seconds) is not None:
            raise self._error(f"expected the client to wait, it sent {bytes(self._unread)!r}")

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Does the server's half of a TLS handshake; raises ssl.SSLError or OSError."""
        if self._unread:
            raise self._error(f"the client sent {bytes(self._unread)!r} before the handshake")
        self.received_in_clear = len(self.received)
        self._socket.settimeout(self._remaining())
        try:
            self._socket = context.wrap_socket(self._socket, server_side=True)
        except OSError:
            self._closed = True
            raise
        self._is_tls = True

    def expect_handshake(self) -> None:
        """Waits for the client to begin TLS; the bytes are recorded only."""
        self._read()
        if not self._unread.startswith(TLS_HANDSHAKE):
            raise self._error("expected a TLS handshake")
        self._unread.clear()

    def expect_close(self) -> None:
        """Waits, silent, for the client to close; it has to do so without another byte."""
        if self._unread or self._read():
            raise self._error(f"expected the client to close, it sent {bytes(self._unread)!r}")

    def drain(self) -> None:
        """Waits, silent, for the client to close; what it sends until then is recorded only."""
        while self._read():
            pass
        self._unread.clear()

    def answer_rest(self, *answers: str) -> None:
        """Answers the next command lines with these, then is silent until the client closes."""
        for answer in answers:
            while b"\r\n" not in self._unread:
                if not self._read():
                    self._unread.clear()
                    return
            self._read_to(b"\r\n", "a command")
            self.say(answer)
        self.drain()

    def end(self) -> None:
        """Closes the sending direction, and waits for the client to close."""
        # As on a plain socket: that of TLS would forget how to read.
        socket.socket.shutdown(self._socket, socket.SHUT_WR)
        self.drain()

    def close(self) -> None:
        """Closes the connection, with FIN."""
        self._closed = True
        self._socket.close()

    def reset(self) -> None:
        """Closes the connection, with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def finish(self) -> None:
        """Answers QUIT where it comes, and waits for the client to close."""
        while not self._closed and (self._unread or self._read()):
            line = self._read_to(b"\r\n", "QUIT or the end of the connection")
            if line.upper() != b"QUIT\r\n":
                raise self._error(f"the script had ended, the client sent {line!r}")
            self._send(b"221 bye\r\n")
            self.expect_close()

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise self._error(f"the connection was not over after {DEADLINE} s")
        return remaining

    def _send(self, data: bytes) -> bool:
        """Whether the bytes could be sent: not where the client had closed."""
        self._socket.settimeout(self._remaining())
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise self._error(f"the client does not read, {len(data)} bytes are unsent") from None
        except OSError:
            return False
        return True

    def _read(self, wait: float | None = None) -> bool | None:
        """Whether the client sent something, False where it closed; None: nothing within wait."""
        if self._closed:
            return False
        self._socket.settimeout(self._remaining() if wait is None else wait)
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except TimeoutError:
            if wait is not None:
                return None
            raise self._error("the client neither sent anything nor closed") from None
        except OSError:
            # A client that closes with bytes unread resets the connection; a TLS alert ends it.
            data = b""
        if not data:
            self.close()
            return False
        self.received += data
        self.segments.append(data)
        if not self._is_tls:
            self.received_in_clear = len(self.received)
        self._unread += data
        return True

    def _read_to(self, end: bytes, what: str) -> bytes:
        while end not in self._unread:
            if not self._read():
                raise self._error(
                    f"expected {what}, the client sent {bytes(self._unread)!r} and closed"
                )
        length = self._unread.index(end) + len(end)
        data = bytes(self._unread[:length])
        del self._unread[:length]
        return data

    def _error(self, what: str) -> ScriptError:
        return ScriptError(f"{what}\nall that it sent: {bytes(self.received)!r}")


Script = Callable[[Peer], None]


class ScriptedServer:
    """Serves one connection for each script, in their order, until the with block ends."""

    def __init__(
        self,
        *scripts: Script,
        delivery: Delivery = WHOLE,
        tls: ssl.SSLContext | None = None,
        unix: bool = False,
        window: int | None = None,
    ) -> None:
        """tls: the handshake comes before the greeting. unix: host is the path of a unix socket.
        window: bytes that the system may keep for the server, in each direction."""
        self.delivery = delivery
        # pytest's own directories have names longer than a unix socket may have.
        self._directory = tempfile.TemporaryDirectory() if unix else None
        if self._directory is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.host, self.port = self._listener.getsockname()
        else:
            self.host, self.port = f"{self._directory.name}/socket", 0
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self.host)
            self._listener.listen()
        if window is not None:  # connections have it from here
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window)
            if not unix and hasattr(socket, "TCP_MAXSEG"):
                # Loopback's segments are larger than the window, and would wait for timers. Windows
                # has the option to be read.
                with contextlib.suppress(OSError):
                    self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_SIZE)
        self._scripts = scripts
        self._tls = tls
        self._peers: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self._errors: list[Exception] = []
        self._all_accepted = threading.Event()
        self._stop, self._stopped = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept)

    def __enter__(self) -> ScriptedServer:
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.close()
        self._acceptor.join()
        self._stopped.close()
        self._listener.close()
        for thread in self._threads:
            thread.join()
        if self._directory is not None:
            self._directory.cleanup()
        # What the test saw is often but the echo of this: the script's error explains it.
        if self._errors:
            raise self._errors[0]
        if error is None and len(self._peers) < len(self._scripts):
            raise ScriptError(f"{len(self._peers)} of {len(self._scripts)} connections were made")

    @property
    def received(self) -> bytes:
        """Every byte that the clients sent, deciphered where TLS was on.

        Waits for them to close: a client that keeps its connection open fails the test.
        """
        self._wait_for_clients()
        return b"".join(bytes(peer.received) for peer in self._peers)

    @property
    def received_in_clear(self) -> bytes:
        """The part of it that came before TLS."""
        self._wait_for_clients()
        return b"".join(bytes(peer.received[: peer.received_in_clear]) for peer in self._peers)

    def _wait_for_clients(self) -> None:
        # One that came and went may wait for accept() still.
        if self._all_accepted.wait(DEADLINE):
            for thread in self._threads:
                thread.join()

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

    def _serve(self, connection: socket.socket) -> None:
        if len(self._peers) == len(self._scripts):
            connection.close()
            self._errors.append(ScriptError("the client made a connection too many"))
            return
        peer = Peer(connection, self)
        thread = threading.Thread(target=self._run, args=(peer, self._scripts[len(self._peers)]))
        self._peers.append(peer)
        self._threads.append(thread)
        thread.start()
        if len(self._peers) == len(self._scripts):
            self._all_accepted.set()

    def _run(self, peer: Peer, script: Script) -> None:
        try:
            if self._tls is not None:
                peer.start_tls(self._tls)
            script(peer)
            peer.finish()
        except Exception as error:
            self._errors.append(error)
        finally:
            peer.close()
