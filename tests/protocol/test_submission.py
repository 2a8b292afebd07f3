"""protocol/submission.py: many messages over one connection, driven by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csmtplib import SMTPNotSupportedError, kernel
from csmtplib.kernel.transaction import Mode
from csmtplib.protocol import extension_policy, limits
from csmtplib.protocol.features import Features
from csmtplib.protocol.mail_object import DSN, MailObject, Unsendable
from csmtplib.protocol.outcome import Outcome, Reply, State
from csmtplib.protocol.result import Result
from csmtplib.protocol.submission import Submission

from .serving import Host, known_host

SEQUENTIAL, PIPELINING, CHUNKING = Mode
ACCEPTED, REJECTED, DEFERRED, IN_DOUBT = State

every_mode = pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.name.lower())


class Session:
    """A submission and the server that it talks to, without a network between."""

    def __init__(
        self,
        mode: Mode,
        host: Host | None = None,
        *,
        lmtp: bool = False,
        proved: bool = False,
        max_in_flight: int = 100,
        **extensions: Any,
    ) -> None:
        self.replies = kernel.ReplyBuffer(8192, 65536)
        self.host = host or Host(lmtp=lmtp)
        self.submission = Submission(
            self.replies,
            Features(extensions),
            mode,
            lmtp=lmtp,
            host=known_host(mode) if proved else extension_policy.Host(),
            max_in_flight=max_in_flight,
        )

    def step(self) -> None:
        """One flight, and what comes back."""
        pipeline = self.submission.pipeline
        data = pipeline.pull(1 << 20)
        pipeline.wrote(len(data))
        said = self.host.take(data)
        assert data or said or self.host.hung_up, "nothing moves"
        self.replies.feed(said)
        pipeline.receive()
        if self.host.hung_up:
            pipeline.end_of_stream()

    def finish(self) -> list[Result]:
        """All results, when nothing is left to do."""
        results = list(self.submission.results())
        while self.submission.pipeline.want():
            self.step()
            results += self.submission.results()
        return results

    def send(self, *items: object) -> list[Result]:
        for item in items:
            self.submission.add(item)
        return self.finish()


def flight(item: object, mode: Mode = CHUNKING, **extensions: Any) -> bytes:
    """All that is sent for a message at once, to a server that is known to take it."""
    session = Session(mode, proved=True, **extensions)
    session.submission.add(item)
    return session.submission.pipeline.pull(1 << 20)


def mail_command(*arguments: Any, **extensions: Any) -> bytes:
    return flight(arguments, **extensions).partition(b"\r\n")[0]


def rcpt_commands(*arguments: Any, **extensions: Any) -> list[bytes]:
    lines = flight(arguments, **extensions).split(b"\r\n")
    return [line for line in lines if line.startswith(b"RCPT")]


def unsendable(*arguments: Any, **extensions: Any) -> Exception:
    """Why a message can't be sent, of which nothing is."""
    session = Session(CHUNKING, proved=True, **extensions)
    (result,) = session.send(MailObject(*arguments))
    assert not session.host.received
    assert not result.accepted
    assert result.error is not None
    assert {(each.state, each.fault) for each in result.outcomes} == {(REJECTED, str(result.error))}
    return result.error


# What is sent


def test_lines_of_a_chunked_message() -> None:
    assert flight(("a@x", ["b@x", "C D <c@x>"], b".one\ntwo")) == (
        b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nBDAT 11 LAST\r\n.one\r\ntwo\r\n"
    )


def test_lines_of_a_pipelined_message() -> None:
    session = Session(PIPELINING)
    (result,) = session.send(("a@x", ["b@x", "C D <c@x>"], b".one\ntwo"))
    assert result.accepted
    assert session.host.received == (
        b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n..one\r\ntwo\r\n.\r\n"
    )


def test_null_sender() -> None:
    assert mail_command("", ["b@x"], b"") == b"MAIL FROM:<>"


def test_one_recipient_as_text() -> None:
    assert rcpt_commands("a@x", "b@x", b"") == [b"RCPT TO:<b@x>"]


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
    for mode in Mode:
        sent = flight(("a@x", ["b@x"], message), mode, size="")
        assert sent.startswith(f"MAIL FROM:<a@x> SIZE={size}\r\n".encode())


def test_message_of_just_the_size_that_the_server_takes() -> None:
    """Case 42."""
    lines = b".234567\n" * 10
    assert mail_command("a@x", ["b@x"], lines, size="90") == b"MAIL FROM:<a@x> SIZE=90"
    error = unsendable("a@x", ["b@x"], lines, size="89")
    assert isinstance(error, Unsendable)
    assert str(error) == "the message has 90 bytes, and the server takes 89"
    assert mail_command("a@x", ["b@x"], lines, size="0") == b"MAIL FROM:<a@x> SIZE=90"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r", b""])
