"""Header fields: what they say is read again, and nothing is added by it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csmtplib.compose import headers

from .reading import mailboxes, parse

CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
VALUES = st.one_of(
    st.text(CHARACTERS),
    st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1))
    .map(" ".join)
    .filter(str.isprintable),
    st.text(CHARACTERS, min_size=100),
)
SUBJECTS = [
    "Größe für Jörg",
    "日本語のメール件名です。" * 12,
    "👩‍👩‍👧 family" * 10,
    "שלום עולם, mixed",
    "word " * 60 + "end",
    "=?utf-8?q?x=0Ay?= is no encoded word",
    "x" * 1500,
    "a" + " " * 100 + "b",
    "é" + " " * 100 + "é",
    ', ; : < > @ " \\ ( )',
    "a\u00a0b\u202ec",
]


@given(VALUES)
@example("")
@example("x" * 70)
@example("x " * 2000)
@example("x" + " " * 600 + "y")
@pytest.mark.parametrize("name", ["Subject", "X-" + "long-" * 7 + "n"])
def test_any_text_is_read_again(name: str, value: str) -> None:
    data = headers.unstructured(name, value)
    message = parse(data + b"\r\n")
    assert message.keys() == [name]
    assert str(message[name]).strip(" ") == value.strip(" ")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject(subject: str) -> None:
    data = headers.unstructured("Subject", subject)
    assert parse(data + b"\r\n")["Subject"] == subject
    if "x" * 80 not in subject:
        assert max(map(len, data.split(b"\r\n"))) <= (78 if " " * 80 not in subject else 120)


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\r\n", "\x0b", "\x85", "\u2028", "\x7f"])
@pytest.mark.parametrize("value", ["a{}Bcc: b@x.example", "é{}Bcc: b@x.example", "{}", "a{}"])
def test_a_line_end_is_refused(character: str, value: str) -> None:
    value = value.format(character)
    with pytest.raises(ValueError, match="not allowed in a header"):
        headers.unstructured("Subject", value)
    with pytest.raises(ValueError, match="not allowed in a header"):
        headers.structured("References", value)
    with pytest.raises(ValueError, match="not allowed in a header"):
        headers.mailboxes("To", [(value, "a@x.example")])


def test_a_tab_is_white_space() -> None:
    assert headers.unstructured("Subject", "a\tb") == b"Subject: a b\r\n"


@pytest.mark.parametrize(
    ("display_name", "data"),
    [
        ("", b"To: a@x.example\r\n"),
        ("Ann Lee", b"To: Ann Lee <a@x.example>\r\n"),
        ("Lee, Ann", b'To: "Lee, Ann" <a@x.example>\r\n'),
        ('Ann "A\\"', b'To: "Ann \\"A\\\\\\"" <a@x.example>\r\n'),
        ("Ann <b@x.example>", b'To: "Ann <b@x.example>" <a@x.example>\r\n'),
        ("Jörg", b"To: =?utf-8?b?SsO2cmc=?= <a@x.example>\r\n"),
        ("=?us-ascii?q?x?=", b"To: =?utf-8?b?PT91cy1hc2NpaT9xP3g/PQ==?= <a@x.example>\r\n"),
    ],
)
def test_a_display_name(display_name: str, data: bytes) -> None:
    assert headers.mailboxes("To", [(display_name, "a@x.example")]) == data


@given(st.lists(VALUES, min_size=1, max_size=3))
@example(["Großherzoglich Badische " * 6, "x" * 100, ""])
@example(["a " * 60, "\xa0" * 50])
@example(['a\\"b', "a, b", "a <b@x.example>", "(a)"])
def test_display_names_are_read_again(names: list[str]) -> None:
    data = headers.mailboxes("To", [(name, "a@x.example") for name in names]) + b"\r\n"
    assert mailboxes(data, "To") == [(name.strip(" "), "a@x.example") for name in names]
    assert [each.addr_spec for each in parse(data)["To"].addresses] == ["a@x.example"] * len(names)


def test_an_address_that_is_not_ascii_stays() -> None:
    data = headers.mailboxes("To", [("Jörg", "jörg@x.example")])
    assert data == "To: =?utf-8?b?SsO2cmc=?= <jörg@x.example>\r\n".encode()


def test_several_addresses_are_folded() -> None:
    data = headers.mailboxes("Cc", [("Ann Lee", f"ann{n}@x.example") for n in range(5)])
    assert max(map(len, data.split(b"\r\n"))) <= 78
    assert len(parse(data + b"\r\n")["Cc"].addresses) == 5


def test_a_structured_field_has_no_encoded_words() -> None:
    with pytest.raises(ValueError, match="only ASCII"):
        headers.structured("References", "<ü@x.example>")
    with pytest.raises(ValueError, match="longer than 998"):
        headers.structured("References", f"<{'x' * 1000}@x.example>")
    data = headers.structured("References", "<a@x.example> " * 10)
    assert data == (
        b"References: " + b"<a@x.example> " * 3 + b"<a@x.example>"
        b"\r\n" + b" <a@x.example>" * 5 + b"\r\n" + b" <a@x.example>\r\n"
    )


def test_uris_stand_in_angle_brackets() -> None:
    data = headers.uris("List-Unsubscribe", ["https://x.example/" + "u" * 60, "mailto:u@x.example"])
    assert data == (
        b"List-Unsubscribe: <https://x.example/" + b"u" * 60 + b">,\r\n <mailto:u@x.example>\r\n"
    )
