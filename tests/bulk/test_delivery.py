"""bulk/delivery.py: what goes into a sender, and what comes out of it."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any

import pytest

from csmtplib.bulk.delivery import Delivery, Job, keyed_mail
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import Reply, State

MAIL = MailObject("a@x.test", "b@y.test", b"x")


def delivery(reply: Reply | None = None, fault: str | None = None) -> Delivery:
    return Delivery("key", "b@y.test", State.REJECTED, reply, fault, 2, "mx.test:25", 1000.0)


def test_what_a_server_said() -> None:
    found = delivery(Reply(550, b"5.1.1 no such\nmailbox"))
    assert (found.code, found.enhanced) == (550, "5.1.1")
    assert found.text == "5.1.1 no such / mailbox"


def test_a_server_that_said_nothing() -> None:
    found = delivery(fault="the connection was lost")
    assert (found.code, found.enhanced, found.text) == (None, None, "the connection was lost")


def test_a_reply_and_what_ended_the_tries() -> None:
    found = delivery(Reply(451, b"4.7.1 later"), "given up after 2 attempts")
    assert (found.code, found.text) == (451, "4.7.1 later; given up after 2 attempts")


def test_nothing_is_known() -> None:
    assert delivery().text == ""


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert delivery(Reply(550, b"\x1b[31mred\x07")).text == r"\x1b[31mred\x07"


def test_a_server_that_said_nothing_enhanced() -> None:
    assert delivery(Reply(550, b"2.0.0 of another class")).enhanced is None


@pytest.mark.parametrize("key", ["", "a", "ä", "日本", 0, -1, (1 << 63) - 1, -(1 << 63)])
def test_keys(key: str | int) -> None:
    made = Job(key, MAIL)
    found_key, mail = keyed_mail(made)
    assert (found_key, type(found_key)) == (key, type(key))
    assert mail is MAIL


@pytest.mark.parametrize("key", [1 << 63, -(1 << 63) - 1, "\ud800"])
def test_keys_that_no_journal_holds(key: Any) -> None:
    with pytest.raises(ValueError, match=r"64 bits|surrogates"):
        keyed_mail(Job(key, MAIL))


@pytest.mark.parametrize("key", [None, 1.5, b"a", True, ("a",)])
def test_what_is_no_key(key: Any) -> None:
    with pytest.raises(TypeError, match="key must be an int or a str, not "):
        keyed_mail(Job(key, MAIL))


def test_messages_of_all_kinds() -> None:
    message = EmailMessage()
    message["From"], message["To"] = "a@x.test", "b@y.test"
    for item in (MAIL, ("a@x.test", "b@y.test", b"x"), message):
        key, mail = keyed_mail(Job(7, item))  # type: ignore[arg-type]
        assert (key, mail.from_addr) == (7, "a@x.test")


@pytest.mark.parametrize("item", [42, None, "text", ("a@x.test",)])
def test_what_is_no_message(item: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        keyed_mail(Job(7, item))