def test_lines_of_998_bytes(line_end: bytes) -> None:
    """Case 41."""
    before = b"one\n" + b"a" * 997
    assert flight(("a@x", ["b@x"], before + b"a" + line_end)).endswith(b"a" * 998 + b"\r\n")
    for message in (before + b"aa" + line_end, [before, b"aa", line_end]):
        error = unsendable("a@x", ["b@x"], message)
        assert isinstance(error, Unsendable)
        assert str(error).startswith("line 2 of the message is longer than 998 bytes")
        assert "encode" in str(error)


def test_nul_in_the_message() -> None:
    error = unsendable("a@x", ["b@x"], b"a\0b")
    assert isinstance(error, Unsendable)
    assert "NUL" in str(error)


def test_no_recipient() -> None:
    error = unsendable("a@x", [], b"")
    assert isinstance(error, Unsendable)
    assert "no recipient" in str(error)


@pytest.mark.parametrize(("sender", "recipient"), [("ä@x", "b@x"), ("a@x", "ö@x")])
def test_smtputf8(sender: str, recipient: str) -> None:
    """Case 43."""
    offers_all: dict[str, Any] = {"size": "1000", "8bitmime": "", "smtputf8": ""}
    assert (
        flight((sender, [recipient], b""), **offers_all)
        == (
            f"MAIL FROM:<{sender}> SIZE=0 SMTPUTF8 BODY=8BITMIME\r\n"
            f"RCPT TO:<{recipient}>\r\n"
            "BDAT 0 LAST\r\n"
        ).encode()
    )
    error = unsendable(sender, [recipient], b"")
    assert isinstance(error, SMTPNotSupportedError)
    assert "does not offer SMTPUTF8" in str(error)


@pytest.mark.parametrize(
    ("extension", "message", "parameters"),
    [
        ("8bitmime", b"\xff", b" BODY=8BITMIME"),
        ("8bitmime", [b"a", b"\xff"], b" BODY=8BITMIME"),
        ("8bitmime", b"a", b""),
        ("size", b"\xff", b" SIZE=3"),
    ],
)
def test_8bit_body_is_announced_where_that_is_offered(
    extension: str, message: Any, parameters: bytes
) -> None:
    offers: dict[str, Any] = {extension: ""}
    sent = flight(("a@x", ["b@x"], message), **offers)
    assert sent.startswith(b"MAIL FROM:<a@x>" + parameters + b"\r\n")
    text = message if isinstance(message, bytes) else b"".join(message)
    assert sent.endswith(b" LAST\r\n" + text + b"\r\n")


@pytest.mark.parametrize("odd", ["a@x\r\nDATA", "a@x\0", "a\tb@x", "<a@x>\x7f", "<"])
def test_address_that_cannot_be_sent(odd: str) -> None:
    """Case 36."""
    assert isinstance(unsendable(odd, ["b@x"], b""), Unsendable)
    assert isinstance(unsendable("a@x", ["b@x", odd], b""), Unsendable)


@pytest.mark.parametrize("nobody", ["", "<>", " "])
def test_recipient_without_an_address(nobody: str) -> None:
    assert isinstance(unsendable("a@x", ["b@x", nobody], b""), Unsendable)


@pytest.mark.parametrize(
    "address", ["b@x> NOTIFY=NEVER", "b@x NOTIFY=NEVER", "<b@x> c@x", "b@x>", "b c@x@y"]
)
def test_address_with_something_beside_it(address: str) -> None:
    """To the server, all that stands behind the path is parameters."""
    session = Session(CHUNKING, proved=True)
    (result,) = session.send(("a@x", [address], b""))
    if result.error is not None:
        assert isinstance(result.error, Unsendable)
    else:
        assert session.host.lines[1] == "RCPT TO:<b@x>"


def test_quoted_local_part() -> None:
    assert rcpt_commands("a@x", ['"b <c> d"@x'], b"") == [b'RCPT TO:<"b <c> d"@x>']


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ([], b"MAIL FROM:<a@x> SIZE=3 BODY=8BITMIME"),
        (["AUTH=<>"], b"MAIL FROM:<a@x> SIZE=3 BODY=8BITMIME AUTH=<>"),
        (("body=binarymime", "X=1"), b"MAIL FROM:<a@x> SIZE=3 body=binarymime X=1"),
        (["size=7"], b"MAIL FROM:<a@x> BODY=8BITMIME size=7"),
        (["SMTPUTF8"], b"MAIL FROM:<a@x> SIZE=3 BODY=8BITMIME SMTPUTF8"),
    ],
)
def test_mail_options(options: Any, command: bytes) -> None:
    """The caller's go before ours of the same name."""
    offers: dict[str, Any] = {"size": "", "8bitmime": "", "smtputf8": ""}
    assert mail_command("a@x", ["b@x"], b"\xff", options, **offers) == command


