"""Campaigns into real servers, over several connections: every message is taken once, and is what
its recipient was to get, byte for byte."""

from __future__ import annotations

import csv
import itertools
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import pytest

from csmtplib.bulk import BulkSender, Delivery, Job, Journal, Retry
from csmtplib.bulk.journal_view import JournalView
from csmtplib.compose.campaign import Campaign
from csmtplib.compose.letter import Letter
from csmtplib.compose.rows import RowError, read_rows
from csmtplib.protocol.outcome import State

from .certificates import Certificates
from .conftest import unavailable_means_skip
from .corpus import delivered
from .dovecot import Dovecot
from .letters import many
from .maildir import DOMAIN, Mailbox, user
from .postfix import MAILBOXES, Postfix, running_postfix

MESSAGES = many(8_000)
FEWER = 500
CONNECTIONS = 8
# The time that a campaign may take, and then the server to write all of it into its log.
CAMPAIGN_SECONDS = 300.0
LOGGING_SECONDS = 60.0

LETTER = f"""\
From: The Lending Library <sender@{DOMAIN}>
To: {{{{ name }}}} <{{{{ email }}}}>
Subject: {{{{ name.split()[0] }}}}, your letter number {{{{ number }}}}

Dear {{{{ name }}}},

three new shelves are open this month: travel, music, and science.
{{% for line in lines.split("|") -%}}
{{{{ line }}}}
{{% endfor -%}}
.
..
.. Doors are open from ten to seven, and on Thursdays until nine. Bring this
.number when you come: {{{{ number }}}}.

Old cards are changed at the desk, and so are those that were sent to another
house. There is nothing to pay for it before the end of the year.
"""

NAMES = ("Ann Lee", "Jörg Müller", "Zoë van Dijk", "Bob Stone", "山田 花子", "Ada King")
LINES = (
    "nothing more for now.",
    ".|..|...|. |.a",
    "Grüße von der Ausleihe.|.Übrigens: bis 19 Uhr geöffnet",
    ".|MAIL FROM:<evil@example.test>|DATA|.|QUIT",
    "漢字と仮名で書かれた行が" * 60,
    "=2E=0D=0A.|From here on|>From there on ",
)
ENCODINGS = (b"7bit", b"quoted-printable", b"base64")


@pytest.fixture(scope="module")
def postfix_discarding(certificates: Certificates) -> Iterator[Postfix]:
    """SMTP for everyone, and the mail thrown away when it is logged."""
    with (
        unavailable_means_skip(),
        running_postfix(certificates, transport="discard") as server,
    ):
        yield server


def jobs(directory: Path, addresses: Sequence[str], count: int) -> list[Job]:
    """A campaign of so many messages, no two alike, for the addresses by turns."""
    letter, table = directory / "letter.txt", directory / "rows.csv"
    letter.write_text(LETTER, "utf-8")
    with table.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("email", "name", "number", "lines"))
        names, lines = itertools.cycle(NAMES), itertools.cycle(LINES + LINES[:1])
        for number, address in zip(range(count), itertools.cycle(addresses), strict=False):
            rows.writerow((address, next(names), number, next(lines)))
    campaign = Campaign(
        letter=Letter(letter),
        sender=f"sender@{DOMAIN}",
        id="library",
        date=datetime(2026, 11, 23, 9, tzinfo=timezone.utc),
    )
    made = []
    for row in read_rows(table):
        assert not isinstance(row, RowError)
        made.append(campaign.job(table.name, row))
    for encoding in ENCODINGS:
        assert any(b"Content-Transfer-Encoding: %b\r\n" % encoding in content(job) for job in made)
    assert len(set(map(content, made))) == len(made) == count
    return made


def content(job: Job) -> bytes:
    """The bytes of a job's message."""
    buffers = job.mail.msg
    assert isinstance(buffers, tuple)
    return b"".join(buffers)


def send(
    url: str, campaign: Sequence[Job], *, journal: Path | None = None, chunking: bool = True
) -> dict[str | int, Delivery]:
    """Send a campaign, of which all is accepted; the results by their keys."""
    with ExitStack() as stack:
        kept = None if journal is None else stack.enter_context(Journal(journal))
        sender = stack.enter_context(
            BulkSender(
                url,
                connections=CONNECTIONS,
                retry=Retry(give_up=0),
                journal=kept,
                chunking=chunking,
            )
        )
        timer = threading.Timer(CAMPAIGN_SECONDS, sender.stop, ["it took too long"])
        timer.start()
        stack.callback(timer.cancel)
        deliveries = list(sender.send(campaign))
        assert sender.status.stopped is None
        assert 1 < sender.status.connections <= CONNECTIONS
    others = [each for each in deliveries if each.state is not State.ACCEPTED]
    assert others == []
    told = {each.key: each for each in deliveries}
    assert len(told) == len(deliveries)
    assert {key: each.recipient for key, each in told.items()} == {
        job.key: job.mail.to_addrs for job in campaign
    }
    if journal is not None:
        check_journal(journal, told)
    return told


