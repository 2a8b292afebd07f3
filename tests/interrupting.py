"""Ctrl-C: from a timer, or wherever Python looks for signals."""

from __future__ import annotations

import _thread
import dis
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


def interrupt() -> None:
    """Do to this process what Ctrl-C does."""
    if sys.platform == "win32":
        # There os.kill() would end it, and the console's handlers have threads of their own.
        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGINT)


@contextmanager
def interrupted_after(ready: Callable[[], object], delay: float = 0.05) -> Iterator[None]:
    """Interrupts this process, a moment after `ready` has returned."""

    def run() -> None:
        ready()
        threading.Event().wait(delay)
        interrupt()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)


LIBRARY = tuple(
    str(Path(threading.__file__).with_name(name))
    for name in ("concurrent", "contextlib.py", "queue.py", "socket.py", "ssl.py", "threading.py")
)
"""The parts of the standard library that the package uses, which must come to their end, too."""


@functools.cache
def _jumps_backwards(code: CodeType) -> frozenset[int]:
    # Python has many names for them, of which one says that it looks for no signals.
    return frozenset(
        each.offset
        for each in dis.get_instructions(code)
        if "JUMP" in each.opname
        and not each.opname.endswith("NO_INTERRUPT")
        and each.argval <= each.offset
    )


class ByStep:
    """Interrupts a block within one of some files, or folders, where Python looks for signals: at
    the beginning of a function, behind the call of one that is written in C, and at a jump
    backwards. The step at which it does is a number, from 1 on; `steps` counts them.

    Between other bytecodes nothing is interrupted: not, for example, between taking a lock in C and
    the beginning of the block that gives it back.
    """

    def __init__(self, at: float, files: Sequence[str]) -> None:
        self._at = at
        self._files = tuple(files)
        self.steps = 0

    @property
    def has_interrupted(self) -> bool:
        return self.steps >= self._at

    def __enter__(self) -> ByStep:
        self._before = sys.gettrace(), sys.getprofile()
        sys.settrace(self._enter_frame)
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exception: object) -> None:
        trace, profile = self._before
        sys.setprofile(profile)
        sys.settrace(trace)

    def _is_inside(self, frame: FrameType) -> bool:
        code = frame.f_code
        # What a finalizer raises is printed, and goes nowhere.
        return code.co_filename.startswith(self._files) and code.co_name != "__del__"

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        # What is raised as a generator goes on makes Python 3.10 leave it without its `finally`,
        # which no signal does.
        goes_on = event == "call" and frame.f_lasti >= 0 and sys.version_info < (3, 11)
        if event in ("call", "c_return") and self._is_inside(frame) and not goes_on:
            self._step()

    def _enter_frame(self, frame: FrameType, event: str, argument: object) -> Any:
        if not self._is_inside(frame) or not _jumps_backwards(frame.f_code):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._in_frame

    def _in_frame(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode" and frame.f_lasti in _jumps_backwards(frame.f_code):
            self._step()
        return self._in_frame

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._at:
            sys.settrace(None)
            sys.setprofile(None)
            raise KeyboardInterrupt