def test_rcpt_options() -> None:
    assert rcpt_commands("a@x", ["b@x", "c@x"], b"", (), ["NOTIFY=NEVER", "X"]) == [
        b"RCPT TO:<b@x> NOTIFY=NEVER X",
        b"RCPT TO:<c@x> NOTIFY=NEVER X",
    ]


@pytest.mark.parametrize("odd", ["X=1\r\nDATA", "X\0", "X=\t1", "X=ö"])
def test_options_that_cannot_be_sent(odd: str) -> None:
    assert isinstance(unsendable("a@x", ["b@x"], b"", [odd]), Unsendable)
    assert isinstance(unsendable("a@x", ["b@x"], b"", [], [odd]), Unsendable)


def test_dsn_where_it_is_offered() -> None:
    dsn = DSN("HDRS", "a=1", ["SUCCESS", "DELAY"], {"c@x": "d@y"})
    assert flight(MailObject("a@x", ["b@x", "c@x"], b"", (), ["X"], dsn), dsn="", size="") == (
        b"MAIL FROM:<a@x> SIZE=0 RET=HDRS ENVID=a+3D1\r\n"
        b"RCPT TO:<b@x> X NOTIFY=SUCCESS,DELAY\r\n"
        b"RCPT TO:<c@x> X NOTIFY=SUCCESS,DELAY ORCPT=rfc822;d@y\r\n"
        b"BDAT 0 LAST\r\n"
    )


def test_dsn_where_it_is_not_offered() -> None:
    dsn = DSN("HDRS", "1", ["NEVER"], {"b@x": "d@y"})
    assert flight(MailObject("a@x", ["b@x"], b"", dsn=dsn)) == (
        b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nBDAT 0 LAST\r\n"
    )


def test_email_message() -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = "a@x", "b@x", "c@x"
    message.set_content(".ä\n", cte="8bit")
    offers: dict[str, Any] = {"8bitmime": ""}
    session = Session(PIPELINING, **offers)
    (result,) = session.send(message)
    assert result.accepted
    assert result.mail is message
    assert sorted(result.recipients) == ["b@x", "c@x"]
    assert session.host.lines[0] == "MAIL FROM:<a@x> BODY=8BITMIME"
    assert session.host.texts[0].endswith("\r\n\r\n.ä\r\n".encode())


def unreadable() -> Iterator[bytes]:
    yield b"head\r\n"
    raise OSError("the disk is gone")


def broken_message() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "a@x", "b@x"
    message.set_payload([5])  # type: ignore[list-item]
    return message


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (None, TypeError),
        (("a@x", "b@x"), TypeError),
        (("a@x", "b@x", None), TypeError),
        (("a@x", "b@x", ["text"]), TypeError),
        (("a@x", "b@x", "ä"), UnicodeEncodeError),
        (("a@x", None, b""), TypeError),
        (("a@x", [None], b""), TypeError),
        (("a@x", ["b@x", b"c@x"], b""), TypeError),
        (("a@x", "b@x", b"", [5]), Exception),
        ((None, "b@x", b""), Exception),
        ((b"a@x", "b@x", b""), Exception),
        (("a@x", "b@x", b"", "SIZE=1"), TypeError),
        (("a@x", "b@x", b"", (), ["A=1", None]), TypeError),
        (("a@x", "b@x", b"", (), (), "NEVER"), TypeError),
        pytest.param(("a@x", "b@x", unreadable()), OSError, id="unreadable"),
        pytest.param(broken_message(), Exception, id="broken"),
        pytest.param(EmailMessage(), ValueError, id="empty"),
    ],
    ids=repr,
)
def test_item_that_is_no_message_leaves_the_others_alone(
    item: object, error: type[Exception]
) -> None:
    session = Session(CHUNKING, proved=True)
    good = ("a@x", "b@x", b"good\r\n")
    first, bad, last = session.send(good, item, good)
    assert isinstance(bad.error, error)
    assert bad.mail is item
    assert not bad.accepted
    assert repr(bad)
    # T15: README's loop over the outcomes said nothing of it.
    fault = str(bad.error) or type(bad.error).__name__
    recipients = list(bad.recipients) or [""]
    assert [each.recipient for each in bad.outcomes] == recipients
    assert {(each.state, each.fault) for each in bad.outcomes} == {(REJECTED, fault)}
    assert first.accepted
    assert last.accepted
    assert session.host.texts == [b"good\r\n"] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"from_addr": None}, 'from_addr must be an address as a str, or "" for none, not None'),
        ({"from_addr": b"a@x"}, "from_addr must be an address as a str"),
        ({"to_addrs": None}, "to_addrs must be an address as a str, or a sequence of these, not N"),
        ({"to_addrs": 5}, "to_addrs must be an address as a str, or a sequence of these, not 5"),
        ({"to_addrs": b"b@x"}, "to_addrs must be an address as a str"),
        ({"to_addrs": ["b@x", b"c@x"]}, "to_addrs must be an address as a str, or a sequence of"),
        ({"mail_options": "RET=HDRS"}, "mail_options must be a sequence of ESMTP parameters as"),
        ({"mail_options": [b"RET=HDRS"]}, "mail_options must be a sequence of ESMTP parameters"),
        ({"mail_options": 5}, "mail_options must be a sequence of ESMTP parameters as str, not 5"),
        ({"rcpt_options": "NOTIFY=NEVER"}, "rcpt_options must be a sequence of ESMTP parameters"),
        ({"dsn": "NEVER"}, "dsn must be a DSN, not 'NEVER'"),
        ({"dsn": 0}, "dsn must be a DSN, not 0"),
        ({"msg": 5}, "the content of a message is bytes, an ASCII str"),
    ],
    ids=str,
)
def test_parts_of_a_mail_object(arguments: dict[str, Any], said: str) -> None:
    """T26: "RET=HDRS" was sent letter by letter, a DSN that is none an AttributeError."""
    good = MailObject("a@x", "b@x", b"")
    error = unsendable(*good._replace(**arguments))
    assert isinstance(error, TypeError)
    assert said in str(error)


