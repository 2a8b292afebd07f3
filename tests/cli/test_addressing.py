"""Envelopes from headers and from the command line, and Bcc that nobody sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csmtplib.cli.addressing import Addressing, Envelope, parse_addresses, without_bcc
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
        (b"From: a@x\nTo: b@y)c@z\n", "To is no list of addresses"),
        (b"From: a@x\nTo: ok@y\nBcc: b@y c@y\n", "Bcc is no list of addresses"),
        (b"From: a@x@z\nTo: b@y\n", "From is no list of addresses"),
        (b"From: a@x\nTo: j\xf6rg@y\n", "neither ASCII nor UTF-8"),
        (b"From: a@x\nTo: b@y\nCc c@y\nBcc: d@y\n", "b'Cc c@y' is no header field"),
        (b">From a\nFrom: a@x\nTo: b@y\n", "b'>From a' is no header field"),
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
        (b"A: 1\nno field\nBcc: text\n", None),
        (b"", None),
    ],
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("body", [b"\nBcc: text\n b\n", b"\n", b""], ids=["body", "empty", "none"])
def test_bcc_is_cut_out(header: bytes, kept: bytes | None, line_end: bytes, body: bytes) -> None:
    octets = (header + body).replace(b"\n", line_end)
    expected = octets if kept is None else (kept + body).replace(b"\n", line_end)
    assert without_bcc(octets) == expected


def test_bcc_behind_a_bare_cr_is_a_field_on_the_wire() -> None:
    assert without_bcc(b"A: 1\rBcc: b@y\nC: 2\n\n") == b"A: 1\rC: 2\n\n"


def test_bcc_at_the_end_without_line_end() -> None:
    assert without_bcc(b"A: 1\nBcc: b@y") == b"A: 1\n"


hidden = st.sampled_from([b"Bcc", b"BCC", b"Resent-Bcc"])
shown = st.sampled_from([b"To", b"Subject", b"X-Bcc", b"Bcc-X"])
lines = st.binary(max_size=12).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b""))


@st.composite
def fields(draw: st.DrawFn, names: st.SearchStrategy[bytes]) -> bytes:
    """A header field with its continuation lines."""
    end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    value = draw(st.lists(lines, min_size=1, max_size=3))
    return draw(names) + b":" + (end + b" ").join(value) + end


@given(st.lists(st.tuples(fields(hidden), fields(shown)), max_size=4), st.binary(max_size=40))
def test_nothing_but_bcc_is_cut_out(header: list[tuple[bytes, bytes]], body: bytes) -> None:
    octets = b"".join(bcc + other for bcc, other in header) + b"\r\n" + body
    kept = b"".join(other for _, other in header) + b"\r\n" + body
    assert without_bcc(octets) == kept
