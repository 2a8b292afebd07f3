"""The delay proxy of the benchmarks: everything arrives, in order, and not before its time."""

from __future__ import annotations

import random
import socket
import time

from benchmarks.servers.native import running_proxy, running_sink
from tests.servers.conftest import unavailable_means_skip
from tests.servers.process import HOST

DELAY_SECONDS = 0.025
BYTES = 4_000_000


def test_through_the_proxy() -> None:
    body = random.Random(5321).randbytes(BYTES)
    with (
        unavailable_means_skip(),
        running_sink() as sink,
        running_proxy(sink, DELAY_SECONDS) as port,
        socket.create_connection((HOST, port), timeout=10) as connection,
    ):
        assert connection.recv(512) == b"220 sink ESMTP\r\n"
        began = time.monotonic()
        connection.sendall(b"NOOP\r\n")
        assert connection.recv(512) == b"250 2.0.0 Ok\r\n"
        assert time.monotonic() - began >= 2 * DELAY_SECONDS
        # Were an byte lost or moved, the command behind the chunk would not be found.
        connection.sendall(b"BDAT %d LAST\r\n%sNOOP\r\n" % (BYTES, body))
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(512), b""))
        assert answer == b"503 5.5.1 MAIL and RCPT first\r\n250 2.0.0 Ok\r\n"
