"""A report to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from .conventions import visible

if TYPE_CHECKING:
    from ..bulk.journal_view import JournalView

# As long as the table is one of several.
_TOP = 10

# Of the text of a reply.
_WIDTH = 40

_STATES = ("accepted", "rejected", "deferred", "in doubt", "armed", "queued")


def show(view: JournalView, by: str | None) -> None:
    """Prints a journal, or its counts by "domain" or "code" alone. Raises OSError and
    JournalError."""
    if by == "domain":
        _domains(view, -1)
    elif by == "code":
        _codes(view, -1)
    else:
        _campaign(view)
        print()
        _domains(view, _TOP)
        print()
        _codes(view, _TOP)


def _campaign(view: JournalView) -> None:
    parameters = view.parameters()
    counts = view.counts()
    recorded = sum(counts.values())
    total = int(parameters.get("total", 0)) or recorded
    for name, value in _described(parameters):
        print(visible(f"{name:<10}{value}"))
    first, last = view.span()
    if first is not None and last is not None:
        settled = recorded - counts.get("queued", 0) - counts.get("armed", 0)
        rate = f", {settled / (last - first):.0f}/s" if last > first else ""
        span = f"{_time(first)} to {_time(last)}"
        print(f"results   {span} ({last - first:.1f} s{rate})")
    print()
    lines = [(state, counts[state]) for state in _STATES if counts.get(state)]
    if total > recorded:
        lines.append(("no result", total - recorded))
    _table(
        ("state", "recipients", "share"),
        [(state, count, f"{100 * count / total:.1f} %") for state, count in lines],
    )


def _described(parameters: Mapping[str, str]) -> list[tuple[str, str]]:
    """What there is to say of a campaign; of one that a program has sent, there may be nothing."""
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


def _domains(view: JournalView, limit: int) -> None:
    _table(
        ("domain", "recipients", "accepted", "rejected", "deferred", "in doubt"),
        [
            (
                each.domain,
                each.recipients,
                each.accepted,
                each.rejected,
                each.deferred,
                each.in_doubt,
            )
            for each in view.by_domain(limit)
        ],
    )


def _codes(view: JournalView, limit: int) -> None:
    _table(
        ("reply", "", "state", "recipients", "for example"),
        [
            (
                "none" if each.code is None else str(each.code),
                each.enhanced or "",
                each.state,
                each.recipients,
                (each.example or "")[:_WIDTH],
            )
            for each in view.by_code(limit)
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    """Prints columns, with numbers to the right."""
    columns = [[name, *(visible(str(row[at])) for row in rows)] for at, name in enumerate(head)]
    right = [bool(rows) and isinstance(rows[0][at], int) for at in range(len(head))]
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns, strict=True):
        line = "  ".join(
            cell.rjust(width) if to_the_right else cell.ljust(width)
            for cell, width, to_the_right in zip(cells, widths, right, strict=True)
        )
        print(line.rstrip())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
