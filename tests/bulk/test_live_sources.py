"""bulk/driver.py: what a BulkSender does while its iterable has nothing to give (T11).

What was handed over is sent and recorded meanwhile; results are yielded when the iterable has an
answer.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from csmtplib.bulk import Delivery, Job, Journal, JournalError
from csmtplib.bulk.job_queue import JobQueue
from csmtplib.bulk.journal_view import JournalView
from csmtplib.protocol.outcome import State

from ..drive.test_background import our_threads, until
from ..interrupting import interrupt
from ..requirements import needs_signals
from .servers.throttling import ThrottlingServer
from .test_sender import all_once, job, jobs, send, sender, states

# Longer than any turn of the other thread that has nothing to do.
IDLE = 0.6

every_way = pytest.mark.parametrize(
    ("pipelining", "chunking"),
    [(False, False), (True, False), (True, True)],
    ids=["sequential", "data", "chunking"],
)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    # What an interrupt has left of a run, in another test, ends when it is collected.
    gc.collect()
    yield
    assert until(lambda: not our_threads())


def tell(results: Iterable[Delivery], told: list[Delivery]) -> None:
    """Takes results, and whatever ends them."""
    told += results


def counts(path: Path) -> dict[str, int]:
    """Return what another process would find in the journal now."""
    with JournalView(path) as view:
        return view.counts()


@every_way
@pytest.mark.parametrize("with_journal", [True, False], ids=["journal", "none"])
def test_what_was_given_arrives_while_the_iterable_waits(
    tmp_path: Path, pipelining: bool, chunking: bool, with_journal: bool
) -> None:
    """T11: the last messages given waited, half sent, for the next one, and their results with
    them."""
    server = ThrottlingServer(pipelining=pipelining, chunking=chunking)
    path = tmp_path / "j"

    def waiting() -> Iterator[Job]:
        yield from jobs(3)
        assert until(lambda: len(server.log.accepted) == 3)
        if with_journal:
            assert until(lambda: counts(path) == {"accepted": 3})
        yield job(3)
        # By now it is known as slow.
        assert until(lambda: len(server.log.accepted) == 4)

    with server:
        if with_journal:
            with Journal(path) as journal:
                told = send(sender(server, journal=journal), waiting())
        else:
            told = send(sender(server), waiting())
        assert all_once(server, 4)
    assert states(told) == {State.ACCEPTED: 4}


def test_the_iterable_is_asked_in_the_callers_thread() -> None:
    server = ThrottlingServer()
    threads = set()

    def waiting() -> Iterator[Job]:
        for number in range(4):
            threads.add(threading.current_thread())
            yield job(number)
            assert until(lambda: len(server.log.accepted) == number + 1)  # noqa: B023

    with server:
        assert states(send(sender(server), waiting())) == {State.ACCEPTED: 4}
    assert threads == {threading.current_thread()}


def test_what_was_deferred_is_tried_again_while_the_iterable_waits() -> None:
    server = ThrottlingServer(greylist_seconds=0.1)

    def waiting() -> Iterator[Job]:
        yield from jobs(3)
        assert until(lambda: len(server.log.accepted) == 3)

    with server:
        told = send(sender(server), waiting())
    assert states(told) == {State.ACCEPTED: 3}
    assert all(each.attempts > 1 for each in told)


@pytest.mark.parametrize("chunking", [True, False], ids=["chunking", "data"])
def test_servers_that_give_up_while_the_iterable_waits(chunking: bool) -> None:
    """T11: what they say then is no answer to what comes next, which goes to a connection that is
    sound. Over several that have ended, a message was tried on one after the other, until that
    counted as a try."""
    server = ThrottlingServer(chunking=chunking, idle_seconds=0.2)

    def waiting() -> Iterator[Job]:
        for number in range(0, 60, 20):
            yield from map(job, range(number, number + 20))
            assert until(lambda: len(server.log.accepted) == number + 20)  # noqa: B023
            assert until(lambda: not server.open)

    with server:
        told = send(sender(server, connections=8), waiting())
        assert all_once(server, 60)
        # More than one had to be given up at once.
        assert len(server.log.connections) > 4
    assert states(told) == {State.ACCEPTED: 60}
    assert {each.attempts for each in told} == {1}


def test_a_first_message_opens_a_connection_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """T11: a turn was waited for the connection to be opened."""
    monkeypatch.setattr("csmtplib.bulk.run.TURN_SECONDS", 5.0)
    with ThrottlingServer() as server:
        began = time.monotonic()
        told = send(sender(server), iter([job(0)]))
        assert time.monotonic() - began < 4.0
    assert states(told) == {State.ACCEPTED: 1}


# The end before its time


def test_an_iterable_that_raises_when_it_has_waited(tmp_path: Path) -> None:
    server = ThrottlingServer()

    def failing() -> Iterator[Job]:
        yield from jobs(3)
        assert until(lambda: len(server.log.accepted) == 3)
        raise ZeroDivisionError("of the iterable")

    told: list[Delivery] = []
    with (
        server,
        Journal(tmp_path / "j") as journal,
        sender(server, journal=journal) as using,
        pytest.raises(ZeroDivisionError, match="of the iterable"),
    ):
        tell(using.send(failing()), told)
    assert states(told) == {State.ACCEPTED: 3}
    assert counts(tmp_path / "j") == {"accepted": 3}


@needs_signals
def test_ctrl_c_while_the_iterable_waits(tmp_path: Path) -> None:
    server = ThrottlingServer()

    def waiting() -> Iterator[Job]:
        yield from jobs(3)
        assert until(lambda: len(server.log.accepted) == 3)
        interrupt()
        while True:
            time.sleep(0.01)

    told: list[Delivery] = []
    with (
        server,
        Journal(tmp_path / "j") as journal,
        sender(server, journal=journal) as using,
        pytest.raises(KeyboardInterrupt),
    ):
        tell(using.send(waiting()), told)
    assert states(told) == {State.ACCEPTED: 3}
    assert counts(tmp_path / "j") == {"accepted": 3}


def test_a_journal_that_fails_while_the_iterable_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised as soon as the iterable has an answer, and nothing is sent meanwhile."""
    failed = threading.Event()

    def fail(*arguments: Any, **named: Any) -> None:
        failed.set()
        raise JournalError("the disk is gone")

    server = ThrottlingServer()

    def waiting() -> Iterator[Job]:
        yield job(0)
        assert until(lambda: counts(tmp_path / "j") == {"accepted": 1})
        monkeypatch.setattr(journal, "write", fail)
        yield job(1)
        assert failed.wait(10)
        time.sleep(0.05)
        yield job(2)
        raise AssertionError("asked for more")

    with (
        server,
        Journal(tmp_path / "j") as journal,
        sender(server, journal=journal) as using,
        pytest.raises(JournalError, match="the disk is gone"),
    ):
        list(using.send(waiting()))
    assert server.log.deliveries() == Counter(["b0@y.test"])


