"""Ctrl-C and SIGTERM, handled between turns of the loop that sends, so that no result is lost."""

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
    """A context in which the first of these signals sets `requested`, a SIGINT after it sets
    `insisted`, and only a third one raises KeyboardInterrupt.

    The loop that sends checks both between its turns, because an exception at an arbitrary moment
    would lose results. is_idle: set this while there are none to lose; then the second signal
    raises KeyboardInterrupt.

    notice: a line that the first signal prints on standard error. stop: called when either is set;
    it must be safe in a signal handler.
    """

    def __init__(
        self,
        notice: str | None = None,
        *,
        stop: Callable[[], object] | None = None,
        signals: Sequence[signal.Signals] = (signal.SIGINT,),
    ) -> None:
        self.requested = self.insisted = self.is_idle = False
        self._notice = b"" if notice is None else f"csmtplib: {notice}\n".encode()
        self._stop = stop
        self._signals = signals
        self._installed: list[signal.Signals] = []

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                # Keep the handler if the signal is ignored, as in the background, or handled by
                # somebody else.
                if signal.getsignal(number) is _DEFAULT[number]:
                    signal.signal(number, self._handle)
                    self._installed.append(number)
        return self

    def __exit__(self, *exception: object) -> None:
        for number in self._installed:
            signal.signal(number, _DEFAULT[number])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            # Not print(): it may be what was interrupted.
            with contextlib.suppress(OSError):
                os.write(_STDERR, self._notice)
        elif number != signal.SIGINT:
            return
        elif self.insisted or self.is_idle:
            raise KeyboardInterrupt
        else:
            self.insisted = True
        if self._stop is not None:
            self._stop()
