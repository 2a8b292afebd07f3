"""Letters to mailboxes and to nobody, sent by the hundred, and what became of each."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import csmtplib
from csmtplib.bulk import BulkSender, Retry
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import State

from .corpus import delivered
from .maildir import DOMAIN, Mailbox

SENDER = f"sender@{DOMAIN}"
# How many connections one that is lost may take in all, when send_many() is called again.
MOST_CONNECTIONS = 3
# A server that stays silent for so long has forgotten the client.
TIMEOUT_SECONDS = 5.0


def many(count: int) -> int:
    """Return how many messages a long campaign has: so many with the compiled kernels, a tenth of
    them with the pure ones, which have no part in what comes with its length."""
    return count if csmtplib.implementation == "c" else count // 10


def letters(recipients: Sequence[str], count: int, *, unknown_every: int = 0) -> list[MailObject]:
    """Return so many letters, no two alike, to the recipients by turns; each `unknown_every`th is
    to somebody whom the server does not know."""
    mails = []
    for number, recipient in zip(range(1, count + 1), itertools.cycle(recipients), strict=False):
        if unknown_every and number % unknown_every == 0:
            recipient = f"unknown{number}@{DOMAIN}"
        mails.append(MailObject(SENDER, recipient, letter(recipient, number)))
    return mails


def letter(recipient: str, number: int) -> bytes:
    """Return a letter to be sent, with CRLF. Dots begin lines, and sizes differ."""
    lines = [f".{'.' * (number % 3)} line {each}" for each in range(number % 40)]
    return "\r\n".join(
        [
            f"From: {SENDER}",
            f"To: {recipient}",
            f"Subject: number {number}",
            f"Message-ID: <{number}@{DOMAIN}>",
            "",
            *lines,
            "the end",
            "",
        ]
    ).encode()


def is_known(mail: MailObject) -> bool:
    """Tell whether the server knows the recipient of a letter."""
    return not str(mail.to_addrs).startswith("unknown")


def unknown(recipient: str) -> str | None:
    """Return the reply to RCPT of a recipient for a scripted server, None to take it."""
    return "550 5.1.1 no such user" if recipient.startswith("unknown") else None


@dataclass
class Sent:
    """The results of letters: a state and a code for each, None without a reply; and how many
    connections that took."""

    outcomes: list[tuple[State, int | None]]
    connections: int


def by_send_many(port: int, mails: Iterable[MailObject], *, chunking: bool | None = None) -> Sent:
    """Send letters by SMTP.send_many() as its docstring says: after a lost connection, go on with
    the same iterator and with what was deferred. Raises AssertionError for MOST_CONNECTIONS.
    """
    numbered = enumerate(mails)
    outcomes: dict[int, tuple[State, int | None]] = {}
    again: list[tuple[int, MailObject]] = []
    for connections in range(1, MOST_CONNECTIONS + 1):
        taken: list[tuple[int, MailObject]] = []
        rest = itertools.chain(again, numbered)
        with csmtplib.SMTP("127.0.0.1", port, timeout=TIMEOUT_SECONDS) as smtp:
            try:
                results = smtp.send_many(recorded(rest, taken), chunking=chunking)
                for place, result in enumerate(results):
                    (outcome,) = result.outcomes
                    code = None if outcome.reply is None else outcome.reply.code
                    outcomes[taken[place][0]] = (outcome.state, code)
            except csmtplib.SMTPServerDisconnected:
                again = [each for each in taken if outcomes[each[0]] == (State.DEFERRED, None)]
                again += rest if connections == MOST_CONNECTIONS else []
                continue
        return Sent([outcomes[number] for number in sorted(outcomes)], connections)
    raise AssertionError(
        f"{len(again)} letters are left after {MOST_CONNECTIONS} lost connections:"
        f" {Counter(outcomes.values())}"
    )


def recorded(
    items: Iterable[tuple[int, MailObject]], taken: list[tuple[int, MailObject]]
) -> Iterator[MailObject]:
    """Yield the letters, and append what is taken to `taken`."""
    for item in items:
        taken.append(item)
        yield item[1]


def by_bulk(
    port: int,
    mails: Sequence[MailObject],
    *,
    connections: int,
    chunking: bool = True,
    seconds: float = 120.0,
) -> Sent:
    """Send letters by a BulkSender that tries each recipient once, for at most so many seconds."""
    outcomes: dict[int, tuple[State, int | None]] = {}
    with BulkSender(
        f"smtp://127.0.0.1:{port}?verify=no&timeout={TIMEOUT_SECONDS:g}",
        connections=connections,
        retry=Retry(give_up=0),
        chunking=chunking,
    ) as sender:
        timer = threading.Timer(seconds, sender.stop, ["it took too long"])
        timer.start()
        try:
            for delivery in sender.send(mails):
                assert isinstance(delivery.key, int)
                assert delivery.key not in outcomes
                outcomes[delivery.key] = (delivery.state, delivery.code)
        finally:
            timer.cancel()
        assert sender.status.stopped is None
        most = sender.status.connections
    return Sent([outcomes[number] for number in sorted(outcomes)], most)


def check_outcomes(sent: Sent, mails: Sequence[MailObject]) -> None:
    """Assert that each letter was accepted if the server knows its recipient, else refused."""
    wanted = [(State.ACCEPTED, 250) if is_known(mail) else (State.REJECTED, 550) for mail in mails]
    assert Counter(sent.outcomes) == Counter(wanted)
    assert sent.outcomes == wanted


def check_stored(boxes: Sequence[Mailbox], mails: Sequence[MailObject]) -> None:
    """Assert that each mailbox has its letters, each once and byte for byte, and no other."""
    for box in boxes:
        letters = sorted(
            delivered(mail.msg)
            for mail in mails
            if mail.to_addrs == box.address and isinstance(mail.msg, bytes)
        )
        assert box.arrived(len(letters)) == letters
