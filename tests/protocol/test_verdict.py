"""protocol/verdict.py: what a transaction is to smtplib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from csmtplib import (
    SMTPDataError,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)
from csmtplib.kernel.errors import ReplyTooLong, SessionClosed
from csmtplib.kernel.transaction import Stage
from csmtplib.protocol.verdict import Ending, Verdict, judge, keep_reply, reply_for_all

if TYPE_CHECKING:
    from csmtplib.kernel.transaction import Completed

OK, NO, BYE = (250, b"ok"), (550, b"no"), (421, b"bye")
LOST, IN_DOUBT, MAIL, RCPT, DATA, CONTENT = Stage
AGAIN = (250, b"again")
CLOSED = SessionClosed("the server closes the session", *BYE)
RESET = ConnectionResetError("reset")


def completed(stage: Stage, reply: Any = None, **others: Any) -> Completed:
    """A transaction to a, b, c: those that have an answer of their own, by their names."""
    places = {"abc".index(name): (int(at), answer) for name, (at, answer) in others.items()}
    return None, int(stage), reply, places


def verdict(
    transaction: Completed, failure: Exception | None = None, *, lmtp: bool = False
) -> Verdict:
    return judge(transaction, failure, "me@x", ["a", "b", "c"], lmtp=lmtp)


def told(one: Verdict) -> object:
    """Return what sendmail() returns or raises."""
    return one.refused if one.error is None else (type(one.error), one.error.args)


def test_accepted() -> None:
    one = verdict(completed(CONTENT, OK))
    assert (told(one), one.ending, one.replies) == ({}, Ending.NOTHING, None)


def test_some_recipients_refused() -> None:
    one = verdict(completed(CONTENT, OK, b=(RCPT, NO)))
    assert (told(one), one.ending) == ({"b": NO}, Ending.NOTHING)


@pytest.mark.parametrize(("reply", "ending"), [(NO, Ending.RESET), (BYE, Ending.CLOSE)])
def test_sender_refused(reply: tuple[int, bytes], ending: Ending) -> None:
    one = verdict(completed(MAIL, reply))
    assert (told(one), one.ending) == ((SMTPSenderRefused, (*reply, "me@x")), ending)


def test_all_recipients_refused() -> None:
    one = verdict(completed(RCPT, None, a=(RCPT, NO), b=(RCPT, NO), c=(RCPT, (450, b"later"))))
    refused = {"a": NO, "b": NO, "c": (450, b"later")}
    assert (told(one), one.ending) == ((SMTPRecipientsRefused, (refused,)), Ending.RESET)


@pytest.mark.parametrize("stage", [DATA, CONTENT])
@pytest.mark.parametrize(("reply", "ending"), [(NO, Ending.RESET), (BYE, Ending.CLOSE)])
@pytest.mark.parametrize("lmtp", [False, True])
def test_message_refused(
    stage: Stage, reply: tuple[int, bytes], ending: Ending, lmtp: bool
) -> None:
    one = verdict(completed(stage, reply, b=(RCPT, NO)), lmtp=lmtp)
    assert (told(one), one.ending) == ((SMTPDataError, reply), ending)


def test_a_success_that_smtplib_does_not_know() -> None:
    assert told(verdict(completed(CONTENT, (252, b"maybe")))) == (SMTPDataError, (252, b"maybe"))


@pytest.mark.parametrize("stage", [LOST, IN_DOUBT])
@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (RESET, (SMTPServerDisconnected, ("Connection unexpectedly closed: reset",))),
        (EOFError(), (SMTPServerDisconnected, ("Connection unexpectedly closed",))),
        (
            TimeoutError("x"),
            (SMTPServerDisconnected, ("Connection unexpectedly closed: timed out",)),
        ),
        (ReplyTooLong("Line too long.", b"a"), (SMTPResponseException, (500, "Line too long."))),
    ],
)
def test_connection_lost(stage: Stage, failure: Exception, error: object) -> None:
    one = verdict(completed(stage, b=(RCPT, NO)), failure)
    assert (told(one), one.ending) == (error, Ending.CLOSE)
    assert one.error is not None
    assert one.error.__cause__ is failure


def test_a_connection_that_is_lost_behind_the_reply() -> None:
    for transaction, said in [
        (completed(CONTENT, OK), {}),
        (completed(MAIL, NO), (SMTPSenderRefused, (*NO, "me@x"))),
        (completed(CONTENT, NO), (SMTPDataError, NO)),
    ]:
        one = verdict(transaction, RESET)
        assert (told(one), one.ending) == (said, Ending.CLOSE)


def test_session_closed_before_the_transaction() -> None:
    """It is the answer to MAIL, as in smtplib."""
    one = verdict(completed(LOST), CLOSED)
    assert (told(one), one.ending) == ((SMTPSenderRefused, (*BYE, "me@x")), Ending.CLOSE)


def test_session_closed_among_recipients() -> None:
    one = verdict(completed(LOST, None, a=(RCPT, BYE)), CLOSED)
    assert (told(one), one.ending) == ((SMTPRecipientsRefused, ({"a": BYE},)), Ending.CLOSE)


# Step by step


def test_a_recipient_that_is_refused_by_421() -> None:
    one = Verdict()
    assert not one.refuse_recipient("a", NO)
    assert one.error is None
    assert one.refuse_recipient("b", BYE)
    refused = {"a": NO, "b": BYE}
    assert (told(one), one.ending) == ((SMTPRecipientsRefused, (refused,)), Ending.CLOSE)


# LMTP


def test_replies_for_each_recipient() -> None:
    one = verdict(completed(CONTENT, OK, a=(CONTENT, NO), c=(RCPT, NO)), lmtp=True)
    assert told(one) == {"a": NO, "c": NO}
    assert one.replies == {"a": NO, "b": OK}
    assert one.ending is Ending.NOTHING


def test_nobody_has_the_message() -> None:
    first = (452, b"full")
    others = {"a": (CONTENT, first), "b": (CONTENT, NO), "c": (RCPT, NO)}
    one = verdict(completed(CONTENT, None, **others), lmtp=True)
    assert (told(one), one.ending) == ((SMTPDataError, first), Ending.RESET)
    assert one.replies == {"a": first, "b": NO}


def test_session_closed_between_the_replies() -> None:
    """421 stands for those that are missing."""
    one = verdict(completed(IN_DOUBT, None, a=(CONTENT, OK)), CLOSED, lmtp=True)
    assert (told(one), one.ending) == ({"b": BYE, "c": BYE}, Ending.CLOSE)
    assert one.replies == {"a": OK, "b": BYE, "c": BYE}


def test_connection_lost_between_the_replies() -> None:
    one = verdict(completed(IN_DOUBT, None, a=(CONTENT, OK)), RESET, lmtp=True)
    assert isinstance(one.error, SMTPServerDisconnected)
    assert one.replies == {"a": OK}


def test_refused_before_the_content_there_are_no_replies_to_it() -> None:
    for transaction in (completed(MAIL, NO), completed(DATA, NO)):
        assert verdict(transaction, lmtp=True).replies == {}


def test_a_recipient_that_was_named_twice() -> None:
    replies: dict[str, tuple[int, bytes]] = {}
    for reply, kept in [(NO, NO), (OK, OK), (AGAIN, AGAIN), (NO, AGAIN)]:
        keep_reply(replies, "a", reply)
        assert replies == {"a": kept}


def test_the_reply_for_all() -> None:
    assert reply_for_all({"a": NO, "b": OK, "c": (250, b"c")}) == OK
    assert reply_for_all({"a": NO, "b": BYE}) == NO
