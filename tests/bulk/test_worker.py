"""Worker of bulk/recorder.py, whose user may be interrupted at any time."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
from collections.abc import Callable
from functools import partial

from csmtplib.bulk import recorder
from csmtplib.bulk.recorder import Worker
from csmtplib.drive import background

from ..interrupting import LIBRARY, ByStep

DEADLINE = 20.0
FILES = (recorder.__file__, background.__file__, *LIBRARY)


def test_calls_come_one_after_the_other_and_tell_what_they_raise() -> None:
    done: list[int] = []
    woken = threading.Semaphore(0)

    def function() -> None:
        done.append(len(done))
        if len(done) == 2:
            raise LookupError("no")

    worker = Worker(function, woken.release)
    calls = [worker.call() for _ in range(3)]
    for call in calls:
        call.wait()
        call.wait()
    assert done == [0, 1, 2]
    assert [str(call.error) for call in calls] == ["None", "no", "None"]
    worker.close()
    for _ in range(3):
        assert woken.acquire(timeout=DEADLINE)


def test_closing_waits_for_the_calls_that_there_are() -> None:
    done: list[int] = []
    worker = Worker(lambda: done.append(1), lambda: None)
    for _ in range(5):
        worker.call()
    worker.close()
    assert len(done) == 5
    Worker(lambda: None, lambda: None).close()


def test_without_closing_the_thread_ends_with_the_worker() -> None:
    """An interrupt may come before close(), or in it."""
    worker = Worker(lambda: None, lambda: None)
    worker.call().wait()
    thread = worker._thread
    assert thread is not None
    del worker
    gc.collect()
    thread.join(DEADLINE)
    assert not thread.is_alive()


def ends(function: Callable[[], object]) -> bool:
    """Whether a call comes to its end."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    return not thread.is_alive()


def test_interrupted_at_each_step() -> None:
    """T3: a KeyboardInterrupt within the lock of an executor's queue left it held, and the run that
    should have recorded what it knew hung for ever."""
    for at in itertools.count(1):
        done: list[int] = []
        worker = Worker(partial(done.append, 1), lambda: None)
        worker.call().wait()
        interrupter = ByStep(at, FILES)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            worker.call().wait()
            worker.call().wait()
        before = len(done)
        assert ends(lambda worker=worker: worker.call().wait()), f"hangs after step {at}"  # type: ignore[misc]
        assert len(done) > before
        worker.close()
        if not interrupter.has_interrupted:
            break
    assert at > 10


def test_interrupted_while_it_waits() -> None:
    """T3: a second wait finds the call done, whoever has taken its lock."""
    for at in itertools.count(1):
        free = threading.Event()
        worker = Worker(free.wait, lambda: None)
        call = worker.call()
        timer = threading.Timer(0.002, free.set)
        timer.start()
        interrupter = ByStep(at, FILES)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            call.wait()
        assert ends(call.wait), f"hangs after step {at}"
        assert call.is_done
        timer.join()
        worker.close()
        if not interrupter.has_interrupted:
            break
    assert at > 3
