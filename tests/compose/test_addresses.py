"""Addresses: which are taken, and what becomes of their domains."""

from __future__ import annotations

import sys

import pytest

from csmtplib.compose import addresses
from csmtplib.compose.addresses import envelope_address


@pytest.fixture
def without_idna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    addresses._a_labels.cache_clear()
    monkeypatch.setattr(addresses, "_a_labels", addresses._a_labels.__wrapped__)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ann@x.example", "ann@x.example"),
        (" ann@x.example\t", "ann@x.example"),
        ("ann+tag.b@x.example", "ann+tag.b@x.example"),
        ("a..b.@x.example", "a..b.@x.example"),
        ("o'neil@x_y.example", "o'neil@x_y.example"),
        ('"ann lee"@x.example', '"ann lee"@x.example'),
        (r'"a\"b"@x.example', r'"a\"b"@x.example'),
        ("ann@[192.0.2.1]", "ann@[192.0.2.1]"),
        ("ann@[IPv6:2001:db8::1]", "ann@[IPv6:2001:db8::1]"),
        ("jörg@x.example", "jörg@x.example"),
        ("ann@müller.example", "ann@xn--mller-kva.example"),
        ("ann@MÜLLER.example", "ann@xn--mller-kva.example"),
        ("jörg@例え.テスト", "jörg@xn--r8jz45g.xn--zckzah"),
    ],
)
def test_an_address_that_is_taken(text: str, address: str) -> None:
    assert envelope_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "ann", "@x.example", "ann@", "ann@@x.example", "a@b@x.example"),
        *("ann lee@x.example", "ann@x example", "Ann <ann@x.example>", "<ann@x.example>"),
        *("a@x.example, b@x.example", "a@x.example;b@x.example", "ann(hi)@x.example"),
        *("ann@x.example\r\nRCPT TO:<b@x.example>", "ann@x.example\n", "a\0@x.example"),
        *("ann@x\u2028.example", "\ud800@x.example", "ann@x.example> SIZE=1", '"ann@x.example'),
        *("ann@x/y.example", "ann@-ü-.example\x7f", f"ann@{'ü' * 80}.example", "ann@ü..example"),
    ],
)
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|domain"):
        envelope_address(text)


def test_a_letter_that_versions_of_idna_read_differently() -> None:
    assert envelope_address("ann@straße.example") == "ann@xn--strae-oqa.example"


@pytest.mark.usefixtures("without_idna")
def test_the_stdlib_serves_where_the_package_idna_is_not_there() -> None:
    assert envelope_address("ann@müller.example") == "ann@xn--mller-kva.example"
    with pytest.raises(ValueError, match="install the package idna"):
        envelope_address("ann@straße.example")
