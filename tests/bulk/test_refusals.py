"""bulk/refusals.py: what a refusal is about, by its codes, by its senders, and by those before."""

from __future__ import annotations

import pytest

from csmtplib.bulk.refusals import (
    FIRST_RESULTS,
    FirstResults,
    Held,
    Senders,
    Subject,
    all_alike,
    in_a_row,
    subject,
)
from csmtplib.bulk.task import Task
from csmtplib.protocol import server_url
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import Outcome, Reply, answered


def outcome(said: str, *, to_mail: bool = True, to_rcpt: bool = False) -> Outcome:
    code, _, text = said.partition(" ")
    reply = Reply(int(code), text.encode())
    return answered("b@y.test", reply, to_mail=to_mail, to_rcpt=to_rcpt)


def held(said: str, sender: str = "a@x.test") -> Held:
    task = Task(1, MailObject(sender, "b@y.test", b"x"), ["b@y.test"], 0.0)
    found = outcome(said)
    assert found.reply is not None
    return Held(task, (found,), subject(found.reply, to_mail=True), 0.0, True)


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ("530 5.7.0 Authentication required", Subject.LOGIN),
        ("530 5.5.1 Invalid command: Must issue an AUTH command first", Subject.LOGIN),
        ("530", Subject.LOGIN),
        ("534 5.7.9 too weak", Subject.LOGIN),
        ("535 5.7.8 bad credentials", Subject.LOGIN),
        ("538 5.7.11 encryption required", Subject.LOGIN),
        ("550 5.7.30 Basic authentication is not supported", Subject.LOGIN),
        ("550 5.7.57 Client not authenticated to send mail", Subject.LOGIN),
        ("500 5.5.2 what?", Subject.SESSION),
        ("502 not here", Subject.SESSION),
        ("503 5.5.1 EHLO first", Subject.SESSION),
        ("521 5.3.2 no mail here", Subject.SESSION),
        ("554 5.3.2 not accepting network messages", Subject.SESSION),
        ("451 4.7.1 slow down", Subject.BUSY),
        ("452 4.5.3 Too many messages sent", Subject.BUSY),
        ("552 5.3.4 too big", Subject.MESSAGE),
        ("552 too big", Subject.MESSAGE),
        ("554 5.6.1 no 8-bit here", Subject.MESSAGE),
        ("550 5.6.7 no such addresses", Subject.MESSAGE),
        ("550 5.7.1 not allowed", Subject.UNCLEAR),
        ("550 no", Subject.UNCLEAR),
        ("553 5.1.8 no such domain", Subject.UNCLEAR),
        ("554 5.7.1 Client host rejected", Subject.UNCLEAR),
        # The first digit comes first: these codes mean nothing of the class of another reply.
        ("450 5.7.57 what now", Subject.BUSY),
        ("550 4.7.0 what now", Subject.UNCLEAR),
    ],
)
def test_what_a_refused_mail_is_about(said: str, about: Subject) -> None:
    reply = outcome(said).reply
    assert reply is not None
    assert subject(reply, to_mail=True) is about


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ("530 5.7.0 Authentication required", Subject.LOGIN),
        ("535 5.7.8 no", Subject.LOGIN),
        ("550 5.1.1 who?", Subject.MESSAGE),
        ("550 5.7.1 Relaying denied", Subject.MESSAGE),
        ("550 5.7.13 the account is disabled", Subject.MESSAGE),
        ("503 5.5.1 MAIL first", Subject.MESSAGE),
        ("451 4.7.1 greylisted", Subject.MESSAGE),
        ("452 4.5.3 too many recipients", Subject.MESSAGE),
    ],
)
def test_what_is_said_to_recipients_is_about_them(said: str, about: Subject) -> None:
    """But for a login."""
    reply = outcome(said).reply
    assert reply is not None
    assert subject(reply, to_mail=False) is about


def test_how_many_in_a_row_are_the_connections() -> None:
    unclear, spent = held("550 5.7.1 no"), held("452 4.5.3 enough")
    assert in_a_row([unclear]) == in_a_row([unclear] * 9) == 10
    assert in_a_row([spent]) == in_a_row([unclear, spent]) == 2


# Senders


def test_nobody_is_to_blame_where_none_was_taken() -> None:
    senders = Senders()
    assert not senders.are_to_blame([held("553 5.1.8 no")])
    assert not senders.are_named([held("553 5.1.8 no")])


def test_a_sender_of_another_domain_is_to_blame() -> None:
    senders = Senders()
    senders.note_taken("a@good.test")
    assert not senders.is_refused("b@bad.test")
    assert senders.are_to_blame([held("550 no", "b@bad.test"), held("550 no", "c@BAD.test")])
    assert senders.is_refused("d@Bad.test")
    assert not senders.is_refused("a@good.test")