def test_a_stop_while_the_iterable_waits() -> None:
    """Messages in progress finish; what the iterable then gives stays queued."""
    server = ThrottlingServer()

    def waiting() -> Iterator[Job]:
        yield job(0)
        assert until(lambda: len(server.log.accepted) == 1)
        using.stop("enough")
        assert until(lambda: using.status.stopped == "enough")
        yield job(1)
        raise AssertionError("asked for more")

    with server, sender(server) as using:
        told = list(using.send(waiting()))
    assert [(each.state, each.attempts) for each in told] == [
        (State.ACCEPTED, 1),
        (State.DEFERRED, 0),
    ]
    assert server.log.deliveries() == Counter(["b0@y.test"])


def test_leaving_the_loop() -> None:
    """While the other thread could have the connections."""
    server = ThrottlingServer()

    def waiting() -> Iterator[Job]:
        for number in range(10):
            yield job(number)
            assert until(lambda: len(server.log.accepted) > number)  # noqa: B023

    with server, sender(server) as using:
        results = using.send(waiting())
        assert next(results).state is State.ACCEPTED
        results.close()
        assert using.status.stopped is not None
    assert len(server.log.accepted) < 10


def test_the_caller_may_take_his_time(tmp_path: Path) -> None:
    """Who has a result has everything to himself, and connections are there when he returns."""
    server = ThrottlingServer()

    def waiting() -> Iterator[Job]:
        for number in range(3):
            yield job(number)
            assert until(lambda: len(server.log.accepted) > number)  # noqa: B023

    with server, sender(server) as using:
        for each in using.send(waiting()):
            assert each.state is State.ACCEPTED
            assert until(lambda: not our_threads())
    assert all_once(server, 3)


def test_an_iterable_that_waits_long_costs_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nothing to do, nothing goes round."""
    server = ThrottlingServer()
    turns = 0

    def waiting() -> Iterator[Job]:
        nonlocal turns
        yield job(0)
        assert until(lambda: len(server.log.accepted) == 1)
        time.sleep(0.1)
        before = turns
        time.sleep(IDLE)
        turns -= before

    with server, sender(server) as using:
        prepare = JobQueue.prepare

        def counted(*arguments: Any, **named: Any) -> None:
            nonlocal turns
            turns += 1
            prepare(*arguments, **named)

        monkeypatch.setattr(JobQueue, "prepare", counted)
        told = list(using.send(waiting()))
    assert states(told) == {State.ACCEPTED: 1}
    assert turns < 10
