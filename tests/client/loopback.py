"""A server on loopback, in a thread: the timing and the segments of real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from typing import Any

from ..protocol.serving import Host

DEADLINE = 10.0


class Loopback:
    """Serves one connection for each host, in their order, until the with block ends.

    segments: what came at once, of all connections.
    """

    def __init__(self, *hosts: Host, tls: ssl.SSLContext | None = None, unix: bool = False) -> None:
        self.hosts = hosts
        self.segments: list[bytes] = []
        self.all_read = threading.Event()
        """Whether the last client has closed."""
        self._tls = tls
        self._directory = tempfile.TemporaryDirectory() if unix else None
        if self._directory is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.host, self.port = self._listener.getsockname()
        else:
            self.host, self.port = f"{self._directory.name}/socket", 0
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self.host)
            self._listener.listen()
        self._listener.settimeout(DEADLINE)
        self._errors: list[Exception] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """As the first arguments of a client class."""
        return self.host, self.port

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._thread.join(DEADLINE)
        self._listener.close()
        if self._directory is not None:
            self._directory.cleanup()
        if error is None:
            assert not self._thread.is_alive(), "a client has not closed"
            if self._errors:
                raise self._errors[0]

    def _accept(self) -> None:
        try:
            for host in self.hosts:
                sock: Any = self._listener.accept()[0]
                sock.settimeout(DEADLINE)
                try:
                    if self._tls is not None:
                        sock = self._tls.wrap_socket(sock, server_side=True)
                    self._serve(host, sock)
                except (ConnectionError, ssl.SSLError):
                    pass  # the client has gone, which is for the test to judge
                finally:
                    sock.close()
            self.all_read.set()
        except Exception as error:
            self._errors.append(error)

    def _serve(self, host: Host, sock: socket.socket) -> None:
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(host.say("greeting", "220 mx.test"))
        while not host.hung_up and (data := sock.recv(1 << 16)):
            self.segments.append(data)
            for answer in host.answers(data):
                sock.sendall(answer)
        # What else comes is read, lest the end of the connection becomes a reset.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(1 << 16):
            self.segments.append(data)


class Gate:
    """An answer that waits: for what is held open from the test."""

    def __init__(self, answer: str = "250 ok") -> None:
        self.answer = answer
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, about: str) -> str:
        self.reached.set()
        self.opened.wait(DEADLINE)
        return self.answer
