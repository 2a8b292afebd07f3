"""drive/background.py: who has the connections while the caller's iterable is asked for more."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from textwrap import dedent

import pytest

import csmtplib
from csmtplib.drive import background
from csmtplib.drive.background import Source, Wake

from ..interrupting import ByStep, interrupt
from ..requirements import needs_fork, needs_reference_counts, needs_signals
from .talking import DEADLINE

QUICK = 100


def our_threads() -> list[threading.Thread]:
    # An interrupt in the middle of Thread.start() may leave one that never begins.
    threads = [each for each in threading.enumerate() if each.is_alive()]
    return [each for each in threads if each.name == background.THREAD]


def until(condition: Callable[[], object]) -> bool:
    """Whether it comes to be so."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    gc.collect()
    assert until(lambda: not our_threads())
    yield
    assert until(lambda: not our_threads())


@pytest.fixture(params=[False, True], ids=["gil", "no-gil"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what a Python without the GIL needs, and without it."""
    monkeypatch.setattr(background, "_HAS_NO_GIL", background._HAS_NO_GIL or request.param)


class Connections:
    """Connections to be driven: for so many turns before an item, each until it is woken."""

    def __init__(self, turns: int = 1_000_000) -> None:
        self.driven = threading.Event()
        self.threads: set[threading.Thread] = set()
        self.count = 0
        self.is_in_use = False
        self._turns = turns

    def drive(self, wake: Wake) -> bool:
        assert not self.is_in_use
        self.is_in_use = True
        self.count += 1
        self.threads.add(threading.current_thread())
        self.driven.set()
        wake.wait(0.05)
        self.is_in_use = False
        return self.count % self._turns != 0

    def slow(self, count: int = 1) -> Iterator[int]:
        """An iterable each of whose items waits until there was driving meanwhile."""
        for number in range(count):
            self.driven.clear()
            assert self.driven.wait(DEADLINE), "nobody drives"
            yield number


def take_all(source: Source) -> list[object]:
    taken: list[object] = []
    try:
        while True:
            taken.append(source.take())
    except StopIteration:
        return taken
    finally:
        source.close()


def test_another_thread_drives_while_an_item_is_waited_for(way: None) -> None:
    """T11"""
    connections = Connections()
    assert take_all(Source(connections.slow(3), connections.drive)) == [0, 1, 2]
    assert threading.current_thread() not in connections.threads
    assert not connections.is_in_use


@pytest.mark.parametrize("quick", [0, 1, QUICK])
def test_an_item_may_become_slow_without_notice(quick: int, way: None) -> None:
    connections = Connections()

    def items() -> Iterator[int]:
        yield from range(quick)
        yield from connections.slow()

    assert len(take_all(Source(items(), connections.drive))) == quick + 1


def test_items_of_a_collection_need_no_thread() -> None:
    started = threading.active_count()
    for items in ([1, 2], (1, 2), {1: 1, 2: 2}, {1, 2}, {1: 1, 2: 2}.values()):
        source = Source(items, Connections().drive)
        assert source.take() == 1
        assert threading.active_count() == started
        assert take_all(source) == [2]


def test_whether_an_item_was_slow() -> None:
    connections = Connections()

    def items() -> Iterator[int]:
        yield 1
        yield from connections.slow()
        yield 2

    source = Source(items(), connections.drive)
    source.at = time.monotonic()
    for expected in (False, True):
        source.take()
        # A machine that is busy may be slow by itself.
        assert source.is_slow or not expected
    source.close()


def test_they_never_have_the_connections_at_the_same_time(way: None) -> None:
    """Items of all lengths, around those of the other thread's clock."""
    connections = Connections()
    lengths = random.Random(11)

    def items() -> Iterator[int]:
        for number in range(150):
            time.sleep(lengths.choice([0, 0, 0.0005, 0.002, 0.014, 0.016, 0.03]))
            yield number

    source = Source(items(), connections.drive)
    for number in range(150):
        assert source.take() == number
        for _ in range(3):
            assert not connections.is_in_use
            time.sleep(lengths.choice([0, 0.0001, 0.001]))
    source.close()
    assert connections.count > 10


def test_nothing_more_to_do_before_the_item() -> None:
    connections = Connections(turns=1)

    def items() -> Iterator[int]:
        for number in range(3):
            assert until(lambda: connections.count == number + 1)  # noqa: B023
            time.sleep(4 * background._TICK)
            yield number

    source = Source(items(), connections.drive)
    assert [source.take() for _ in range(3)] == [0, 1, 2]
    assert connections.count == 3
    source.close()


def test_a_thread_without_work_ends_and_another_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_LINGER", 0.03)
    connections = Connections(turns=1)

    def items() -> Iterator[int]:
        for number in range(1, 4):
            assert until(lambda: connections.count == number)  # noqa: B023
            # Nothing is left to do, and this one takes for ever.
            assert until(lambda: not our_threads())
            yield number

    source = Source(items(), connections.drive)
    assert [source.take(), source.take()] == [1, 2]
    # Who takes what was given does something else, for ever.
    assert until(lambda: not our_threads())
    assert source.take() == 3
    source.close()
    assert len(connections.threads) == 3


def test_a_thread_serves_one_source_after_another() -> None:
    threads = set()
    for _ in range(5):
        connections = Connections()
        take_all(Source(connections.slow(2), connections.drive))
        threads |= connections.threads
    assert len(threads) == 1


class Failure(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, Failure])
def test_what_the_iterable_raises(error: type[BaseException], way: None) -> None:
    connections = Connections()

    def items() -> Iterator[int]:
        yield from connections.slow(2)
        connections.driven.clear()
        connections.driven.wait(DEADLINE)
        raise error

    source = Source(items(), connections.drive)
    source.take()
    source.take()
    with pytest.raises(error):
        source.take()
    assert not connections.is_in_use
    source.close()
    source.close()
    count = connections.count
    time.sleep(3 * background._TICK)
    assert connections.count == count


@needs_signals
def test_ctrl_c_while_an_item_is_waited_for() -> None:
    connections = Connections()

    def items() -> Iterator[int]:
        yield from connections.slow()
        interrupt()
        while True:
            time.sleep(0.01)

    source = Source(items(), connections.drive)
    source.take()
    with pytest.raises(KeyboardInterrupt):
        source.take()
    source.close()
    assert not connections.is_in_use


def test_an_interrupt_at_any_step(way: None) -> None:
    """Wherever it comes, the connections are the caller's when the source is closed."""
    for at in itertools.count(1):
        connections = Connections()
        source = Source(connections.slow(3), connections.drive)
        interrupter = ByStep(at, [background.__file__])
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            for _ in range(3):
                source.take()
        source.close()
        assert not connections.is_in_use
        count = connections.count
        time.sleep(0.001)
        assert connections.count == count
        if not interrupter.has_interrupted:
            break
    assert at > 30


def test_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> threading.Thread:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(background, "in_thread", refuse)
    connections = Connections()
    assert take_all(Source(iter(range(3)), connections.drive)) == [0, 1, 2]
    assert connections.count == 0


@needs_fork
def test_a_fork_while_the_other_thread_drives() -> None:
    """In the child there is no such thread, and nobody waits for it."""
    connections = Connections()
    codes: list[int] = []
    child = 0

    def items() -> Iterator[int]:
        nonlocal child
        yield from connections.slow()
        connections.driven.clear()
        assert connections.driven.wait(DEADLINE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        yield 1

    source = Source(items(), connections.drive)
    source.take()
    source.take()
    if child == 0:
        try:
            more: list[object] = take_all(Source(iter(range(3)), connections.drive))
            source.close()
            os._exit(0 if more == [0, 1, 2] else 1)
        finally:
            os._exit(2)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    source.close()
    assert codes == [0]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(code)],
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        capture_output=True,
        text=True,
        timeout=6 * DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


START = """
    import threading, time
    from csmtplib.drive.background import Source
    driven = threading.Event()

    def drive(wake):
        driven.set()
        wake.wait(0.5)
        return True

    def items():
        yield driven.wait()
        threading.Event().wait()

    source = Source(items(), drive)
"""


@needs_reference_counts
def test_nothing_is_kept_of_a_source_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other thread lives on, and a journal would have an owner as long as that."""
    connections = Connections()
    source = Source(connections.slow(3), connections.drive)
    for _ in range(3):
        source.take()
    with monkeypatch.context() as patch:
        patch.setattr(background, "_LINGER", 1000.0)
        source.close()
        closed = weakref.ref(source)
        del source
        assert until(lambda: closed() is None)


def test_the_end_of_the_process_while_a_source_is_kept() -> None:
    assert run(START + "    print(source.take())") == "True\n"


def test_the_end_of_the_process_while_an_item_is_waited_for() -> None:
    code = """
    def work():
        source.take()
        driven.clear()
        source.take()

    threading.Thread(target=work, daemon=True).start()
    driven.wait()
    time.sleep(0.05)
    driven.wait()
    print("over")
    """
    assert run(START + code) == "over\n"
