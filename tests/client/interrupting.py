"""Ctrl-C, from a timer."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def interrupt() -> None:
    """What Ctrl-C does to this process."""
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