# What becomes of one message, sequentially

RECIPIENTS = ["b@x", "c@x", "d@x"]
MESSAGE = ("a@x", RECIPIENTS, b"hello")


def states(*answers: str | None, lmtp: bool = False) -> tuple[list[State], str]:
    """The states of the three recipients after these replies (None: the server hangs up), and the
    last line that was sent."""
    session = Session(SEQUENTIAL, lmtp=lmtp)
    pipeline = session.submission.pipeline
    session.submission.add(MESSAGE)
    sent = b""
    for answer in answers:
        data = pipeline.pull(1 << 20)
        pipeline.wrote(len(data))
        sent += data
        if answer is None:
            pipeline.end_of_stream()
        else:
            session.replies.feed(f"{answer}\r\n".encode())
            pipeline.receive()
    sent += pipeline.pull(1 << 20)
    (result,) = session.submission.results()
    assert result.error is None
    assert [each.recipient for each in result.outcomes] == RECIPIENTS
    assert all((each.reply is None) is not (each.fault is None) for each in result.outcomes)
    assert result.accepted is all(each.state is ACCEPTED for each in result.outcomes)
    last = sent.decode().removesuffix("\r\n").rpartition("\r\n")[2]
    return [each.state for each in result.outcomes], last


OPEN = ("250 sender ok", "250 ok", "250 ok", "250 ok", "354 go on")
ONE_REFUSED = ("250 sender ok", "250 ok", "550 no", "250 ok", "354 go on")


@pytest.mark.parametrize("answer", ["200 ok", "250 ok", "251 ok", "299 ok"])
def test_message_accepted(answer: str) -> None:
    assert states(*OPEN, answer) == ([ACCEPTED] * 3, ".")


@pytest.mark.parametrize(("answer", "state"), [("554 spam", REJECTED), ("452 disk full", DEFERRED)])
def test_message_refused(answer: str, state: State) -> None:
    assert states(*OPEN, answer) == ([state] * 3, ".")


@pytest.mark.parametrize(
    ("answer", "state"), [("550 no", REJECTED), ("552 too large", REJECTED), ("451 no", DEFERRED)]
)
def test_sender_refused(answer: str, state: State) -> None:
    assert states(answer)[0] == [state] * 3


def test_all_recipients_refused() -> None:
    assert states("250 ok", "550 no", "450 later", "550 no") == (
        [REJECTED, DEFERRED, REJECTED],
        "RSET",
    )


@pytest.mark.parametrize(("answer", "state"), [("554 no", REJECTED), ("451 later", DEFERRED)])
def test_data_refused(answer: str, state: State) -> None:
    assert states(*ONE_REFUSED[:4], answer) == ([state, REJECTED, state], "RSET")


# Who has not got the message has not accepted it, whatever a server says; its answers are out of
# step, and the connection is of no more use.


@pytest.mark.parametrize("answer", ["220 ok", "221 ok", "354 go on"])
def test_mail_answered_by_another_success(answer: str) -> None:
    assert states(answer)[0] == [DEFERRED] * 3


@pytest.mark.parametrize("answer", ["220 ok", "221 ok", "354 go on"])
def test_rcpt_answered_by_another_success(answer: str) -> None:
    assert states("250 ok", "550 no", answer)[0] == [REJECTED, DEFERRED, DEFERRED]


@pytest.mark.parametrize("answer", ["220 ok", "250 ok", "300 ?"])
def test_data_answered_by_another_success(answer: str) -> None:
    assert states(*ONE_REFUSED[:4], answer)[0] == [DEFERRED, REJECTED, DEFERRED]


