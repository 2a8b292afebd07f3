"""drive/transactions.py, drive/pump.py and drive/_fd.pyx: several connections in one run, whatever
one of their peers does."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from csmtplib.drive import transactions
from csmtplib.drive.pump import Pump, _poll, pump_together
from csmtplib.kernel.errors import ReplyError, SessionClosed
from csmtplib.kernel.transaction import Mode, Stage
from csmtplib.protocol import limits
from csmtplib.protocol.limits import Limits

from ..interrupting import interrupt
from ..protocol.serving import Host
from .talking import (
    DEADLINE,
    HAS_FD_LOOP,
    PATIENT,
    Client,
    in_thread,
    serve,
    socket_pair,
    tls_socket_pair,
)

OK = Stage.CONTENT
SHORT = 0.05
COMMANDS = b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n"
# Of which each is an answer to a message that BDAT has brought.
TAKEN = b"250 ok\r\n250 ok\r\n250 queued\r\n"


class Driven:
    """A connection: the client's pipeline, the two ends, and what runs it."""

    def __init__(self, way: str, mode: Mode, sock: Any, other: Any, allowed: Limits) -> None:
        self.client = Client(mode)
        self.sock = sock
        self.other = other
        self.target = 0
        self.is_pump = way in ("poll", "short wait")
        arguments = (self.client.pipeline, self.client.replies, sock, allowed)
        self.runnable: Any = (
            Pump(*arguments, can_poll=way == "poll")
            if self.is_pump
            else transactions.Connection(*arguments)
        )

    @property
    def failure(self) -> Exception | None:
        return self.client.pipeline.failure

    def read(self) -> bytes:
        """Return what has come to the server by now."""
        data: bytes = self.other.recv(10_000)
        return data


class Together:
    """Makes connections, all in one way, and runs them."""

    def __init__(self, way: str, stack: contextlib.ExitStack) -> None:
        self.way = way
        self._stack = stack
        self.wake, self.waker = stack.enter_context(socket_pair())
        self.wake.setblocking(False)

    def connect(
        self,
        mode: Mode = Mode.PIPELINING,
        *,
        messages: int = 1,
        allowed: Limits = PATIENT,
        way: str | None = None,
    ) -> Driven:
        """A connection with messages to send."""
        way = way or self.way
        ends = tls_socket_pair() if way == "tls" else socket_pair()
        sock, other = self._stack.enter_context(ends)
        driven = Driven(way, mode, sock, other, allowed)
        for number in range(messages):
            driven.client.push(number)
        return driven

    def run(self, *connections: Driven, seconds: float = DEADLINE) -> float:
        """One run; how many seconds it took."""
        begun = time.monotonic()
        if connections[0].is_pump:
            pumps = [each.runnable for each in connections]
            targets = [each.target for each in connections]
            pump_together(pumps, targets, seconds, self.wake)
        else:
            for each in connections:
                each.runnable.target = each.target
            transactions.run_together([each.runnable for each in connections], seconds, self.wake)
        return time.monotonic() - begun

    def run_to_the_end(self, *connections: Driven) -> None:
        """So many runs as it takes; those that have come to their end are in none any more."""
        left = list(connections)
        end = time.monotonic() + DEADLINE
        while left and time.monotonic() < end:
            self.run(*left)
            left = [each for each in left if each.client.pipeline.want() and not each.failure]
        assert not left


@pytest.fixture(params=["fd", "poll", "short wait", "tls"])
def together(request: pytest.FixtureRequest) -> Iterator[Together]:
    """By the driver of plain sockets, which may be the loop in C; by that of socket objects, which
    waits by poll() or by recv(); and over TLS."""
    with contextlib.ExitStack() as stack:
        yield Together(request.param, stack)


# The end of a run


