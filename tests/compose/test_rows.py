"""Tables: what they give, and which of their rows are broken."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csmtplib.compose.rows import Row, RowError, count_rows, read_rows

from ..requirements import needs_named_pipes


def write(path: Path, table: str | bytes) -> Path:
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table"


def read(path: Path, **options: str) -> list[Row | str]:
    """The rows of a table, and the broken ones in words."""
    found = list(read_rows(path, **options))
    assert count_rows(path) == len(found)
    return [row if isinstance(row, Row) else str(row) for row in found]


@pytest.mark.parametrize(
    "table",
    [
        "email,name\nann@x.example,Ann\nbob@x.example,Bob\n",
        "email,name\r\nann@x.example,Ann\r\nbob@x.example,Bob",
        "email,name\rann@x.example,Ann\rbob@x.example,Bob\r",
        "\ufeffemail,name\nann@x.example,Ann\nbob@x.example,Bob\n",
        "email;name\nann@x.example;Ann\nbob@x.example;Bob\n",
        "email\tname\nann@x.example\tAnn\nbob@x.example\tBob\n",
        '"email","name"\n"ann@x.example","Ann"\n"bob@x.example",Bob\n',
    ],
)
def test_csv(path: Path, table: str) -> None:
    assert read(write(path, table)) == [
        Row(2, "ann@x.example", {"email": "ann@x.example", "name": "Ann"}),
        Row(3, "bob@x.example", {"email": "bob@x.example", "name": "Bob"}),
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_lines(path: Path, mark: str) -> None:
    table = f'{mark}{{"email": "ann@x.example", "n": [1, null]}}\n\n {{"email":"jörg@x.example"}}'
    assert read(write(path, table)) == [
        Row(1, "ann@x.example", {"email": "ann@x.example", "n": [1, None]}),
        Row(3, "jörg@x.example", {"email": "jörg@x.example"}),
    ]


def test_a_row_has_the_line_on_which_it_begins(path: Path) -> None:
    table = 'email,text\na@x.example,"one\ntwo, ""2""\n"\n\nb@x.example,"x"\n'
    assert read(write(path, table)) == [
        Row(2, "a@x.example", {"email": "a@x.example", "text": 'one\ntwo, "2"\n'}),
        Row(6, "b@x.example", {"email": "b@x.example", "text": "x"}),
    ]


def test_a_table_of_addresses_alone(path: Path) -> None:
    assert read(write(path, "E-Mail\nann@x.example\n")) == [
        Row(2, "ann@x.example", {"E-Mail": "ann@x.example"})
    ]


@pytest.mark.parametrize(
    ("header", "options", "at"),
    [
        ("name,EMAIL,x", {}, 1),
        ("address,name,Email", {}, 2),
        ("mail,address,x", {}, 0),
        ("x,name,address", {}, 2),
        ("email,name,Work", {"address_column": "work"}, 2),
    ],
)
def test_the_column_of_the_address(
    path: Path, header: str, options: dict[str, str], at: int
) -> None:
    cells = ["a@x.example", "b@x.example", "c@x.example"]
    (row,) = read(write(path, f"{header}\n{','.join(cells)}\n"), **options)
    assert isinstance(row, Row)
    assert row.address == cells[at]
    as_json = dict(zip(header.split(","), cells, strict=True))
    (row,) = read(write(path, json.dumps(as_json)), **options)
    assert isinstance(row, Row)
    assert row.address == cells[at]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"b@x.example\n", "1 fields, and the first line names 2 columns"),
        (b"b@x.example,B,C\n", "3 fields"),
        (b'b@x.example,"B"C\n', "no CSV: "),
        (b'b@x.example,"B\n"C\n', r"no CSV: .*\(up to line 4\)"),
        (b"b@x.example,J\xf6rg\n", "not UTF-8"),
        (b"b@x.example,B\0\n", "a NUL"),
        (b",B\n", "email: the address is empty"),
        (b"b,B\n", "email: 'b' is no address"),
        (b"b@x.example,%b\n" % (b"B" * 200_000), "no CSV: field larger"),
    ],
)
def test_a_broken_row_of_csv_does_not_end_the_table(path: Path, broken: bytes, reason: str) -> None:
    write(path, b"email,name\na@x.example,A\n" + broken + b"z@x.example,Z\n")
    first, error, last = read_rows(path)
    assert count_rows(path) == 3
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(error, RowError)
    assert (first.address, error.line, last.address) == ("a@x.example", 3, "z@x.example")
    with pytest.raises(RowError, match=f"^line 3: {reason}"):
        raise error


def test_a_quote_that_is_not_closed_is_one_broken_row(path: Path) -> None:
    first, error = read(write(path, 'email,n\na@x.example,A\nb@x.example,"B\nc@x.example,C\n'))
    assert isinstance(first, Row)
    assert error == "line 3: no CSV: unexpected end of data (up to line 4)"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"{", "no JSON: "),
        (b'{"email": "b@x.example"} {}', "no JSON: "),
        (b'["b@x.example"]', "no JSON object"),
        (b'{"name": "B"}', "a column email, e-mail, mail or address is missing; there are 'name'"),
        (b"{}", "a column .* there are none"),
        (b'{"email": null}', "email is None: write an address"),
        (b'{"email": 7}', "email is 7"),
        (b'{"email": "b"}', "email: 'b' is no address"),
        (b'{"email": "b\\u0000@x.example"}', "email: .* is no address"),
        (b'{"email": "b@x.example", "name": "J\xf6rg"}', "not UTF-8"),
        (b'{"email": "b@x.example", "name": "\0"}', "no JSON: "),
        (b"[" * 100_000, "no JSON: "),
    ],
)
def test_a_broken_row_of_json_does_not_end_the_table(
    path: Path, broken: bytes, reason: str
) -> None:
    write(path, b'{"email": "a@x.example"}\n' + broken + b'\n{"email": "z@x.example"}\n')
    first, error, last = read_rows(path)
    assert count_rows(path) == 3
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(error, RowError)
    assert last.line == 3
    with pytest.raises(RowError, match=f"^line 2: {reason}"):
        raise error


@pytest.mark.parametrize(
    ("table", "options", "reason"),
    [
        ("", {}, "line 1: the table is empty"),
        ("name,plan\nann@x.example,x\n", {}, "line 1: a column email, .* there are 'name', 'plan'"),
        ("email,a\n", {"address_column": "work"}, "line 1: the column 'work' is missing"),
        ("email, a,a \n", {}, "line 1: two columns are named 'a': rename one"),
        (b"email,\xf6\n", {}, "line 1: not UTF-8"),
        (b"email,a\0\n", {}, "line 1: .*NUL"),
        ('email,"a" b\n', {}, "line 1: no CSV"),
        ("\n\nname\n", {}, "line 3: a column"),
    ],
)
def test_a_first_line_that_can_not_be_used(
    path: Path, table: str | bytes, options: dict[str, str], reason: str
) -> None:
    with pytest.raises(RowError, match=reason):
        next(read_rows(write(path, table), **options))


def test_tables_without_rows(path: Path) -> None:
    assert read(write(path, "email,name\n")) == []
    assert count_rows(write(path, "")) == 0


def test_a_table_that_is_not_there(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(read_rows(path))
    with pytest.raises(FileNotFoundError):
        count_rows(path)


def test_the_file_is_closed_by_who_has_read_enough(path: Path) -> None:
    rows = read_rows(write(path, "email\na@x.example\nb@x.example\n"))
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert next(rows, None) is None


@needs_named_pipes
@pytest.mark.parametrize("table", ["email\na@x.example\n", '{"email": "a@x.example"}\n'])
def test_a_pipe(path: Path, table: str) -> None:
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=[table])
    writer.start()
    assert [row.address for row in read_rows(path) if isinstance(row, Row)] == ["a@x.example"]
    writer.join()


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_memory_does_not_grow_with_the_table(path: Path, kind: str) -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    fields = {"email": "a@x.example", "text": "x" * 1000}
    row = json.dumps(fields) if kind == "json" else ",".join(fields.values())
    header = "" if kind == "json" else ",".join(fields) + "\n"
    write(path, header + f"{row}\n" * 5000)
    rows = read_rows(path)
    next(rows)
    tracemalloc.start()
    try:
        assert sum(1 for _ in rows) == 4999
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=6), st.sampled_from(",;\t"))
def test_what_a_writer_of_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str
) -> None:
    table = io.StringIO(newline="")
    writer = csv.writer(table, delimiter=delimiter)
    writer.writerow(["one", "email", "two"])
    writer.writerows([one, "a@x.example", two] for one, two in rows)
    found = read(write(tmp_path_factory.getbasetemp() / "written.csv", table.getvalue()))
    assert [row.fields for row in found if isinstance(row, Row)] == [
        {"one": one, "email": "a@x.example", "two": two} for one, two in rows
    ]