def test_message_answered_by_354() -> None:
    """Case 55."""
    assert states(*ONE_REFUSED, "354 go on")[0] == [IN_DOUBT, REJECTED, IN_DOUBT]


@pytest.mark.parametrize("before", range(6))
def test_421(before: int) -> None:
    """The server does nothing more; what it was told before the message it has refused."""
    expected = [DEFERRED, REJECTED if before > 2 else DEFERRED, DEFERRED]
    assert states(*ONE_REFUSED[:before], "421 bye")[0] == expected


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("before", range(6))
def test_lost(before: int, lmtp: bool) -> None:
    """Cases 54 to 56: without the message the server has nothing; with it there is no telling."""
    lost = IN_DOUBT if before == 5 else DEFERRED
    expected = [lost, REJECTED if before > 2 else lost, lost]
    assert states(*ONE_REFUSED[:before], None, lmtp=lmtp)[0] == expected


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("first", ["250 ok", "550 no"])
def test_lost_within_the_message(first: str, lmtp: bool) -> None:
    """Case 53: nothing is in doubt, whoever was refused before."""
    session = Session(SEQUENTIAL, Host(rcpt=[first, "250 ok"]), lmtp=lmtp)
    session.submission.add(MESSAGE)
    for _ in range(5):
        session.step()
    pipeline = session.submission.pipeline
    pipeline.wrote(len(b"hello"))
    assert pipeline.pull(100) == b"\r\n.\r\n"
    pipeline.wrote(0)
    pipeline.end_of_stream()
    (result,) = session.submission.results()
    expected = REJECTED if first == "550 no" else DEFERRED
    assert [each.state for each in result.outcomes] == [expected, DEFERRED, DEFERRED]


def test_fault_of_what_is_in_doubt() -> None:
    session = Session(SEQUENTIAL, Host(message=None))
    (result,) = session.send(("a@x", "b@x", b""))
    fault = "the server closed the connection"
    assert result.outcomes == (Outcome("b@x", IN_DOUBT, None, fault),)
    assert str(result.outcomes[0]) == f"in doubt b@x ({fault})"


def test_fault_without_words() -> None:
    session = Session(SEQUENTIAL)
    session.submission.add(("a@x", "b@x", b""))
    session.submission.pipeline.lose(ConnectionResetError())
    (result,) = session.submission.results()
    assert result.outcomes[0].fault == "ConnectionResetError"


# What becomes of one message, in every mode


@every_mode
@pytest.mark.parametrize(
    ("answer", "state"),
    [("550 who?", REJECTED), ("450 later", DEFERRED)],
)
def test_some_recipients_refused(mode: Mode, answer: str, state: State) -> None:
    """Cases 45 and 46."""
    session = Session(mode, Host(rcpt=["250 ok", answer, "251 forwarded"]))
    (result,) = session.send(MESSAGE)
    assert [each.state for each in result.outcomes] == [ACCEPTED, state, ACCEPTED]
    assert not result.accepted
    assert result.outcomes[0].reply == Reply(250, b"queued")
    assert str(result.outcomes[1].reply) == answer
    assert session.host.texts == [b"hello\r\n"]


@every_mode
def test_lmtp_answers_for_each_recipient(mode: Mode) -> None:
    answers = {"b": "250 2.1.5 ok", "c": "552 5.2.2 quota", "d": "452 later"}
    host = Host(lmtp=True, message=lambda line: answers[line[len("RCPT TO:<")]])
    (result,) = Session(mode, host, lmtp=True).send(MESSAGE)
    # 552 is about the number of recipients as an answer to RCPT alone.
    assert [each.state for each in result.outcomes] == [ACCEPTED, REJECTED, DEFERRED]
    assert [str(each.reply) for each in result.outcomes] == list(answers.values())
    assert result.outcomes[1].reply is not None
    assert result.outcomes[1].reply.enhanced == "5.2.2"


@every_mode
def test_lmtp_answers_for_accepted_recipients_only(mode: Mode) -> None:
    host = Host(lmtp=True, rcpt=["550 no", "250 ok", "550 no"], message="250 delivered")
    (result,) = Session(mode, host, lmtp=True).send(MESSAGE)
    assert [each.state for each in result.outcomes] == [REJECTED, ACCEPTED, REJECTED]


@every_mode
def test_lmtp_lost_between_answers(mode: Mode) -> None:
    """Case 61."""
    host = Host(lmtp=True, message=["250 ok", "550 quota", None])
    (result,) = Session(mode, host, lmtp=True).send(MESSAGE)
    assert [each.state for each in result.outcomes] == [ACCEPTED, REJECTED, IN_DOUBT]


