"""Recipients from a table: CSV (RFC 4180) or JSON Lines, one row per recipient, read lazily."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias

from .addresses import bare_address, envelope_address

if TYPE_CHECKING:
    from _csv import Reader

# The columns that may hold the address unless one is named. The first of these that exists is used:
# a table of customers may also have a postal address.
ADDRESS_COLUMNS = ("email", "e-mail", "mail", "address")

_DELIMITERS = (",", ";", "\t")
# Excel's own first line, which names the delimiter and is not part of the table.
_SEPARATOR = re.compile(r'"?sep=([,;\t])"?\s*', re.IGNORECASE)

# Stands for NUL, which the csv module rejects before Python 3.11. No byte is decoded to it.
_NUL = "\0" if sys.version_info >= (3, 11) else "\udc00"
_LISTED = "a column named email, e-mail, mail or address"

_NOT_UTF_8 = "not UTF-8: save the table with that encoding"

StrPath: TypeAlias = "str | os.PathLike[str]"


class Row(NamedTuple):
    """A recipient: the line on which the row begins, the address for the envelope, and all fields
    by the name of their column."""

    line: int
    address: str
    fields: dict[str, object]


class RowError(ValueError):
    """A row that can't be used, and the line on which it begins. ends_table: whether the end of the
    row is unknown, so that no row after it was read."""

    def __init__(self, line: int, message: str, *, ends_table: bool = False) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message
        self.ends_table = ends_table


def read_rows(path: StrPath, *, address_column: str | None = None) -> Iterator[Row | RowError]:
    """Yield the rows of a table, in constant memory; for a row that can't be used, a RowError.

    A table whose first character is "{" is JSON Lines, with one object per line. Any other table is
    CSV: its first line names the columns, separated by comma, semicolon or tab. Both are UTF-8.
    Empty rows and columns, as spreadsheets write them, are skipped. A CSV record with a misplaced
    quote ends the table: everything after it may be part of it.

    address_column: the column with the address, in place of ADDRESS_COLUMNS; case is ignored.
    Raises OSError, and RowError for a CSV whose first line can't be used.
    """
    with open(path, "rb") as file:
        if _is_json(file):
            yield from _json_rows(file, address_column)
        elif _head(file).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise RowError(1, _NOT_UTF_8)
        else:
            with _text(file) as text:
                yield from _csv_rows(text, address_column)


def columns(path: StrPath, *, address_column: str | None = None) -> tuple[list[str], bool]:
    """Return the names of the columns, none if the first line can't be used, and whether all rows
    have them: for JSON Lines they are those of the first row. Raises OSError."""
    with open(path, "rb") as file:
        if _is_json(file):
            rows = _json_rows(file, address_column)
            return next((list(row.fields) for row in rows if isinstance(row, Row)), []), False
        with _text(file) as text:
            _, header = next(_records(text), (1, []))
            names = [] if isinstance(header, RowError) else list(filter(None, _names(header)))
            return names, True


def _is_json(file: IO[bytes]) -> bool:
    return _head(file).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{"


def _head(file: IO[bytes]) -> bytes:
    assert isinstance(file, io.BufferedReader)
    return file.peek()


def _text(file: IO[bytes]) -> IO[str]:
    # _records() reports bytes that are not UTF-8: an error here would end the reading.
    return io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")


def _csv_rows(text: IO[str], address_column: str | None) -> Iterator[Row | RowError]:
    records = _records(text)
    line, header = next(records, (1, RowError(1, "the table is empty")))
    if isinstance(header, RowError):
        raise header
    names = _names(header)
    named = [name for name in names if name]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise RowError(line, f"two columns are named {twice!r}: rename one")
    column = _address_column(named, address_column)
    if column is None:
        raise RowError(line, _no_address(named, address_column))
    count = len(names)
    for line, cells in records:
        if isinstance(cells, RowError):
            yield cells
        elif len(cells) < count or "".join(cells[count:]).strip():
            yield RowError(
                line,
                f"{len(cells)} fields, but the first line names {count} columns: quote fields "
                "that contain delimiters",
            )
        else:
            fields: dict[str, object] = dict(zip(names, cells, strict=False))
            fields.pop("", None)
            yield _row(line, fields, column)


def _names(header: list[str]) -> list[str]:
    """Return the names of the columns, "" for one without a name, up to the last with a name."""
    names = [name.strip() for name in header]
    while names and not names[-1]:
        names.pop()
    return names


def _reader(text: IO[str]) -> tuple[Reader, int]:
    """Return a CSV reader with the delimiter that splits the first line into the most columns, and
    the number of lines before the first that it reads."""
    first, before = text.readline(), 0
    while first.isspace():
        first, before = text.readline(), before + 1

    def columns(delimiter: str) -> int:
        try:
            return len(next(csv.reader([first.replace("\0", _NUL)], delimiter=delimiter), ()))
        except csv.Error:
            return 0

    if (named := _SEPARATOR.fullmatch(first)) is not None:
        delimiter, first, before = named[1], text.readline(), before + 1
    else:
        delimiter = max(_DELIMITERS, key=columns)
    lines: Iterable[str] = itertools.chain([first], text)
    if _NUL != "\0":
        lines = (line.replace("\0", _NUL) for line in lines)
    return csv.reader(lines, delimiter=delimiter, strict=True), before


def _records(text: IO[str]) -> Iterator[tuple[int, list[str] | RowError]]:
    """Yield the records of a CSV that are not empty: the line on which each begins, and its cells,
    or a RowError."""
    reader, before = _reader(text)
    while True:
        line = before + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, _torn(line, before + reader.line_num, str(error))
            return
        text_of_all = "".join(cells)
        if not text_of_all or text_of_all.isspace():
            continue
        if _NUL in text_of_all:
            yield line, RowError(line, "the row contains a NUL character: delete it")
        elif not text_of_all.isascii() and not _is_unicode(text_of_all):
            yield line, RowError(line, _NOT_UTF_8)
        else:
            yield line, cells


def _torn(line: int, last: int, error: str) -> RowError:
    """Return the error for a record whose end is unknown."""
    if "unexpected end" in error:
        reason = "a quote is opened here and never closed"
    elif "field larger" in error:
        reason = f"{error}: is a quote missing?"
    else:
        at = f" in line {last}" if last > line else ""
        reason = f"a misplaced quote{at} ({error}): double each quote inside a quoted field"
    return RowError(line, f"not CSV: {reason}; nothing after it was read", ends_table=True)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_rows(file: IO[bytes], address_column: str | None) -> Iterator[Row | RowError]:
    for line, data in enumerate(file, 1):
        if line == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        if not data.strip():
            continue
        try:
            fields = json.loads(data.decode())
        except UnicodeDecodeError:
            yield RowError(line, _NOT_UTF_8)
        except (ValueError, RecursionError) as error:
            yield RowError(line, f"not JSON: {error}")
        else:
            if not isinstance(fields, dict):
                yield RowError(line, "not a JSON object: write one per line")
            elif (column := _address_column(fields, address_column)) is None:
                yield RowError(line, _no_address(fields, address_column))
            else:
                yield _row(line, fields, column)


def _address_column(names: Iterable[str], wanted: str | None) -> str | None:
    by_lower_case = {name.lower(): name for name in names}
    candidates: Sequence[str] = ADDRESS_COLUMNS if wanted is None else (wanted.lower(),)
    for candidate in candidates:
        if candidate in by_lower_case:
            return by_lower_case[candidate]
    return None


def _no_address(names: Iterable[str], wanted: str | None) -> str:
    missing = _LISTED if wanted is None else f"the column {wanted!r}"
    return f"{missing} is missing; columns: {', '.join(map(repr, names)) or 'none'}"


def _row(line: int, fields: dict[str, object], column: str) -> Row | RowError:
    text = fields[column]
    if not isinstance(text, str):
        return RowError(line, f"{column} is {text!r}, not an address")
    try:
        address = envelope_address(text)
        if address != text:
            # The address as it was written, without anything around it.
            fields[column] = bare_address(text)
    except ValueError as error:
        return RowError(line, f"{column}: {error}")
    return Row(line, address, fields)
