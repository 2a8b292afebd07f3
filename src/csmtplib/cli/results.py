"""Results for programs: the JSON log of a run, and reports as CSV and JSON Lines."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING

from ..protocol.outcome import State

if TYPE_CHECKING:
    from ..bulk.delivery import Delivery
    from ..bulk.journal_view import JournalView

_COLUMNS = ("key", "address", "state", "code", "enhanced", "text", "attempts", "host", "time")
_OF_DOMAINS = (
    "domain",
    "recipients",
    "queued",
    "sending",
    "accepted",
    "rejected",
    "deferred",
    "in doubt",
)
_OF_CODES = ("code", "enhanced", "state", "recipients", "example")
_HEADS = {None: _COLUMNS, "domain": _OF_DOMAINS, "code": _OF_CODES}

_encode = json.JSONEncoder(ensure_ascii=False).encode


def write_json(file: IO[str], result: Mapping[str, object]) -> None:
    """Write an object as one line, in a single call. Raises OSError."""
    file.write(f"{_encode(result)}\n")


def state_of(delivery: Delivery) -> str:
    """Return the state as a journal names it: a recipient that was never tried is queued."""
    if delivery.state is State.DEFERRED and not delivery.attempts:
        return "queued"
    return delivery.state.value


def delivery_fields(delivery: Delivery) -> dict[str, object]:
    """Return the fields of a result in the log."""
    return {
        "key": delivery.key,
        "recipient": delivery.recipient,
        "state": state_of(delivery),
        "code": delivery.code,
        "enhanced": delivery.enhanced,
        "text": delivery.text,
        "attempts": delivery.attempts,
        "host": delivery.host,
        "time": iso(delivery.time),
    }


def iso(time: float | None) -> str | None:
    """Return a Unix time in ISO 8601, in UTC."""
    if time is None:
        return None
    return datetime.fromtimestamp(time, timezone.utc).isoformat(timespec="milliseconds")


def write_empty_report(by: str | None, format: str) -> None:
    """Write what write_report() writes for an empty journal. Raises OSError."""
    if format == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerow(_HEADS[by])


def write_report(view: JournalView, by: str | None, format: str, state: str | None) -> None:
    """Write the recipients of a journal, or those in a state, or its counts by "domain" or "code",
    to standard output, as "csv" or "jsonl". Raises OSError and JournalError."""
    columns = _HEADS[by]
    rows = _rows(view, by, state)
    if format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    else:
        for row in rows:
            write_json(sys.stdout, dict(zip(columns, row, strict=True)))


def _rows(view: JournalView, by: str | None, state: str | None) -> Iterator[tuple[object, ...]]:
    if by == "domain":
        yield from view.by_domain()
    elif by == "code":
        yield from view.by_code()
    else:
        for each in view.rows(state):
            # For a queued recipient, the journal already counts the next attempt.
            attempts = each.attempts - (each.state == "queued")
            yield (
                *(each.key, each.address, each.state, each.code, each.enhanced, each.reply),
                *(attempts, each.host, iso(each.time)),
            )
