"""Ctrl-C, from a timer."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_after(ready: Callable[[], object], delay: float = 0.05) -> Iterator[None]:
    """Sends SIGINT to this process, a moment after `ready` has returned."""

    def run() -> None:
        ready()
        threading.Event().wait(delay)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
