"""How a run is watched: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from .conventions import visible
from .tally import Tally

if TYPE_CHECKING:
    from tqdm import tqdm

_T = TypeVar("_T")

_BAR_SECONDS = 0.1
_LINE_SECONDS = 10.0

# The rate that is shown is that of so many seconds.
_RATE_SECONDS = 5.0

# Before that there is none to speak of.
_SETTLING_SECONDS = 0.5

# With more digits than that, numbers don't fit beside each other.
_EXACT = 100_000


class Display:
    """Shows where a run stands, on standard error.

    quiet: only what say() is given. tick() may be called in another thread; `seconds` is how often
    it should be.
    """

    def __init__(self, *, quiet: bool, lines: bool) -> None:
        """lines: no bar, even on a terminal."""
        self._quiet = quiet
        self._bar_type = None if quiet or lines or not sys.stderr.isatty() else _bar_type()
        self._bar: tqdm[None] | None = None
        self._tally: Tally | None = None
        self._past: deque[tuple[float, int]] = deque()
        self.seconds = _LINE_SECONDS if self._bar_type is None else _BAR_SECONDS

    def checking(self, items: Iterable[_T], total: int | None) -> Iterable[_T]:
        """The items, with a bar of their own where there is somebody to watch."""
        if self._bar_type is None:
            return items
        # As an iterator, it looks at the clock only now and then.
        watched: Iterable[_T] = self._bar_type(
            items, desc="checking", total=total, unit=" messages", mininterval=0.1, leave=False
        )
        return watched

    def begin(self, tally: Tally) -> None:
        """Begins to show this."""
        self._tally = tally
        self._past.append((time.monotonic(), 0))
        if self._bar_type is not None:
            layout = "{percentage:3.0f}%|{bar}| {desc}" if tally.total else "{desc}"
            self._bar = self._bar_type(
                total=tally.total, bar_format=layout, ncols=_columns(), leave=False
            )

    def tick(self) -> None:
        """Shows where it stands now."""
        tally = self._tally
        if tally is None or self._quiet:
            return
        text = self._text(tally)
        if self._bar is None:
            place = f"{tally.done}" if tally.total is None else f"{tally.done} of {tally.total}"
            self.say(f"{place}: {text}")
        else:
            self._bar.n = tally.done if tally.total is None else min(tally.done, tally.total)
            self._bar.ncols = _columns()
            self._bar.set_description_str(text)

    def say(self, line: str) -> None:
        """Writes a line, whatever is in it."""
        shown = f"csmtplib: {visible(line)}"
        if self._bar is None:
            print(shown, file=sys.stderr)
        else:
            self._bar.write(shown, file=sys.stderr)

    def end(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._tally = None

    def _text(self, tally: Tally) -> str:
        rate = self._rate(tally.settled)
        parts = [f"{_short(rate)}/s"]
        if tally.total is not None and rate > 0:
            parts.append(f"{_clock((tally.total - tally.done) / rate)} left")
        states = [f"{_short(count)} {name}" for count, name in tally.states() if count]
        return ", ".join([" ".join(parts), *states])

    def _rate(self, settled: int) -> float:
        now = time.monotonic()
        past = self._past
        past.append((now, settled))
        while now - past[1][0] > _RATE_SECONDS:
            past.popleft()
        since, before = past[0]
        return (settled - before) / (now - since) if now - since > _SETTLING_SECONDS else 0.0


def _bar_type() -> Callable[..., Any] | None:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # Its own would be for other processes too, and take a while to import.
    tqdm.set_lock(threading.RLock())
    return tqdm


def _columns() -> int:
    # Where a terminal echoes "^C" behind the bar, that is to stand on the same line.
    return shutil.get_terminal_size().columns - 3


def _short(number: float) -> str:
    if number >= 10 * _EXACT:
        return f"{number / 1_000_000:.2f}M"
    if number >= _EXACT:
        return f"{number / 1_000:.0f}k"
    return f"{number:.1f}" if 0 < number < 10 and isinstance(number, float) else f"{number:.0f}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(max(seconds, 0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