def test_each_comes_to_its_end(together: Together) -> None:
    hosts = [Host(rcpt=["250 ok", "550 no", "250 ok"]) for _ in range(6)]
    connections = [
        together.connect(mode, messages=3 * (number + 1))
        for number, mode in enumerate([*Mode, *Mode])
    ]
    with contextlib.ExitStack() as stack:
        for host, each in zip(hosts, connections, strict=True):
            stack.enter_context(in_thread(lambda host=host, each=each: serve(host, each.other)))  # type: ignore[misc]
        together.run_to_the_end(*connections)
        for each in connections:
            each.sock.close()
    for number, (host, each) in enumerate(zip(hosts, connections, strict=True)):
        count = 3 * (number + 1)
        assert each.client.told() == [(n, Stage.RCPT if n == 1 else OK) for n in range(count)]
        assert len(host.deliveries) == count - 1


def test_a_run_ends_when_one_is_at_its_target(together: Together) -> None:
    """The others go on later from where they are."""
    first, second, third = (together.connect(Mode.CHUNKING, messages=3) for _ in range(3))
    second.target = 2
    together.run(first, second, third, seconds=0)
    first.other.sendall(b"250 o")
    second.other.sendall(TAKEN)
    assert together.run(first, second, third) < DEADLINE / 2
    assert second.client.told() == [(0, OK)]
    assert first.client.told() == third.client.told() == []
    second.target = 0
    for each in (first, second, third):
        rest = TAKEN[5:] if each is first else b"" if each is second else TAKEN
        each.other.sendall(rest + (b"250 reset\r\n" + TAKEN) * 2)
    together.run_to_the_end(first, second, third)
    assert [each.failure for each in (first, second, third)] == [None] * 3
    assert [len(each.client.told()) for each in (first, second, third)] == [3, 2, 3]


def test_a_run_without_waiting(together: Together) -> None:
    connections = [together.connect() for _ in range(3)]
    for _ in range(2):
        assert together.run(*connections, seconds=0) < DEADLINE / 2
    for each in connections:
        assert each.read() == COMMANDS
        each.other.sendall(b"250 ok\r\n250 ok\r\n354 go\r\n")
    time.sleep(SHORT)  # which TCP may take to bring it
    together.run(*connections, seconds=0)
    for each in connections:
        assert each.read() == b"text\r\n.\r\n"
    together.run(*connections, seconds=0)
    assert [each.client.told() for each in connections] == [[]] * 3


def test_a_run_has_its_time(together: Together) -> None:
    """The loop in C comes back sooner where its caller has to look for signals."""
    connections = [together.connect() for _ in range(2)]
    assert SHORT <= together.run(*connections, seconds=SHORT) < DEADLINE / 2
    assert [each.failure for each in connections] == [None] * 2


def test_what_is_over_already_ends_a_run_at_once(together: Together) -> None:
    empty, busy = together.connect(messages=0), together.connect()
    assert together.run(busy, empty) < DEADLINE / 2
    lost = together.connect()
    error = ConnectionResetError("before")
    lost.client.pipeline.lose(error)
    assert together.run(busy, lost) < DEADLINE / 2
    assert lost.failure is error
    assert busy.failure is None


def test_more_to_send_between_the_runs(together: Together) -> None:
    connections = [together.connect(Mode.CHUNKING) for _ in range(2)]
    together.run(*connections, seconds=0)
    for each in connections:
        each.client.push(1)
    together.run(*connections, seconds=0)
    for each in connections:
        each.other.sendall(TAKEN + b"250 reset\r\n" + TAKEN)
    together.run_to_the_end(*connections)
    assert [each.client.told() for each in connections] == [[(0, OK), (1, OK)]] * 2


# To be woken


def wake_is_looked_at(together: Together) -> None:
    """Not so where a socket is waited for by recv(), whose runs are therefore to be short."""
    if together.way == "short wait":
        pytest.skip("a socket that can't be polled is waited for alone")


