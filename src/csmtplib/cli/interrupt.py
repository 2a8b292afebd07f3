"""Ctrl-C and its like, made to wait for a moment where nothing is left in doubt."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType

_STDERR = 2
_DEFAULT: dict[signal.Signals, Callable[[int, FrameType | None], object] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Interrupt:
    """While this context lasts, the first of these signals sets `requested`, and a SIGINT after it
    raises KeyboardInterrupt.

    notice: a line that the first one writes to standard error. stop: what it calls; that has to be
    fit for a signal handler.
    """

    def __init__(
        self,
        notice: str | None = None,
        *,
        stop: Callable[[], object] | None = None,
        signals: Sequence[signal.Signals] = (signal.SIGINT,),
    ) -> None:
        self.requested = False
        self._notice = b"" if notice is None else f"csmtplib: {notice}\n".encode()
        self._stop = stop
        self._signals = signals
        self._installed: list[signal.Signals] = []

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                # Where it is ignored, as in the background, or somebody else's, it stays so.
                if signal.getsignal(number) is _DEFAULT[number]:
                    signal.signal(number, self._handle)
                    self._installed.append(number)
        return self

    def __exit__(self, *exception: object) -> None:
        for number in self._installed:
            signal.signal(number, _DEFAULT[number])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.requested = True
        # Not by print(), which may be what was interrupted.
        with contextlib.suppress(OSError):
            os.write(_STDERR, self._notice)
        if self._stop is not None:
            self._stop()
