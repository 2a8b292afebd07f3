"""A report as text for people."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from .colours import coloured
from .conventions import doubt_advice, resume_advice, visible

if TYPE_CHECKING:
    from ..bulk.journal_view import DomainTally, JournalView

# The maximum number of rows when several tables are printed.
_TOP = 10

# The maximum width of the text of a reply.
_WIDTH = 40

# Columns of text are shortened to this width before rows become paragraphs.
_LEAST = 10

# The width of a name before its value in the description of the campaign.
_INDENT = 10

_STATES = ("accepted", "rejected", "deferred", "in doubt", "sending", "queued")
# The first ones, this many, have a column even if no recipient is in that state.
_MAIN_STATES = 4

NOTHING = "nothing has been sent: the campaign has not begun"


def print_report(view: JournalView, by: str | None, state: str | None, name: str) -> None:
    """Print the overview of a journal, or its recipients in a state, or its counts by "domain" or
    "code". name: of the journal. Raises OSError and JournalError."""
    if not (view.parameters() or view.counts()):
        print(NOTHING)
    elif state is not None:
        _recipients(view, state)
    elif by == "domain":
        _domains(view, None)
    elif by == "code":
        _codes(view, None)
    else:
        _campaign(view)
        print()
        _domains(view, _TOP)
        print()
        _codes(view, _TOP)
        _next(view, name)


def _recipients(view: JournalView, state: str) -> None:
    """Print recipients in the format of `csmtplib bulk --verbose`."""
    for each in view.rows(state):
        code = "" if each.code is None else f"{each.code} "
        line = f"{state}  {each.address}  {code}{each.reply or ''}  {each.key}"
        print(coloured(visible(line), sys.stdout))


def _campaign(view: JournalView) -> None:
    parameters = view.parameters()
    counts = view.counts()
    recorded = sum(counts.values())
    total = _total(view)
    described = _described(parameters)
    first, last = view.span()
    if first is not None and last is not None:
        completed = recorded - counts.get("queued", 0) - counts.get("sending", 0)
        rate = f", {completed / (last - first):.0f}/s" if last > first else ""
        span = f"{_time(first)} to {_time(last)}"
        described.append(("results", f"{span} ({last - first:.1f} s{rate})"))
    for name, value in described:
        _paragraph(f"{name:<{_INDENT}}{value}", indent=_INDENT)
    if described:
        print()
    lines = [(state, counts[state]) for state in _STATES if counts.get(state)]
    if total > recorded:
        lines.append(("no result", total - recorded))
    _table(
        ("state", "recipients", "share"),
        [(state, count, f"{100 * count / total:.1f} %") for state, count in lines],
    )


def _total(view: JournalView) -> int:
    return int(view.parameters().get("total", 0)) or sum(view.counts().values())


def _described(parameters: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the description of a campaign as names and values; none if a program sent it."""
    described = []
    if "id" in parameters:
        described.append(("campaign", parameters["id"]))
    if "date" in parameters:
        described.append(("started", _time(datetime.fromisoformat(parameters["date"]).timestamp())))
    if "template" in parameters:
        described.append(("letter", parameters["template"]))
    if "sources" in parameters:
        described.append(("from", ", ".join(json.loads(parameters["sources"]))))
    if "server" in parameters:
        described.append(("server", parameters["server"]))
    return described


def _next(view: JournalView, name: str) -> None:
    """Print what to do about recipients without a final result."""
    counts = view.counts()
    lines = []
    if sending := counts.get("sending", 0):
        lines.append(
            f"{sending} sending: in progress in the current run; if that was killed, they are in "
            "doubt"
        )
    unsent = max(_total(view) - sum(counts.values()), 0)
    # A program of the user's own has its own way to continue.
    if (unsent or counts.get("queued") or counts.get("deferred")) and "run" in view.parameters():
        lines.append(f"unless a run is in progress, {resume_advice(name)}")
    lines += doubt_advice(counts.get("in doubt", 0), name)
    if lines:
        print()
    for line in lines:
        _paragraph(line, indent=2)


