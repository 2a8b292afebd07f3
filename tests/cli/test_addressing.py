"""Envelopes from headers and from the command line, and Bcc that nobody sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csmtplib.cli.addressing import (
    Addressing,
    Envelope,
    parse_addresses,
    parse_argument,
    parse_sender,
    without_bcc,
)
from csmtplib.protocol.mail_object import Unsendable

BY_HEADER = Addressing(None, [], False)


@pytest.mark.parametrize(
    ("header", "sender", "recipients"),
    [
        ("From: a@x\nTo: b@y\n", "a@x", ["b@y"]),
        ("from: a@x\nTO: b@y\n", "a@x", ["b@y"]),
        (
            "From: Ann <a@x>\nTo: b@y, Bob <c@y>\nCc: d@y\nBcc: e@y\n",
            "a@x",
            ["b@y", "c@y", "d@y", "e@y"],
        ),
        ("From: a@x, z@x\nSender: s@x\nTo: b@y\n", "s@x", ["b@y"]),
        ("From: a@x, z@x\nTo: b@y\n", "a@x", ["b@y"]),
        ("Sender:\nFrom: a@x\nTo: b@y\n", "a@x", ["b@y"]),
        ("From: a@x\nTo: b@y\nTo: c@y\nBcc: d@y\nBcc: e@y\n", "a@x", ["b@y", "c@y", "d@y", "e@y"]),
        ("From: a@x\nTo: b@y, b@y\nCc: b@y, c@y\n", "a@x", ["b@y", "c@y"]),
        ("From: a@x\nTo: b@y,\n c@y\r\n\td@y\n", "a@x", ["b@y", "c@y", "d@y"]),
        ("From: a@x\nTo: undisclosed-recipients:;\nBcc: b@y\n", "a@x", ["b@y"]),
        ("From: a@x\nTo: Team: b@y, c@y;\nCc:\n", "a@x", ["b@y", "c@y"]),
        ("From: a@x\nTo: b@y,\n", "a@x", ["b@y"]),
        ("From: a@x\nTo: b@[127.0.0.1]\n", "a@x", ["b@[127.0.0.1]"]),
        ('From: a@x\nTo: "b, c" <"d e"@y>\n', "a@x", ['"d e"@y']),
        ("From: =?utf-8?q?A=2C_B?= <a@x>\nTo: =?utf-8?b?w6k=?= <b@y>\n", "a@x", ["b@y"]),
        ("From: Jörg <jörg@exämple.test>\nTo: žluť@y\n", "jörg@exämple.test", ["žluť@y"]),
        ("From: root (Cron)\nTo: root\n", "root", ["root"]),
        ("From : a@x\nTo\t: b@y\nCc: c@y\n", "a@x", ["b@y", "c@y"]),
        (
            "Resent-Date: now\nResent-From: r@x\nResent-To: q@y\nResent-Bcc: p@y\n"
            "From: a@x\nTo: b@y\n",
            "r@x",
            ["q@y", "p@y"],
        ),
        ("Resent-To: q@y\nFrom: a@x\nTo: b@y\n", "a@x", ["b@y"]),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_by_the_header(header: str, sender: str, recipients: list[str], line_end: str) -> None:
    text = (header + "\nTo: nobody@y\n").replace("\r\n", "\n").replace("\n", line_end)
    assert BY_HEADER.envelope(text.encode()) == Envelope(sender, recipients)


def test_latin_1_beside_an_address_does_no_harm() -> None:
    assert BY_HEADER.envelope(b"From: J\xf6rg <j@x>\nTo: b@y\n\n") == Envelope("j@x", ["b@y"])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "no address in Sender or From"),
        (b"To: b@y\n", "no address in Sender or From"),
        (b"From:\nTo: b@y\n", "no address in Sender or From"),
        (b"From: a@x\n", "no recipient in To, Cc or Bcc"),
        (b"From: a@x\nTo:\nCc: none:;\n", "no recipient"),
        (b"From: a@x\nTo: b@y)c@z\n", "To is not a list of addresses"),
        (b"From: a@x\nTo: ok@y\nBcc: b@y c@y\n", "Bcc is not a list of addresses"),
        (b"From: a@x@z\nTo: b@y\n", "From is not a list of addresses"),
        (b"From: a@x\nTo: j\xf6rg@y\n", "neither ASCII nor UTF-8"),
        (b"From: a@x\nTo: b@y\nCc c@y\nBcc: d@y\n", "b'Cc c@y' is neither a header field"),
        (b">From a\nFrom: a@x\nTo: b@y\n", "b'>From a' is neither a header field"),
        (b"Resent-Date: 2\nResent-To: b@y\nResent-Date: 1\nFrom: a@x\n", "one Resent- block"),
        (b"Resent-Date: 1\nFrom: a@x\nTo: b@y\n", "no address in Resent-Sender or Resent-From"),
        (b"Resent-Date: 1\nResent-From: a@x\nTo: b@y\n", "no recipient in Resent-To"),
    ],
)
def test_what_gives_no_envelope(header: bytes, reason: str) -> None:
    with pytest.raises(Unsendable, match=reason):
        BY_HEADER.envelope(header + b"\ntext\n")


MESSAGE = b"From: a@x\nTo: b@y\nBcc: c@y\n\n"


@pytest.mark.parametrize(
    ("addressing", "sender", "recipients"),
    [
        (Addressing("s@x", [], False), "s@x", ["b@y", "c@y"]),
        (Addressing("", [], False), "", ["b@y", "c@y"]),
        (Addressing(None, ["r@y"], False), "a@x", ["r@y"]),
        (Addressing(None, ["r@y", "b@y"], True), "a@x", ["r@y", "b@y", "c@y"]),
        (Addressing("s@x", ["r@y", "r@y"], False), "s@x", ["r@y"]),
    ],
)
def test_what_is_given_comes_first(
    addressing: Addressing, sender: str, recipients: list[str]
) -> None:
    assert addressing.envelope(MESSAGE) == Envelope(sender, recipients)


def test_a_message_without_header_is_sent_to_whom_is_given() -> None:
    addressing = Addressing("s@x", ["r@y"], False)
    assert addressing.envelope(b"just text\n") == Envelope("s@x", ["r@y"])


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("a@x", ["a@x"]),
        ("Ann <a@x>", ["a@x"]),
        ("a@x,b@x", ["a@x", "b@x"]),
        ("root", ["root"]),
        ("  ", []),
    ],
)
def test_lists_of_addresses(text: str, addresses: list[str]) -> None:
    assert parse_addresses(text) == addresses


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (b"A: 1\nBcc: b@y\nC: 2\n", b"A: 1\nC: 2\n"),
        (b"Bcc: b@y\n", b""),
        (b"bCC:b@y\nA: 1\n", b"A: 1\n"),
        (b"A: 1\nBcc: b@y,\n c@y,\n\td@y\nC: 2\n", b"A: 1\nC: 2\n"),
        (b"A: 1\nBcc:\n b@y\nC: 2\n", b"A: 1\nC: 2\n"),
        (b"A: 1\nBcc: b@y\n \nC: 2\n", b"A: 1\nC: 2\n"),
        (b"A: 1\nBcc: b@y\nBcc: c@y\nResent-Bcc: d@y\n e@y\nC: 2\n", b"A: 1\nC: 2\n"),
        (b"A: 1\nBcc : b@y\nC: 2\n", b"A: 1\nC: 2\n"),
        (b"A: 1\n Bcc: folded\nX-Bcc: 1\nBcc-X: 2\nBccc: 3\n", None),
        (b"\xef\xbb\xbfA: 1\nBcc: b@y\nC: 2\n", b"A: 1\nC: 2\n"),
    ],
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("body", [b"\nBcc: text\n b\n", b"\n", b""], ids=["body", "empty", "none"])
def test_bcc_is_cut_out(header: bytes, kept: bytes | None, line_end: bytes, body: bytes) -> None:
    data = (header + body).replace(b"\n", line_end)
    expected = data if kept is None else (kept + body).replace(b"\n", line_end)
    assert without_bcc(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"A: 1\nno field\nBcc: b@y\n\ntext\n",
        b"Bcc: b@y\nno field\nA: 1\n\ntext\n",
        b">From a Mon Jan  5 10:00:00 2026\nA: 1\nBcc: b@y\n\ntext\n",
        b"From a Mon Jan  5 10:00:00 2026\nA: 1\nBcc: b@y\n\ntext\n",
        b"A: 1\nFrom a Mon Jan  5 10:00:00 2026\nResent-Bcc: b@y\n\ntext\n",
        b"\nA: 1\nBcc: b@y\n\ntext\n",
        b"\n\nA: 1\nbCC : b@y\n\ntext\n",
        b" \nA: 1\nBcc: b@y\n\ntext\n",
        b" Bcc: b@y\nA: 1\n\ntext\n",
        b"\xef\xbb\xbf\xef\xbb\xbfBcc: b@y\nA: 1\n\ntext\n",
        b"\xef\xbb\xbf\nBcc: b@y\nA: 1\n\ntext\n",
        b"A: 1\n\0: 2\nBcc: b@y\n\ntext\n",
        b"A: 1\n\0Bcc: b@y\n\ntext\n",
        b"A: 1\nB\xc3\xa4: 2\nBcc: b@y\n\ntext\n",
        b": 1\nBcc: b@y\n\ntext\n",
        b"no field\n\nA: 1\nBcc: b@y\n\ntext\n",
    ],
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_bcc_that_is_no_field_is_refused(data: bytes, line_end: bytes) -> None:
    """T17: behind a line that was not recognised, Bcc stayed in what everybody got."""
    with pytest.raises(Unsendable, match=r"has a Bcc that is no header field.*: correct the lines"):
        without_bcc(data.replace(b"\n", line_end))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"just text\n",
        b"\njust text about Bcc\n",
        b"no field\nX-Bcc: b@y\nBccs: 2\n\ntext\n",
        b"A: 1\n\nBcc: in the text\n",
        b"A: 1\n\n>From a\nBcc: in the text\n",
    ],
)
def test_text_without_a_bcc_of_its_own_is_sent(data: bytes) -> None:
    """T17: what programs pipe into sendmail, without any header, still goes out as it is."""
    assert without_bcc(data) == data


def test_a_byte_order_mark_is_no_part_of_the_header() -> None:
    """T17: it hid the whole header, and so the Bcc."""
    data = b"\xef\xbb\xbfFrom: a@x\nTo: b@y\nBcc: c@y\n\n\xef\xbb\xbftext\n"
    assert BY_HEADER.envelope(data) == Envelope("a@x", ["b@y", "c@y"])
    assert without_bcc(data) == b"From: a@x\nTo: b@y\n\n\xef\xbb\xbftext\n"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("From: a@x\nTo: fa\u2060y@y\n", r"To: .* contains U\+2060 \(WORD JOINER\): delete it"),
        ("From: a\u200b@x\nTo: b@y\n", r"From: .* contains U\+200B \(ZERO WIDTH SPACE\)"),
        ("From: a@x\nBcc: b@exam\u00adple.test\n", r"Bcc: .* contains U\+00AD \(SOFT HYPHEN\)"),
        ("From: a@x\nTo: ro\u200bot\n", r"To: .* contains U\+200B"),
        ("From: a@x\nTo: b@x..test\n", "To: 'x..test' is not a domain|To is no list"),
        ("From: a@x\nTo: b@-x.test\n", "To: '-x.test' is not a domain"),
    ],
)
def test_an_address_that_nobody_can_mean(header: str, reason: str) -> None:
    """T20: they were sent as they are."""
    with pytest.raises(Unsendable, match=reason):
        BY_HEADER.envelope(header.encode() + b"\ntext\n")


@pytest.mark.parametrize("parse", [parse_argument, parse_sender])
@pytest.mark.parametrize(
    "text", ["a\u200b@x", "a@x\ufeff", "a@x..test", "a@x-", f"a@{'l' * 64}.test", "a@\u202ex"]
)
def test_an_argument_that_nobody_can_mean(parse: Callable[[str], object], text: str) -> None:
    """T20: --from and --to took them."""
    with pytest.raises(ValueError, match=r"contains U\+|is not a domain|not a list of addresses"):
        parse(text)


def test_arguments_as_people_write_them() -> None:
    """T20: white space and the dot at the end of a domain are no part of an address."""
    assert parse_argument("\u00a0a@x.test\u00a0, <b@x.test.>") == ["a@x.test", "b@x.test"]
    assert parse_sender("Ann <a@x.test>") == "a@x.test"
    assert parse_argument("root") == ["root"]


def test_a_recipient_in_two_fields_gets_one_letter() -> None:
    """T12: the domain in another case made it two."""
    header = b"From: a@x\nTo: b@y.test, b@Y.Test\nCc: B@y.test, b@y.TEST\n\n"
    assert BY_HEADER.envelope(header).recipients == ["b@y.test", "B@y.test"]


def test_bcc_behind_a_bare_cr_is_a_field_on_the_wire() -> None:
    assert without_bcc(b"A: 1\rBcc: b@y\nC: 2\n\n") == b"A: 1\rC: 2\n\n"


def test_bcc_at_the_end_without_line_end() -> None:
    assert without_bcc(b"A: 1\nBcc: b@y") == b"A: 1\n"


hidden = st.sampled_from([b"Bcc", b"BCC", b"Resent-Bcc"])
shown = st.sampled_from([b"To", b"Subject", b"X-Bcc", b"Bcc-X"])
lines = st.binary(max_size=12).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b""))


@st.composite
def fields(draw: st.DrawFn, names: st.SearchStrategy[bytes]) -> bytes:
    """A header field with its continuation lines."""
    end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    value = draw(st.lists(lines, min_size=1, max_size=3))
    return draw(names) + b":" + (end + b" ").join(value) + end


@given(st.lists(st.tuples(fields(hidden), fields(shown)), max_size=4), st.binary(max_size=40))
def test_nothing_but_bcc_is_cut_out(header: list[tuple[bytes, bytes]], body: bytes) -> None:
    data = b"".join(bcc + other for bcc, other in header) + b"\r\n" + body
    kept = b"".join(other for _, other in header) + b"\r\n" + body
    assert without_bcc(data) == kept