@pytest.mark.parametrize("sender", ["a@good.test", "a+5=y.test@Good.test"])
def test_a_sender_of_the_same_domain_is_not_to_blame(sender: str) -> None:
    """With VERP each message has a sender of its own."""
    senders = Senders()
    senders.note_taken("a@good.test")
    assert not senders.are_to_blame([held("550 no", "b@bad.test"), held("550 no", sender)])
    assert not senders.is_refused(sender)


def test_a_server_may_name_the_sender() -> None:
    senders = Senders()
    senders.note_taken("a@good.test")
    named = [held("553 whose?", "b@good.test"), held("550 5.1.7 bad", "c@good.test")]
    assert senders.are_named(named)
    assert not senders.are_named([*named, held("550 5.7.1 no")])


def test_what_is_remembered_is_bounded() -> None:
    senders = Senders()
    for number in range(5000):
        senders.note_taken(f"a@d{number}.test")
        senders.are_to_blame([held("550 no", f"a@bad{number}.test")])
    assert len(senders._taken) == len(senders._refused) == len(senders._taken_alone) == 1000


def test_a_sender_is_blamed_that_was_never_taken() -> None:
    senders = Senders()
    senders.note_taken("a@x.test")
    senders.blame({"a@x.test", "b@x.test"})
    assert senders.is_refused("b@x.test")
    assert not senders.is_refused("a@x.test")
    assert not senders.is_refused("c@x.test")


def test_nobody_is_blamed_where_there_are_more_senders_than_are_remembered() -> None:
    """It may have been taken before."""
    senders = Senders()
    for number in range(1000):
        senders.note_taken(f"a{number}@x.test")
    senders.blame({"b@x.test"})
    assert not senders.is_refused("b@x.test")


# The first results of a run


def first(*said: str, is_on: bool = True) -> list[bool]:
    results = FirstResults(is_on=is_on)
    return [results.are_alike(outcome(each, to_mail=False, to_rcpt=True)) for each in said]


def test_so_many_of_the_same_refusal_are_noticed_once() -> None:
    found = first(*["550 5.1.1 who?"] * 60)
    assert [number for number, each in enumerate(found, 1) if each] == [FIRST_RESULTS]


@pytest.mark.parametrize("other", ["250 ok", "550 5.1.2 who?", "554 5.1.1 who?", "550 who?"])
@pytest.mark.parametrize("at", [0, 20, 48])
def test_another_result_among_the_first_ends_it(other: str, at: int) -> None:
    said = ["550 5.1.1 who?"] * 200
    said[at] = other
    assert not any(first(*said))


def test_the_text_may_differ() -> None:
    said = [f"550 5.1.1 <b{number}@y.test> is unknown" for number in range(50)]
    assert first(*said)[-1]


def test_another_command_is_another_refusal() -> None:
    results = FirstResults(is_on=True)
    for number in range(100):
        assert not results.are_alike(outcome("550 no", to_mail=False, to_rcpt=number != 3))


def test_it_can_be_off() -> None:
    assert not any(first(*["550 5.1.1 who?"] * 60, is_on=False))


def test_what_was_not_sent_is_no_result_of_the_server() -> None:
    results = FirstResults(is_on=True)
    fault = Outcome("b@y.test", outcome("550 no").state, fault="NUL")
    found = [results.are_alike(each) for each in [fault, outcome("550 no")] * 50]
    assert found.index(True) == 2 * FIRST_RESULTS - 1


# What is said


def test_a_missing_login_is_said() -> None:
    server = server_url.parse("smtp://mx.test:25", {})
    error = held("530 5.7.0 Authentication required").refusal(server)
    assert (error.needs_login, error.rejected, error.smtp_code) == (True, 0, 530)
    assert str(error) == (
        "mx.test:25 refuses mail from <a@x.test>: 530 5.7.0 Authentication required; it requires a "
        "login, and the server URL names no user, so the recipients stay queued"
    )


def test_a_login_that_is_not_enough_is_said() -> None:
    server = server_url.parse("submission://me:pw@mx.test", {})
    error = held("550 5.7.30 Basic authentication is not supported").refusal(server)
    assert "the login of me does not allow it" in str(error)
    assert "pw" not in str(error)


def test_other_refusals_are_said() -> None:
    server = server_url.parse("smtp://mx.test:25", {})
    error = held("554 5.7.1 blocked").refusal(server)
    assert not error.needs_login
    assert "554 5.7.1 blocked; it would refuse every message this way" in str(error)
    alike = all_alike(outcome("550 5.7.1 Relaying denied", to_mail=False), server)
    assert (alike.rejected, alike.needs_login, alike.smtp_code) == (50, False, 550)
    assert "the first 50 results are the same refusal by mx.test:25: 550 5.7.1" in str(alike)
