"""cli/mbox.py: which lines separate messages, and which are text."""

from __future__ import annotations

import io
import mailbox
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csmtplib.cli.mbox import Mbox
from csmtplib.protocol.mail_object import Unsendable

from ..bulk.servers.throttling import ThrottlingServer
from .conftest import Command

FIRST = b"From ann@example.org Mon Jan  5 10:00:00 2026\n"
ONE = b"From: ann@example.org\nTo: bob@example.net\nSubject: one\n\n"
TWO = b"From: ann@example.org\nTo: cat@example.net\nSubject: two\n\ntwo\n"

SEPARATORS = [
    "From ann@example.org Mon Jan  5 10:00:00 2026",
    "From ann@example.org Mon Jan 05 10:00:00 2026",
    "From ann@example.org  Mon Jan  5 10:00:00 2026",
    "From ann@example.org Mon Jan  5 10:00 2026",
    "From ann@example.org Mon Jan  5 10:00:00 CET 2026",
    "From ann@example.org Mon Jan  5 10:00:00 MET DST 2026",
    "From ann@example.org Mon Jan  5 10:00:00 2026 +0100",
    "From ann@example.org Mon Jan  5 10:00:00 +0100 2026",
    "From ann@example.org Mon Jan  5 10:00:00 2026 PST",
    "From ann@example.org Mon Jan  5 10:00:00 UTC 2026 +0000",
    "From ann@example.org Mon Jan  5 10:00:00 2026 (+0700)",
    "From ann@example.org Mon, Jan 05 10:00:00 2026",
    "From ann@example.org Mon, 5 Jan 2026 10:00:00 +0100",
    "From ann@example.org 5 Jan 2026 10:00:00 GMT",
    "From ann@example.org Mon, 5 Jan 2026 10:00:00 +0100 (CET)",
    "From ann@example.org 2026-01-05T10:00:00Z",
    "From ann@example.org 2026-01-05 10:00:00 +01:00",
    "From ann@example.org Mon Jan  5 10:00:00 2026 remote from mars",
    "From ann Fri Jul  1 09:13:09 94",
    "From MAILER-DAEMON Fri Jul  8 12:08:34 2011",
    "From - Mon Jul 11 12:08:34 2011",
    "From - Sat Apr 12 2025 15:59:28",
    "From ???@??? Mon Jan 05 10:00:00 2026",
    "From 1234567890@xxx Mon Jan 05 10:00:00 +0000 2026",
    "From <ann@example.org> Mon Jan  5 10:00:00 2026",
    'From "ann lee"@example.org Mon Jan  5 10:00:00 2026',
    "From ann at example.org  Mon Jan  5 10:00:00 2026",
    "From ann+tag=x@example.org Mon Jan  5 10:00:00 2026",
    "From Mon Jan  5 10:00:00 2026",
    "From mon Mon Jan  5 10:00:00 2026",
    "From ann@example.org\tMon Jan  5 10:00:00 2026 ",
    "From ann@example.org mon jan  5 10:00:00 2026",
    "From ",
    "From -",
    "From - ",
]


def read(data: bytes) -> list[bytes]:
    box = Mbox(io.BytesIO(data))
    return [box.message(number) for number in range(len(box))]


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("gap", [b"\n", b""], ids=["gap", "none"])
def test_a_separator(separator: str, line_end: bytes, gap: bytes) -> None:
    """T16: what mail programs write there, with an empty line before it or without one."""
    data = FIRST + ONE + b"one\n" + gap + separator.encode() + b"\n" + TWO
    messages = [ONE + b"one\n", TWO]
    assert read(data.replace(b"\n", line_end)) == [
        each.replace(b"\n", line_end) for each in messages
    ]
    first = separator.encode() + b"\n" + TWO
    assert read(first.replace(b"\n", line_end)) == [TWO.replace(b"\n", line_end)]


@pytest.mark.parametrize("gap", [b"\n", b""], ids=["gap", "none"])
@pytest.mark.parametrize(
    "text",
    [
        "From now on you can read your mail in a browser.",
        "From now on",
        "From: ann@example.org",
        "From the President xyz@abc.example",
        "From 5 to 7 we meet.\nThen we eat.",
        "From Monday Jan 5 on",
        "From Mon to Fri at 10:00",
        "From Rome\nNote: bring the keys",
        "From ann@example.org",
        "From john.doe@example.com 2025-06-15",
        "From ann@example.org at 10:00:00 on Mon Jan  5 2026 we heard nothing.",
        "From ann@example.org Mon Jan  5 10:00:00 2026 nothing more",
        "From ann@example.org Mon Jan  5 2026",
        "From ann@example.org Foo Jan  5 10:00:00 2026",
        "From ",
        "From",
        "FROM ann@example.org Mon Jan  5 10:00:00 2026",
        ">From ann@example.org Mon Jan  5 10:00:00 2026\nSubject: x",
        ">>From ann@example.org Mon Jan  5 10:00:00 2026",
        " From ann@example.org Mon Jan  5 10:00:00 2026\nSubject: x",
        f"From {'x' * 2000} Mon Jan  5 10:00:00 2026",
    ],
)
def test_text_that_begins_like_a_separator(text: str, gap: bytes) -> None:
    """T16: it split the letter, whose first half was reported accepted."""
    data = ONE + b"Dear Bob,\n" + gap + text.encode() + b"\nRegards, Ann\n"
    assert read(FIRST + data + b"\n" + FIRST + TWO) == [data, TWO]


