"""Exim takes what the library sends, each message once, and refuses whom it does not know."""

from __future__ import annotations

import smtplib

import pytest

import csmtplib

from .corpus import delivered, messages
from .exim import Exim
from .letters import by_bulk, by_send_many, check_outcomes, check_stored, letters
from .test_client import on_the_wire


def test_sendmail_as_smtplib_does(exim: Exim) -> None:
    """The same results from both, and the same messages in the mailboxes."""
    sent = list(messages(36, "reader@example.test"))
    arrived = []
    for library in (smtplib, csmtplib):
        box = exim.mailboxes.new()
        with library.SMTP("127.0.0.1", exim.port) as smtp:
            for message in sent:
                assert smtp.sendmail("a@x.test", box.address, on_the_wire(message)) == {}
            both = [box.address, "unknown@example.test"]
            assert smtp.sendmail("a@x.test", both, "Subject: a\n\nb\n") == {
                "unknown@example.test": (550, b"5.1.1 no such user")
            }
            with pytest.raises(smtplib.SMTPRecipientsRefused) as raised:
                smtp.sendmail("a@x.test", both[1:], "Subject: a\n\nb\n")
            assert raised.value.recipients == {both[1]: (550, b"5.1.1 no such user")}
            assert smtp.sendmail("a@x.test", box.address, "Subject: c\n\nd\n") == {}
        arrived.append(box.arrived(len(sent) + 2))
    assert arrived[0] == arrived[1]
    assert set(map(delivered, sent)) <= set(arrived[0])


@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
def test_send_many(exim: Exim, chunking: bool) -> None:
    boxes = [exim.mailboxes.new() for _ in range(10)]
    mails = letters([box.address for box in boxes], 200, unknown_every=20)
    sent = by_send_many(exim.port, mails, chunking=chunking)
    check_outcomes(sent, mails)
    assert sent.connections == 1
    check_stored(boxes, mails)


# Exim ends a session at the eleventh command that is not about mail (smtp_accept_max_nonmail), and
# leaves one RSET uncounted for each message that it took. A stream has a RSET behind each message,
# so one is counted for each that is refused.


def test_send_many_to_many_unknown(exim: Exim) -> None:
    """T27: eleven refused messages are no reason to have any in doubt."""
    box = exim.mailboxes.new()
    mails = letters([box.address], 200, unknown_every=10)
    check_outcomes(by_send_many(exim.port, mails), mails)
    check_stored([box], mails)


@pytest.mark.long
@pytest.mark.parametrize("chunking", [True, False], ids=["BDAT", "DATA"])
def test_bulk(exim: Exim, chunking: bool) -> None:
    """T27, and whatever else it takes to have each message stored once."""
    boxes = [exim.mailboxes.new() for _ in range(10)]
    mails = letters([box.address for box in boxes], 600, unknown_every=6)
    sent = by_bulk(exim.port, mails, connections=4, chunking=chunking)
    check_outcomes(sent, mails)
    check_stored(boxes, mails)


def test_nothing_is_sent_early_without_pipelining(exim_without_pipelining: Exim) -> None:
    """It would throw a client out that sends anything early."""
    boxes = [exim_without_pipelining.mailboxes.new() for _ in range(2)]
    mails = letters([box.address for box in boxes], 60, unknown_every=20)
    sent = by_send_many(exim_without_pipelining.port, mails)
    check_outcomes(sent, mails)
    assert sent.connections == 1
    check_stored(boxes, mails)
