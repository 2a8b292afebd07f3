"""Addresses that occur more than once in the tables of a campaign."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ..bulk.keys import KeySet
from ..compose.rows import Row, RowError, read_rows
from ..protocol.envelope import mailbox_key
from .conventions import Exit, Failure
from .plan import Plan

# How many are reported one by one, and for how many addresses the first place is kept for that.
_MAX_REPORTED = 20
_PLACES = 50_000


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of a scan of all tables. count: rows. repeated: the addresses that occur more than
    once, even in different case, as fold() returns them."""

    count: int
    repeated: KeySet | None


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The duplicates of a plan. count: rows whose mailbox already had a row. lines: the report on
    them, and on addresses that differ from another only in the case of the local part."""

    count: int
    lines: list[str]


def fold(address: str) -> str:
    """Return a text that is the same for addresses that differ in case only."""
    return address.casefold()


def scan(plan: Plan) -> Scan:
    """Scan all rows of a plan. Raises Failure for a table that can't be read to its end if faulty
    rows are to be skipped."""
    seen, repeated = KeySet(), KeySet()
    count = 0
    for name, row in _rows(plan):
        count += 1
        if isinstance(row, RowError):
            if row.ends_table and plan.errors == "aside":
                raise Failure(Exit.DATAERR, f"{name}:{row.line}: {row.message}")
        elif not seen.add(folded := fold(row.address)):
            repeated.add(folded)
    return Scan(count, repeated if len(repeated) else None)


def find(plan: Plan, repeated: KeySet) -> Duplicates:
    """Find the duplicates in a plan among the addresses that scan() has found."""
    mailboxes, folds = KeySet(), KeySet()
    places: dict[str, str] = {}
    lines: list[str] = []
    count = unreported = 0
    for name, row in _rows(plan):
        if isinstance(row, RowError) or (folded := fold(row.address)) not in repeated:
            continue
        mailbox = mailbox_key(row.address)
        is_duplicate, is_first = not mailboxes.add(mailbox), folds.add(folded)
        count += is_duplicate
        place = f"{name}:{row.line}"
        if is_first and len(places) < _PLACES:
            places[folded] = place
        if not is_duplicate and len(places) < _PLACES:
            places[mailbox] = place
        if is_duplicate or not is_first:
            if len(lines) < _MAX_REPORTED:
                if is_duplicate:
                    said = _line(row.address, places.get(mailbox, "before"), plan.duplicates)
                else:
                    said = _variant(row.address, places.get(folded, "a row before"))
                lines.append(f"{place}: {said}")
            else:
                unreported += 1
    if unreported:
        lines.append(f"{unreported} more rows like these")
    if count:
        lines.append(_summary(count, plan.duplicates))
    return Duplicates(count, lines)


def _rows(plan: Plan) -> Iterator[tuple[str, Row | RowError]]:
    rows = (
        (name, row)
        for name in plan.sources
        for row in read_rows(plan.path(name), address_column=plan.address_column)
    )
    return itertools.islice(rows, plan.limit)


def _line(address: str, before: str, duplicates: str) -> str:
    if duplicates == "send":
        return f"{address} already has a row ({before}) and gets another letter"
    return f"skipped: {address} already has a row ({before})"


def _variant(address: str, before: str) -> str:
    return (
        f"{address} differs from the address in {before} only in upper and lower case: both get a "
        "letter"
    )


def _summary(count: int, duplicates: str) -> str:
    rows = "1 row is a duplicate" if count == 1 else f"{count} rows are duplicates"
    if duplicates == "send":
        return f"{rows}, sent anyway (--duplicates send)"
    return f"{rows}: each address gets one letter; --duplicates send sends all"
