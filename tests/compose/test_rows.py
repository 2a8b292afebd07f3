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

from csmtplib.compose.rows import Row, RowError, columns, read_rows

from ..requirements import needs_named_pipes


def write(path: Path, table: str | bytes) -> Path:
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table"


def read(path: Path, **options: str) -> list[Row | str]:
    """The rows of a table, and the broken ones in words."""
    found = read_rows(path, **options)
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
        (b"b@x.example\n", "1 fields, but the first line names 2 columns"),
        (b"b@x.example,B,C\n", "3 fields"),
        (b"b@x.example,J\xf6rg\n", "not UTF-8"),
        (b"b@x.example,B\0\n", "the row contains a NUL"),
        (b",B\n", "email: the address is empty"),
        (b"b,B\n", "email: 'b' is not an address"),
        (b'b@x.example,"B\0\nB"\n', "the row contains a NUL"),
    ],
)
def test_a_broken_row_of_csv_does_not_end_the_table(path: Path, broken: bytes, reason: str) -> None:
    write(path, b"email,name\na@x.example,A\n" + broken + b"z@x.example,Z\n")
    first, error, last = read_rows(path)
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(error, RowError)
    assert (first.address, error.line, last.address) == ("a@x.example", 3, "z@x.example")
    with pytest.raises(RowError, match=f"^line 3: {reason}"):
        raise error


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('b@x.example,"B"C\n', r"not CSV: a misplaced quote \('"),
        ('b@x.example,"B\n"C\n', "not CSV: a misplaced quote in line 4"),
        (
            'b@x.example,"She said "hi" to me\neve@x.example,Eve\nbye"\n',
            "not CSV: a misplaced quote",
        ),
        (
            'b@x.example,"She said "hi\neve@x.example,Eve\nthere" to me"\n',
            "not CSV: a misplaced quote",
        ),
        ('b@x.example,"B\n', "not CSV: a quote is opened here and never closed"),
        (f"b@x.example,{'B' * 200_000}\n", "not CSV: field larger .*: is a quote missing"),
        (f'b@x.example,"{"B" * 200_000}\neve@x.example,Eve"\n', "not CSV: field larger"),
    ],
)
def test_a_record_with_a_wrong_quote_ends_the_table(path: Path, broken: str, reason: str) -> None:
    """T21: reading went on inside the broken record, and a line of its text became a recipient."""
    write(path, "email,name\na@x.example,A\n" + broken + "z@x.example,Z\n")
    first, error = read_rows(path)
    assert isinstance(first, Row)
    assert isinstance(error, RowError)
    assert (first.address, error.line, error.ends_table) == ("a@x.example", 3, True)
    with pytest.raises(RowError, match=f"^line 3: {reason}.*; nothing after it was read$"):
        raise error


@pytest.mark.parametrize(
    "table",
    [
        "email,name,,\na@x.example,Ann,,\n,,,\n,,,\n",
        "email,name\na@x.example,Ann\n,\n , \n\n\u00a0,\n",
        "email,name\n\na@x.example,Ann,,,\n",
        "email,name,\na@x.example,Ann\n",
        ",,\nemail,name,\na@x.example,Ann,\n",
        ",email,,name\n7,a@x.example,,Ann\n",
        "sep=;\r\nemail;name\r\na@x.example;Ann\r\n",
        "\r\nemail;name;;\r\na@x.example;Ann;;\r\n;;;\r\n",
        '"sep=\t"\nemail\tname\na@x.example\tAnn\n',
    ],
)
def test_what_spreadsheets_add(path: Path, table: str) -> None:
    """T21: empty columns, empty rows and a line with the delimiter refused the whole table."""
    (row,) = read(write(path, table))
    assert isinstance(row, Row)
    assert row.fields == {"email": "a@x.example", "name": "Ann"}
    assert table.splitlines()[row.line - 1].lstrip("7,").startswith("a@x.example")
    assert columns(path) == (["email", "name"], True)


@pytest.mark.parametrize("row", ["a@x.example,Lee, Ann,", "a@x.example,Lee, Ann", "a@x.example"])
def test_a_value_without_a_column_is_none_of_them(path: Path, row: str) -> None:
    """T21: what stands in a column without a name is mostly the end of a field without quotes."""
    (error,) = read(write(path, f"email,name,,\n{row}\n"))
    assert "the first line names 2 columns" in str(error)


def test_the_field_of_the_address_is_the_address(path: Path) -> None:
    """T20: what is not part of the address is not in the letter either; the spelling stays."""
    table = "email\n\u00a0<ann@MÜLLER.example>\nBob <bob@x.example.>\n"
    assert read(write(path, table)) == [
        Row(2, "ann@xn--mller-kva.example", {"email": "ann@MÜLLER.example"}),
        Row(3, "bob@x.example", {"email": "bob@x.example."}),
    ]


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("email, name ,\n", (["email", "name"], True)),
        ('{"x": 1}\n{"email": "a@x.example", "n": 1}\n', (["email", "n"], False)),
        ("", ([], True)),
        ('"a" b,c\n', ([], True)),
    ],
)
def test_the_columns(path: Path, table: str, names: object) -> None:
    assert columns(write(path, table)) == names


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"{", "not JSON: "),
        (b'{"email": "b@x.example"} {}', "not JSON: "),
        (b'["b@x.example"]', "not a JSON object"),
        (
            b'{"name": "B"}',
            "a column named email, e-mail, mail or address is missing; columns: 'name'",
        ),
        (b"{}", "a column .* columns: none"),
        (b'{"email": null}', "email is None, not an address"),
        (b'{"email": 7}', "email is 7"),
        (b'{"email": "b"}', "email: 'b' is not an address"),
        (b'{"email": "b\\u0000@x.example"}', r"email: .* contains U\+0000"),
        (b'{"email": "b@x.example", "name": "J\xf6rg"}', "not UTF-8"),
        (b'{"email": "b@x.example", "name": "\0"}', "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
    ],
)
def test_a_broken_row_of_json_does_not_end_the_table(
    path: Path, broken: bytes, reason: str
) -> None:
    write(path, b'{"email": "a@x.example"}\n' + broken + b'\n{"email": "z@x.example"}\n')
    first, error, last = read_rows(path)
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
        (
            "name,plan\nann@x.example,x\n",
            {},
            "line 1: a column named email, .* columns: 'name', 'plan'",
        ),
        ("email,a\n", {"address_column": "work"}, "line 1: the column 'work' is missing"),
        ("email, a,a \n", {}, "line 1: two columns are named 'a': rename one"),
        (b"email,\xf6\n", {}, "line 1: not UTF-8"),
        (b"email,a\0\n", {}, "line 1: .*NUL"),
        ("email,name\na@x.example,A\n".encode("utf-16"), {}, "line 1: not UTF-8"),
        (",,\n", {}, "the table is empty"),
        ('email,"a" b\n', {}, "line 1: not CSV"),
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


def test_a_missing_table(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(read_rows(path))
    with pytest.raises(FileNotFoundError):
        columns(path)


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
