"""Ctrl-C, made to wait for a moment where nothing is left in doubt."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType

_STDERR = 2
_NOTICE = b"csmtplib: stopping after this message; Ctrl-C again leaves it in doubt\n"


class Interrupt:
    """While this context lasts, the first SIGINT sets `requested`, and the second raises
    KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False
        self._installed = False

    def __enter__(self) -> Interrupt:
        # Where it is ignored, as in the background, or somebody else's, it stays so.
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(self, *exception: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # Not by print(), which may be what was interrupted.
        with contextlib.suppress(OSError):
            os.write(_STDERR, _NOTICE)
