"""The display of a run, and its counts."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import dataclass
from typing import Any, cast

import pytest

from csmtplib.bulk.status import Status
from csmtplib.cli.conventions import Exit
from csmtplib.cli.display import Display
from csmtplib.cli.tally import Tally

from .terminal import COLUMNS


class Screen(io.StringIO):
    """Standard error on a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Sender:
    status: Status


def tally(total: int | None = None, left_out: int = 0, **counts: int) -> Tally:
    sender = Sender(Status(**cast(Any, counts)))
    return Tally(cast(Any, sender), total, left_out)


def on_screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Makes standard error a terminal. Not a fixture: pytest gives it back before the test."""
    pytest.importorskip("tqdm")
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    return screen


LARGE = {"accepted": 12_345_678, "rejected": 123_456, "waiting": 234_567, "in_doubt": 1_000_001}


@pytest.mark.parametrize("total", [20_000_000, None])
def test_bars_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    screen = on_screen(monkeypatch)
    display = Display(quiet=False, lines=False)
    display.begin(tally(total, taken=13_703_702, **LARGE))
    display.tick()
    display.say("something \x1b else")
    display.tick()
    display.end()
    written = screen.getvalue()
    assert "12.35M accepted, 123k rejected, 235k deferred" in written
    assert "csmtplib: something \\x1b else\n" in written
    assert max(map(len, written.replace("\n", "\r").split("\r"))) < COLUMNS
    # Nothing is left of it.
    assert written.endswith("\r")
    assert written.rpartition("csmtplib")[2].split("\r")[-2].isspace()


def test_states_that_nobody_has_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch)
    display = Display(quiet=False, lines=False)
    display.begin(tally(200, taken=20, accepted=7, rejected=3))
    display.tick()
    assert screen.getvalue().split("\r")[-1].startswith("  5%|")
    assert "7 accepted, 3 rejected" in screen.getvalue()
    assert "doubt" not in screen.getvalue()
    display.end()


@pytest.mark.parametrize("lines", [False, True])
def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch, lines: bool) -> None:
    screen = on_screen(monkeypatch)
    stream: io.StringIO = screen
    if not lines:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
    display = Display(quiet=False, lines=lines)
    assert display.seconds == 10
    display.begin(tally(200, taken=20, accepted=7, suppressed=3))
    display.tick()
    display.end()
    first, *others = stream.getvalue().splitlines()
    assert first.startswith("csmtplib: 10 of 200: ")
    assert first.endswith(", 7 accepted")
    assert not others


def test_lines_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    display = Display(quiet=False, lines=False)
    display.begin(tally(None, taken=20, accepted=7))
    display.tick()
    assert screen.getvalue().startswith("csmtplib: 7: ")


def test_quiet_means_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch)
    display = Display(quiet=True, lines=False)
    assert list(display.checking([1, 2], 2)) == [1, 2]
    display.begin(tally(200, taken=20, accepted=7))
    display.tick()
    display.end()
    assert screen.getvalue() == ""


def test_checking_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_screen(monkeypatch)
    display = Display(quiet=False, lines=False)
    assert list(display.checking([1, 2], 2)) == [1, 2]
    assert "checking" in screen.getvalue()
    assert screen.getvalue().endswith("\r")


def test_what_is_done_and_what_is_not() -> None:
    counts = tally(
        100,
        left_out=4,
        taken=30,
        accepted=10,
        rejected=2,
        in_doubt=1,
        waiting=7,
        completed_before=5,
        suppressed=6,
    )
    assert (counts.completed, counts.done) == (13, 28)
    assert counts.summary("to x", 2.0) == [
        "13 of 100 recipients to x in 2.00 s (6/s)",
        "10 accepted, 2 rejected, 7 deferred, 1 in doubt, 65 not sent, 5 completed before, "
        "6 suppressed, 4 left out",
    ]
    counts.total = None
    assert " 10 not sent" in counts.summary("to x", 2.0)[1]


def test_the_summary_adds_up() -> None:
    """Whatever there is: the first line has the sum of the second, and those that got a result in
    this run."""
    one = {"taken": 6, "accepted": 1, "rejected": 1, "in_doubt": 1, "waiting": 1}
    for others in ({}, {"suppressed": 2}, {"completed_before": 5}, {"in_doubt_before": 7}):
        for total in (None, 60):
            first, second = tally(total, left_out=3, **one, **others).summary("to x", 1.0)
            done, of, count = first.split()[:3]
            assert (done, of) == ("3", "of")
            assert int(count) == sum(map(int, re.findall(r"(\d+) ", second)))
    assert (
        tally(1, taken=1, accepted=1).summary("to x", 1.0)[0] == "1 recipient to x in 1.00 s (1/s)"
    )


def test_what_earlier_runs_left_in_doubt_is_reported() -> None:
    """T14: it is neither completed nor out of sight."""
    counts = tally(230, completed_before=150, in_doubt_before=80)
    assert (counts.completed, counts.in_doubt, counts.done) == (0, 80, 230)
    assert counts.summary("to x", 1.0) == [
        "0 of 230 recipients to x in 1.00 s (0/s)",
        "0 accepted, 0 rejected, 0 deferred, 80 in doubt, 150 completed before",
    ]


@pytest.mark.parametrize(
    ("counts", "left_out", "unreadable", "code"),
    [
        ({}, 0, 0, Exit.OK),
        ({"accepted": 3}, 0, 0, Exit.OK),
        ({"accepted": 3, "rejected": 1}, 0, 0, Exit.REFUSED),
        ({"rejected": 1}, 2, 0, Exit.DATAERR),
        ({"rejected": 1}, 2, 1, Exit.NOINPUT),
        ({"rejected": 1, "deferred": 1}, 2, 1, Exit.TEMPFAIL),
        ({"rejected": 1, "in doubt": 1}, 2, 1, Exit.IN_DOUBT),
        ({"deferred": 1, "in doubt": 1}, 0, 0, Exit.TEMPFAIL),
        ({"queued": 1}, 0, 0, Exit.TEMPFAIL),
    ],
)
def test_exit_codes(counts: dict[str, int], left_out: int, unreadable: int, code: Exit) -> None:
    ended = tally(left_out=left_out)
    ended.unreadable = unreadable
    assert ended.exit_code(counts) is code
