"""Haraka takes what the library sends, each message once, and refuses whom it does not know.

It does not carry out what comes behind the end of a message (T5), and its second reply to one
flight waits for the client's acknowledgement of the first (T7).
"""

from __future__ import annotations

import smtplib
from collections import Counter
from pathlib import Path

import pytest

import csmtplib
from csmtplib.bulk.journal_view import JournalView
from csmtplib.cli.main import main

from .haraka import Haraka
from .letters import SENDER, by_send_many, check_outcomes, check_stored, letters, many
from .maildir import DOMAIN

CAMPAIGN = many(5000)
UNKNOWN_EVERY = 50
LETTER = f"""\
From: {SENDER}
To: {{{{ email }}}}
Subject: number {{{{ number }}}}

. This is letter
.. number {{{{ number }}}}.
"""


def test_sendmail_as_smtplib_does(haraka: Haraka) -> None:
    """The same results from both, and the same messages in the mailbox."""
    arrived = []
    mails = letters(["reader@x.test"], 20)
    for library in (smtplib, csmtplib):
        box = haraka.mailboxes.new()
        with library.SMTP("127.0.0.1", haraka.port) as smtp:
            for mail in mails:
                assert isinstance(mail.msg, bytes)
                assert smtp.sendmail(SENDER, box.address, mail.msg) == {}
            refusal = (550, b"5.1.1 unknown: no such user")
            both = [f"unknown@{DOMAIN}", box.address]
            assert smtp.sendmail(SENDER, both, "Subject: a\n\nb\n") == {both[0]: refusal}
            with pytest.raises(smtplib.SMTPRecipientsRefused) as raised:
                smtp.sendmail(SENDER, both[:1], "Subject: a\n\nb\n")
            assert raised.value.recipients == {both[0]: refusal}
            assert smtp.sendmail(SENDER, box.address, "Subject: c\n\nd\n") == {}
        arrived.append(box.arrived(len(mails) + 2))
    assert arrived[0] == arrived[1]
    assert len(set(arrived[0])) == len(mails) + 2


@pytest.mark.parametrize("count", [100, pytest.param(many(2000), marks=pytest.mark.long)])
def test_send_many(haraka: Haraka, count: int) -> None:
    """T5: messages were told rejected for good, for a 503 about commands that were sent early."""
    boxes = [haraka.mailboxes.new() for _ in range(10)]
    mails = letters([box.address for box in boxes], count, unknown_every=UNKNOWN_EVERY)
    sent = by_send_many(haraka.port, mails)
    check_outcomes(sent, mails)
    # What a lost connection has shown is known to the next one.
    assert sent.connections <= 2
    check_stored(boxes, mails)


@pytest.mark.long
def test_a_campaign(haraka: Haraka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T5: half of a campaign was rejected for good."""
    monkeypatch.chdir(tmp_path)
    boxes = [haraka.mailboxes.new() for _ in range(10)]
    addresses = {
        str(number): f"unknown{number}@{DOMAIN}"
        if number % UNKNOWN_EVERY == 0
        else boxes[number % len(boxes)].address
        for number in range(CAMPAIGN)
    }
    Path("letter.txt").write_text(LETTER)
    rows = [f"{address},{number}\n" for number, address in addresses.items()]
    Path("table.csv").write_text("".join(["email,number\n", *rows]))
    server = f"smtp://127.0.0.1:{haraka.port}?verify=no"
    options = ["--connections", "8", "--journal", "journal", "--retry-for", "0"]
    options += ["--duplicates", "send"]
    code = main(["bulk", "--server", server, *options, "--template", "letter.txt", "table.csv"])
    with JournalView(Path("journal")) as view:
        results = Counter((row.address, row.state, row.code) for row in view.rows())
    wanted = Counter(
        (address, "rejected", 550) if address.startswith("unknown") else (address, "accepted", 250)
        for address in addresses.values()
    )
    assert results == wanted
    assert code == 1
    for box in boxes:
        numbers = sorted(number for number, address in addresses.items() if address == box.address)
        arrived = [m.split(b"\n.. number ")[1][:-2] for m in box.arrived(len(numbers))]
        assert sorted(map(bytes.decode, arrived)) == numbers
