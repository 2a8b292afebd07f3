"""The same bytes arrive whichever way the commands are grouped: sequentially, pipelined, and by
chunks; one by one by sendmail(), and as a stream by send_many()."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

import csmtplib

from .corpus import delivered, messages
from .dovecot import Dovecot
from .maildir import Mailbox
from .postfix import Postfix

MESSAGES = 200
SENDER = "sender@example.test"

# What looks like SMTP within a message, at the places where what is sent is cut.
HOSTILE = [
    b".\r\nMAIL FROM:<evil@example.test>\r\nRCPT TO:<evil@example.test>\r\nDATA\r\n",
    b"\r\n.\r\nQUIT\r\n.\r\n",
    b"BDAT 10 LAST\r\nRSET\r\nBDAT 0 LAST\r\n",
    b"250 ok\r\n354 go on\r\n421 bye\r\n",
    b"." * 998 + b"\r\n",
    b".\n" * 3000,
    b"\r" * 50 + b"\n.\r.\n",
    b"no end",
    b"no end.",
    b".",
    b"a\r\n.",
    b"a\r",
    b"\xff\xfe.\n\x80.\n",
    b"x" * 998 + b"\n" + b"." + b"y" * 997,
    (b"." + b"z" * 76 + b"\r\n") * 5000,  # above what waits for the replies to RCPT
]


def hostile(recipient: str) -> list[bytes]:
    return [
        b"From: sender@example.test\nTo: %s\nSubject: hostile %d\nX: 8bit\n\n%s"
        % (recipient.encode(), number, body)
        for number, body in enumerate(HOSTILE)
    ]


def everything(recipient: str) -> list[bytes]:
    return [*messages(MESSAGES, recipient), *hostile(recipient)]


def on_the_wire(message: bytes) -> bytes:
    """A message as it has to be handed to sendmail(), which leaves bytes as they are."""
    wire = delivered(message).replace(b"\n", b"\r\n")
    return wire if wire.endswith(b"\r\n") else wire + b"\r\n"


def arrives(message: bytes) -> bytes:
    """How it is found in the mailbox: the last line has an end by then."""
    text = delivered(message)
    return text if text.endswith(b"\n") else text + b"\n"


Way = Callable[[Any, str, Iterable[bytes]], None]


def by_sendmail(**attributes: bool) -> Way:
    def send(smtp: Any, recipient: str, sent: Iterable[bytes]) -> None:
        for name, value in attributes.items():
            setattr(smtp, name, value)
        for message in sent:
            assert smtp.sendmail(SENDER, recipient, on_the_wire(message)) == {}

    return send


def by_send_many(chunking: bool | None, *, pipelining: bool = True) -> Way:
    def send(smtp: Any, recipient: str, sent: Iterable[bytes]) -> None:
        smtp.pipelining = pipelining
        items = [(SENDER, recipient, message) for message in sent]
        results = list(smtp.send_many(items, chunking=chunking))
        assert [result.mail for result in results] == items
        assert all(result.accepted for result in results)

    return send


WAYS = {
    "sendmail-sequential": by_sendmail(pipelining=False),
    "sendmail-pipelined": by_sendmail(),
    "sendmail-chunked": by_sendmail(chunking=True),
    "send_many-sequential": by_send_many(None, pipelining=False),
    "send_many-pipelined": by_send_many(False),
    "send_many-chunked": by_send_many(None),
}

every_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


def check(box: Mailbox, sent: list[bytes]) -> None:
    assert box.arrived(len(sent)) == sorted(map(arrives, sent))


@every_way
def test_into_postfix(postfix_exchanger: Postfix, way: Way) -> None:
    box = postfix_exchanger.mailboxes.new()
    sent = everything(box.address)
    with csmtplib.SMTP("127.0.0.1", postfix_exchanger.port) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("pipelining")
        assert smtp.has_extn("chunking")
        way(smtp, box.address, sent)
        assert smtp.noop()[0] == 250
    check(box, sent)


@every_way
def test_into_dovecot(dovecot: Dovecot, way: Way) -> None:
    box = dovecot.mailboxes.new()
    sent = everything(box.address)
    with csmtplib.LMTP(str(dovecot.lmtp_socket)) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("pipelining")
        way(smtp, box.address, sent)
        assert smtp.noop()[0] == 250
    check(box, sent)


@pytest.mark.parametrize("chunking", [None, False])
def test_over_tls(postfix_exchanger: Postfix, certificates: Any, chunking: bool | None) -> None:
    box = postfix_exchanger.mailboxes.new()
    sent = everything(box.address)
    with csmtplib.SMTP("localhost", postfix_exchanger.port) as smtp:
        smtp.starttls(context=certificates.client_context())
        by_send_many(chunking)(smtp, box.address, sent)
    check(box, sent)


@pytest.mark.parametrize("chunking", [None, False])
@pytest.mark.parametrize("max_in_flight", [1, 2, 100])
def test_refusals_in_between(
    postfix_exchanger: Postfix, chunking: bool | None, max_in_flight: int
) -> None:
    """A message that nobody takes must not become part of the next."""
    box = postfix_exchanger.mailboxes.new()
    sent = everything(box.address)[-60:]
    nobody = "nobody@example.test"
    items = []
    for message in sent:
        items += [
            (SENDER, nobody, b"Subject: for nobody\n\nsecret\n"),
            (SENDER, [nobody, box.address], message),
        ]
    with csmtplib.SMTP("127.0.0.1", postfix_exchanger.port) as smtp:
        results = list(smtp.send_many(items, max_in_flight=max_in_flight, chunking=chunking))
    told = [[outcome.state.value for outcome in result.outcomes] for result in results]
    assert told == [["rejected"], ["rejected", "accepted"]] * len(sent)
    stored = box.arrived(len(sent))
    assert stored == sorted(map(arrives, sent))