def test_a_quoted_separator_in_a_paragraph_is_text() -> None:
    """T16: with a date, but no header behind it."""
    data = ONE + b"I got this:\n" + FIRST + b"and nothing more.\n"
    assert read(FIRST + data) == [data]


@pytest.mark.parametrize(
    "line",
    [
        "From ann@example.org yesterday\nSubject: x",
        "From ann@example.org\nSubject: x",
        "From ann Mon 5. Januar 2026 10:00\nSubject: x",
        "From the meeting at 10:00\nNote: bring the keys",
        "From ann@example.org Mon Jan  5 10:00:00 2026\nshe wrote no more",
    ],
)
def test_what_may_be_a_separator_or_not_is_not_sent(line: str) -> None:
    """T16: two letters in one would show the second's Bcc; half a letter is no letter."""
    data = FIRST + ONE + b"one\n\n" + line.encode() + b"\n\nmore\n\n" + FIRST + TWO
    box = Mbox(io.BytesIO(data))
    assert len(box) == 2
    with pytest.raises(
        Unsendable, match=r"^line 8, 'From .*', may or may not begin another message"
    ):
        box.message(0)
    assert box.message(1) == TWO


def test_an_mbox_whose_separators_have_no_date() -> None:
    """T16: where the first one has none, none of the others is sure."""
    data = b"From ann\n" + ONE + b"one\n\nFrom now on\nall is well\n"
    assert read(data) == [data.removeprefix(b"From ann\n")]
    with pytest.raises(Unsendable):
        read(data + b"\nFrom ann\n" + TWO)


def test_a_byte_order_mark_before_an_mbox() -> None:
    """T17: it hid that it is one."""
    assert read(b"\xef\xbb\xbf" + FIRST + ONE + b"\n" + FIRST + TWO) == [ONE, TWO]


def test_what_stands_between_separator_and_header() -> None:
    """T16: some programs leave another separator there."""
    quoted = b">From - Sat Apr 12 2025 15:59:28\n" + TWO
    assert read(FIRST + ONE + b"one\n\n" + FIRST + quoted) == [ONE + b"one\n", quoted]


def test_the_last_message_may_be_empty() -> None:
    assert read(FIRST + ONE + b"\n" + FIRST) == [ONE, b""]
    assert read(FIRST + ONE + b"\n" + FIRST + b"\n") == [ONE, b""]


LINES = st.lists(
    st.sampled_from([b"\n", b"text\n", b"From now on\n", b">From x\n", b"a: b\n", b"\r\n", b".\n"])
)


@given(st.lists(LINES.map(b"".join), min_size=1, max_size=4))
def test_what_the_stdlib_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]
) -> None:
    """T16: whatever is in the messages, they come back as they are."""
    path = tmp_path_factory.mktemp("written") / f"box{random.random()}"
    box = mailbox.mbox(path)
    for body in bodies:
        box.add(mailbox.mboxMessage(ONE + body))
    box.close()
    written = [ONE + body.replace(b"\nFrom ", b"\n>From ") for body in bodies]
    found = read(path.read_bytes())
    assert len(found) == len(written)
    for one, other in zip(found, written, strict=True):
        lines, others = one.splitlines(), other.splitlines()
        assert [line.lstrip(b">") for line in lines[: len(others)]] == [
            line.lstrip(b">") for line in others
        ]


@pytest.mark.parametrize("command", ["send", "bulk"])
def test_a_letter_with_such_a_line_arrives_whole(
    cli: Command, tmp_path: Path, command: str
) -> None:
    """T16: the first half of it was reported accepted, and the rest was lost."""
    body = b"Dear Bob,\nthe first line.\n\nFrom now on you read mail in a browser.\nRegards\n"
    (tmp_path / "box").write_bytes(FIRST + ONE + body + b"\n" + FIRST + TWO)
    with ThrottlingServer() as server:
        done = cli(command, "--server", server.url, "box")
    assert done.code == 0
    assert sorted(each.message for each in server.log.accepted) == sorted(
        (each.replace(b"\n", b"\r\n")) for each in (ONE + body, TWO)
    )


@pytest.mark.parametrize("command", ["send", "bulk"])
def test_a_letter_of_which_nobody_knows_where_it_ends(
    cli: Command, tmp_path: Path, command: str
) -> None:
    """T16: it is refused with the line."""
    doubtful = ONE + b"one\n\nFrom ann@example.org yesterday\nBcc: s@example.net\n"
    (tmp_path / "box").write_bytes(FIRST + doubtful + b"\n" + FIRST + TWO)
    with ThrottlingServer() as server:
        done = cli(command, "--server", server.url, "box")
    assert done.code == 65
    assert (
        "box#1: line 8, 'From ann@example.org yesterday', may or may not begin another" in done.err
    )
    recipients = [who for each in server.log.accepted for who in each.recipients]
    assert recipients == (["cat@example.net"] if command == "send" else [])
