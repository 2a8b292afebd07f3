"""drive/acks.py: replies are acknowledged at once while more of a flight are expected."""

from __future__ import annotations

import ctypes
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from csmtplib import kernel
from csmtplib.drive import acks, transactions
from csmtplib.drive.performer import Performer
from csmtplib.drive.pump import Pump, pump, pump_together
from csmtplib.drive.replyfile import ReplyFile
from csmtplib.kernel.transaction import Mode
from csmtplib.protocol import limits
from csmtplib.protocol.dialogue import Dialogue, Exchange, Flow
from csmtplib.protocol.outcome import Reply

from .talking import PATIENT, Client, in_thread, socket_pair, tcp_pair, tls_socket_pair

QUICKACK = getattr(socket, "TCP_QUICKACK", None)

# The system gives up by itself on sending an acknowledgement with something else.
DELAYED_SECONDS = 0.03

only_where_there_are = pytest.mark.skipif(
    QUICKACK is None or not hasattr(select, "poll"), reason="the system has no TCP_QUICKACK"
)


class Run:
    """A pipeline over a socket, by one of the drivers."""

    def __init__(self, driver: str, client: Client, sock: Any) -> None:
        self.driver = driver
        self.client = client
        self.sock = sock
        self.pump = Pump(client.pipeline, client.replies, sock, PATIENT, True)
        self.runnable = transactions.Connection(client.pipeline, client.replies, sock, PATIENT)
        self.wake, self._waker = socket.socketpair()
        self.target = 0

    def __call__(self, seconds: float) -> float:
        """Runs for so many seconds; the longest wait between two replies to one flight."""
        client, sock = self.client, self.sock
        if self.driver == "run":
            return transactions.run(
                client.pipeline, client.replies, sock, self.target, PATIENT, seconds=seconds
            )
        if self.driver == "run_together":
            self.runnable.target = self.target
            transactions.run_together([self.runnable], seconds, self.wake)
        elif self.driver == "pump_together":
            pump_together([self.pump], [self.target], seconds, self.wake)
            return self.pump.gap
        else:
            return pump(
                client.pipeline,
                client.replies,
                sock,
                self.target,
                PATIENT,
                seconds=seconds,
                can_poll=self.driver == "pump",
            )
        return 0.0

    def close(self) -> None:
        self.wake.close()
        self._waker.close()


@contextmanager
def running(driver: str, client: Client, sock: Any) -> Iterator[Run]:
    run = Run(driver, client, sock)
    try:
        yield run
    finally:
        run.close()


def is_acknowledged(run: Run, other: Any, reply: bytes) -> bool:
    """Whether the client acknowledges a reply at once that its system would not."""
    assert QUICKACK is not None
    begun = time.monotonic()
    run.sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 0)
    other.sendall(reply)
    assert select.select([run.sock], [], [], 10)[0]
    run(0.005)
    is_quick = run.sock.getsockopt(socket.IPPROTO_TCP, QUICKACK)
    return bool(is_quick) and time.monotonic() - begun < DELAYED_SECONDS


