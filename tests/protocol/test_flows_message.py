"""protocol/flows.py: preparing a message and its transaction, driven by hand."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csmtplib import SMTPNotSupportedError
from csmtplib.protocol.features import Features
from csmtplib.protocol.flows import (
    Close,
    ConnectionLost,
    Exchange,
    Transaction,
    Unsendable,
    open_session,
    prepare,
    transact,
)
from csmtplib.protocol.outcome import Reply, State
from csmtplib.protocol.server_url import Server

from .playing import CLOSE, LOST, LOST_AFTER_ALL_WAS_SENT, Turn, play, reply

DATA: Turn = (b"DATA\r\n", "354 go on")
RSET: Turn = (b"RSET\r\n", "250 reset")

# Preparing a message

OFFERS_ALL = Features({"size": "1000", "8bitmime": "", "smtputf8": ""})


def test_prepared_message() -> None:
    transaction = prepare("a@x", ["b@x", "C D <c@x>"], b".one\ntwo", Features())
    assert transaction == Transaction(
        recipients=["b@x", "C D <c@x>"],
        mail=b"MAIL FROM:<a@x>\r\n",
        rcpts=[b"RCPT TO:<b@x>\r\n", b"RCPT TO:<c@x>\r\n"],
        body=b"..one\r\ntwo\r\n.\r\n",
    )


def test_null_sender() -> None:
    assert prepare("", ["b@x"], b"", Features()).mail == b"MAIL FROM:<>\r\n"


@given(st.text(".a\r\n", max_size=12).map(str.encode))
@example(b"")
@example(b".")
@example(b"..\n.")
@example(b"\r\n.\r\n.")
def test_size_is_that_of_the_message(message: bytes) -> None:
    """RFC 1870 section 5: with CR LF, without the dots that are doubled and the last one."""
    lines = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if not lines[-1]:
        lines.pop()
    size = sum(len(line) + len(b"\r\n") for line in lines)
    mail = prepare("a@x", ["b@x"], message, Features({"size": ""})).mail
    assert mail == f"MAIL FROM:<a@x> SIZE={size}\r\n".encode()


def test_message_of_just_the_size_that_the_server_takes() -> None:
    """Case 42."""
    lines = b".234567\n" * 10
    assert b"SIZE=90" in prepare("a@x", ["b@x"], lines, Features({"size": "90"})).mail
    with pytest.raises(Unsendable, match="has 90 octets, and the server takes 89"):
        prepare("a@x", ["b@x"], lines, Features({"size": "89"}))
    prepare("a@x", ["b@x"], lines, Features({"size": "0"}))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r", b""])
def test_lines_of_998_octets(line_end: bytes) -> None:
    """Case 41."""
    prepare("a@x", ["b@x"], b"one\n" + b"a" * 998 + line_end, Features())
    with pytest.raises(
        Unsendable, match=r"line 2 of the message is longer than 998 octets.*encode"
    ):
        prepare("a@x", ["b@x"], b"one\n" + b"a" * 999 + line_end, Features())


def test_nul_in_the_message() -> None:
    with pytest.raises(Unsendable, match="NUL"):
        prepare("a@x", ["b@x"], b"a\0b", Features())


def test_no_recipient() -> None:
    with pytest.raises(Unsendable, match="no recipient"):
        prepare("a@x", [], b"", Features())


@pytest.mark.parametrize(("sender", "recipient"), [("ä@x", "b@x"), ("a@x", "ö@x")])
def test_smtputf8(sender: str, recipient: str) -> None:
    """Case 43."""
    transaction = prepare(sender, [recipient], b"", OFFERS_ALL)
    assert transaction.mail == (f"MAIL FROM:<{sender}> SIZE=0 SMTPUTF8 BODY=8BITMIME\r\n".encode())
    assert transaction.rcpts == [f"RCPT TO:<{recipient}>\r\n".encode()]
    with pytest.raises(SMTPNotSupportedError, match="does not offer SMTPUTF8"):
        prepare(sender, [recipient], b"", Features())


@pytest.mark.parametrize(
    ("extension", "message", "parameters"),
    [
        ("8bitmime", b"\xff", b" BODY=8BITMIME"),
        ("8bitmime", b"a", b""),
        ("size", b"\xff", b" SIZE=3"),
    ],
)
def test_8bit_body_is_announced_where_that_is_offered(
    extension: str, message: bytes, parameters: bytes
) -> None:
    transaction = prepare("a@x", ["b@x"], message, Features({extension: ""}))
    assert transaction.mail == b"MAIL FROM:<a@x>" + parameters + b"\r\n"
    assert transaction.body == message + b"\r\n.\r\n"


@pytest.mark.parametrize("odd", ["a@x\r\nDATA", "a@x\0", "a\tb@x", "<a@x>\x7f", "<"])
def test_address_that_cannot_be_sent(odd: str) -> None:
    """Case 36."""
    with pytest.raises(Unsendable):
        prepare(odd, ["b@x"], b"", Features())
    with pytest.raises(Unsendable):
        prepare("a@x", ["b@x", odd], b"", Features())


# Transactions

MESSAGE = prepare("a@x", ["b@x", "c@x", "d@x"], b"hello", Features())
MAIL, RCPT_B, RCPT_C, RCPT_D = MESSAGE.mail, *MESSAGE.rcpts
MAIL_OK: Turn = (MAIL, "250 sender ok")
BODY = b"hello\r\n.\r\n"

ACCEPTED, REJECTED, DEFERRED, IN_DOUBT = State


def states(*turns: Turn, lmtp: bool = False) -> list[State]:
    """The states of the three recipients after these turns."""
    outcomes = play(transact(MESSAGE, lmtp=lmtp), *turns)
    assert [outcome.recipient for outcome in outcomes] == ["b@x", "c@x", "d@x"]
    assert all((outcome.reply is None) is not (outcome.fault is None) for outcome in outcomes)
    return [outcome.state for outcome in outcomes]


def rcpts(*answers: str) -> list[Turn]:
    return list(zip((RCPT_B, RCPT_C, RCPT_D), answers, strict=False))


ALL_RCPT_OK = rcpts("250 ok", "250 ok", "250 ok")


def test_accepted_by_all() -> None:
    turns = [MAIL_OK, *ALL_RCPT_OK, DATA, (BODY, "250 queued as 1")]
    outcomes = play(transact(MESSAGE, lmtp=False), *turns)
    assert {(each.state, each.reply) for each in outcomes} == {
        (ACCEPTED, Reply(250, b"queued as 1"))
    }


@pytest.mark.parametrize(
    ("answer", "state"),
    [("550 who?", REJECTED), ("450 later", DEFERRED), ("552 too many", DEFERRED)],
)
def test_some_recipients_refused(answer: str, state: State) -> None:
    """Cases 45, 46 and 48."""
    outcomes = play(
        transact(MESSAGE, lmtp=False),
        MAIL_OK,
        *rcpts("250 ok", answer, "251 forwarded"),
        DATA,
        (BODY, "250 queued"),
    )
    assert [each.state for each in outcomes] == [ACCEPTED, state, ACCEPTED]
    assert outcomes[1].reply == reply(answer)


def test_all_recipients_refused() -> None:
    turns = [MAIL_OK, *rcpts("550 no", "450 later", "550 no"), RSET]
    assert states(*turns) == [REJECTED, DEFERRED, REJECTED]


@pytest.mark.parametrize(
    ("answer", "state"), [("550 no", REJECTED), ("552 too large", REJECTED), ("451 no", DEFERRED)]
)
def test_sender_refused(answer: str, state: State) -> None:
    assert states((MAIL, answer), RSET) == [state] * 3


@pytest.mark.parametrize(("answer", "state"), [("554 no", REJECTED), ("451 later", DEFERRED)])
def test_data_refused(answer: str, state: State) -> None:
    turns = [MAIL_OK, *rcpts("250 ok", "550 no", "250 ok"), (b"DATA\r\n", answer), RSET]
    assert states(*turns) == [state, REJECTED, state]


@pytest.mark.parametrize(("answer", "state"), [("554 spam", REJECTED), ("452 disk full", DEFERRED)])
def test_message_refused(answer: str, state: State) -> None:
    assert states(MAIL_OK, *ALL_RCPT_OK, DATA, (BODY, answer)) == [state] * 3


@pytest.mark.parametrize("answer", ["200 ok", "250 ok", "251 ok", "299 ok"])
def test_message_accepted(answer: str) -> None:
    assert states(MAIL_OK, *ALL_RCPT_OK, DATA, (BODY, answer)) == [ACCEPTED] * 3


# Who has not got the message has not accepted it, whatever a server says; its answers are out of
# step, and the connection is of no more use.


@pytest.mark.parametrize("answer", ["200 ok", "220 ok", "251 ok", "252 ok", "354 go on"])
def test_mail_answered_by_another_success(answer: str) -> None:
    assert states((MAIL, answer), CLOSE) == [DEFERRED] * 3


@pytest.mark.parametrize("answer", ["200 ok", "220 ok", "252 perhaps", "354 go on"])
def test_rcpt_answered_by_another_success(answer: str) -> None:
    turns = [MAIL_OK, *rcpts("550 no", answer), CLOSE]
    assert states(*turns) == [REJECTED, DEFERRED, DEFERRED]


@pytest.mark.parametrize("answer", ["220 ok", "250 ok", "300 ?"])
def test_data_answered_by_another_success(answer: str) -> None:
    turns = [MAIL_OK, *rcpts("250 ok", "550 no", "250 ok"), (b"DATA\r\n", answer), CLOSE]
    assert states(*turns) == [DEFERRED, REJECTED, DEFERRED]


def test_message_answered_by_354() -> None:
    """Case 55."""
    turns = [MAIL_OK, *rcpts("250 ok", "550 no", "250 ok"), DATA, (BODY, "354 go on"), CLOSE]
    assert states(*turns) == [IN_DOUBT, REJECTED, IN_DOUBT]


def test_421_to_mail() -> None:
    assert states((MAIL, "421 bye"), CLOSE) == [DEFERRED] * 3


def test_421_to_rcpt() -> None:
    turns = [MAIL_OK, *rcpts("550 no", "421 bye"), CLOSE]
    assert states(*turns) == [REJECTED, DEFERRED, DEFERRED]


def test_421_to_data() -> None:
    turns = [MAIL_OK, *rcpts("250 ok", "550 no", "250 ok"), (b"DATA\r\n", "421 bye"), CLOSE]
    assert states(*turns) == [DEFERRED, REJECTED, DEFERRED]


def test_421_to_the_message() -> None:
    turns = [MAIL_OK, *rcpts("250 ok", "550 no", "250 ok"), DATA, (BODY, "421 bye"), CLOSE]
    assert states(*turns) == [DEFERRED, REJECTED, DEFERRED]


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("lost", [LOST, LOST_AFTER_ALL_WAS_SENT], ids=["sending", "waiting"])
def test_lost_before_the_message(lost: ConnectionLost, lmtp: bool) -> None:
    """Whatever else was sent: without the message the server has nothing."""
    turns = [MAIL_OK, *rcpts("250 ok", "550 no", "250 ok"), DATA]
    for number, (octets, _) in enumerate(turns):
        expected = [DEFERRED, REJECTED if number > 2 else DEFERRED, DEFERRED]
        assert states(*turns[:number], (octets, lost), CLOSE, lmtp=lmtp) == expected


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("first", ["250 ok", "550 no"])
def test_lost_within_the_message(first: str, lmtp: bool) -> None:
    """Case 53: nothing is in doubt, whoever was refused before."""
    turns = [MAIL_OK, *rcpts(first, "250 ok", "250 ok"), DATA, (BODY, LOST), CLOSE]
    expected = REJECTED if first == "550 no" else DEFERRED
    assert states(*turns, lmtp=lmtp) == [expected, DEFERRED, DEFERRED]


@pytest.mark.parametrize("lmtp", [False, True])
def test_lost_after_the_message(lmtp: bool) -> None:
    """Cases 54 to 56."""
    turns = [MAIL_OK, *rcpts("250 ok", "550 no", "250 ok"), DATA]
    turns += [(BODY, LOST_AFTER_ALL_WAS_SENT), CLOSE]
    assert states(*turns, lmtp=lmtp) == [IN_DOUBT, REJECTED, IN_DOUBT]


def test_lost_after_the_end_of_the_transaction() -> None:
    turns = [MAIL_OK, *rcpts("550 no", "550 no", "550 no"), (b"RSET\r\n", LOST), CLOSE]
    assert states(*turns) == [REJECTED] * 3


def test_fault_of_what_is_in_doubt() -> None:
    turns = [MAIL_OK, *ALL_RCPT_OK, DATA, (BODY, LOST_AFTER_ALL_WAS_SENT), CLOSE]
    outcome = play(transact(MESSAGE, lmtp=False), *turns)[0]
    assert str(outcome) == "in doubt b@x (no reply came)"


def test_lmtp_answers_for_each_recipient() -> None:
    turns = [MAIL_OK, *ALL_RCPT_OK, DATA]
    turns += [(BODY, "250 ok"), (b"", "550 quota"), (b"", "450 later")]
    assert states(*turns, lmtp=True) == [ACCEPTED, REJECTED, DEFERRED]


def test_lmtp_answers_for_accepted_recipients_only() -> None:
    turns = [MAIL_OK, *rcpts("550 no", "250 ok", "550 no"), DATA, (BODY, "250 ok")]
    assert states(*turns, lmtp=True) == [REJECTED, ACCEPTED, REJECTED]


def test_lmtp_lost_between_answers() -> None:
    """Case 61."""
    turns = [MAIL_OK, *ALL_RCPT_OK, DATA]
    turns += [(BODY, "250 ok"), (b"", "550 quota"), (b"", LOST_AFTER_ALL_WAS_SENT), CLOSE]
    assert states(*turns, lmtp=True) == [ACCEPTED, REJECTED, IN_DOUBT]


def test_time_that_each_answer_may_take() -> None:
    """RFC 5321 section 4.5.3.2, in seconds."""
    flow = open_session(Server(), "client.test")
    steps = [next(flow), flow.send(Reply(220, b""))]
    flow_of_message = transact(MESSAGE, lmtp=False)
    steps.append(next(flow_of_message))
    for code in (250, 250, 250, 250, 354):
        steps.append(flow_of_message.send(Reply(code, b"")))
    seconds = [step.seconds for step in steps if isinstance(step, Exchange)]
    assert seconds == [300, 300, 300, 300, 300, 300, 120, 600]


@pytest.mark.parametrize(
    "address", ["b@x> NOTIFY=NEVER", "b@x NOTIFY=NEVER", "<b@x> c@x", "b@x>", "b c@x@y"]
)
def test_address_with_something_beside_it(address: str) -> None:
    """What stands behind the path is parameters to the server."""
    try:
        transaction = prepare("a@x", [address], b"", Features())
    except Unsendable:
        return
    assert transaction.rcpts == [b"RCPT TO:<b@x>\r\n"]


def test_quoted_local_part() -> None:
    transaction = prepare("a@x", ['"b <c> d"@x'], b"", Features())
    assert transaction.rcpts == [b'RCPT TO:<"b <c> d"@x>\r\n']


def test_lmtp_421_among_the_answers_to_the_message() -> None:
    transaction = prepare("a@x", ["b@x", "c@x", "d@x"], b"", Features())
    flow = transact(transaction, lmtp=True)
    next(flow)
    for answer in ("250 ok", "250 ok", "250 ok", "250 ok", "354 go", "250 b"):
        step = flow.send(Reply(int(answer[:3]), answer[4:].encode()))
    assert isinstance(step, Exchange)
    assert isinstance(flow.send(Reply(421, b"bye")), Close)
    with pytest.raises(StopIteration) as done:
        flow.send(Reply(0, b""))
    states = [outcome.state for outcome in done.value.value]
    assert states == [State.ACCEPTED, State.DEFERRED, State.DEFERRED]