@every_mode
def test_lmtp_421_among_the_answers_to_the_message(mode: Mode) -> None:
    """It is one recipient's, and says nothing of those behind."""
    host = Host(lmtp=True, message=["250 b", "421 bye", None])
    (result,) = Session(mode, host, lmtp=True).send(MESSAGE)
    assert [each.state for each in result.outcomes] == [ACCEPTED, DEFERRED, IN_DOUBT]


# Results


@every_mode
def test_results_in_order(mode: Mode) -> None:
    host = Host(
        mail=["250 ok", "250 ok", "550 not you", "250 ok"],
        rcpt=["250 ok", "550 no", "250 ok"],
        message=["250 first", "250 fourth", "554 fifth"],
    )
    session = Session(mode, host)
    items = [("a@x", f"{number}@x", b"%d\r\n" % number) for number in range(5)]
    results = session.send(*items)
    assert [result.mail for result in results] == items
    assert [result.recipients for result in results] == [[f"{number}@x"] for number in range(5)]
    assert [str(result.outcomes[0].reply) for result in results] == [
        "250 first",
        "550 no",
        "550 not you",
        "250 fourth",
        "554 fifth",
    ]
    assert session.host.texts == [b"0\r\n", b"3\r\n"]
    assert session.submission.pipeline.failure is None
    assert len(session.submission) == 0


def test_repr_of_results() -> None:
    host = Host(rcpt=["250 ok", "550 no"])
    session = Session(PIPELINING, host)
    good, bad, odd = session.send(("a@x", ["b@x", "c@x"], b""), ("a@x", "b@x", b"\0"), None)
    assert repr(good) == "<Result accepted b@x (250 queued); rejected c@x (550 no)>"
    assert repr(bad).startswith("<Result rejected b@x (the message contains a NUL byte")
    assert repr(odd).startswith("<Result rejected (a message is a tuple")
    assert odd.recipients == ()
    assert [(each.recipient, each.state) for each in odd.outcomes] == [("", REJECTED)]


def test_result_is_kept_while_the_pipeline_goes_on() -> None:
    """Replies are the pipeline's memory for a while; a result has its own."""
    session = Session(CHUNKING, Host(message=[f"250 queued as {n}" for n in range(200)]))
    results = session.send(*[("a@x", "b@x", b"text\r\n")] * 200)
    assert [str(each.outcomes[0].reply) for each in results] == [
        f"250 queued as {number}" for number in range(200)
    ]


# Room


@every_mode
def test_room_by_count(mode: Mode) -> None:
    session = Session(mode, max_in_flight=2)
    submission = session.submission
    for count in range(2):
        assert submission.has_room()
        submission.add(("a@x", "b@x", b""))
        assert len(submission) == count + 1
    assert not submission.has_room()
    session.finish()
    assert len(submission) == 0
    assert submission.has_room()


def test_room_while_results_are_not_taken() -> None:
    submission = Session(CHUNKING, max_in_flight=1).submission
    submission.add(None)
    assert not submission.has_room()
    list(submission.results())
    assert submission.has_room()


def test_room_by_bytes() -> None:
    session = Session(CHUNKING, proved=True)
    submission = session.submission
    block = (b"x" * 998 + b"\r\n") * 1024
    added = 0
    while submission.has_room():
        submission.add(("a@x", "b@x", block))
        added += len(block)
    assert limits.IN_FLIGHT_BYTES <= added < limits.IN_FLIGHT_BYTES + len(block)
    results = session.finish()
    assert all(result.accepted for result in results)
    assert submission.has_room()


@pytest.mark.parametrize("mode", [PIPELINING, CHUNKING])
def test_room_after_the_connection_is_lost(mode: Mode) -> None:
    session = Session(mode)
    session.submission.pipeline.lose(ConnectionResetError("reset"))
    assert session.submission.is_over
    assert not session.submission.has_room()
    (result,) = session.send(("a@x", ["b@x", "c@x"], b""))
    assert [str(each) for each in result.outcomes] == [
        "deferred b@x (reset)",
        "deferred c@x (reset)",
    ]


# The server's limits (RFC 9422)


def recipients_of(session: Session) -> list[list[str]]:
    """By transaction."""
    groups: list[list[str]] = []
    for line in session.host.lines:
        if line.startswith("MAIL"):
            groups.append([])
        elif line.startswith("RCPT"):
            groups[-1].append(line[len("RCPT TO:<") : -1])
    return groups


