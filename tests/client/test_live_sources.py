"""client/streaming.py: what send_many() does while its iterable has nothing to give (T11).

Iterables wait for what the server has; where nobody sends meanwhile, that never comes.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import csmtplib
from csmtplib import SMTPServerDisconnected
from csmtplib.drive import background
from csmtplib.kernel.transaction import Mode
from csmtplib.protocol.outcome import State
from csmtplib.protocol.result import Result

from ..drive.test_background import our_threads, until
from ..interrupting import interrupt
from ..protocol.serving import Host
from ..requirements import needs_signals
from .conftest import MutualTLS
from .loopback import DEADLINE, Gate, Loopback
from .test_streaming import (
    OFFERS,
    ROOT,
    OverForeignSocket,
    connect,
    every_mode,
    message,
    messages,
    nothing_learned,
    one_by_one,
    states,
    tell,
)

__all__ = ["nothing_learned"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    # What an interrupt has left of a run, in another test, ends when it is collected.
    gc.collect()
    yield
    assert until(lambda: not our_threads())


class Counted:
    """An answer to messages, that tells when there were so many."""

    def __init__(self, count: int) -> None:
        self.complete = threading.Event()
        self._left = count

    def __call__(self, about: str) -> str:
        self._left -= 1
        if self._left == 0:
            self.complete.set()
        return "250 ok"


def connected(server: Loopback, make: str, tls: MutualTLS) -> Any:
    if make == "tls":
        return csmtplib.SMTP_SSL(
            *server.address,
            local_hostname="client.test",
            timeout=DEADLINE,
            context=tls.client(with_certificate=True),
        )
    if make == "foreign":
        return OverForeignSocket(*server.address, local_hostname="client.test", timeout=DEADLINE)
    return connect(server)


every_make = pytest.mark.parametrize("make", ["plain", "tls", "foreign"])


@every_mode
@every_make
def test_what_was_given_arrives_while_the_iterable_waits(
    mode: Mode, make: str, mutual_tls: MutualTLS
) -> None:
    """T11: the last messages given waited, half sent, for the next one."""
    counted = Counted(3)
    seen: list[bool] = []

    def waiting() -> Iterator[Any]:
        yield from messages(3)
        seen.append(counted.complete.wait(DEADLINE))
        yield message(3)

    host = Host(*OFFERS[mode], message=counted)
    tls = mutual_tls.server if make == "tls" else None
    with Loopback(host, tls=tls) as server, connected(server, make, mutual_tls) as smtp:
        assert states(list(smtp.send_many(waiting()))) == [State.ACCEPTED] * 4
        # The socket is as it was.
        assert smtp.sock.gettimeout() == DEADLINE
        assert smtp.noop()[0] == 250
    assert seen == [True]
    assert host.texts == [text for _, _, text in messages(4)]


@every_mode
@every_make
def test_a_queue_that_is_always_waited_for(mode: Mode, make: str, mutual_tls: MutualTLS) -> None:
    host = Host(*OFFERS[mode])

    def waiting() -> Iterator[Any]:
        for number in range(10):
            yield message(number)
            assert until(lambda: len(host.deliveries) == number + 1)  # noqa: B023

    tls = mutual_tls.server if make == "tls" else None
    with Loopback(host, tls=tls) as server, connected(server, make, mutual_tls) as smtp:
        assert states(list(smtp.send_many(waiting()))) == [State.ACCEPTED] * 10


def test_a_transaction_more_for_recipients_that_were_too_many() -> None:
    """Where several are sent for one message, all of them are while the iterable waits."""
    counted = Counted(3)
    seen: list[bool] = []

    def waiting() -> Iterator[Any]:
        yield message(0)
        yield "a@x", [f"{number}@x" for number in range(4)], b"text"
        seen.append(counted.complete.wait(DEADLINE))

    rcpt = ["250 ok", "250 ok", "250 ok", "452 4.5.3 too many", "452 4.5.3 too many", "250 ok"]
    host = Host(*OFFERS[Mode.PIPELINING], message=counted, rcpt=rcpt)
    with Loopback(host) as server, connect(server) as smtp:
        assert all(result.accepted for result in smtp.send_many(waiting()))
    assert seen == [True]


def test_a_connection_that_is_lost_meanwhile() -> None:
    """It is told of as soon as the iterable has an answer, and what it gives is not lost."""
    closed = threading.Event()

    def answer(about: str) -> str | None:
        if about.startswith("2"):
            closed.set()
            return None
        return "250 ok"

    def waiting() -> Iterator[Any]:
        yield from messages(3)
        assert closed.wait(DEADLINE)
        time.sleep(2 * background._TICK)
        yield message(3)

    told: list[Result] = []
    with Loopback(Host(*OFFERS[Mode.PIPELINING], message=answer)) as server:
        smtp = connect(server)
        with pytest.raises(SMTPServerDisconnected):
            tell(smtp.send_many(waiting()), told)
    expected = [State.ACCEPTED, State.ACCEPTED, State.IN_DOUBT, State.DEFERRED]
    assert states(told) == expected


def test_a_server_that_falls_silent_meanwhile() -> None:
    """Its time limit passes while the iterable waits: then nothing is left to do."""
    gate = Gate()

    def waiting() -> Iterator[Any]:
        yield from messages(2)
        assert gate.reached.wait(DEADLINE)
        assert our_threads()
        assert until(lambda: not our_threads())
        gate.opened.set()

    told: list[Result] = []
    with Loopback(Host(message=one_by_one(gate, 1))) as server:
        smtp = connect(server, timeout=0.2)
        with pytest.raises(SMTPServerDisconnected, match="timed out"):
            tell(smtp.send_many(waiting()), told)
    assert states(told) == [State.ACCEPTED, State.IN_DOUBT]


class GivingUp(Host):
    """Says something that nobody has asked for, when it has had some messages and may go on."""

    def __init__(self, said: str, after: int, *extensions: str) -> None:
        super().__init__(*extensions)
        self.may_go_on = threading.Event()
        self.gave_up = threading.Event()
        self._said = said
        self._after = after

    def answers(self, data: bytes) -> Iterator[bytes]:
        yield from super().answers(data)
        if len(self.deliveries) == self._after and not self.gave_up.is_set():
            assert self.may_go_on.wait(DEADLINE)
            yield f"{self._said}\r\n".encode()
            self.gave_up.set()

    def give_up(self) -> None:
        """Let it do so once the client has nothing to do."""
        assert until(lambda: len(self.deliveries) == self._after)
        time.sleep(2 * background._TICK)
        self.may_go_on.set()
        assert self.gave_up.wait(DEADLINE)
        time.sleep(2 * background._TICK)


@every_mode
@pytest.mark.parametrize("said", ["554 5.4.2 idle", "421 4.4.2 idle", "250 idle"])
def test_a_reply_that_nobody_asked_for(mode: Mode, said: str) -> None:
    """T11: while the iterable waits, an idle server gives up. That is no answer to what comes next,
    nor to what went before."""
    host = GivingUp(said, 3, *OFFERS[mode])

    def waiting() -> Iterator[Any]:
        yield from messages(3)
        host.give_up()
        yield message(3)

    told: list[Result] = []
    with Loopback(host) as server:
        smtp = connect(server)
        with pytest.raises(SMTPServerDisconnected):
            tell(smtp.send_many(waiting()), told)
    assert states(told) == [State.ACCEPTED] * 3 + [State.DEFERRED]
    assert len(host.deliveries) == 3


# Whose the connection is meanwhile


@every_mode
def test_the_iterable_may_not_use_the_connection(mode: Mode) -> None:
    host = Host(*OFFERS[mode])

    def using() -> Iterator[Any]:
        for number in range(3):
            yield message(number)
            for use in (smtp.noop, smtp.quit, lambda: next(smtp.send_many(messages(1)))):
                with pytest.raises(RuntimeError, match="in use"):
                    use()
            assert until(lambda: len(host.deliveries) == number + 1)  # noqa: B023

    with Loopback(host) as server, connect(server) as smtp:
        assert states(list(smtp.send_many(using()))) == [State.ACCEPTED] * 3
        assert smtp.noop()[0] == 250
    assert "noop" in host.verbs


@every_mode
@every_make
def test_the_iterable_may_close_the_connection(
    mode: Mode, make: str, mutual_tls: MutualTLS
) -> None:
    """Under the other thread, which must not write into what is opened next."""
    host = Host(*OFFERS[mode])

    def closing() -> Iterator[Any]:
        yield from messages(3)
        assert until(lambda: len(host.deliveries) == 3)
        smtp.close()
        yield message(3)
        time.sleep(2 * background._TICK)
        yield message(4)

    told: list[Result] = []
    with Loopback(host, tls=mutual_tls.server if make == "tls" else None) as server:
        smtp = connected(server, make, mutual_tls)
        with pytest.raises(SMTPServerDisconnected):
            tell(smtp.send_many(closing()), told)
        assert smtp.sock is None
    # The reply to the last may have come too late to be read.
    assert set(states(told)[:3]) <= {State.ACCEPTED, State.IN_DOUBT}
    assert State.ACCEPTED not in states(told)[3:]
    assert len(host.deliveries) == 3


# The end before its time


@every_mode
def test_an_iterable_that_raises_when_it_has_waited(mode: Mode) -> None:
    counted = Counted(3)

    def failing() -> Iterator[Any]:
        yield from messages(3)
        assert counted.complete.wait(DEADLINE)
        raise ZeroDivisionError("of the iterable")

    told: list[Result] = []
    with Loopback(Host(*OFFERS[mode], message=counted)) as server, connect(server) as smtp:
        with pytest.raises(ZeroDivisionError, match="of the iterable"):
            tell(smtp.send_many(failing()), told)
        assert states(told) == [State.ACCEPTED] * 3
        assert smtp.noop()[0] == 250


@needs_signals
@every_mode
def test_ctrl_c_while_the_iterable_waits(mode: Mode) -> None:
    counted = Counted(3)

    def waiting() -> Iterator[Any]:
        yield from messages(3)
        assert counted.complete.wait(DEADLINE)
        interrupt()
        while True:
            time.sleep(0.01)

    told: list[Result] = []
    with Loopback(Host(*OFFERS[mode], message=counted)) as server, connect(server) as smtp:
        with pytest.raises(KeyboardInterrupt):
            tell(smtp.send_many(waiting()), told)
        assert smtp.noop()[0] == 250
    assert states(told) == [State.ACCEPTED] * 3


@every_mode
def test_leaving_the_loop(mode: Mode) -> None:
    """While the other thread could have the connection."""
    host = Host(*OFFERS[mode])

    def waiting() -> Iterator[Any]:
        for number in range(10):
            yield message(number)
            assert until(lambda: len(host.deliveries) > number)  # noqa: B023

    with Loopback(host) as server:
        smtp = connect(server)
        results = smtp.send_many(waiting())
        assert next(results).accepted
        results.close()  # type: ignore[attr-defined]
        assert smtp.sock is None


def test_a_loop_that_pauses_keeps_no_thread() -> None:
    """Who has a result has everything to himself."""
    host = Host(*OFFERS[Mode.CHUNKING])

    def waiting() -> Iterator[Any]:
        for number in range(4):
            yield message(number)
            assert until(lambda: len(host.deliveries) > number)  # noqa: B023

    with Loopback(host) as server, connect(server) as smtp:
        for result in smtp.send_many(waiting()):
            assert result.accepted
            assert until(lambda: not our_threads())
    assert len(host.deliveries) == 4


def test_an_audit_hook_that_raises_meanwhile() -> None:
    """It is asked in the other thread for what only that comes to send; what it raises is raised
    here."""
    code = """