def check_journal(journal: Path, told: dict[str | int, Delivery]) -> None:
    """The journal has every result as it was told."""
    with JournalView(journal) as view:
        rows = list(view.rows())
    assert {(row.key, row.address, row.state, row.code, row.reply) for row in rows} == {
        (each.key, each.recipient, "accepted", 250, each.text) for each in told.values()
    }
    assert len(rows) == len(told)


def check(boxes: Sequence[Mailbox], campaign: Sequence[Job]) -> None:
    """Every mailbox has its messages and no other."""
    sent = defaultdict(list)
    for job in campaign:
        sent[job.mail.to_addrs].append(delivered(content(job)))
    for box in boxes:
        assert box.arrived(len(sent[box.address])) == sorted(sent[box.address])


def logged(log: Path, begin: int, count: int) -> list[str]:
    """The lines that Postfix has logged from an offset on, once so many recipients are done with.

    Raises AssertionError when there are fewer after LOGGING_SECONDS.
    """
    deadline = time.monotonic() + LOGGING_SECONDS
    while True:
        with log.open("rb") as file:
            file.seek(begin)
            text = file.read().decode("utf-8", "replace")
        if (done := text.count(" status=sent ")) >= count:
            return text.splitlines()
        assert time.monotonic() < deadline, f"{done} of {count} recipients are in the log"
        time.sleep(0.1)


@pytest.mark.long
def test_many_into_postfix(postfix_discarding: Postfix, tmp_path: Path) -> None:
    addresses = [f"{user(number)}@{DOMAIN}" for number in range(MAILBOXES)]
    campaign = jobs(tmp_path, addresses, MESSAGES)
    begin = postfix_discarding.log.stat().st_size
    url = f"smtp://127.0.0.1:{postfix_discarding.port}?verify=no"
    told = send(url, campaign, journal=tmp_path / "journal")

    # Postfix may use an identifier again when it is done with a message: so they are counted.
    wanted: Counter[tuple[str, str]] = Counter()
    for job in campaign:
        found = re.fullmatch(r"2\.0\.0 Ok: \d+ bytes queued as (\w+)", told[job.key].text)
        identifier = re.search(rb"^Message-ID: (<.*>)\r\n", content(job), re.MULTILINE)
        assert found is not None
        assert identifier is not None
        wanted[found[1], identifier[1].decode()] += 1
        wanted[found[1], f"<{told[job.key].recipient}>"] += 1
    seen: Counter[tuple[str, str]] = Counter()
    for line in logged(postfix_discarding.log, begin, MESSAGES):
        if found := re.search(r": (\w+): (?:message-id=|to=(?=.* status=sent ))(<[^>]*>)", line):
            seen[found[1], found[2]] += 1
    assert seen == wanted


@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
def test_into_mailboxes_of_postfix(
    postfix_exchanger: Postfix, tmp_path: Path, chunking: bool
) -> None:
    boxes = [postfix_exchanger.mailboxes.new() for _ in range(10)]
    campaign = jobs(tmp_path, [box.address for box in boxes], FEWER)
    send(
        f"smtp://127.0.0.1:{postfix_exchanger.port}?verify=no",
        campaign,
        journal=tmp_path / "journal",
        chunking=chunking,
    )
    check(boxes, campaign)


@pytest.mark.long
def test_many_into_dovecot(dovecot: Dovecot, tmp_path: Path) -> None:
    boxes = [dovecot.mailboxes.new() for _ in range(50)]
    campaign = jobs(tmp_path, [box.address for box in boxes], MESSAGES)
    send(f"lmtp+unix:{dovecot.lmtp_socket}", campaign, journal=tmp_path / "journal")
    check(boxes, campaign)


def test_without_chunking_into_dovecot(dovecot: Dovecot, tmp_path: Path) -> None:
    boxes = [dovecot.mailboxes.new() for _ in range(10)]
    campaign = jobs(tmp_path, [box.address for box in boxes], FEWER)
    send(f"lmtp+unix:{dovecot.lmtp_socket}", campaign, chunking=False)
    check(boxes, campaign)