@every_mode
@pytest.mark.parametrize(
    ("offer", "groups"),
    [
        ("RCPTMAX=2", [["a@x", "b@y"], ["c@x", "d@z"], ["e@X"]]),
        ("RCPTMAX=5", [["a@x", "b@y", "c@x", "d@z", "e@X"]]),
        ("MAILMAX=100 rcptmax=4 X=1", [["a@x", "b@y", "c@x", "d@z"], ["e@X"]]),
        ("RCPTDOMAINMAX=1", [["a@x"], ["b@y"], ["c@x"], ["d@z"], ["e@X"]]),
        ("RCPTDOMAINMAX=2", [["a@x", "b@y", "c@x"], ["d@z", "e@X"]]),
        ("RCPTMAX=2 RCPTDOMAINMAX=2", [["a@x", "b@y"], ["c@x", "d@z"], ["e@X"]]),
        ("RCPTMAX=0 RCPTDOMAINMAX=x", [["a@x", "b@y", "c@x", "d@z", "e@X"]]),
        ("", [["a@x", "b@y", "c@x", "d@z", "e@X"]]),
    ],
)
def test_recipients_in_several_transactions(
    mode: Mode, offer: str, groups: list[list[str]]
) -> None:
    session = Session(mode, Host(message=[f"250 {n}" for n in range(9)]), limits=offer)
    addresses = ["a@x", "b@y", "c@x", "d@z", "e@X"]
    (result,) = session.send(("s@x", addresses, b"text\r\n"))
    assert recipients_of(session) == groups
    assert session.host.texts == [b"text\r\n"] * len(groups)
    assert result.accepted
    assert [each.recipient for each in result.outcomes] == addresses
    # Each has the reply of its own transaction.
    assert [str(each.reply) for each in result.outcomes] == [
        f"250 {number}" for number, group in enumerate(groups) for _ in group
    ]


def test_several_recipients_of_one_domain() -> None:
    session = Session(CHUNKING, limits="RCPTDOMAINMAX=1")
    (result,) = session.send(("s@x", ["a@x", "b@x", "c@X"], b""))
    assert recipients_of(session) == [["a@x", "b@x", "c@X"]]
    assert result.accepted


def test_a_transaction_of_several_is_refused() -> None:
    session = Session(CHUNKING, Host(message=["250 ok", "554 spam", "250 ok"]), limits="RCPTMAX=1")
    (result,) = session.send(("s@x", ["a@x", "b@x", "c@x"], b""))
    assert [each.state for each in result.outcomes] == [ACCEPTED, REJECTED, ACCEPTED]
    assert not result.accepted


@every_mode
def test_number_of_messages(mode: Mode) -> None:
    session = Session(mode, limits="MAILMAX=2")
    submission = session.submission
    for _ in range(2):
        assert submission.has_room()
        submission.add(("a@x", "b@x", b""))
    assert submission.is_over
    assert not submission.has_room()
    submission.add(("a@x", ["c@x", "d@x"], b""))
    first, second, third = session.finish()
    assert first.accepted
    assert second.accepted
    assert {(each.state, each.reply) for each in third.outcomes} == {(DEFERRED, None)}
    assert "LIMITS MAILMAX" in str(third.outcomes[1].fault)
    assert len(session.host.deliveries) == 2


def test_number_of_messages_within_a_message() -> None:
    session = Session(CHUNKING, limits="MAILMAX=2 RCPTMAX=1")
    (result,) = session.send(("s@x", ["a@x", "b@x", "c@x"], b""))
    assert [each.state for each in result.outcomes] == [ACCEPTED, ACCEPTED, DEFERRED]


# Too many recipients (RFC 5321 section 4.5.3.1.10)


def taking(count: int, refusal: str) -> Host:
    """Takes so many recipients in a transaction."""

    def rcpt(line: str) -> str:
        before = next(n for n, each in enumerate(reversed(host.lines)) if each.startswith("MAIL"))
        return "250 ok" if before <= count else refusal

    host = Host(rcpt=rcpt)
    return host


@every_mode
@pytest.mark.parametrize("refusal", ["452 too many", "552 too many", "452 4.5.3 too many"])
def test_the_rest_gets_another_transaction(mode: Mode, refusal: str) -> None:
    """Case 48."""
    session = Session(mode, taking(2, refusal))
    addresses = [f"{number}@x" for number in range(5)]
    many = ("s@x", addresses, b"many\r\n")
    one = ("s@x", "one@x", b"one\r\n")
    results = session.send(one, many, one)
    assert [result.mail for result in results] == [one, many, one]
    assert all(result.accepted for result in results)
    assert [each.recipient for each in results[1].outcomes] == addresses
    got = [
        each
        for delivery in session.host.deliveries
        if delivery.text == b"many\r\n"
        for each in delivery.recipients
    ]
    assert sorted(got) == [f"RCPT TO:<{each}>" for each in addresses]
    assert session.host.texts.count(b"one\r\n") == 2
    assert session.submission.pipeline.failure is None


@every_mode
@pytest.mark.parametrize("refusal", ["452 too many", "552 too many"])
def test_none_is_taken(mode: Mode, refusal: str) -> None:
    """A try that was in vain once would be in vain again."""
    session = Session(mode, Host(rcpt=refusal))
    (result,) = session.send(MESSAGE)
    assert session.host.verbs.count("mail") == 1
    assert [each.state for each in result.outcomes] == [DEFERRED] * 3
    assert [str(each.reply) for each in result.outcomes] == [refusal] * 3


