"""sendmail() and send_many() on servers that hold the second reply to a flight back."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import csmtplib
from csmtplib.drive import acks

from ..protocol.serving import Host
from .conftest import MutualTLS
from .loopback import DEADLINE, Loopback


class Nagling(Loopback):
    """Writes each reply by itself, with Nagle's algorithm on, as servers on Node.js do.

    waits: the seconds until the first reply to each flight was acknowledged.
    """

    def __init__(self, *hosts: Host, **named: Any) -> None:
        super().__init__(*hosts, **named)
        self.waits: list[float] = []

    def _serve(self, host: Host, sock: socket.socket) -> None:
        import fcntl
        import termios

        sock.sendall(host.say("greeting", "220 mx.test"))
        while not host.hung_up and (data := sock.recv(1 << 16)):
            self.segments.append(data)
            for number, answer in enumerate(host.answers(data)):
                if number == 1:
                    begun = time.monotonic()
                    # SIOCOUTQ: the bytes that are not acknowledged.
                    while any(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))):
                        time.sleep(0.0005)
                    self.waits.append(time.monotonic() - begun)
                sock.sendall(answer)


class HoldingBack(Loopback):
    """Holds the replies but the first of a flight back, as if it was not acknowledged before: the
    server behind a proxy."""

    def _serve(self, host: Host, sock: socket.socket) -> None:
        sock.sendall(host.say("greeting", "220 mx.test"))
        while not host.hung_up and (data := sock.recv(1 << 16)):
            self.segments.append(data)
            for number, answer in enumerate(host.answers(data)):
                if number == 1:
                    time.sleep(0.1)
                sock.sendall(answer)


def connect(server: Loopback, tls: Any = None) -> Any:
    named: dict[str, Any] = {"local_hostname": "client.test", "timeout": DEADLINE}
    if tls is None:
        return csmtplib.SMTP(*server.address, **named)
    return csmtplib.SMTP_SSL(*server.address, context=tls, **named)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def contexts(request: pytest.FixtureRequest, mutual_tls: MutualTLS) -> Iterator[Any]:
    """Of the client and the server, or None twice."""
    if request.param:
        yield mutual_tls.client(with_certificate=True), mutual_tls.server
    else:
        yield None, None


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="how much is not acknowledged is Linux's to tell"
)
def test_replies_are_acknowledged_at_once(contexts: Any) -> None:
    """T7: `sendmail()` was 11 - 220 times slower than smtplib on servers with Nagle's algorithm."""
    client, server_context = contexts
    host = Host("PIPELINING")
    server = Nagling(host, tls=server_context)
    with server, connect(server, client) as smtp:
        for _ in range(20):
            assert smtp.sendmail("a@x", ["b@x", "c@x"], b"text\r\n") == {}
    # At first the system acknowledges everything at once by itself. 40 ms is the least delay; the
    # machine may be slow now and then, but not each time.
    assert len(server.waits) == 20
    assert min(server.waits[10:]) < 0.03


def envelopes(server: Loopback) -> list[int]:
    """How many commands came at once, for each segment that began with MAIL."""
    return [each.count(b"\r\n") for each in server.segments if each.startswith(b"mail")]


def test_sequentially_where_that_is_faster(contexts: Any) -> None:
    """T7: where nothing makes the replies come at once. Other connections to the host profit."""
    client, server_context = contexts
    hosts = [Host("PIPELINING") for _ in range(2)]
    with HoldingBack(*hosts, tls=server_context) as server:
        with connect(server, client) as smtp:
            for number in range(6):
                assert smtp.sendmail("a@x", "b@x", b"%d\r\n" % number) == {}
        with connect(server, client) as smtp:
            assert smtp.sendmail("a@x", "b@x", b"6\r\n") == {}
            # So many round trips would take longer.
            many = [f"{number}@x" for number in range(5000)]
            assert smtp.sendmail("a@x", many, b"7\r\n") == {}
    assert envelopes(server)[:7] == [3, 3, 1, 1, 1, 1, 1]
    assert envelopes(server)[7] > 1
    assert [text for host in hosts for text in host.texts] == [b"%d\r\n" % n for n in range(8)]


def test_delayed_acknowledgements(monkeypatch: pytest.MonkeyPatch) -> None:
    """T7: the same on systems that have no way to acknowledge at once."""
    if not hasattr(select, "poll") or sys.platform == "darwin":
        pytest.skip("the system does not delay, or may acknowledge each segment")
    monkeypatch.setattr(acks, "is_quick", False)
    host = Host("PIPELINING")
    with Nagling(host) as server, connect(server) as smtp:
        for _ in range(40):
            assert smtp.sendmail("a@x", "b@x", b"text\r\n") == {}
    assert envelopes(server)[-1] == 1


def test_server_that_takes_its_time() -> None:
    """It is not faster sequentially, and goes on to get flights."""

    def think(about: str) -> str:
        time.sleep(0.1)
        return "250 ok"

    host = Host("PIPELINING", rcpt=think)
    with Loopback(host) as server, connect(server) as smtp:
        for _ in range(7):
            assert smtp.sendmail("a@x", "b@x", b"text\r\n") == {}
    assert envelopes(server) == [3, 3, 1, 3, 3, 3, 3]


@pytest.mark.parametrize("is_held", [False, True])
def test_streams(is_held: bool) -> None:
    """send_many() makes use of what sendmail() has learned."""
    host = Host("PIPELINING")
    with HoldingBack(host) as server, connect(server) as smtp:
        for _ in range(4 if is_held else 1):
            smtp.sendmail("a@x", "b@x", b"text\r\n")
        del server.segments[:]
        messages = [("a@x", "b@x", b"%d\r\n" % number) for number in range(5)]
        assert all(result.accepted for result in smtp.send_many(messages))
    assert host.texts[-5:] == [text for _, _, text in messages]
    assert all(each.count(b"\r\n") <= 2 for each in server.segments) == is_held


def test_lmtp_goes_in_flights() -> None:
    """A server that delivers to each recipient in turn takes its time, and is near."""
    host = Host("PIPELINING", lmtp=True)
    with (
        HoldingBack(host) as server,
        csmtplib.LMTP(*server.address, local_hostname="client.test", timeout=DEADLINE) as lmtp,
    ):
        for _ in range(4):
            assert lmtp.sendmail("a@x", ["b@x", "c@x"], b"text\r\n") == {}
    assert envelopes(server) == [4] * 4
