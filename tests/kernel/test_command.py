"""The injection check, and addresses that need no parser: compiled = pure."""

from __future__ import annotations

import smtplib
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .conftest import TWINS, compares_twins

address_texts = st.text(
    alphabet=st.sampled_from('ab1.@-+_"\\(),:;<>[] \t\r\n\0\x7fé\ud800'), max_size=12
)


@given(text=st.text(max_size=40) | address_texts)
def test_has_control(kernels: ModuleType, text: str) -> None:
    assert kernels.has_control(text) is any(ord(c) < 32 or ord(c) == 127 for c in text)


def test_every_character_up_to_latin_1(kernels: ModuleType) -> None:
    for number in range(256):
        for text in (chr(number), f"a{chr(number)}", f"{chr(number)}ü"):
            assert kernels.has_control(text) is (number < 32 or number == 127)


@given(address=address_texts)
def test_plain_addresses_are_read_by_the_stdlib_as_they_are(
    kernels: ModuleType, address: str
) -> None:
    if kernels.is_plain_address(address):
        assert smtplib.quoteaddr(address) == f"<{address}>"


@compares_twins
@given(address=address_texts | st.emails())
def test_both_implementations_agree_on_addresses(address: str) -> None:
    answers = {twin.kernels.is_plain_address(address) for twin in TWINS}
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("a@b", True),
        ("first.last+tag@mail.example.org", True),
        ("!#$%&'*+-/=?^_`{|}~@x-y.example", True),
        ("", False),
        ("a", False),
        ("@b", False),
        ("a@", False),
        ("a@b@c", False),
        (".a@b", False),
        ("a.@b", False),
        ("a..a@b", False),
        ("a@.b", False),
        ("a@b.", False),
        ("a@b..c", False),
        ("a@b_c", False),
        ("a @b", False),
        ("a@b\n", False),
        ("ä@b", False),
        ("a@[127.0.0.1]", False),
        ('"a"@b', False),
        ("<a@b>", False),
    ],
)
def test_is_plain_address(kernels: ModuleType, address: str, plain: bool) -> None:
    assert kernels.is_plain_address(address) is plain


class Header(str):
    """A subclass of str, like the headers of the email package and the safe strings of template
    engines."""

    __slots__ = ()


def test_subclasses_of_str(kernels: ModuleType) -> None:
    assert kernels.is_plain_address(Header("a@b"))
    assert kernels.has_control(Header("a\n"))
    assert not kernels.has_control(Header("ä"))
    for text in ("a\nb", "a\r\nb", "ä"):
        fixed = kernels.fix_eols(Header(text))
        assert fixed == kernels.fix_eols(text)
        assert type(fixed) is str


def test_other_types_than_str_are_refused(kernels: ModuleType) -> None:
    for function in (kernels.is_plain_address, kernels.has_control):
        for wrong in (b"a@b", None, 5):
            with pytest.raises(TypeError):
                function(wrong)
