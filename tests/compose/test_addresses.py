"""Addresses: which are taken, and what becomes of their domains."""

from __future__ import annotations

import sys

import pytest

from csmtplib.compose import addresses
from csmtplib.compose.addresses import envelope_address, verp

# With a non-joiner in it, as it is spelled.
PERSIAN = "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc"


@pytest.fixture
def without_idna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    monkeypatch.setattr(addresses, "_checked_domain", addresses._checked_domain.__wrapped__)


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
        ("\u00a0ann@x.example\u3000", "ann@x.example"),
        ("<ann@x.example>", "ann@x.example"),
        ("Ann Lee <ann@x.example>", "ann@x.example"),
        ('"Lee, Ann" < ann@x.example >', "ann@x.example"),
        ("Lee, Ann <ann@x.example>", "ann@x.example"),
        ("MailTo:ann@x.example", "ann@x.example"),
        ("ann@x.example.", "ann@x.example"),
        ("ann@x\uff0eexample", "ann@x.example"),
        ("ann@例え\u3002テスト\uff61", "ann@xn--r8jz45g.xn--zckzah"),
        ("ann@localhost", "ann@localhost"),
        (f"ann@{'l' * 63}.example", f"ann@{'l' * 63}.example"),
        # Servers may take longer ones than the 64 bytes that all take (RFC 5321 section 4.5.3.1).
        (f"{'x' * 100}@x.example", f"{'x' * 100}@x.example"),
        # Joiners are spelling in some scripts.
        ("नमस्\u200dते@x.example", "नमस्\u200dते@x.example"),
        (f"{PERSIAN}@{PERSIAN}.com", f"{PERSIAN}@xn--mgba3gch31f060k.com"),
    ],
)
def test_an_address_that_is_taken(text: str, address: str) -> None:
    assert envelope_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "ann", "@x.example", "ann@", "ann@@x.example", "a@b@x.example"),
        *("ann lee@x.example", "ann@x example", "<>", "Ann <>", "<ann@x.example", "a@x <b@x>"),
        *("a@x.example, b@x.example", "a@x.example;b@x.example", "ann(hi)@x.example"),
        *("ann@x.example\r\nRCPT TO:<b@x.example>", "ann@x.example\n", "a\0@x.example"),
        *("ann@x\u2028.example", "\ud800@x.example", "ann@x.example> SIZE=1", '"ann@x.example'),
        *("ann@x/y.example", "ann@-ü-.example\x7f", f"ann@{'ü' * 80}.example", "ann@ü..example"),
    ],
)
def test_an_invalid_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|domain"):
        envelope_address(text)


@pytest.mark.parametrize(
    "place", ["{}ann@x.example", "a{}nn@x.example", "ann@x.exa{}mple", "ann@x{}"]
)
@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u200b", r"U\+200B \(ZERO WIDTH SPACE\)"),
        ("\u2060", r"U\+2060 \(WORD JOINER\)"),
        ("\u00ad", r"U\+00AD \(SOFT HYPHEN\)"),
        ("\ufeff", r"U\+FEFF \(ZERO WIDTH NO-BREAK SPACE\)"),
        ("\u202e", r"U\+202E \(RIGHT-TO-LEFT OVERRIDE\)"),
        ("\u2066", r"U\+2066 \(LEFT-TO-RIGHT ISOLATE\)"),
        ("\u061c", r"U\+061C \(ARABIC LETTER MARK\)"),
        ("\u034f", r"U\+034F \(COMBINING GRAPHEME JOINER\)"),
        ("\u3164", r"U\+3164 \(HANGUL FILLER\)"),
        ("\ufe0f", r"U\+FE0F \(VARIATION SELECTOR-16\)"),
        ("\U000e0041", r"U\+E0041 \(TAG LATIN CAPITAL LETTER A\)"),
        ("\u2028", r"U\+2028 \(LINE SEPARATOR\)"),
        ("\ue000", r"U\+E000 \(no name\)"),
        ("\0", r"U\+0000 \(NUL\)"),
        ("\n", r"U\+000A \(line feed\)"),
        ("\x7f", r"U\+007F \(control character\)"),
    ],
    ids=ascii,
)
def test_what_can_not_be_seen_is_named(place: str, character: str, name: str) -> None:
    """T20: such characters were sent in a local part, and dropped from a domain without a word."""
    with pytest.raises(ValueError, match=rf"contains {name}: delete it"):
        envelope_address(place.format(character))


