"""Recipients from a table: CSV (RFC 4180) or JSON Lines, one row a recipient, read as they come."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias

from .addresses import envelope_address

if TYPE_CHECKING:
    from _csv import Reader

# The columns that hold the address where none is named. The first that is there counts: a table of
# customers also has the address that they live at.
ADDRESS_COLUMNS = ("email", "e-mail", "mail", "address")

_DELIMITERS = (",", ";", "\t")
_LISTED = "a column email, e-mail, mail or address"

StrPath: TypeAlias = "str | os.PathLike[str]"


class Row(NamedTuple):
    """A recipient: the line on which the row begins, the address for the envelope, and all fields
    by the names of their columns."""

    line: int
    address: str
    fields: dict[str, object]


class RowError(ValueError):
    """A row that can't be used, and the line on which it begins."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message


def read_rows(path: StrPath, *, address_column: str | None = None) -> Iterator[Row | RowError]:
    """The rows of a table, in constant memory. A row that can't be used comes as a RowError, and
    those behind it follow.

    A table whose first character is "{" is JSON Lines, with an object on each line. Any other is
    CSV, whose first line names the columns; they are separated by comma, semicolon or tab. Either
    is UTF-8. address_column: where the address stands, in place of ADDRESS_COLUMNS, upper and lower
    case alike. Raises OSError, and RowError for a CSV whose first line can't be used.
    """
    with open(path, "rb") as file:
        if _is_json(file):
            yield from _json_rows(file, address_column)
        else:
            with _text(file) as text:
                yield from _csv_rows(text, address_column)


def count_rows(path: StrPath) -> int:
    """How many rows read_rows() will give, broken ones too, without a look at what is in them.
    Raises OSError."""
    with open(path, "rb") as file:
        if _is_json(file):
            return sum(1 for line in file if line.strip(codecs.BOM_UTF8 + b" \t\r\n"))
        with _text(file) as text:
            return max(sum(1 for _ in _records(_reader(text))) - 1, 0)


def _is_json(file: IO[bytes]) -> bool:
    assert isinstance(file, io.BufferedReader)
    return file.peek().removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{"


def _text(file: IO[bytes]) -> IO[str]:
    # Octets that are no UTF-8 are left for _records() to find: here they would end the reading.
    return io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")


def _csv_rows(text: IO[str], address_column: str | None) -> Iterator[Row | RowError]:
    records = _records(_reader(text))
    line, header = next(records, (1, "the table is empty"))
    if isinstance(header, str):
        raise RowError(line, header)
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RowError(line, f"two columns are named {twice!r}: rename one")
    column = _address_column(names, address_column)
    if column is None:
        raise RowError(line, _no_address(names, address_column))
    for line, cells in records:
        if isinstance(cells, str):
            yield RowError(line, cells)
        elif len(cells) != len(names):
            yield RowError(
                line,
                f"{len(cells)} fields, and the first line names {len(names)} columns: quote fields "
                "with delimiters in them",
            )
        else:
            yield _row(line, dict(zip(names, cells, strict=True)), column)


def _reader(text: IO[str]) -> Reader:
    """A CSV reader with the delimiter that makes the most columns of the first line."""
    first = text.readline()

    def columns(delimiter: str) -> int:
        try:
            return len(next(csv.reader([first], delimiter=delimiter), ()))
        except csv.Error:
            return 0

    delimiter = max(_DELIMITERS, key=columns)
    return csv.reader(itertools.chain([first], text), delimiter=delimiter, strict=True)


def _records(reader: Reader) -> Iterator[tuple[int, list[str] | str]]:
    """The records of a CSV that are not empty: the line on which each begins, and its cells, or
    what is wrong with it."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            upto = f" (up to line {reader.line_num})" if reader.line_num > line else ""
            # Before Python 3.11 the csv module itself refuses a NUL.
            is_nul = "contains NUL" in str(error)
            yield line, "a NUL character" if is_nul else f"no CSV: {error}{upto}"
            continue
        if not cells:
            continue
        text = "".join(cells)
        if not text.isascii() and not _is_unicode(text):
            yield line, "not UTF-8: save the table with that encoding"
        elif "\0" in text:
            yield line, "a NUL character"
        else:
            yield line, cells


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_rows(file: IO[bytes], address_column: str | None) -> Iterator[Row | RowError]:
    for line, octets in enumerate(file, 1):
        if line == 1:
            octets = octets.removeprefix(codecs.BOM_UTF8)
        if not octets.strip():
            continue
        try:
            fields = json.loads(octets.decode())
        except UnicodeDecodeError:
            yield RowError(line, "not UTF-8: save the table with that encoding")
        except (ValueError, RecursionError) as error:
            yield RowError(line, f"no JSON: {error}")
        else:
            if not isinstance(fields, dict):
                yield RowError(line, "no JSON object: write one on each line")
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
    return f"{missing} is missing; there are {', '.join(map(repr, names)) or 'none'}"


def _row(line: int, fields: dict[str, object], column: str) -> Row | RowError:
    text = fields[column]
    if not isinstance(text, str):
        return RowError(line, f"{column} is {text!r}: write an address there")
    try:
        return Row(line, envelope_address(text), fields)
    except ValueError as error:
        return RowError(line, f"{column}: {error}")
