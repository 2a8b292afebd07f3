"""Worker of bulk/recorder.py, whose user may be interrupted at any bytecode."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from csmtplib.bulk import recorder
from csmtplib.bulk.recorder import Call, Worker

DEADLINE = 20.0


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


class Interrupted:
    """Raises before a bytecode of bulk/recorder.py, or of the standard library's locks and queues:
    the one before which there were so many in the block."""

    def __init__(self, at: int) -> None:
        self.left = at
        library = Path(threading.__file__)
        names = ("threading.py", "queue.py", "concurrent")
        self._files = (recorder.__file__, *(str(library.with_name(name)) for name in names))

    def __enter__(self) -> None:
        sys.settrace(self._enter_frame)

    def __exit__(self, *exception: object) -> None:
        sys.settrace(None)

    def _enter_frame(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._files):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._step


def ends(function: Callable[[], object]) -> bool:
    """Whether a call comes to its end."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    return not thread.is_alive()


def test_interrupted_at_each_bytecode() -> None:
    """T3: a KeyboardInterrupt within the lock of an executor's queue left it held, and the run that
    should have recorded what it knew hung for ever."""
    for at in itertools.count(1):
        done: list[int] = []
        worker = Worker(partial(done.append, 1), lambda: None)
        worker.call().wait()
        interrupt = Interrupted(at)
        with contextlib.suppress(KeyboardInterrupt), interrupt:
            # Python 3.13 traces bytecodes from the second traced call on.
            worker.call().wait()
            worker.call().wait()
        before = len(done)
        assert ends(lambda worker=worker: worker.call().wait()), f"hangs after bytecode {at}"  # type: ignore[misc]
        assert len(done) > before
        worker.close()
        if interrupt.left > 0:
            break
    assert at > 10


def test_interrupted_while_it_waits() -> None:
    """T3: a second wait finds the call done, whoever has taken its lock."""
    for at in itertools.count(1):
        free = threading.Event()
        worker = Worker(free.wait, lambda: None)
        former, call = Call(), worker.call()
        former.ended.set()
        timer = threading.Timer(0.002, free.set)
        timer.start()
        interrupt = Interrupted(at)
        with contextlib.suppress(KeyboardInterrupt), interrupt:
            former.wait()  # for Python 3.13, see above
            call.wait()
        assert ends(call.wait), f"hangs after bytecode {at}"
        assert call.is_done
        timer.join()
        worker.close()
        if interrupt.left > 0:
            break
    assert at > 3