@pytest.mark.parametrize(
    "text", ["a\u200cnn@x.example", "a\u200dnn@x.example", "ann\u200c@x.example"]
)
def test_a_joiner_that_joins_nothing_is_named_too(text: str) -> None:
    """T20: between Latin letters nobody means a joiner."""
    with pytest.raises(ValueError, match="ZERO WIDTH"):
        envelope_address(text)


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        ("x..example", "a label is empty"),
        (".x.example", "a label is empty"),
        ("x.example..", "a label is empty"),
        (".", "is not a domain"),
        ("x\uff0e\uff0eexample", "is not a domain"),
        ("-x.example", "begins or ends with a hyphen"),
        ("x.example-", "begins or ends with a hyphen"),
        (f"{'l' * 64}.example", "longer than 63"),
        (".".join(["l" * 50] * 6), "longer than 255"),
    ],
)
def test_a_domain_that_can_be_none(domain: str, reason: str) -> None:
    """T20: `h@x..example` passed."""
    with pytest.raises(ValueError, match=reason):
        envelope_address(f"h@{domain}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max@x.example;moe@x.example", "is more than one address: write one"),
        ("max@x.example moe@x.example", "is more than one address"),
        ("<max@x.example>, <moe@x.example>", "is more than one address"),
        ("mailto:ann%2Bb@x.example", "write the address alone"),
        ("mailto:ann@x.example?subject=x", "write the address alone"),
        ("ann\uff20x.example", r"U\+FF20 \(FULLWIDTH COMMERCIAL AT\): write @"),
        ("ann\u00a0lee@x.example", r"U\+00A0 \(NO-BREAK SPACE\): delete it"),
        (f"{'x' * 500}@x.example", "the address has 510 bytes, more than the 500"),
    ],
)
def test_what_to_do_is_reported(text: str, reason: str) -> None:
    """T20: each is refused with a message that says what to do."""
    with pytest.raises(ValueError, match=reason):
        envelope_address(text)


def test_a_letter_that_versions_of_idna_read_differently() -> None:
    assert envelope_address("ann@straße.example") == "ann@xn--strae-oqa.example"


@pytest.mark.usefixtures("without_idna")
def test_the_stdlib_serves_where_the_package_idna_is_not_there() -> None:
    assert envelope_address("ann@müller.example") == "ann@xn--mller-kva.example"
    with pytest.raises(ValueError, match="install the package idna"):
        envelope_address("ann@straße.example")


# VERP

SENDER = "bounces@example.org"


@pytest.mark.parametrize(
    ("recipient", "sender"),
    [
        ("user@example.com", "bounces+user=example.com@example.org"),
        ("user+tag@example.com", "bounces+user+tag=example.com@example.org"),
        ("jörg@example.com", "bounces+jörg=example.com@example.org"),
        ('"ann lee"@example.com', '"bounces+ann lee=example.com"@example.org'),
        (r'"a\"b\\c"@example.com', r'"bounces+a\"b\\c=example.com"@example.org'),
        ('"a@b"@example.com', '"bounces+a@b=example.com"@example.org'),
        ("user@[192.0.2.1]", '"bounces+user=[192.0.2.1]"@example.org'),
    ],
)
def test_the_recipient_stands_in_the_sender(recipient: str, sender: str) -> None:
    assert verp(SENDER, recipient) == sender
    assert envelope_address(sender) == sender


def test_a_sender_in_quotes() -> None:
    assert verp('"b o"@example.org', "u@x.example") == '"b o+u=x.example"@example.org'


@pytest.mark.parametrize(
    ("sender", "recipient"), [("", "user@example.com"), (SENDER, "postmaster"), ("b", "u@x")]
)
def test_what_has_no_domain_is_refused(sender: str, recipient: str) -> None:
    with pytest.raises(ValueError, match="VERP needs a sender and a recipient with a domain"):
        verp(sender, recipient)