def test_waking_up_ends_a_run(together: Together) -> None:
    wake_is_looked_at(together)
    connections = [together.connect() for _ in range(2)]
    timer = threading.Timer(SHORT, together.waker.send, [b"x"])
    timer.start()
    assert together.run(*connections) < DEADLINE / 2
    assert select.select([together.wake], [], [], 0)[0]
    # It is the caller's to be read.
    assert together.run(*connections) < DEADLINE / 2
    assert together.wake.recv(10) == b"x"
    timer.join()


def test_what_can_be_done_is_done_though_the_run_was_woken(together: Together) -> None:
    wake_is_looked_at(together)
    together.waker.send(b"x")
    connections = [together.connect() for _ in range(2)]
    assert together.run(*connections) < DEADLINE / 2
    assert [each.read() for each in connections] == [COMMANDS] * 2


# One that is lost


def hang_up(driven: Driven) -> None:
    driven.read()
    driven.other.close()


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize(
    ("end", "failure"),
    [
        (hang_up, EOFError),
        (lambda driven: driven.other.sendall(b"250 ok\r\n25x\r\n"), ReplyError),
        (lambda driven: driven.other.sendall(b"421 4.3.2 bye\r\n"), SessionClosed),
        (lambda driven: driven.sock.shutdown(socket.SHUT_RDWR), (OSError, EOFError)),
    ],
    ids=["end of stream", "unreadable", "421", "shut down"],
)
def test_one_is_lost_and_the_others_are_not(
    end: Callable[[Driven], object], failure: Any, place: int, together: Together
) -> None:
    connections = [together.connect(Mode.CHUNKING) for _ in range(3)]
    lost = connections[place]
    together.run(*connections, seconds=0)
    end(lost)
    assert together.run(*connections) < DEADLINE / 2
    assert isinstance(lost.failure, failure)
    assert [tag for tag, stage in lost.client.told() if stage != OK] == [0]
    others = [each for each in connections if each is not lost]
    assert [each.failure for each in others] == [None] * 2
    for each in others:
        each.other.sendall(TAKEN)
    together.run_to_the_end(*others)
    assert [each.client.told() for each in others] == [[(0, OK)]] * 2


def test_a_socket_that_is_closed_between_two_runs(together: Together) -> None:
    """Nobody else may have its descriptor by then: who closes it is done with the connection."""
    if together.way == "fd" and HAS_FD_LOOP:
        pytest.skip("the loop in C has the descriptor, not the socket")
    closed, other = together.connect(), together.connect()
    together.run(closed, other, seconds=0)
    closed.sock.close()
    assert together.run(closed, other) < DEADLINE / 2
    assert isinstance(closed.failure, OSError)
    assert other.failure is None


def test_a_socket_that_was_closed_before_its_first_run(together: Together) -> None:
    with contextlib.ExitStack() as stack:
        sock, _ = stack.enter_context(socket_pair())
        sock.close()
        closed = Driven(together.way, Mode.PIPELINING, sock, None, PATIENT)
        closed.client.push(0)
        other = together.connect()
        assert together.run(other, closed) < DEADLINE / 2
    assert isinstance(closed.failure, OSError)
    assert closed.client.told() == [(0, Stage.LOST)]
    assert other.failure is None


# Time limits


@pytest.mark.parametrize("idle", [False, True], ids=["phase", "idle"])
def test_one_is_out_of_time_and_the_others_are_not(idle: bool, together: Together) -> None:
    """Another is never quiet meanwhile, and a third one has all the time."""
    busy, quiet = together.connect(), together.connect()
    allowed = Limits((DEADLINE,) * 6, 2 * SHORT) if idle else Limits((2 * SHORT,) * 6, None)
    late = together.connect(allowed=allowed)
    together.run(busy, late, quiet, seconds=0)
    stop = threading.Event()

    def dribble() -> None:
        while not stop.wait(SHORT / 5):
            busy.other.sendall(b"250-more\r\n")

    with in_thread(dribble):
        assert SHORT <= together.run(busy, late, quiet) < DEADLINE / 2
        stop.set()
    assert isinstance(late.failure, TimeoutError)
    assert str(late.failure) == limits.NO_PROGRESS % (2 * SHORT)
    assert late.client.told() == [(0, Stage.LOST)]
    assert busy.failure is quiet.failure is None


