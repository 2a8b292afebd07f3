"""Campaigns: each row's job, held against what Jinja2 and the stdlib make of the same letter."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csmtplib import kernel
from csmtplib.compose.campaign import Campaign
from csmtplib.compose.letter import Letter
from csmtplib.compose.rows import Row, RowError
from csmtplib.protocol.mail_object import buffers_of

from .conftest import Writing
from .reading import content, mailboxes, parse, text

DATE = datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=1)))
SENDER = "bounces@example.org"
HEADER = "From: News <news@x.example>\nTo: {{ name }} <{{ email }}>\nSubject: {{ subject }}"
LONG = "A line that is the same for all, as long as lines of a text are.\n"
TEXT = f"Dear {{{{ name }}}},\n\n{LONG * 5}From {{{{ place }}}}\n.\n{{{{ place }}}} \nBye"
HTML = f"<p title='{{{{ place }}}}'>{{{{ name }}}}</p>\n{LONG * 5}<br>\n"
FIELDS = {"name": "Ann Lee", "email": "ann@x.example", "subject": "Hi", "place": "Rome"}


def campaign(letter: Letter, **options: Any) -> Campaign:
    return Campaign(**{"letter": letter, "sender": SENDER, "id": "spring", "date": DATE, **options})


def row(line: int = 2, **fields: object) -> Row:
    values = {**FIELDS, **fields}
    return Row(line, str(values["email"]), values)


def data(campaign: Campaign, row: Row) -> bytes:
    return content(campaign.job("list.csv", row).mail.msg)


def by_stdlib(fields: dict[str, object], html: str | None) -> EmailMessage:
    """The message as a simple program would make it."""
    message = EmailMessage()
    message["From"] = "News <news@x.example>"
    message["Subject"] = fields["subject"]
    message["Date"] = DATE
    message.set_content(render(TEXT, fields))
    if html is not None:
        message.add_alternative(render(html, fields, autoescape=True), subtype="html")
    return message


def render(source: str, fields: dict[str, object], *, autoescape: bool = False) -> str:
    environment = jinja2.Environment(
        autoescape=autoescape, keep_trailing_newline=True, newline_sequence="\r\n"
    )
    return whole(environment.from_string(source).render(fields))


def whole(text: str) -> str:
    """With the line ends of mail, as LF."""
    fixed = kernel.fix_eols(text).replace("\r\n", "\n")
    return fixed if not fixed or fixed.endswith("\n") else fixed + "\n"


def check(made: bytes, fields: dict[str, object], html: str | None) -> None:
    message, wanted = parse(made), by_stdlib(fields, html)
    for name in ("From", "Subject", "Date", "MIME-Version"):
        assert str(message[name]).strip(" ") == str(wanted[name]).strip(" ")
    assert mailboxes(made, "To") == [(str(fields["name"]).strip(" "), fields["email"])]
    assert message.get_content_type() == wanted.get_content_type()
    for subtype in ["plain"] if html is None else ["plain", "html"]:
        part: Any = message.get_body((subtype,))
        assert part.get_content_charset() == "utf-8"
    # Not those of the stdlib's message: set_content() takes more for the end of a line.
    assert text(message) == render(TEXT, fields)
    if html is not None:
        assert text(message, "html") == render(html, fields, autoescape=True)


NAMES = [
    "Jörg Müller",
    "Lee, Ann",
    "שרה לוי",
    "山田太郎",
    "O'Neil (x) <y@z>",
    "Ann " * 40,
    "👩‍👩‍👧",
]
SUBJECTS = ["Größe " * 40, "x" * 1100, "hi " * 50, "  a  b  ", "مرحبا بالعالم", "🎉" * 40]
PLACES = [
    "a\nb\r\nc\rd",
    ".\n.",
    "From me",
    "x" * 1100,
    "ü" * 400,
    "a \nb\t",
    "<&'\"",
    "--=_1--",
    "=",
]


@pytest.fixture
def letters(write_letter: Writing) -> list[tuple[Campaign, str | None]]:
    plain = campaign(write_letter(TEXT, header=HEADER))
    return [(plain, None), (campaign(write_letter(TEXT, HTML, HEADER)), HTML)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        *({"name": name} for name in NAMES),
        *({"subject": subject} for subject in SUBJECTS),
        *({"place": place} for place in PLACES),
    ],
)
def test_a_message_is_read_as_one_of_the_stdlib(
    letters: list[tuple[Campaign, str | None]], fields: dict[str, object]
) -> None:
    made = row(2, **fields)
    for of, html in letters:
        check(data(of, made), made.fields, html)


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Campaign, str | None]]:
    folder = tmp_path_factory.mktemp("letter")
    (folder / "l.txt").write_bytes(f"{HEADER}\n\n{TEXT}".encode())
    (folder / "l.html").write_bytes(HTML.encode())
    return [
        (campaign(Letter(folder / "l.txt")), None),
        (campaign(Letter(folder / "l.txt", folder / "l.html")), HTML),
    ]


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=100)
BLOCKS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(WORDS, WORDS, BLOCKS)
@example("a", "b", "\x85\u2028\x0b")
def test_any_values(
    campaigns: list[tuple[Campaign, str | None]], name: str, subject: str, place: str
) -> None:
    for of, html in campaigns:
        made = row(name=name, subject=subject, place=place)
        check(data(of, made), made.fields, html)


@pytest.mark.parametrize("place", ["Rome", "Köln", "Москва" * 100])
def test_a_message_is_the_same_in_another_process(
    write_letter: Writing, tmp_path: Path, place: str
) -> None:
    letter = write_letter(TEXT, HTML, HEADER)
    here = data(
        campaign(letter, verp=True, list_unsubscribe="https://x.example/u"), row(place=place)
    )
    code = (
        "import sys; from datetime import datetime\n"
        "from csmtplib.compose import campaign, letter, rows\n"
        "path, html, date, fields = sys.argv[1:]; fields = eval(fields)\n"
        "c = campaign.Campaign(letter=letter.Letter(path, html), sender='bounces@example.org',\n"
        "    id='spring', date=datetime.fromisoformat(date), verp=True,\n"
        "    list_unsubscribe='https://x.example/u')\n"
        "job = c.job('list.csv', rows.Row(2, fields['email'], fields))\n"
        "sys.stdout.buffer.write(b''.join(job.mail.msg))"
    )
    paths = [str(tmp_path / "letter.txt"), str(tmp_path / "letter.html")]
    fields = ascii({**FIELDS, "place": place})
    for seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", code, *paths, DATE.isoformat(), fields],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        assert there == here


def test_the_key_and_the_envelope(write_letter: Writing) -> None:
    job = campaign(write_letter()).job("list.csv", row(7))
    assert job.key == "list.csv:7"
    assert job.mail[:2] == (SENDER, "ann@x.example")
    job = campaign(write_letter(), verp=True).job("list.csv", row(7))
    assert job.mail[:2] == ("bounces+ann=x.example@example.org", "ann@x.example")
    job = campaign(write_letter(), sender="").job("list.csv", row(7))
    assert job.mail[:2] == ("", "ann@x.example")


def test_the_content_is_one_that_is_sent(write_letter: Writing) -> None:
    msg = campaign(write_letter("Hi\n")).job("list.csv", row()).mail.msg
    assert b"".join(buffers_of(msg, utf8=False)) == content(msg)  # type: ignore[arg-type]


def test_a_simple_message_to_the_byte(write_letter: Writing) -> None:
    header = "Subject: Hi\nFrom: News <news@x.example>\nTo: {{ name }} <{{ email }}>"
    made = data(campaign(write_letter("Hi\n", header=header)), row())
    identifier = parse(made)["Message-ID"]
    assert (
        made
        == (
            "Subject: Hi\r\n"
            "From: News <news@x.example>\r\n"
            "To: Ann Lee <ann@x.example>\r\n"
            "Date: Sun, 01 Mar 2026 12:30:00 +0100\r\n"
            f"Message-ID: {identifier}\r\n"
            "MIME-Version: 1.0\r\n"
            'Content-Type: text/plain; charset="utf-8"\r\n'
            "Content-Transfer-Encoding: 7bit\r\n"
            "\r\n"
            "Hi\r\n"
        ).encode()
    )


def test_message_identifiers_tell_messages_apart(write_letter: Writing) -> None:
    one, other = campaign(write_letter()), campaign(write_letter(), id="autumn")
    found = [
        parse(content(each.job(source, row(line, email=email)).mail.msg))["Message-ID"]
        for each in (one, other)
        for source in ("list.csv", "more.csv")
        for line in (2, 3)
        for email in ("ann@x.example", "bob@x.example")
    ]
    assert len(set(found)) == 16
    assert {identifier.rpartition("@")[2] for identifier in found} == {"x.example>"}


@pytest.mark.parametrize(
    ("header", "sender", "domain"),
    [
        ("From: {{ name }} <{{ email }}>", SENDER, "example.org"),
        ("From: a@ü.example", "", "xn--tda.example"),
        ('From: "a@b" <a@x.example>, c@y.example\nSender: a@x.example', "", "x.example"),
    ],
)
def test_the_domain_of_message_identifiers(
    write_letter: Writing, header: str, sender: str, domain: str
) -> None:
    made = parse(data(campaign(write_letter(header=header), sender=sender), row()))
    assert made["Message-ID"].endswith(f"@{domain}>")


def test_what_a_template_sets_is_not_set_again(write_letter: Writing) -> None:
    header = (
        "From: a@x.example\nDate: Thu, 01 Jan 2026 00:00:00 +0000\nmessage-id: <{{ n }}@x.example>"
    )
    message = parse(data(campaign(write_letter(header=header)), row(n=1)))
    assert message.get_all("Date") == ["Thu, 01 Jan 2026 00:00:00 +0000"]
    assert message.get_all("Message-ID") == ["<1@x.example>"]


def test_how_to_unsubscribe(write_letter: Writing) -> None:
    of = campaign(write_letter(), list_unsubscribe="https://x.example/{{ name | urlencode }}")
    message = parse(data(of, row()))
    assert message["List-Unsubscribe"] == "<https://x.example/Ann%20Lee>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_buffers_are_shared_by_messages(write_letter: Writing) -> None:
    of = campaign(write_letter(LONG * 20, HTML, HEADER))
    first, second = (of.job("list.csv", row(line)).mail.msg for line in (2, 3))
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    shared = [each for each in first if any(each is other for other in second)]
    assert sum(map(len, shared)) > 20 * len(LONG)
    assert len(shared) == 3


def test_no_value_ends_a_part(write_letter: Writing) -> None:
    of = campaign(write_letter("{{ place }}\n", "{{ place }}\n"))
    boundary = parse(data(of, row())).get_boundary()
    message = parse(data(of, row(place=f"a\n--{boundary}--\n\n--{boundary}\n\nb")))
    assert len(message.get_payload()) == 2
    assert text(message) == f"a\n--{boundary}--\n\n--{boundary}\n\nb\n"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subject": "a\nBcc: b@x.example"}, "Subject: "),
        ({"name": None}, "To: a value is null"),
        ({"place": "\0"}, "text part: the text contains a NUL"),
        ({"place": "\ud800"}, "text part: a value is not valid Unicode"),
    ],
)
def test_a_row_that_makes_no_letter(
    write_letter: Writing, fields: dict[str, object], reason: str
) -> None:
    of = campaign(write_letter(TEXT, header=HEADER))
    with pytest.raises(RowError, match=f"^line 9: {reason}") as caught:
        of.job("list.csv", row(9, **fields))
    assert caught.value.line == 9


def test_a_field_that_is_missing(write_letter: Writing) -> None:
    of = campaign(write_letter(TEXT, header=HEADER))
    fields: dict[str, object] = {"name": "A", "email": "a@x.example", "subject": "S"}
    with pytest.raises(RowError, match=r"^line 9: text part: no column is named 'place'"):
        of.job("list.csv", Row(9, "a@x.example", fields))


def test_addresses_that_are_not_ascii(write_letter: Writing) -> None:
    of = campaign(write_letter("Hi\n", header=HEADER))
    made = data(of, row(email="jörg@x.example", name="Jörg"))
    assert "To: =?utf-8?b?SsO2cmc=?= <jörg@x.example>\r\n".encode() in made
    with pytest.raises(RowError, match="those of the envelope are"):
        of.job("list.csv", Row(2, "ann@x.example", {**FIELDS, "email": "jörg@x.example"}))


@pytest.mark.parametrize(
    ("header", "options", "reason"),
    [
        ("From: a@x.example", {"date": datetime(2026, 3, 1)}, "time zone"),
        ("From: a@x.example", {"sender": "", "verp": True}, "VERP"),
        ("From: a@x.example", {"sender": "bounces"}, "is not an address"),
        ("From: {{ email }}", {"sender": ""}, "no domain for Message-ID"),
        ("From: a@x.example", {"list_unsubscribe": "x"}, "is not an https"),
        (
            "From: a@x.example\nList-Unsubscribe: <mailto:u@x.example>",
            {"list_unsubscribe": "https://x.example/u"},
            "already in the template",
        ),
    ],
)
def test_an_invalid_campaign(
    write_letter: Writing, header: str, options: dict[str, object], reason: str
) -> None:
    letter = write_letter(header=header)
    with pytest.raises(ValueError, match=reason):
        campaign(letter, **options)