@every_mode
def test_none_is_taken_the_second_time(mode: Mode) -> None:
    host = Host(rcpt=["250 ok", "452 many", "550 no", "452 many", "452 still"])
    session = Session(mode, host)
    (result,) = session.send(("s@x", ["a@x", "b@x", "c@x", "d@x"], b""))
    assert recipients_of(session) == [["a@x", "b@x", "c@x", "d@x"], ["b@x", "d@x"]]
    assert [str(each) for each in result.outcomes] == [
        "accepted a@x (250 queued)",
        "deferred b@x (452 still)",
        "rejected c@x (550 no)",
        "deferred d@x (452 still)",
    ]


@every_mode
def test_the_rest_within_a_group(mode: Mode) -> None:
    """Both at once: the places in the second transaction are places in the group."""
    session = Session(mode, taking(2, "452 many"), limits="RCPTMAX=3")
    addresses = [f"{number}@x" for number in range(7)]
    (result,) = session.send(("s@x", addresses, b""))
    assert result.accepted
    assert [each.recipient for each in result.outcomes] == addresses
    got = [each for delivery in session.host.deliveries for each in delivery.recipients]
    assert sorted(got) == [f"RCPT TO:<{each}>" for each in addresses]


@every_mode
def test_no_second_transaction_where_there_may_be_none(mode: Mode) -> None:
    session = Session(mode, taking(2, "452 many"), limits="MAILMAX=1")
    (result,) = session.send(MESSAGE)
    assert [each.state for each in result.outcomes] == [ACCEPTED, ACCEPTED, DEFERRED]
    assert session.host.verbs.count("mail") == 1


@every_mode
def test_the_sender_is_refused_the_second_time(mode: Mode) -> None:
    host = taking(2, "452 many")
    host._answers["mail"] = ["250 ok", "451 slow down"]
    (result,) = Session(mode, host).send(MESSAGE)
    assert [str(each) for each in result.outcomes] == [
        "accepted b@x (250 queued)",
        "accepted c@x (250 queued)",
        "deferred d@x (451 slow down)",
    ]


@every_mode
def test_the_connection_is_lost_before_the_rest(mode: Mode) -> None:
    host = taking(2, "452 many")
    host._answers["mail"] = ["250 ok", None]
    first, second = Session(mode, host).send(MESSAGE, ("a@x", "e@x", b""))
    assert [each.state for each in first.outcomes[:2]] == [ACCEPTED] * 2
    # The second leaves whole, without a word from the server, and what comes of it is waited for.
    lost = IN_DOUBT if mode == CHUNKING else DEFERRED
    assert [first.outcomes[2].state, second.outcomes[0].state] == [DEFERRED, lost]


def test_the_rest_of_an_lmtp_message() -> None:
    host = taking(2, "452 many")
    host._lmtp = True
    (result,) = Session(CHUNKING, host, lmtp=True).send(MESSAGE)
    assert result.accepted
    assert [len(each.recipients) for each in host.deliveries] == [2, 1]


# Whatever is answered

CODES = ["250 ok", "251 ok", "421 bye", "450 later", "452 many", "550 no", "552 many", "554 no"]


@every_mode
@pytest.mark.parametrize("lmtp", [False, True])
@given(data=st.data())
def test_every_recipient_has_an_outcome_and_no_message_too_many(
    mode: Mode, lmtp: bool, data: st.DataObject
) -> None:
    def answers(*good: str) -> Iterable[str | None]:
        return data.draw(st.lists(st.sampled_from([*good, *good, *CODES, None]), min_size=1))

    host = Host(
        lmtp=lmtp,
        mail=list(answers("250 ok")),
        rcpt=list(answers("250 ok")),
        message=list(answers("250 queued")),
    )
    session = Session(
        mode,
        host,
        lmtp=lmtp,
        proved=data.draw(st.booleans()),
        limits=data.draw(st.sampled_from(["", "RCPTMAX=1", "RCPTMAX=2", "MAILMAX=2"])),
    )
    items = [
        ("s@x", [f"{number}.{each}@x" for each in range(count)], b"%d\r\n" % number)
        for number, count in enumerate(data.draw(st.lists(st.integers(1, 4), max_size=5)))
    ]
    results = session.send(*items)
    assert [result.mail for result in results] == items
    got = [each for delivery in host.deliveries for each in delivery.recipients]
    assert len(got) == len(set(got)), "nobody gets a message twice"
    for result in results:
        assert [each.recipient for each in result.outcomes] == list(result.recipients)
        for outcome in result.outcomes:
            has_it = f"RCPT TO:<{outcome.recipient}>" in got
            if outcome.state is not IN_DOUBT:
                assert has_it is (outcome.state is ACCEPTED), (outcome, host.lines)
