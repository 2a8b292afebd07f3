"""drive/pump.py, and the loop in C beside it: a pipeline over a socket, whatever the peer does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from csmtplib.drive import transactions
from csmtplib.drive.pump import Pump, pump, pump_together
from csmtplib.kernel.errors import ReplyUnexpected, SessionClosed
from csmtplib.kernel.transaction import Mode, Phase, Stage, Step
from csmtplib.protocol import limits
from csmtplib.protocol.limits import Limits

from ..protocol.serving import Host
from .talking import (
    DEADLINE,
    HAS_FD_LOOP,
    HAS_POLL,
    PATIENT,
    Client,
    in_thread,
    serve,
    socket_pair,
    tls_contexts,
)

Run = Callable[..., None]

OK = Stage.CONTENT


def by_poll(
    client: Client,
    sock: Any,
    target: int = 0,
    allowed: Limits = PATIENT,
    seconds: float | None = None,
) -> None:
    pump(
        client.pipeline,
        client.replies,
        sock,
        target,
        allowed,
        can_poll=True,
        seconds=seconds,
    )


def by_short_wait(
    client: Client,
    sock: Any,
    target: int = 0,
    allowed: Limits = PATIENT,
    seconds: float | None = None,
) -> None:
    pump(
        client.pipeline,
        client.replies,
        sock,
        target,
        allowed,
        can_poll=False,
        seconds=seconds,
    )


def by_descriptor(
    client: Client,
    sock: Any,
    target: int = 0,
    allowed: Limits = PATIENT,
    seconds: float | None = None,
) -> None:
    transactions.run(client.pipeline, client.replies, sock, target, allowed, seconds=seconds)


RUNS: dict[str, Run] = {"poll": by_poll, "short wait": by_short_wait}
if HAS_FD_LOOP:
    RUNS["descriptor"] = by_descriptor


@pytest.fixture(params=list(RUNS))
def run(request: pytest.FixtureRequest) -> Run:
    """A driver: waiting by poll(), by recv(), or the one in C."""
    return RUNS[request.param]


# Conversations


@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.name.lower())
def test_messages(run: Run, mode: Mode) -> None:
    host = Host(rcpt=["250 ok", "550 no", "250 ok"])
    client = Client(mode, proved=False)
    texts = [b"%d\r\n" % number for number in range(20)]
    with socket_pair() as (sock, other), in_thread(lambda: serve(host, other)):
        for number, text in enumerate(texts):
            client.push(number, text)
        run(client, sock)
        sock.close()
    assert client.pipeline.failure is None
    assert client.told() == [(n, Stage.RCPT if n == 1 else OK) for n in range(20)]
    assert host.texts == [text for text in texts if text != b"1\r\n"]


@pytest.mark.parametrize("mode", [Mode.PIPELINING, Mode.CHUNKING])
@pytest.mark.parametrize("size", [1, 100, 1 << 16])
def test_peer_that_does_not_read_until_its_replies_are_read(
    run: Run, mode: Mode, size: int
) -> None:
    """Both sides with full buffers: who only writes waits for ever."""
    text = (b"x" * 998 + b"\r\n") * {1: 1, 100: 20, 1 << 16: 100}[size]
    count = 5
    host = Host(message="250-" + "y" * 500 + "\r\n250 queued", rcpt="250 " + "z" * 500)
    client = Client(mode)
    with (
        socket_pair(buffer=1024) as (sock, other),
        in_thread(lambda: serve(host, other, size=size)),
    ):
        for number in range(count):
            client.push(number, text, recipients=3)
        run(client, sock)
        sock.close()
    assert client.pipeline.failure is None
    assert client.told() == [(number, OK) for number in range(count)]
    assert host.texts == [text] * count


def test_up_to_a_target(run: Run) -> None:
    host = Host()
    client = Client()
    with socket_pair() as (sock, other), in_thread(lambda: serve(host, other)):
        for number in range(10):
            client.push(number)
        run(client, sock, 4)
        assert len(client.pipeline) <= 4
        told = client.told()
        assert [tag for tag, _ in told] == list(range(len(told)))
        assert len(told) >= 6
        run(client, sock)
        assert len(told) + len(client.told()) == 10
        sock.close()


def test_nothing_to_do(run: Run) -> None:
    client = Client()
    with socket_pair() as (sock, _):
        run(client, sock)
        run(client, sock, 5)
        run(client, sock, seconds=0)
    assert client.pipeline.failure is None


def test_a_pipeline_that_failed_is_left_alone(run: Run) -> None:
    client = Client()
    client.push(0)
    error = ConnectionResetError("before")
    client.pipeline.lose(error)
    with socket_pair() as (sock, other):
        run(client, sock)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
    assert client.pipeline.failure is error


def test_without_waiting(run: Run) -> None:
    client = Client()
    client.push(0)
    with socket_pair() as (sock, other):
        run(client, sock, seconds=0)
        assert other.recv(100) == b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n"
        run(client, sock, seconds=0)
        assert client.pipeline.failure is None
        other.sendall(b"250 ok\r\n250 ok\r\n354 go\r\n")
        run(client, sock, seconds=0)
        assert other.recv(100) == b"text\r\n.\r\n"
        run(client, sock, seconds=0)
        assert client.told() == []
        other.sendall(b"250 queued\r\n")
        run(client, sock, seconds=0)
        assert client.told() == [(0, OK)]


def test_without_waiting_for_a_peer_that_does_not_read(run: Run) -> None:
    client = Client(Mode.CHUNKING)
    client.push(0, b"x" * 990 + b"\r\n" + b"y\r\n" * 100_000)
    with socket_pair(buffer=1024) as (sock, other):
        begun = time.monotonic()
        run(client, sock, seconds=0)
        assert time.monotonic() - begun < DEADLINE / 2
        assert client.pipeline.failure is None
        assert other.recv(10) == b"MAIL FROM:"


def test_the_sockets_timeout_is_as_before(run: Run) -> None:
    for timeout in (None, 3.5):
        with socket_pair() as (sock, other), in_thread(lambda other=other: serve(Host(), other)):  # type: ignore[misc]
            sock.settimeout(timeout)
            client = Client()
            client.push(0)
            run(client, sock)
            assert sock.gettimeout() == timeout
            sock.close()


def test_a_reply_before_the_transaction(run: Run) -> None:
    """Whatever the server says unasked is seen before anything is sent."""
    client = Client()
    with socket_pair() as (sock, other):
        other.sendall(b"421 4.3.2 shutting down\r\n")
        client.push(0)
        run(client, sock)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
    assert isinstance(client.pipeline.failure, SessionClosed)
    assert client.told() == [(0, Stage.LOST)]


def test_a_surplus_reply(run: Run) -> None:
    client = Client()
    with socket_pair() as (sock, other):
        other.sendall(b"250 for nobody\r\n")
        client.push(0)
        run(client, sock)
    assert isinstance(client.pipeline.failure, ReplyUnexpected)
    assert client.told() == [(0, Stage.LOST)]


# What was received before, by another reader of the connection


def test_what_was_received_before_is_booked_first() -> None:
    client = Client()
    client.replies.feed(b"421 bye\r\n")
    client.push(0)
    with socket_pair() as (sock, other):
        transactions.run(client.pipeline, client.replies, sock, 0, PATIENT)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
    assert isinstance(client.pipeline.failure, SessionClosed)


# The end


def test_the_server_closes(run: Run) -> None:
    client = Client()
    with socket_pair() as (sock, other), in_thread(lambda: serve(Host(message=None), other)):
        client.push(0)
        client.push(1)
        run(client, sock)
    # What it was sent behind the message is not answered either, and has no message in it.
    assert client.told() == [(0, Stage.IN_DOUBT), (1, Stage.LOST)]
    assert client.pipeline.failure is not None


def test_end_of_the_stream(run: Run) -> None:
    client = Client()
    with socket_pair() as (sock, other):
        other.shutdown(socket.SHUT_WR)
        client.push(0)
        run(client, sock)
    assert isinstance(client.pipeline.failure, EOFError)


def test_what_it_said_before_it_closed_is_read(run: Run) -> None:
    """Also where it no longer takes what is sent."""
    client = Client(Mode.CHUNKING)
    with socket_pair() as (sock, other):
        # Pushed and begun, so that the driver writes first.
        client.push(0, b"x\r\n" * 1_000_000)
        run(client, sock, seconds=0)
        other.sendall(b"421 go away\r\n")
        other.close()
        run(client, sock)
    assert isinstance(client.pipeline.failure, SessionClosed)


def test_reset(run: Run) -> None:
    client = Client()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as sock,
    ):
        other, _ = listener.accept()
        client.push(0)
        run(client, sock, seconds=0)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        run(client, sock)
    assert isinstance(client.pipeline.failure, ConnectionResetError)
    assert client.told() == [(0, Stage.LOST)]


def test_a_socket_that_is_closed() -> None:
    client = Client()
    client.push(0)
    with socket_pair() as (sock, _):
        sock.close()
        transactions.run(client.pipeline, client.replies, sock, 0, PATIENT)
    assert isinstance(client.pipeline.failure, OSError)


# Time limits


SHORT = 0.05


def spent(run: Run, client: Client, sock: socket.socket, allowed: Limits) -> float:
    begun = time.monotonic()
    run(client, sock, 0, allowed)
    return time.monotonic() - begun


@pytest.mark.parametrize("idle", [None, SHORT])
def test_a_server_that_says_nothing(run: Run, idle: float | None) -> None:
    client = Client()
    client.push(0)
    phase = DEADLINE if idle is not None else SHORT
    with socket_pair() as (sock, _):
        seconds = spent(run, client, sock, Limits((phase, *[DEADLINE] * 5), idle))
    assert SHORT <= seconds < DEADLINE / 2
    assert isinstance(client.pipeline.failure, TimeoutError)
    assert str(client.pipeline.failure) == limits.NO_PROGRESS % SHORT
    assert client.told() == [(0, Stage.LOST)]


@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.name.lower())
def test_each_phase_has_a_limit(run: Run, phase: Phase) -> None:
    """The others have time."""
    client = Client(proved=phase != Phase.PROBE)
    client.push(0, b"x\r\n" * (1_000_000 if phase == Phase.BLOCK else 1))
    allowed = [DEADLINE] * len(Phase)
    allowed[phase] = SHORT
    with socket_pair(buffer=1024) as (sock, other):
        run(client, sock, seconds=0)
        if phase != Phase.COMMAND:
            other.sendall(b"250 ok\r\n250 ok\r\n")
        if phase not in (Phase.COMMAND, Phase.DATA):
            other.sendall(b"354 go\r\n")
        if phase in (Phase.PROBE, Phase.EARLY):
            client.push(1)
            run(client, sock, seconds=SHORT)
            other.sendall(b"250 queued\r\n")
        seconds = spent(run, client, sock, Limits(tuple(allowed), None))
    assert SHORT <= seconds < DEADLINE / 2
    assert isinstance(client.pipeline.failure, TimeoutError)
    if phase in (Phase.PROBE, Phase.EARLY):
        assert client.told() == [(0, Stage.CONTENT), (1, Stage.LOST)]
        assert client.pipeline.limit == Step.WHOLE
        return
    assert client.told() == [(0, Stage.IN_DOUBT if phase == Phase.CONTENT else Stage.LOST)]


@pytest.mark.parametrize("round_trips", [0, 3])
def test_slow_servers_get_round_trips_for_what_was_sent_early(run: Run, round_trips: int) -> None:
    """Whatever runs the connection, the number is that of the limits."""
    client = Client(proved=False)
    for number in range(2):
        client.push(number)

    def slowly(other: socket.socket) -> None:
        assert other.recv(1000).endswith(b"DATA\r\n")
        time.sleep(SHORT)
        other.sendall(b"250 ok\r\n250 ok\r\n354 go\r\n")
        assert other.recv(1000).endswith(b"RSET\r\n")
        other.sendall(b"250 queued\r\n")

    phases = [DEADLINE] * len(Phase)
    phases[Phase.PROBE] = SHORT
    with socket_pair() as (sock, other), in_thread(lambda: slowly(other)):
        run(client, sock, 0, Limits(tuple(phases), None, round_trips))
    assert isinstance(client.pipeline.failure, TimeoutError)
    told, _, _ = limits.NO_PROGRESS.partition("%g")
    seconds = float(str(client.pipeline.failure).removeprefix(told).split()[0])
    if round_trips == 0:
        assert seconds == SHORT
    else:
        # It may have begun to sleep a moment before the client's clock started.
        assert (1 + round_trips / 2) * SHORT <= seconds < DEADLINE


def test_a_dribbling_server(run: Run) -> None:
    """An byte now and then is progress, up to the limit of the phase."""
    client = Client()
    client.push(0)
    stop = time.monotonic() + DEADLINE

    def dribble(other: socket.socket) -> None:
        other.settimeout(DEADLINE)
        other.recv(1000)
        with contextlib.suppress(OSError):
            while time.monotonic() < stop:
                other.sendall(b"2")
                time.sleep(SHORT / 10)

    with socket_pair() as (sock, other), in_thread(lambda: dribble(other)):
        allowed = Limits((4 * SHORT, *[DEADLINE] * 5), 2 * SHORT)
        seconds = spent(run, client, sock, allowed)
        sock.close()
    assert 4 * SHORT <= seconds < DEADLINE / 2
    assert isinstance(client.pipeline.failure, TimeoutError)
    assert str(client.pipeline.failure) == limits.NO_PROGRESS % (4 * SHORT)


@pytest.mark.parametrize("pumping", [by_poll, by_short_wait])
def test_what_came_while_the_process_was_stopped_is_in_time(
    pumping: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that is over is no verdict on replies that wait to be read."""
    client = Client()
    client.push(0)
    pipeline = client.pipeline
    seconds = 0.0

    class Stopped:
        """Another pipeline, where the process is stopped once a reply has come."""

        def __getattr__(self, name: str) -> Any:
            return getattr(pipeline, name)

        def __len__(self) -> int:
            return len(pipeline)

        def want(self) -> int:
            nonlocal seconds
            if pipeline.booked == 1 and seconds == 0:
                seconds = 2 * DEADLINE
                other.sendall(b"250 ok\r\n354 go\r\n")
            return pipeline.want()

    def answer() -> None:
        for end in (b"DATA\r\n", b"\r\n.\r\n"):
            data = b""
            while not data.endswith(end):
                data += other.recv(1000)
            other.sendall(b"250 ok\r\n")

    client.pipeline = Stopped()  # type: ignore[assignment]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds)
    monkeypatch.setattr("csmtplib.drive.pump.time", clock)
    with socket_pair() as (sock, other), in_thread(answer):
        pumping(client, sock, allowed=PATIENT)
    assert pipeline.failure is None
    assert pipeline.booked == 4