import sys, threading, time
import csmtplib
from tests.client.loopback import Loopback
from tests.client.test_streaming import connect, message
from tests.protocol.serving import Host

refused = threading.Event()
main = threading.current_thread()

def hook(event, arguments):
    if event == "smtplib.send" and threading.current_thread().name == "csmtplib":
        refused.set()
        raise PermissionError("of the hook")

def waiting():
    yield message(0)
    yield "a@x", ["b@x", "c@x"], b"text"
    assert refused.wait(10)
    time.sleep(0.05)
    yield message(1)

sys.addaudithook(hook)
host = Host("PIPELINING", rcpt=["250 ok", "250 ok", "452 too many"])
with Loopback(host) as server:
    smtp = connect(server)
    try:
        for result in smtp.send_many(waiting()):
            print(result.outcomes[0].state.value)
    except PermissionError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=6 * DEADLINE,
    )
    assert done.stdout == "accepted\naccepted\ndeferred\nof the hook\n", done.stderr


# Green threads

GREEN = """
import {module}
{patch}
import sys
sys.path.insert(0, {root!r})
import csmtplib
from tests.client.loopback import Loopback
from tests.client.test_streaming import message
from tests.protocol.serving import Host

host = Host({extensions})

def waiting():
    for number in range(9):
        yield message(number)
        if number % 3 == 2:
            # The server is a green thread, and who sends meanwhile is another.
            for _ in range(5000):
                if len(host.deliveries) == number + 1:
                    break
                {sleep}(0.002)
            else:
                print("nobody sends")

with Loopback(host) as server:
    with csmtplib.SMTP(*server.address, local_hostname="client.test", timeout=10) as smtp:
        assert all(each.accepted for each in smtp.send_many(waiting()))
print(len(host.deliveries))
"""


@pytest.mark.parametrize("extensions", ["", "'PIPELINING'", "'PIPELINING', 'CHUNKING'"])
@pytest.mark.parametrize(
    ("module", "patch", "sleep"),
    [
        ("gevent.monkey", "gevent.monkey.patch_all()", "gevent.sleep"),
        ("eventlet", "eventlet.monkey_patch()", "eventlet.sleep"),
    ],
    ids=["gevent", "eventlet"],
)
def test_green_threads(module: str, patch: str, sleep: str, extensions: str) -> None:
    pytest.importorskip(module.partition(".")[0])
    code = GREEN.format(
        module=module, patch=patch, sleep=sleep, extensions=extensions, root=str(ROOT)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        capture_output=True,
        text=True,
        timeout=6 * DEADLINE,
    )
    assert (done.stdout, done.stderr) == ("9\n", "")
