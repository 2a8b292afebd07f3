"""Text parts: each encoding gives the text back, whatever is in it."""

from __future__ import annotations

import binascii
import quopri

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csmtplib import kernel
from csmtplib.compose.mime import Constant, constants, encoded

DECODERS = {
    "7bit": lambda data: data,
    "quoted-printable": quopri.decodestring,
    "base64": binascii.a2b_base64,
}

LINE = "A line of a template, as long as many are, and others follow.\r\n"
LITERALS = ["no line end", "one\r\nend\r\n", "a" + LINE * 5 + "b", LINE * 6, "é" + LINE * 5]
MIXED = [LINE * 6 + "a\nb", "\n" + LINE * 6, "a\r" + LINE * 6, LINE * 6 + "\r"]
UNUSUAL = [
    "\u2028",
    "\x0b",
    "\x1c",
    "\x85",
    ".\n",
    "From x\n",
    "=\n",
    " \n",
    "\t\r\n",
    "--=_",
    "\x7f",
]
TEXT = st.lists(
    st.one_of(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        st.sampled_from(UNUSUAL),
        st.integers(70, 80).map(lambda length: "x" * length),
        st.integers(990, 1010).map(lambda length: "y" * length),
    ),
    max_size=8,
).map("".join)


def wanted(text: str) -> bytes:
    whole = kernel.fix_eols(text)
    return (whole + "\r\n" if whole and not whole.endswith("\r\n") else whole).encode()


def check(pieces: list[str], known: dict[str, Constant]) -> str:
    """The encoding, with what it must keep to."""
    encoding, buffers = encoded(pieces, known)
    data = b"".join(buffers)
    assert DECODERS[encoding](data) == wanted("".join(pieces))
    longest, has_nul, has_eight_bit = kernel.scan(data)
    assert longest <= (78 if encoding == "7bit" else 76)
    assert not has_nul
    assert not has_eight_bit
    assert b"--=_" not in data
    if encoding == "quoted-printable":
        assert not [line for line in data.split(b"\r\n") if line.endswith((b" ", b"\t"))]
    assert b"" not in buffers
    return encoding


@given(TEXT)
@example("é\n" + "x" * 74 + " \n" + "x" * 73 + " \t\n")
@example("é\n" * 4 + "x" * 68 + "é \n" + "x" * 80)
@example("x" * 75 + " \t\nend")
@example("x" * 73 + "\t")
@example("é" * 12 + "x" * 2 + " \r\n" + "x" * 78)
@example("\r")
@example("")
def test_a_text_comes_back(text: str) -> None:
    check([text], {})


@given(st.lists(st.one_of(TEXT, st.sampled_from(LITERALS)), max_size=8))
@example(["\r", LITERALS[2], "\n", LITERALS[3], LITERALS[3]])
def test_lines_that_are_encoded_before_make_no_difference(pieces: list[str]) -> None:
    known = constants(LITERALS)
    encoding = check(pieces, known)
    plain, data = encoded(pieces, {})
    assert encoding == plain
    assert DECODERS[encoding](b"".join(data)) == wanted("".join(pieces))


def test_which_texts_are_encoded_before() -> None:
    assert set(constants(LITERALS)) == set(LITERALS[2:])
    assert constants(MIXED) == {}
    assert constants(["a\n" * 500, "x" * 500, "a\r\n" + "x" * 500]) == {}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("", "7bit"),
        ("Hi\n", "7bit"),
        ("x" * 78, "7bit"),
        ("x" * 79, "quoted-printable"),
        ("--=_x", "quoted-printable"),
        ("Viele Grüße aus dem schönen Rheinland\n", "quoted-printable"),
        ("Привет\n", "base64"),
        ("👋🏽", "base64"),
    ],
)
def test_the_encoding_that_is_chosen(text: str, encoding: str) -> None:
    assert check([text], {}) == encoding


def test_one_value_decides_for_lines_that_are_encoded_before() -> None:
    known = constants([LITERALS[3]])
    for value, encoding in [("x", "7bit"), ("é", "quoted-printable"), ("é" * 900, "base64")]:
        assert check([value, LITERALS[3], value], known) == encoding


@pytest.mark.parametrize("name", ["x", "é"])
def test_lines_that_are_encoded_before_are_the_same_objects(name: str) -> None:
    known = constants([LITERALS[3]])
    (_, first), (_, second) = (encoded([name, LITERALS[3]], known) for _ in range(2))
    assert first == second
    assert [a is b for a, b in zip(first, second, strict=True)] == [False, True]


def test_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        encoded(["a\0b"], {})


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        encoded(["\ud800"], {})