def test_each_reply_has_time_of_its_own(run: Run) -> None:
    """Ten take longer together than one may."""
    client = Client()
    client.push(0, recipients=8)
    pause = SHORT / 2
    host = Host()

    def slowly(other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := other.recv(1000):
                for line in host.take(data).splitlines(keepends=True):
                    time.sleep(pause)
                    other.sendall(line)

    with socket_pair() as (sock, other), in_thread(lambda: slowly(other)):
        seconds = spent(run, client, sock, Limits((4 * pause,) * 6, None))
        sock.close()
    assert client.pipeline.failure is None
    assert seconds > 8 * pause
    assert client.told() == [(0, OK)]


def test_each_block_has_time_of_its_own(run: Run) -> None:
    client = Client(Mode.CHUNKING)
    text = b"x\r\n" * 100_000
    client.push(0, text)
    host = Host()
    # More than the timers of TCP take, which stands in for unix sockets on some systems.
    block = 8 * SHORT
    with (
        socket_pair(buffer=1024) as (sock, other),
        in_thread(lambda: serve(host, other, size=8192, pause=SHORT / 2)),
    ):
        seconds = spent(run, client, sock, Limits((DEADLINE, SHORT, block, *[DEADLINE] * 3), None))
        sock.close()
    assert client.pipeline.failure is None
    assert seconds > block
    assert host.texts == [text]


# TLS


@contextlib.contextmanager
def tls_pair(
    serve_it: Callable[[ssl.SSLSocket], None], buffer: int = 4096
) -> Iterator[ssl.SSLSocket]:
    client_context, server_context = tls_contexts()

    def run_server(plain: socket.socket) -> None:
        with server_context.wrap_socket(plain, server_side=True) as other:
            serve_it(other)

    with (
        socket_pair(buffer=buffer) as (plain, other),
        in_thread(lambda: run_server(other)),
        client_context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        yield sock


@pytest.mark.parametrize("run", [by_poll, by_short_wait])
@pytest.mark.parametrize("mode", [Mode.PIPELINING, Mode.CHUNKING])
@pytest.mark.parametrize("size", [1000, 1 << 16])
def test_tls_and_a_peer_that_does_not_read_until_its_replies_are_read(
    run: Run,
    mode: Mode,
    size: int,
) -> None:
    text = (b"x" * 998 + b"\r\n") * 100
    host = Host(message="250 " + "y" * 500, rcpt="250 " + "z" * 500)
    client = Client(mode)
    with tls_pair(lambda other: serve(host, other, size=size)) as sock:
        for number in range(20):
            client.push(number, text, recipients=3)
        run(client, sock)
    assert client.pipeline.failure is None
    assert client.told() == [(number, OK) for number in range(20)]
    assert host.texts == [text] * 20


@pytest.mark.parametrize("run", [by_poll, by_short_wait])
def test_tls_while_the_pipeline_grows(run: Run) -> None:
    """The data of a write is longer when it is tried again."""
    host = Host()
    client = Client(Mode.CHUNKING)
    texts = [b"%d" % number + b"x" * 900 + b"\r\n" for number in range(200)]
    with tls_pair(lambda other: serve(host, other, size=4096, pause=0.001)) as sock:
        for number, text in enumerate(texts):
            client.push(number, text)
            run(client, sock, seconds=0)
        run(client, sock)
    assert client.pipeline.failure is None
    assert client.told() == [(number, OK) for number in range(200)]
    assert host.texts == texts


@pytest.mark.parametrize("run", [by_poll, by_short_wait])
def test_tls_answer_to_a_record_that_was_tried_with_less_behind_it(run: Run) -> None:
    """The server has the first message, and the driver waits for the second to leave."""
    host = Host()
    client = Client(Mode.CHUNKING)
    texts = [b"a" * 998 + b"\r\n", b"b" * 998 + b"\r\n"]

    def hesitate(other: ssl.SSLSocket) -> None:
        time.sleep(0.2)
        data = b""
        while not data.endswith(texts[0]):
            data += other.recv(1 << 16)
        other.sendall(host.take(data))
        time.sleep(0.2)
        serve(host, other)

    with tls_pair(hesitate, buffer=1024) as sock:
        client.push(0, texts[0] * 6)
        run(client, sock, seconds=0)
        client.push(1, texts[1] * 100)
        run(client, sock, seconds=0)
        run(client, sock)
    assert client.pipeline.failure is None
    assert client.told() == [(0, OK), (1, OK)]
    assert host.texts == [texts[0] * 6, texts[1] * 100]


@pytest.mark.parametrize("run", [by_poll, by_short_wait])
def test_tls_holds_more_than_is_read_at_once(run: Run) -> None:
    """One record of 16 KiB is deciphered at once, and the descriptor has nothing to say then."""
    said = [b"250-%s\r\n" % (b"z" * 500)] * 31 + [b"250 ok\r\n"]
    client = Client(Mode.SEQUENTIAL)
    client.push(0)

    def talk(other: ssl.SSLSocket) -> None:
        assert other.recv(100).startswith(b"MAIL")
        other.sendall(b"".join(said))
        assert other.recv(100).startswith(b"RCPT")
        other.sendall(b"".join(said))
        other.recv(100)

    begun = time.monotonic()
    with tls_pair(talk) as sock:
        run(client, sock, 0, Limits((1.0, 1.0, 0.5, 1.0, 1.0, 1.0), 1.0))
    assert time.monotonic() - begun < DEADLINE / 2
    assert client.pipeline.booked == 2


@pytest.mark.parametrize("run", [by_poll, by_short_wait])
def test_tls_time_limit(run: Run) -> None:
    client = Client()
    client.push(0)

    def be_silent(other: ssl.SSLSocket) -> None:
        while other.recv(1000):
            pass

    with tls_pair(be_silent) as sock:
        seconds = spent(run, client, sock, Limits((SHORT, *[DEADLINE] * 5), None))
    assert SHORT <= seconds < DEADLINE / 2
    assert isinstance(client.pipeline.failure, TimeoutError)


# Sockets of other makes


class Wrapper:
    """As little as is asked of a socket; what is sent goes in small pieces."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes) -> int:
        return self._sock.send(data[:100])

    def recv(self, size: int) -> bytes:
        return self._sock.recv(min(size, 7))

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def gettimeout(self) -> float | None:
        return self._sock.gettimeout()

    def fileno(self) -> int:
        return self._sock.fileno()


@pytest.mark.parametrize("mode", [Mode.PIPELINING, Mode.CHUNKING])
def test_a_socket_of_another_make(mode: Mode) -> None:
    host = Host()
    client = Client(mode)
    with socket_pair(buffer=1024) as (sock, other), in_thread(lambda: serve(host, other, size=50)):
        for number in range(10):
            client.push(number, b"text\r\n" * 100)
        transactions.run(client.pipeline, client.replies, Wrapper(sock), 0, PATIENT)
        sock.close()
    assert client.told() == [(number, OK) for number in range(10)]
    assert host.texts == [b"text\r\n" * 100] * 10


def test_a_socket_that_says_by_zero_that_it_would_have_to_wait() -> None:
    """As gevent's do over TLS. It has written nothing then, and time goes on."""

    class Blocked(Wrapper):
        calls = 0

        def send(self, data: bytes) -> int:
            self.calls += 1
            assert self.calls < 10_000, "it is asked again and again, without a wait"
            return 0

    client = Client()
    client.push(0)
    allowed = Limits((SHORT,) * 6, SHORT)
    with socket_pair() as (sock, _):
        transactions.run(client.pipeline, client.replies, Blocked(sock), 0, allowed)
    assert isinstance(client.pipeline.failure, TimeoutError)


@pytest.mark.skipif(not HAS_POLL, reason="there is no poll() to do without")
def test_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems that have select() alone."""
    import select

    monkeypatch.delattr(select, "poll")
    host = Host()
    client = Client()
    with socket_pair(buffer=1024) as (sock, other), in_thread(lambda: serve(host, other)):
        client.push(0, b"text\r\n" * 10_000)
        by_poll(client, sock)
        sock.close()
    assert client.told() == [(0, OK)]


# Interrupts


class Interrupting:
    """A socket that hands over what it is given, and then has somebody interrupt."""

    def __init__(self, sock: Any, at: int, error: BaseException) -> None:
        self.sock = sock
        self.left = at
        self.error = error

    def send(self, data: bytes) -> int:
        """Sends; raises behind the send that counts, when all has left."""
        count: int = self.sock.send(data)
        self.left -= 1
        if self.left == 0:
            raise self.error
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


@pytest.mark.parametrize("poll", [True, False])
@pytest.mark.parametrize(
    ("error", "at", "stage"),
    [
        (KeyboardInterrupt(), 1, Stage.LOST),
        (KeyboardInterrupt(), 2, Stage.IN_DOUBT),
        # As a handler of SIGALRM raises it. For the pump that is the connection's failure.
        (TimeoutError("too long"), 2, Stage.IN_DOUBT),
        # The system says that it took nothing: this is not the stream's end that has left.
        (ConnectionResetError(104, "reset"), 2, Stage.LOST),
    ],
)
def test_interrupted_between_the_send_and_its_count(
    poll: bool, error: BaseException, at: int, stage: Stage
) -> None:
    """T1: SIGINT between sock.send() and pipeline.wrote() lost the count, and the message that the
    server has was told as deferred, or sent again."""
    client = Client()
    client.push(0)
    allowed = Limits((1.0,) * 4, None)
    with socket_pair() as (sock, other), in_thread(lambda: serve(Host(), other)):
        stopped = Interrupting(sock, at, error)
        with contextlib.suppress(KeyboardInterrupt):
            pump(client.pipeline, client.replies, stopped, 0, allowed, seconds=None, can_poll=poll)
        client.pipeline.lose(InterruptedError("interrupted"))
        sock.close()
    assert client.told() == [(0, stage)]


def test_what_could_not_be_written_has_not_left() -> None:
    """T1: a send that would have to wait has taken nothing."""
    client = Client(Mode.CHUNKING)
    client.push(0, b"x\r\n" * 2000)
    with socket_pair(buffer=1024) as (sock, _):
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(b"filled\r\n" * 1000)
        by_poll(client, sock, seconds=0)
    client.pipeline.lose(InterruptedError("interrupted"))
    assert client.told() == [(0, Stage.LOST)]


@pytest.mark.parametrize("call", ["send", "recv"])
def test_who_was_interrupted_at_work_is_lost(call: str) -> None:
    """T1: bytes may have left, or a reply may have come and gone with the exception, and those
    behind it would answer other commands."""
    client = Client()
    client.push(0)
    with socket_pair() as (sock, other), socket_pair() as (wake, _):
        one = Pump(client.pipeline, client.replies, sock, PATIENT, can_poll=True)
        pump_together([one], [0], 0.0, wake)
        other.sendall(b"250 ok\r\n250 ok\r\n354 go\r\n")

        class Raising:
            def __getattr__(self, name: str) -> Any:
                if name == call:
                    raise KeyboardInterrupt
                return getattr(sock, name)

        one.sock = Raising()
        with pytest.raises(KeyboardInterrupt):
            pump_together([one], [0], 1.0, wake)
        one.sock = sock
        pump_together([one], [0], 0.0, wake)
    assert isinstance(client.pipeline.failure, InterruptedError)
    assert client.told() == [(0, Stage.IN_DOUBT if call == "send" else Stage.LOST)]