def test_limits_last_over_several_runs(together: Together) -> None:
    late = together.connect(allowed=Limits((4 * SHORT,) * 6, None))
    spent = 0.0
    while late.failure is None and spent < DEADLINE:
        spent += together.run(late, seconds=SHORT)
    assert 3 * SHORT < spent < DEADLINE / 2
    assert isinstance(late.failure, TimeoutError)


def test_time_between_two_runs_does_not_count(together: Together) -> None:
    for allowed in (Limits((2 * SHORT,) * 6, None), Limits((DEADLINE,) * 6, 2 * SHORT)):
        connections = [together.connect(allowed=allowed) for _ in range(2)]
        for _ in range(2):
            together.run(*connections, seconds=0)
            time.sleep(3 * SHORT)
        together.run(*connections, seconds=0)
        assert [each.failure for each in connections] == [None] * 2


# Sockets of several kinds


def test_plain_and_tls_sockets_in_one_run() -> None:
    hosts = [Host() for _ in range(4)]
    with contextlib.ExitStack() as stack:
        together = Together("fd", stack)
        connections = [together.connect(messages=5, way=way) for way in ("fd", "tls", "fd", "tls")]
        with contextlib.ExitStack() as serving:
            for host, each in zip(hosts, connections, strict=True):
                serving.enter_context(
                    in_thread(lambda host=host, each=each: serve(host, each.other))  # type: ignore[misc]
                )
            together.run_to_the_end(*connections)
            # The plain ones alone, and so by their own driver, when they had been run by another.
            for each in connections:
                each.client.push(5)
            together.run_to_the_end(connections[0], connections[2])
            together.run_to_the_end(connections[1], connections[3])
            for each in connections:
                each.sock.close()
    for host, each in zip(hosts, connections, strict=True):
        assert each.failure is None
        assert each.client.told() == [(number, OK) for number in range(6)]
        assert len(host.deliveries) == 6


def test_sockets_that_can_and_can_not_be_polled_in_one_run() -> None:
    hosts = [Host() for _ in range(4)]
    with contextlib.ExitStack() as stack:
        together = Together("poll", stack)
        connections = [
            together.connect(messages=5, way=way)
            for way in ("poll", "short wait", "poll", "short wait")
        ]
        with contextlib.ExitStack() as serving:
            for host, each in zip(hosts, connections, strict=True):
                serving.enter_context(
                    in_thread(lambda host=host, each=each: serve(host, each.other))  # type: ignore[misc]
                )
            together.run_to_the_end(*connections)
            for each in connections:
                each.sock.close()
    for each in connections:
        assert each.client.told() == [(number, OK) for number in range(5)]


def test_tls_that_is_deciphered_already_is_not_waited_for() -> None:
    """Several replies come in one record, of which the descriptor knows nothing any more."""
    said = b"".join([*[b"250-%s\r\n" % (b"z" * 500)] * 31, b"250 ok\r\n"])
    with contextlib.ExitStack() as stack:
        together = Together("tls", stack)
        talking, quiet = together.connect(Mode.SEQUENTIAL), together.connect()
        together.run(talking, quiet, seconds=0)
        talking.other.sendall(said)
        talking.target = 0
        end = time.monotonic() + DEADLINE / 2
        while talking.client.pipeline.booked == 0 and time.monotonic() < end:
            together.run(talking, quiet, seconds=SHORT)
        assert talking.client.pipeline.booked == 1


def test_what_was_received_before_is_booked_first() -> None:
    client = Client()
    client.replies.feed(b"421 bye\r\n")
    client.push(0)
    with socket_pair() as (sock, other), socket_pair() as (wake, _):
        connection = transactions.Connection(client.pipeline, client.replies, sock, PATIENT)
        transactions.run_together([connection], DEADLINE, wake)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
    assert isinstance(client.pipeline.failure, SessionClosed)


