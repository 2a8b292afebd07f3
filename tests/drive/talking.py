"""A pipeline over a socket pair, and who sits at the other end."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import trustme

from csmtplib import kernel
from csmtplib.kernel.transaction import LAST_STEP, Mode, Step
from csmtplib.protocol.limits import Limits

from ..protocol.serving import Host

DEADLINE = 10.0

HAS_POLL = hasattr(select, "poll")
HAS_FD_LOOP = kernel.implementation == "c" and HAS_POLL

# More than any test takes, and not for ever.
PATIENT = Limits((DEADLINE,) * 6, None)


class Client:
    """A pipeline with its receive buffer."""

    def __init__(
        self,
        mode: Mode = Mode.PIPELINING,
        *,
        strict: bool = True,
        proved: bool = True,
        large: int = 1 << 30,
    ) -> None:
        self.mode = mode
        self.replies = kernel.ReplyBuffer(8192, 65536)
        proof = LAST_STEP[mode] if proved else Step.ALONE
        self.pipeline = kernel.Pipeline(self.replies, mode, False, strict, proof, large)

    def push(self, tag: object, text: bytes = b"text\r\n", recipients: int = 1) -> None:
        commands = [b"MAIL FROM:<a@x>\r\n", *[b"RCPT TO:<b@x>\r\n"] * recipients]
        self.pipeline.push(tag, commands, kernel.Content(text, self.mode != Mode.CHUNKING))

    def told(self) -> list[tuple[object, int]]:
        """Tags and stages of the messages that are completed."""
        return [(tag, stage) for tag, stage, _, _ in self.pipeline.take()]


@contextmanager
def socket_pair(buffer: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end and the server's, with a deadline; their buffers as small as they may be
    where that is asked for."""
    ends = socket.socketpair()
    if buffer is not None and ends[0].family == socket.AF_INET:
        # With less, segments of loopback wait for timers.
        buffer = max(buffer, 1 << 14)
    try:
        for each in ends:
            each.settimeout(DEADLINE)
            if buffer is not None:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        yield ends
    finally:
        for each in ends:
            each.close()


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end and the server's of a connection over loopback, with a deadline; nothing
    that either writes waits for what it wrote before to be acknowledged."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    with client, other:
        for each in (client, other):
            each.settimeout(DEADLINE)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client, other


@lru_cache(maxsize=1)
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's, and a server's that it trusts."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return client, server


@contextmanager
def tls_socket_pair(*, by_tcp: bool = False) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """The client's end and the server's, with a deadline, when the handshake is done."""
    client, server = tls_contexts()
    accepted: list[ssl.SSLSocket] = []
    with tcp_pair() if by_tcp else socket_pair() as (plain, other):
        with in_thread(lambda: accepted.append(server.wrap_socket(other, server_side=True))):
            sock = client.wrap_socket(plain, server_hostname="localhost")
        with sock, accepted[0]:
            yield sock, accepted[0]


@contextmanager
def in_thread(function: Callable[[], object]) -> Iterator[threading.Thread]:
    """Runs a function beside the block, which waits for it at its end and raises what it raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(DEADLINE)
    assert not thread.is_alive(), "the other side has not come to its end"
    if errors:
        raise errors[0]


def serve(host: Host, sock: socket.socket, *, size: int = 1 << 16, pause: float = 0.0) -> None:
    """Talks to the client until one of them hangs up; reads so many bytes at a time, and none
    before it could say what it had to say."""
    try:
        while not host.hung_up and (data := sock.recv(size)):
            if pause:
                time.sleep(pause)
            sock.sendall(host.take(data))
    except (ConnectionError, TimeoutError):
        pass
    finally:
        sock.close()