@only_where_there_are
@pytest.mark.parametrize("is_over_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("driver", ["run", "run_together", "pump", "short wait", "pump_together"])
def test_while_replies_of_a_flight_are_expected(driver: str, is_over_tls: bool) -> None:
    """T7: a server with Nagle's algorithm on, which writes each reply by itself, holds the second
    back until the first is acknowledged. The system goes back to delays at each write."""
    client = Client(Mode.PIPELINING)
    client.push(0)
    pair: Any = tls_socket_pair(by_tcp=True) if is_over_tls else tcp_pair()
    with pair as (sock, other), running(driver, client, sock) as run:
        run(0.0)
        assert other.recv(1000).endswith(b"DATA\r\n")
        first = is_acknowledged(run, other, b"250 ok\r\n")
        second = is_acknowledged(run, other, b"250 ok\r\n")
        assert first or second  # the machine may have had something else to do
        # What is written next carries the acknowledgement of the last one.
        assert not is_acknowledged(run, other, b"354 go\r\n")
        assert other.recv(1000).endswith(b".\r\n")
        assert not is_acknowledged(run, other, b"250 queued\r\n")
    assert client.pipeline.failure is None


@only_where_there_are
@pytest.mark.parametrize("driver", ["run", "run_together", "pump", "short wait", "pump_together"])
def test_when_a_run_ends_at_its_target(driver: str) -> None:
    """T7: nobody knows when the next run comes, nor whether it writes anything: without an
    acknowledgement the server holds the next reply back until the system gives up."""
    client = Client(Mode.PIPELINING)
    client.push(0)
    client.push(1)
    with tcp_pair() as (sock, other), running(driver, client, sock) as run:
        run(0.0)
        other.sendall(b"250 ok\r\n250 ok\r\n354 go\r\n")
        run(0.05)
        assert b"MAIL" in other.recv(1000).split(b"DATA")[1]
        run.target = 1
        assert is_acknowledged(run, other, b"250 queued\r\n")
        assert len(client.pipeline) == 1
    assert client.pipeline.failure is None


@only_where_there_are
@pytest.mark.parametrize("driver", ["run", "pump"])
def test_turned_off(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks, "is_quick", False)
    client = Client(Mode.PIPELINING)
    client.push(0)
    with tcp_pair() as (sock, other), running(driver, client, sock) as run:
        run(0.0)
        assert not is_acknowledged(run, other, b"250 ok\r\n")


@pytest.mark.parametrize("driver", ["run", "pump", "short wait", "pump_together"])
def test_gap(driver: str) -> None:
    """How far apart the replies to one flight came; what is written begins another one."""
    client = Client(Mode.PIPELINING)
    client.push(0)
    with socket_pair() as (sock, other), running(driver, client, sock) as run:
        run(0.0)
        other.sendall(b"250 ok\r\n250 ok\r\n354 go\r\n")
        assert run(0.05) == 0.0
        other.sendall(b"250 queued\r\n")
        assert run(0.05) == 0.0
        client.push(1)
        run(0.0)
        other.sendall(b"250 ok\r\n")
        timer = threading.Timer(0.1, other.sendall, [b"250 ok\r\n"])
        timer.start()
        assert run(0.3) >= 0.09
        timer.join()
    assert client.pipeline.failure is None


def test_gap_between_two_runs() -> None:
    """Time that passes while nobody runs it is not the server's."""
    client = Client(Mode.PIPELINING)
    client.push(0)
    with socket_pair() as (sock, other), running("pump_together", client, sock) as run:
        run(0.0)
        other.sendall(b"250 ok\r\n")
        begun = time.monotonic()
        run(0.05)
        time.sleep(0.1)
        other.sendall(b"250 ok\r\n")
        assert 0.04 <= run(0.0) <= time.monotonic() - begun - 0.1
    assert client.pipeline.failure is None


def one_reply() -> Flow[Reply]:
    return (yield Exchange(b"", 5.0))


@only_where_there_are
@pytest.mark.parametrize("face", ["drop-in", "flows"])
def test_lines_of_a_reply(face: str) -> None:
    """T7: a server that writes each line of its reply to EHLO by itself is held up likewise."""
    assert QUICKACK is not None
    with tcp_pair() as (sock, other):
        if face == "drop-in":
            file = ReplyFile(sock, limits.REPLY_LINE_BYTES)
            read = file.read_reply
        else:
            buffer = kernel.ReplyBuffer(limits.REPLY_LINE_BYTES, limits.REPLY_BYTES)
            dialogue = Dialogue(buffer, None)
            performer = Performer(sock)

            def read() -> Any:
                return performer.perform(dialogue.operations(one_reply()))

        replies: list[Any] = []
        for reply in (b"250-a\r\n250 b\r\n", b"250 ok\r\n"):
            sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 0)
            first, _, rest = reply.partition(b"\r\n")
            begun = time.monotonic()
            other.sendall(first + b"\r\n")
            with in_thread(lambda: replies.append(read())):
                is_quick = False
                while not is_quick and time.monotonic() - begun < DELAYED_SECONDS / 2:
                    time.sleep(0.001)
                    is_quick = bool(sock.getsockopt(socket.IPPROTO_TCP, QUICKACK))
                is_late = time.monotonic() - begun > DELAYED_SECONDS
                other.sendall(rest)
            assert is_late or bool(is_quick) == bool(rest)
            assert replies.pop()[0] == 250


def test_sockets_without_acknowledgements() -> None:
    """Nothing is raised: not for Unix sockets, nor for what is no socket of the system."""
    with socket_pair() as (sock, _):
        acks.acknowledge(sock)
    acks.acknowledge(object())


class WSAIoctl:
    """Windows' function."""

    argtypes: tuple[Any, ...] = ()

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []

    def __call__(self, sock: int, code: int, value: Any, size: int, *rest: Any) -> int:
        assert len(self.argtypes) == 4 + len(rest)
        self.calls.append((sock, code, int.from_bytes(bytes(value._obj)[:size], "little")))
        return 0


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """T7: there it is asked for once, when the connection is prepared."""
    ioctl = WSAIoctl()
    library = type("ws2_32", (), {"WSAIoctl": ioctl})
    monkeypatch.setattr(ctypes, "WinDLL", lambda name: library, raising=False)
    with tcp_pair() as (sock, _):
        transactions.prepare(sock)
        assert ioctl.calls == []
        monkeypatch.setattr(acks, "_IS_WINDOWS", True)
        transactions.prepare(sock)
        # SIO_TCP_SET_ACK_FREQUENCY (mstcpip.h): each segment is acknowledged at once.
        assert ioctl.calls == [(sock.fileno(), 0x98000017, 1)]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
