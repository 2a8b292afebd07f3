"""A server on loopback that talks to any number of clients at once."""

from __future__ import annotations

import socket
import threading
from typing import Any

from ..drive.talking import DEADLINE, serve
from ..protocol.serving import Delivery, Host


class Site:
    """Serves each connection by a Host of its own, in a thread, until the with block ends."""

    def __init__(self, *extensions: str, **answers: Any) -> None:
        self._extensions = extensions
        self._answers = answers
        self._hosts: list[Host] = []
        self._stopping = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Site:
        self._acceptor.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping = True
        # The waiting for a connection ends with one.
        with socket.create_connection(self.address):
            self._acceptor.join(DEADLINE)
        self._listener.close()
        for thread in self._threads:
            thread.join(DEADLINE)
        assert not any(thread.is_alive() for thread in self._threads), "a client has not closed"

    @property
    def deliveries(self) -> list[Delivery]:
        """The messages that were taken, over all connections."""
        return [delivery for host in self._hosts for delivery in host.deliveries]

    def _accept(self) -> None:
        while True:
            sock = self._listener.accept()[0]
            if self._stopping:
                sock.close()
                return
            host = Host(*self._extensions, **self._answers)
            self._hosts.append(host)
            thread = threading.Thread(target=self._talk, args=(host, sock), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, host: Host, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(DEADLINE)
            sock.sendall(host.say("greeting", "220 mx.test"))
            serve(host, sock)