# Threads and signals


def test_keyboard_interrupt(together: Together) -> None:
    connections = [together.connect() for _ in range(2)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(SHORT, interrupt)
    timer.start()
    begun = time.monotonic()

    def run_on() -> None:
        while time.monotonic() - begun < DEADLINE:
            together.run(*connections)

    try:
        with pytest.raises(KeyboardInterrupt):
            run_on()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun < DEADLINE / 2
    # They are whole: who caught that may go on with them, or complete them.
    completed, going_on = connections
    completed.client.pipeline.lose(InterruptedError("interrupted"))
    assert completed.client.told() == [(0, Stage.LOST)]
    host = Host()
    with in_thread(lambda: serve(host, going_on.other)):
        together.run_to_the_end(going_on)
        going_on.sock.close()
    assert going_on.client.told() == [(0, OK)]


@pytest.mark.skipif(not HAS_FD_LOOP, reason="there is no loop in C")
def test_two_threads_on_one_line() -> None:
    with contextlib.ExitStack() as stack:
        together = Together("fd", stack)
        shared, own, quiet = (together.connect() for _ in range(3))
        together.run(shared, own, quiet, seconds=0)
        assert shared.read() == COMMANDS
        running, stop = threading.Event(), threading.Event()

        def run_on() -> None:
            while not stop.is_set():
                running.set()
                together.run(shared, quiet)

        with in_thread(run_on):
            assert running.wait(DEADLINE)
            end = time.monotonic() + DEADLINE

            def run_beside() -> None:
                # Between two runs of the other thread it is nobody's.
                while time.monotonic() < end:
                    together.run(own, shared, seconds=0)

            with pytest.raises(RuntimeError, match="two threads"):
                run_beside()
            stop.set()
            together.waker.send(b"x")
        # The other one of that run goes on.
        own.other.sendall(b"250 ok\r\n250 ok\r\n354 go\r\n")
        together.run(own, seconds=0)
        assert own.read() == COMMANDS + b"text\r\n.\r\n"


def test_other_threads_run_meanwhile(together: Together) -> None:
    """The servers of these conversations are some."""
    connections = [together.connect() for _ in range(2)]
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1

    with in_thread(count):
        before = counted
        end = time.monotonic() + 4 * SHORT
        while time.monotonic() < end:
            together.run(*connections, seconds=SHORT)
        meanwhile = counted - before
        stop.set()
    assert meanwhile > 1000


# Bounds


def test_as_many_lines_as_one_run_takes() -> None:
    if not HAS_FD_LOOP:
        pytest.skip("there is no loop in C")
    from csmtplib.drive import _fd

    client = Client()
    with socket_pair() as (sock, _):
        connection = _fd.Connection(client.pipeline, sock.fileno(), (DEADLINE,) * 6, None, 10)
        too_many = 1 << 10 | 1
        assert too_many > transactions.MOST_TOGETHER
        with pytest.raises(ValueError, match="at most 1024"):
            _fd.run_together([connection] * too_many, [0] * too_many, -1, limits.RECEIVE_BYTES, 0)


def test_one_wait_is_for_as_many_connections_as_one_run_takes() -> None:
    with socket_pair() as (sock, waker):
        all_of_them = [sock] * transactions.MOST_TOGETHER
        assert _poll([waker, *all_of_them], all_of_them, DEADLINE) == []


def test_many_connections() -> None:
    """All served by one thread, one after the other."""
    count = 60
    with contextlib.ExitStack() as stack:
        together = Together("fd", stack)
        connections = [together.connect(Mode.CHUNKING) for _ in range(count)]

        def serve_all() -> None:
            for each in connections:
                host = Host()
                while not host.deliveries:
                    each.other.sendall(host.take(each.other.recv(10_000)))

        with in_thread(serve_all):
            together.run_to_the_end(*connections)
    assert [each.client.told() for each in connections] == [[(0, OK)]] * count
