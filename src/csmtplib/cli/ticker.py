"""What is done now and then while something else goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_TURN_SECONDS = 0.1


class Ticker:
    """Calls functions in a thread of its own while the context lasts."""

    def __init__(self, *calls: tuple[float, Callable[[], object]]) -> None:
        """calls: every so many seconds (a tenth at least) a function; the first time after that."""
        self._calls = calls
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        due = [time.monotonic() + seconds for seconds, _ in self._calls]
        while not self._over.wait(_TURN_SECONDS):
            now = time.monotonic()
            for place, (seconds, call) in enumerate(self._calls):
                if now >= due[place]:
                    due[place] = now + seconds
                    call()
