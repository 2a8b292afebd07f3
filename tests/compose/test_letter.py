"""Letters: how their files are cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from csmtplib.compose.letter import Letter
from csmtplib.compose.template import TemplateError

from .conftest import Writing


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "letter.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_header_and_a_text(tmp_path: Path, line_end: bytes, mark: bytes) -> None:
    data = b"From: a@x.example\nX-A: b\n c\n\nHi\n\nthere".replace(b"\n", line_end)
    letter = Letter(write(tmp_path, mark + data))
    assert [field.data({}) for field in letter.fields] == [
        b"From: a@x.example\r\n",
        b"X-A: b c\r\n",
    ]
    (part,) = letter.parts
    assert part.encoded({}) == ("7bit", [b"Hi\r\n\r\nthere\r\n"])


@pytest.mark.parametrize("rest", [b"", b"\n", b"\n\n"])
def test_a_header_alone(tmp_path: Path, rest: bytes) -> None:
    (part,) = Letter(write(tmp_path, b"From: a@x.example" + rest)).parts
    assert part.encoded({}) == ("7bit", [])


def test_the_parts(write_letter: Writing) -> None:
    for text, html, subtypes in [
        ("Hi", None, ["plain"]),
        ("", None, ["plain"]),
        ("Hi", "<p>Hi", ["plain", "html"]),
        (" \n", "<p>Hi", ["html"]),
    ]:
        assert [part.subtype for part in write_letter(text, html).parts] == subtypes


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"From: a@x.example\nX: a\n b\n\nHi\n{{ name", 6, "unexpected end"),
        (b"From: a@x.example\n\nHi\n\xff", 4, "not UTF-8"),
        (b"From: a@x.example\n\n\0", 3, "a NUL character"),
        (b"\nHi {{ x", 1, "From is missing"),
        (b"", 1, "From is missing"),
        (b"Hi\n\nthere", 1, "not a header field"),
    ],
)
def test_an_invalid_letter(tmp_path: Path, data: bytes, line: int, message: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(TemplateError, match=message) as caught:
        Letter(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)


def test_a_fault_in_the_html_part(write_letter: Writing, tmp_path: Path) -> None:
    with pytest.raises(TemplateError) as caught:
        write_letter("Hi", "<p>\n{% if %}")
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "letter.html"), 2)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Letter(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        Letter(write(tmp_path, b"From: a@x.example\n\n"), tmp_path / "missing")


def test_files_are_included_from_the_directory_of_the_letter(tmp_path: Path) -> None:
    (tmp_path / "footer").write_text("-- \n{{ name }}\n")
    path = write(tmp_path, b"From: a@x.example\n\nHi\n{% include 'footer' %}")
    (part,) = Letter(path).parts
    assert part.encoded({"name": "Ann"}) == ("7bit", [b"Hi\r\n-- \r\nAnn\r\n"])


def test_a_text_that_can_not_be_made(write_letter: Writing) -> None:
    text, html = write_letter("Hi {{ name }}", "<p>{{ nmae }}").parts
    with pytest.raises(
        ValueError, match=r"^HTML part: no column is named 'nmae'; columns: 'name'; did you mean"
    ):
        html.encoded({"name": "Ann"})
    with pytest.raises(ValueError, match=r"^text part: the text contains a NUL"):
        text.encoded({"name": "\0"})
    with pytest.raises(ValueError, match=r"^text part: a value is not valid Unicode"):
        text.encoded({"name": "\ud800"})


@pytest.mark.parametrize(
    ("header", "author"),
    [
        ("To: b@x.example\nfrom: News <a@x.example>", "a@x.example"),
        ('From: "b@x, c" <a@x.example>, d@x.example', "a@x.example"),
        ("From: " + "long " * 30 + "<a@ü.example>", "a@xn--tda.example"),
        ("From: {{ a }} <a@x.example>", None),
    ],
)
def test_the_author(write_letter: Writing, header: str, author: str | None) -> None:
    assert write_letter(header=header).author == author
