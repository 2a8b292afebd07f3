"""Progress of a run: a bar on a terminal, else lines at intervals; long waits; the ticker."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ..drive.performer import Waiting
from .colours import coloured
from .conventions import visible
from .tally import Tally

if TYPE_CHECKING:
    from tqdm import tqdm

_T = TypeVar("_T")

_BAR_SECONDS = 0.1
_LINE_SECONDS = 10.0

# The rate that is shown is the average of this many seconds.
_RATE_SECONDS = 5.0

# No rate is shown before that many seconds.
_STEADY_SECONDS = 0.5

# After how many seconds a wait is reported, and after how many more a similar one.
WAIT_SECONDS = 3.0
WAIT_AGAIN_SECONDS = 60.0

_TURN_SECONDS = 0.1

# Larger numbers are abbreviated, so that several fit on a line.
_EXACT = 100_000


class Display:
    """The progress of a run, on standard error.

    quiet: shows only what say() is given. tick() may be called in another thread, every `seconds`.
    """

    def __init__(self, *, quiet: bool, lines: bool) -> None:
        """lines: show lines, no bar, even on a terminal."""
        self._quiet = quiet
        self._bar_type = None if quiet or lines or not sys.stderr.isatty() else _bar_type()
        self._bar: tqdm[None] | None = None
        self._tally: Tally | None = None
        self._past: deque[tuple[float, int]] = deque()
        self.seconds = _LINE_SECONDS if self._bar_type is None else _BAR_SECONDS

    def checking(self, items: Iterable[_T], total: int | None) -> Iterable[_T]:
        """Return the items; on a terminal, iterating over them shows a bar of its own."""
        if self._bar_type is None:
            return items
        # As an iterator, tqdm does not look at the clock for each item.
        watched: Iterable[_T] = self._bar_type(
            items, desc="checking", total=total, unit=" messages", mininterval=0.1, leave=False
        )
        return watched

    def begin(self, tally: Tally) -> None:
        """Start to show the progress of this tally."""
        self._tally = tally
        self._past.append((time.monotonic(), 0))
        if self._bar_type is not None:
            layout = "{percentage:3.0f}%|{bar}| {desc}" if tally.total else "{desc}"
            self._bar = self._bar_type(
                total=tally.total, bar_format=layout, ncols=_columns(), leave=False
            )

    def tick(self) -> None:
        """Show the current state."""
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
        """Print a line above the bar, with unprintable characters escaped."""
        shown = coloured(f"csmtplib: {visible(line)}", sys.stderr)
        if self._bar is None:
            print(shown, file=sys.stderr)
        else:
            self._bar.write(shown, file=sys.stderr)

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._tally = None

    def _text(self, tally: Tally) -> str:
        rate = self._rate(tally.completed)
        parts = [f"{_short(rate)}/s"]
        if tally.total is not None and rate > 0:
            parts.append(f"{_clock((tally.total - tally.done) / rate)} left")
        states = [f"{_short(count)} {name}" for count, name in tally.states() if count]
        return ", ".join([" ".join(parts), *states])

    def _rate(self, completed: int) -> float:
        now = time.monotonic()
        past = self._past
        past.append((now, completed))
        while now - past[1][0] > _RATE_SECONDS:
            past.popleft()
        since, before = past[0]
        return (completed - before) / (now - since) if now - since > _STEADY_SECONDS else 0.0


class WaitReporter:
    """Reports each long wait once, and similar ones at most once a minute."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        # By text: when the latest wait reported with it began, and when that was reported.
        self._reported: dict[str, tuple[float, float]] = {}

    def report(self, waits: Iterable[Waiting], now: float) -> None:
        """Report the current waits that are due."""
        # Several connections may wait for the same thing.
        latest: dict[str, Waiting] = {}
        oldest: dict[str, float] = {}
        for each in waits:
            oldest[each.what] = min(each.since, oldest.get(each.what, each.since))
            if each.what not in latest or each.since > latest[each.what].since:
                latest[each.what] = each
        for what, wait in latest.items():
            seconds = now - oldest[what]
            reported, at = self._reported.get(what, (0.0, -WAIT_AGAIN_SECONDS))
            if seconds < WAIT_SECONDS or oldest[what] <= reported or now - at < WAIT_AGAIN_SECONDS:
                continue
            self._reported[what] = wait.since, now
            most = "" if wait.most is None else f", at most {wait.most:g} s"
            self._say(f"waiting for {what}: {seconds:.0f} s so far{most}")


class Ticker:
    """Calls functions at intervals, in a thread of its own, while the context lasts."""

    def __init__(self, *calls: tuple[float, Callable[[], object]]) -> None:
        """calls: pairs of an interval in seconds (at least 0.1) and a function."""
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


def _bar_type() -> Callable[..., Any] | None:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # The default lock also works across processes, and is slow to import.
    tqdm.set_lock(threading.RLock())
    return tqdm


def _columns() -> int:
    # Leave room for the "^C" that a terminal echoes after the bar.
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