def _domains(view: JournalView, limit: int | None) -> None:
    tallies = view.by_domain()
    sums = {state: sum(_count(each, state) for each in tallies) for state in _STATES}
    shown = [
        state for place, state in enumerate(_STATES) if place < _MAIN_STATES or sums[state] > 0
    ]
    rows: list[list[str | int]] = [
        [each.domain, each.recipients, *(_count(each, state) for state in shown)]
        for each in tallies
    ]
    others = rows[limit:] if limit is not None else []
    if len(others) > 1:
        numbers = (sum(int(row[at]) for row in others) for at in range(1, len(shown) + 2))
        rows[limit:] = [[f"{len(others)} others", *numbers]]
    _table(("domain", "recipients", *shown), rows)


def _count(tally: DomainTally, state: str) -> int:
    count: int = getattr(tally, state.replace(" ", "_"))
    return count


def _codes(view: JournalView, limit: int | None) -> None:
    tallies = view.by_code()
    rows: list[list[str | int]] = [
        [
            "none" if each.code is None else str(each.code),
            each.enhanced or "",
            each.state,
            each.recipients,
            _shortened(visible(each.example or ""), _WIDTH),
        ]
        for each in tallies
    ]
    others = tallies[limit:] if limit is not None else []
    if len(others) > 1:
        count = sum(each.recipients for each in others)
        rows[limit:] = [[f"{len(others)} others", "", "", count, ""]]
    _table(("reply", "", "state", "recipients", "for example"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    """Print columns, with numbers aligned to the right. On a terminal that is too narrow, print one
    paragraph per row."""
    columns = [[name, *(visible(str(row[at])) for row in rows)] for at, name in enumerate(head)]
    right = [bool(rows) and isinstance(rows[0][at], int) for at in range(len(head))]
    widths = [max(map(len, column)) for column in columns]
    room = _room()
    while sum(widths) + 2 * (len(widths) - 1) > room:
        # Shorten the widest column of text.
        at = max(range(len(head)), key=lambda at: 0 if right[at] else widths[at])
        if right[at] or widths[at] <= max(_LEAST, len(head[at])):
            _paragraphs(head, rows)
            return
        widths[at] -= 1
    for cells in zip(*columns, strict=True):
        line = "  ".join(
            cell.rjust(width) if to_the_right else _shortened(cell, width).ljust(width)
            for cell, width, to_the_right in zip(cells, widths, right, strict=True)
        )
        print(coloured(line.rstrip(), sys.stdout))


def _paragraphs(head: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    for row in rows:
        parts = [
            f"{value} {name.removesuffix('s') if value == 1 else name}"
            if isinstance(value, int)
            else str(value)
            for name, value in zip(head[1:], row[1:], strict=True)
            if value not in ("", 0)
        ]
        _paragraph(f"{row[0]}: {', '.join(parts)}", indent=2)


def _paragraph(text: str, indent: int) -> None:
    """Print a text, with its lines broken between words if the terminal is too narrow."""
    room = _room()
    shown = visible(text)
    if len(shown) <= room:
        print(coloured(shown, sys.stdout))
        return
    # An address or a name that is longer than a line stays whole, so that it can be copied.
    lines = textwrap.wrap(
        shown,
        room,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    for line in lines:
        print(coloured(line, sys.stdout))


def _shortened(text: str, width: int) -> str:
    """Return the text, shortened to whole words and three dots if it is too long."""
    if len(text) <= width:
        return text
    if width < 4:
        return text[:width]
    kept = text[: width - 2].rpartition(" ")[0].rstrip() if " " in text[: width - 2] else ""
    if len(kept) < width // 2:
        kept = text[: width - 3]
    return f"{kept[: width - 3]}..."


def _room() -> int:
    """Return the width of the terminal; without one, lines may have any length."""
    return max(shutil.get_terminal_size().columns, 20) if sys.stdout.isatty() else sys.maxsize


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
