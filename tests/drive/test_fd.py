"""drive/_fd.pyx: the loop in C leaves the interpreter to other threads, and to signals."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from csmtplib.kernel.transaction import Mode, Stage
from csmtplib.protocol import limits

from ..protocol.serving import Host
from .talking import DEADLINE, HAS_FD_LOOP, Client, in_thread, serve, socket_pair

if not HAS_FD_LOOP:
    pytest.skip("there is no loop in C", allow_module_level=True)

PHASES = (DEADLINE,) * 6


def run(
    client: Client, fd: int, target: int = 0, phases: Any = PHASES, idle: float | None = None
) -> None:
    from csmtplib.drive import _fd

    connection = _fd.Connection(client.pipeline, fd, phases, idle, limits.EARLY_ROUND_TRIPS)
    _fd.run(connection, target, limits.RECEIVE_BYTES, None, None)


def test_other_threads_run_meanwhile() -> None:
    """The server of this conversation is one."""
    client = Client()
    client.push(0)
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1

    def answer_late() -> None:
        time.sleep(0.3)
        serve(Host(), other)

    with socket_pair() as (sock, other), in_thread(count):
        with in_thread(answer_late):
            before = counted
            run(client, sock.fileno())
            meanwhile = counted - before
            sock.close()
        stop.set()
    assert client.told() == [(0, Stage.CONTENT)]
    assert meanwhile > 1000


def test_two_threads_on_one_connection() -> None:
    client = Client()
    client.push(0)
    running = threading.Event()

    def in_another() -> None:
        running.set()
        run(client, sock.fileno())

    with socket_pair() as (sock, other), in_thread(in_another):
        running.wait(DEADLINE)
        time.sleep(0.1)
        with pytest.raises(RuntimeError, match="two threads"):
            run(client, sock.fileno())
        with pytest.raises(RuntimeError, match="two threads"):
            client.pipeline.take()
        serve(Host(quit="221 bye", message=["250 queued"]), other_after_one(other))
    assert client.told() == [(0, Stage.CONTENT)]


def other_after_one(sock: Any) -> Any:
    """A socket whose peer seems to close behind the message."""

    class Ending:
        ended = False

        def recv(self, size: int) -> bytes:
            if self.ended:
                return b""
            data: bytes = sock.recv(size)
            self.ended = data.endswith(b"\r\n.\r\n")
            return data

        def sendall(self, data: bytes) -> None:
            sock.sendall(data)

        def close(self) -> None:
            pass

    return Ending()


@contextmanager
def handling(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def signal_after(seconds: float, number: signal.Signals) -> Iterator[None]:
    """Sends a signal to this process, as Ctrl-C does."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_keyboard_interrupt() -> None:
    client = Client()
    client.push(0)
    with (
        socket_pair() as (sock, _),
        handling(signal.SIGINT, signal.default_int_handler),
        signal_after(0.1, signal.SIGINT),
    ):
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run(client, sock.fileno())
        assert time.monotonic() - begun < DEADLINE / 2
    # It is whole: who caught that may go on, or complete it.
    client.pipeline.lose(InterruptedError("interrupted"))
    assert client.told() == [(0, Stage.LOST)]


def test_signals_that_are_handled() -> None:
    """The wait goes on."""
    client = Client()
    client.push(0)
    seen: list[int] = []

    def answer_late() -> None:
        time.sleep(0.3)
        serve(Host(), other)

    with (
        socket_pair() as (sock, other),
        handling(signal.SIGUSR1, lambda number, frame: seen.append(number)),
        signal_after(0.05, signal.SIGUSR1),
        in_thread(answer_late),
    ):
        run(client, sock.fileno())
        sock.close()
    assert seen == [signal.SIGUSR1]
    assert client.told() == [(0, Stage.CONTENT)]


def test_signal_for_another_thread() -> None:
    """poll() is not interrupted then; the handler runs within a slice of the wait all the same."""
    client = Client()
    client.push(0)

    def kill_myself() -> None:
        time.sleep(0.1)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    with (
        socket_pair() as (sock, _),
        handling(signal.SIGINT, signal.default_int_handler),
        in_thread(kill_myself),
    ):
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run(client, sock.fileno())
        assert time.monotonic() - begun < DEADLINE / 2


def test_a_handler_that_uses_the_pipeline() -> None:
    client = Client()
    client.push(0)
    seen: list[Any] = []

    def answer_late() -> None:
        time.sleep(0.3)
        serve(Host(), other)

    def handler(number: int, frame: object) -> None:
        seen.append((len(client.pipeline), client.pipeline.take(), client.pipeline.failure))

    with (
        socket_pair() as (sock, other),
        handling(signal.SIGUSR1, handler),
        signal_after(0.05, signal.SIGUSR1),
        in_thread(answer_late),
    ):
        run(client, sock.fileno())
        sock.close()
    assert seen == [(1, [], None)]
    assert client.told() == [(0, Stage.CONTENT)]


@pytest.mark.parametrize(
    ("phases", "idle", "seconds"),
    [((0.2,) * 6, None, 0.2), (PHASES, 0.1, 0.1), ((0.1,) * 6, 0.2, 0.1)],
)
def test_time_limit(phases: Any, idle: float | None, seconds: float) -> None:
    """Slices don't prolong it, nor do they cut it short."""
    client = Client()
    client.push(0)
    with socket_pair() as (sock, _):
        begun = time.monotonic()
        run(client, sock.fileno(), phases=phases, idle=idle)
        spent = time.monotonic() - begun
    assert seconds <= spent < DEADLINE / 2
    assert isinstance(client.pipeline.failure, TimeoutError)
    assert str(client.pipeline.failure) == limits.NO_PROGRESS % seconds


def test_bad_descriptors() -> None:
    for fd in (-1, 10_000):
        client = Client()
        client.push(0)
        run(client, fd)
        assert isinstance(client.pipeline.failure, OSError)
        assert client.told() == [(0, Stage.LOST)]


def test_a_descriptor_that_is_no_socket(tmp_path: Any) -> None:
    client = Client()
    client.push(0)
    with (tmp_path / "file").open("w+b") as file:
        run(client, file.fileno())
        assert file.read() == b""
    assert isinstance(client.pipeline.failure, OSError)


def test_a_peer_that_is_gone_raises_no_sigpipe() -> None:
    client = Client(Mode.CHUNKING)
    client.push(0, b"x\r\n" * 1_000_000)
    with socket_pair() as (sock, other), handling(signal.SIGPIPE, signal.SIG_DFL):
        other.close()
        run(client, sock.fileno())
    assert client.pipeline.failure is not None


def test_limits_that_are_none() -> None:
    client = Client()
    with socket_pair() as (sock, _), pytest.raises(TypeError):
        run(client, sock.fileno(), phases=("a",) * 6)


def test_many_connections_at_once() -> None:
    """Each in a thread of its own, all waiting without the interpreter."""
    count = 20

    def talk(number: int, told: list[Any]) -> None:
        client = Client()
        client.push(number)
        host = Host(mail=lambda line: time.sleep(0.2) or "250 ok")  # type: ignore[func-returns-value]
        with socket_pair() as (sock, other), in_thread(lambda: serve(host, other)):
            run(client, sock.fileno())
            sock.close()
        told += client.told()

    told: list[Any] = []
    begun = time.monotonic()
    threads = [threading.Thread(target=talk, args=(each, told)) for each in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [(each, Stage.CONTENT) for each in range(count)]
    assert time.monotonic() - begun < count * 0.2
