"""A report for programs: CSV or JSON Lines."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import json_log
from .json_log import iso

if TYPE_CHECKING:
    from ..bulk.journal_view import JournalView

_COLUMNS = ("key", "address", "state", "code", "enhanced", "text", "attempts", "host", "time")
_OF_DOMAINS = (
    "domain",
    "recipients",
    "queued",
    "armed",
    "accepted",
    "rejected",
    "deferred",
    "in doubt",
)
_OF_CODES = ("code", "enhanced", "state", "recipients", "example")


def show(view: JournalView, by: str | None, format: str) -> None:
    """Writes a journal to standard output, or its counts by "domain" or "code", as "csv" or
    "jsonl". Raises OSError and JournalError."""
    columns = {None: _COLUMNS, "domain": _OF_DOMAINS, "code": _OF_CODES}[by]
    rows = _rows(view, by)
    if format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    else:
        for row in rows:
            json_log.write(sys.stdout, dict(zip(columns, row, strict=True)))


def _rows(view: JournalView, by: str | None) -> Iterator[tuple[object, ...]]:
    if by == "domain":
        yield from view.by_domain()
    elif by == "code":
        yield from view.by_code()
    else:
        for each in view.rows():
            yield (
                *(each.key, each.address, each.state, each.code, each.enhanced, each.reply),
                *(each.attempts, each.host, iso(each.time)),
            )
