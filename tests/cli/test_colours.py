"""The colours of states: on terminals that have them, for users who want them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from csmtplib.bulk.journal import Journal
from csmtplib.cli.colours import coloured

from ..requirements import needs_terminals
from .conftest import Command
from .terminal import Terminal

GREEN, RED, YELLOW, PURPLE, END = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[35m", "\x1b[m"


class Screen(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def a_terminal_with_colours(monkeypatch: pytest.MonkeyPatch, no_colours: None) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.platform", "linux")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            "csmtplib: 3 accepted, 0 rejected, 12 deferred, 1 in doubt",
            f"csmtplib: {GREEN}3 accepted{END}, 0 rejected, {YELLOW}12 deferred{END}, "
            f"{PURPLE}1 in doubt{END}",
        ),
        ("rejected  a@x.test  550 no", f"{RED}rejected{END}  a@x.test  550 no"),
        ("csmtplib: deferred  a@x.test", f"csmtplib: {YELLOW}deferred{END}  a@x.test"),
        ("550  5.1.1  rejected  10", f"550  5.1.1  {RED}rejected{END}  10"),
        ("3 acceptedly 4 accepted_by 5.3 rejections", None),
        ("the message was accepted by the server", None),
    ],
)
def test_states_are_coloured(line: str, shown: str | None) -> None:
    assert coloured(line, Screen()) == (line if shown is None else shown)


@pytest.mark.parametrize(
    "without", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=["NO_COLOR", "dumb", "file"]
)
def test_no_colours_where_they_are_not_wanted(
    without: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in without.items():
        monkeypatch.setenv(name, value)
    stream = Screen() if without else io.StringIO()
    assert coloured("3 accepted", stream) == "3 accepted"


def test_an_empty_no_color_forbids_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert coloured("3 accepted", Screen()) != "3 accepted"


@needs_terminals
def test_a_report_in_colour(cli: Command, tmp_path: Path) -> None:
    """With the same columns, and the same text."""
    with Journal("j") as journal:
        journal.write(new=[(journal.new_ids(1)[0], "k", "a@x.test")], again=[], completed=[])
        journal.commit()
    plain = cli("report", "--by", "domain", "j").out
    with Terminal(
        "report", "--by", "domain", "j", cwd=tmp_path, with_stdout=True, colours=True
    ) as terminal:
        assert terminal.end() == 0
    assert f"{GREEN}accepted{END}" in terminal.written
    shown = terminal.written.replace("\r\n", "\n")
    for each in (GREEN, RED, YELLOW, PURPLE, END):
        shown = shown.replace(each, "")
    assert shown == plain
