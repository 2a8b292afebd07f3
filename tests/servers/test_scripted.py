"""The library and the scripted servers: whatever they do with what is sent early, each message is
accepted or refused for what it is, and stored once."""

from __future__ import annotations

import math
import smtplib
from collections.abc import Callable

import pytest

import csmtplib
from csmtplib.protocol.mail_object import MailObject

from .letters import (
    SENDER,
    by_bulk,
    by_send_many,
    check_outcomes,
    is_known,
    letters,
    unknown,
)
from .scripted.behind_data import Courier, HarakaLike
from .scripted.early_talkers import (
    EximEnforceSync,
    PostfixUnauthPipelining,
    Postscreen,
    Sendmail,
)
from .scripted.mta import ScriptedMTA
from .scripted.opensmtpd import SESSION_MAX_MAILS, OpenSMTPD

BOXES = [f"box{number}@example.test" for number in range(10)]


# Those who only look at what is sent where it may not be.
CAREFUL: dict[str, Callable[[], ScriptedMTA]] = {
    "sendmail": lambda: Sendmail(refuse=unknown),
    "Exim without PIPELINING": lambda: EximEnforceSync(refuse=unknown),
    "Exim with neither": lambda: EximEnforceSync(refuse=unknown, chunking=False),
    "Postfix": lambda: PostfixUnauthPipelining(refuse=unknown),
    "Postfix that forbids": lambda: PostfixUnauthPipelining(refuse=unknown, forbid=True),
    "Postfix without CHUNKING": lambda: PostfixUnauthPipelining(
        refuse=unknown, forbid=True, chunking=False
    ),
    "one reply a write": lambda: ScriptedMTA(refuse=unknown, write_each=True),
    "slow": lambda: ScriptedMTA(refuse=unknown, reply_seconds=0.002),
}
OTHERS: dict[str, Callable[[], ScriptedMTA]] = {
    "Courier": lambda: Courier(refuse=unknown),
    "Haraka": lambda: HarakaLike(refuse=unknown),
    "OpenSMTPD": lambda: OpenSMTPD(refuse=unknown),
    "Nagle": lambda: ScriptedMTA(refuse=unknown, nagle=True, write_each=True),
}

careful = pytest.mark.parametrize("server", CAREFUL.values(), ids=CAREFUL.keys())
every = pytest.mark.parametrize(
    "server", [*CAREFUL.values(), *OTHERS.values()], ids=[*CAREFUL.keys(), *OTHERS.keys()]
)


def check_stored(server: ScriptedMTA, mails: list[MailObject]) -> None:
    """Assert that the server has the letters to those it knows, each once and as it was sent."""
    assert server.stored() == sorted(
        (str(mail.to_addrs), mail.msg)
        for mail in mails
        if is_known(mail) and isinstance(mail.msg, bytes)
    )


@every
def test_sendmail_as_smtplib_does(server: Callable[[], ScriptedMTA]) -> None:
    """The same results from both, and the same messages."""
    stored = []
    mails = letters(["reader@x.test"], 10)
    for library in (smtplib, csmtplib):
        with server() as mta:
            with library.SMTP("127.0.0.1", mta.port, timeout=10) as smtp:
                for mail in mails:
                    assert isinstance(mail.msg, bytes)
                    assert smtp.sendmail(SENDER, BOXES[:2], mail.msg) == {}
                both = ["unknown@x.test", BOXES[0]]
                refusal = (550, b"5.1.1 no such user")
                assert smtp.sendmail(SENDER, both, "Subject: a\n\nb\n") == {both[0]: refusal}
                with pytest.raises(smtplib.SMTPRecipientsRefused) as raised:
                    smtp.sendmail(SENDER, both[:1], "Subject: a\n\nb\n")
                assert raised.value.recipients == {both[0]: refusal}
                assert smtp.sendmail(SENDER, BOXES[2], "Subject: c\n\nd\n") == {}
            stored.append(mta.stored())
    assert stored[0] == stored[1]
    assert len(stored[0]) == 2 * len(mails) + 2


@careful
def test_send_many(server: Callable[[], ScriptedMTA]) -> None:
    mails = letters(BOXES, 200, unknown_every=20)
    with server() as mta:
        sent = by_send_many(mta.port, mails)
    check_outcomes(sent, mails)
    assert sent.connections == 1
    check_stored(mta, mails)


@careful
def test_bulk(server: Callable[[], ScriptedMTA]) -> None:
    mails = letters(BOXES, 400, unknown_every=20)
    with server() as mta:
        sent = by_bulk(mta.port, mails, connections=4)
    check_outcomes(sent, mails)
    check_stored(mta, mails)


@pytest.mark.parametrize("unknown_every", [0, 20], ids=["known", "5 % unknown"])
def test_send_many_to_courier(unknown_every: int) -> None:
    """T6: waited for replies that never come, on every connection anew."""
    mails = letters(BOXES, 200, unknown_every=unknown_every)
    with Courier(refuse=unknown) as mta:
        sent = by_send_many(mta.port, mails)
    check_outcomes(sent, mails)
    # What a lost connection has shown is known to the next one.
    assert sent.connections <= 2
    check_stored(mta, mails)


def test_bulk_to_courier() -> None:
    """T6: each connection stalled until its timeout, and nothing was learned from it."""
    mails = letters(BOXES, 400, unknown_every=20)
    with Courier(refuse=unknown) as mta:
        sent = by_bulk(mta.port, mails, connections=4, seconds=30)
    check_outcomes(sent, mails)
    check_stored(mta, mails)


@pytest.mark.parametrize("store_seconds", [0.0, 0.005], ids=["at once", "later"])
def test_send_many_to_haraka(store_seconds: float) -> None:
    """T5: told rejected for good, for a 503 about commands that were sent early. They may come in
    a segment of their own, and before the reply all the same."""
    mails = letters(BOXES, 200, unknown_every=20)
    with HarakaLike(refuse=unknown, store_seconds=store_seconds) as mta:
        sent = by_send_many(mta.port, mails)
    check_outcomes(sent, mails)
    # What a lost connection has shown is known to the next one.
    assert sent.connections <= 2
    check_stored(mta, mails)


def test_bulk_to_haraka() -> None:
    """T5, over several connections."""
    mails = letters(BOXES, 400, unknown_every=20)
    with HarakaLike(refuse=unknown) as mta:
        sent = by_bulk(mta.port, mails, connections=4, seconds=30)
    check_outcomes(sent, mails)
    check_stored(mta, mails)


@pytest.mark.long
@pytest.mark.parametrize("pipelining", [False, True], ids=["one by one", "PIPELINING"])
def test_bulk_to_opensmtpd(pipelining: bool) -> None:
    """T8: the pool kept sessions that take no more, and paused; a new connection is enough."""
    mails = letters(BOXES, 3000)
    with OpenSMTPD(pipelining=pipelining) as mta:
        sent = by_bulk(mta.port, mails, connections=8, seconds=60)
    check_outcomes(sent, mails)
    check_stored(mta, mails)
    # Some are given up a little early, when a message is deferred; no one is kept.
    needed = math.ceil(len(mails) / SESSION_MAX_MAILS)
    assert needed <= len(mta.log.connections) <= 2 * needed


def test_a_session_that_is_spent_is_told() -> None:
    """The rest is deferred: what the server said has nothing to do with the recipients."""
    mails = letters(BOXES, 10)
    with OpenSMTPD(max_mails=4) as mta, csmtplib.SMTP("127.0.0.1", mta.port, timeout=10) as smtp:
        results = list(smtp.send_many(mails))
    assert [result.outcomes[0].state.value for result in results] == ["accepted"] * 4 + [
        "deferred"
    ] * 6


def test_postscreen_is_passed_with_the_second_session() -> None:
    """Its first session refuses every recipient for now, whatever is sent."""
    mails = letters(BOXES, 4)
    with Postscreen() as mta:
        first = by_bulk(mta.port, mails, connections=1)
        assert mta.has_passed
        assert mta.stored() == []
        second = by_bulk(mta.port, mails, connections=1)
    assert {code for _, code in first.outcomes} <= {450, None}
    check_outcomes(second, mails)
    check_stored(mta, mails)
