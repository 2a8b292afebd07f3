"""Cases 1 to 17: what a server may say, in which segments, and what may not pass for a reply."""

from __future__ import annotations

import threading
import time

import pytest

from csmtplib import (
    SMTPConnectError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)
from csmtplib.protocol import limits

from .faces import BODY, RECIPIENT, SENDER, SHORT_TIMEOUT, TIMEOUT, Async, DropIn, Face, Strict
from .server import Delivery, Peer, Script, delivered

at_greeting_or_mail = pytest.mark.parametrize("place", ["greeting", "mail"])
over_lmtp_too = pytest.mark.parametrize(
    "face",
    [
        f"{face} {transport}"
        for face in ("drop-in", "strict", "aio")
        for transport in ("clear", "tls", "unix")
    ],
    indirect=True,
)


def says_at(place: str, answer: bytes) -> Script:
    """Says answer in that place; the client then has to close without another byte."""

    def script(peer: Peer) -> None:
        if place == "mail":
            peer.greet()
            peer.expect("MAIL FROM:")
            peer.deliver(answer)
        else:
            peer.deliver(answer.replace(b"250", b"220"))
        peer.expect_close()

    return script


def assert_fatal(face: Face, script: Script, delivery: Delivery) -> str:
    """Sends a message; the connection has to end up closed. Returns what the error says."""
    with face.serve(script, delivery=delivery) as server, face:
        with pytest.raises(SMTPServerDisconnected) as caught:
            face.open(server).sendmail(SENDER, [RECIPIENT], BODY)
        assert face.is_closed
        # Waits for the client to close: before the face does, at the end of the block.
        assert b"RCPT" not in server.received.upper()
    return str(caught.value)


@over_lmtp_too
@delivered(b"220-a\r\n220 b\r\n")
def test_case_01_multiline_greeting(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.deliver(answer)
        peer.answer_hello()
        peer.accept_message()

    with face.serve(script, delivery=delivery) as server, face:
        face.open(server).sendmail(SENDER, [RECIPIENT], BODY)


@delivered(b"250-a\r\n250 b\r\n", b"250-a\r\n250-\r\n250\r\n")
def test_case_01_multiline_text(drop_in: DropIn, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mx.test")
        peer.expect("NOOP")
        peer.deliver(answer)

    text = b"\n".join(line[4:] for line in answer.split(b"\r\n")[:-1])
    with drop_in.serve(script, delivery=delivery) as server, drop_in:
        assert drop_in.connect(server).noop() == (250, text)


@delivered(b"554 no\r\n")
def test_case_02_greeting_554(face: Face, answer: bytes, delivery: Delivery) -> None:
    with face.serve(says_at("greeting", answer), delivery=delivery) as server, face:
        with pytest.raises(SMTPConnectError) as caught:
            face.open(server)
        assert server.received == b""
    assert (caught.value.smtp_code, caught.value.smtp_error) == (554, b"no")


@delivered(b"421 bye\r\n")
def test_case_03_greeting_421(face: Face, answer: bytes, delivery: Delivery) -> None:
    with face.serve(says_at("greeting", answer), delivery=delivery) as server, face:
        with pytest.raises(SMTPConnectError) as caught:
            face.open(server)
        assert server.received == b""
    assert (caught.value.smtp_code, caught.value.smtp_error) == (421, b"bye")


@pytest.mark.parametrize("place", ["greeting", "body"])
def test_case_04_silence(face: Face, place: str) -> None:
    def script(peer: Peer) -> None:
        if place == "body":
            peer.greet()
            peer.expect("MAIL FROM:")
            peer.say("250 sender ok")
            peer.expect("RCPT TO:")
            peer.say("250 recipient ok")
            peer.expect("DATA\r\n")
            peer.say("354 go on")
            peer.read_body()
        peer.expect_close()

    start = time.monotonic()
    with face.serve(script) as server, face:
        with pytest.raises(SMTPServerDisconnected):
            face.open(server, timeout=SHORT_TIMEOUT).sendmail(SENDER, [RECIPIENT], BODY)
        assert face.is_closed
        assert server.received.endswith(b"\r\n.\r\n" if place == "body" else b"")
    assert SHORT_TIMEOUT <= time.monotonic() - start < TIMEOUT


@pytest.mark.parametrize(("place", "data"), [("greeting", b"220 wait"), ("mail", b"250-wait\r\n")])
def test_case_05_an_byte_now_and_then(
    face: Face, place: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in vars(limits):
        if name.endswith("_SECONDS"):
            monkeypatch.setattr(limits, name, SHORT_TIMEOUT)

    def script(peer: Peer) -> None:
        if place == "mail":
            peer.greet()
            peer.expect("MAIL FROM:")
        peer.dribble(data, interval=SHORT_TIMEOUT / 10)

    start = time.monotonic()
    with face.serve(script) as server, face:
        with pytest.raises(SMTPServerDisconnected):
            face.open(server, timeout=SHORT_TIMEOUT).sendmail(SENDER, [RECIPIENT], BODY)
        assert face.is_closed
        assert b"RCPT" not in server.received.upper()
    assert SHORT_TIMEOUT <= time.monotonic() - start < TIMEOUT


@at_greeting_or_mail
@pytest.mark.parametrize(
    "data",
    [pytest.param(b"250-more\r\n", id="case_06"), pytest.param(b"250 more", id="case_07")],
)
def test_case_06_07_reply_without_end(face: Face, place: str, data: bytes) -> None:
    def script(peer: Peer) -> None:
        if place == "mail":
            peer.greet()
            peer.expect("MAIL FROM:")
        peer.flood(data)

    # The standard library has a code of its own for it.
    expected = SMTPResponseException if isinstance(face, DropIn) else SMTPServerDisconnected
    with face.serve(script) as server, face:
        with pytest.raises(expected, match="500" if isinstance(face, DropIn) else "too long"):
            face.open(server).sendmail(SENDER, [RECIPIENT], BODY)
        assert face.is_closed
        assert b"RCPT" not in server.received.upper()


@at_greeting_or_mail
@delivered(b"2500 x\r\n")
def test_case_08_code_of_four_digits(
    face: Face, place: str, answer: bytes, delivery: Delivery
) -> None:
    assert "0 x" in assert_fatal(face, says_at(place, answer), delivery)


@at_greeting_or_mail
@delivered(b"+25 x\r\n", b"2_5 x\r\n", b" 25 x\r\n")
def test_case_09_code_that_int_would_take(
    face: Face, place: str, answer: bytes, delivery: Delivery
) -> None:
    assert answer[:-2].decode() in assert_fatal(face, says_at(place, answer), delivery)


@at_greeting_or_mail
@delivered(b"250xhi\r\n", b"250_hi\r\n")
def test_case_10_code_without_separator(
    face: Face, place: str, answer: bytes, delivery: Delivery
) -> None:
    assert answer[3:-2].decode() in assert_fatal(face, says_at(place, answer), delivery)


@delivered(b"garbage\r\n")
def test_case_10_no_code(drop_in: DropIn, answer: bytes, delivery: Delivery) -> None:
    """A reply without a code is reported as -1, as the standard library documents it."""

    def script(peer: Peer) -> None:
        peer.say("220 mx.test")
        peer.expect("NOOP")
        peer.deliver(answer)

    with drop_in.serve(script, delivery=delivery) as server, drop_in:
        assert drop_in.connect(server).noop() == (-1, b"age")


@at_greeting_or_mail
@delivered(b"garbage\r\n", b"\r\n", b"550\x00no\r\n")
def test_case_10_no_code_strict(
    strict: Strict, place: str, answer: bytes, delivery: Delivery
) -> None:
    assert_fatal(strict, says_at(place, answer), delivery)


@delivered(b"250\r\n")
def test_case_11_code_alone(face: Face, answer: bytes, delivery: Delivery) -> None:
    sends_although_mail_is_answered(face, answer, delivery)


@at_greeting_or_mail
@delivered(b"250-a\r\n550 b\r\n", b"550-a\r\n250 b\r\n")
def test_case_12_mixed_codes(face: Face, place: str, answer: bytes, delivery: Delivery) -> None:
    assert " b" in assert_fatal(face, says_at(place, answer), delivery)


@delivered(b"550 \x00\xff no\r\n")
def test_case_13_bytes_that_are_no_text(face: Face, answer: bytes, delivery: Delivery) -> None:
    with face.serve(refuses_recipient(answer), delivery=delivery) as server, face:
        with pytest.raises(SMTPRecipientsRefused) as caught:
            face.open(server).sendmail(SENDER, [RECIPIENT], BODY)
        assert caught.value.recipients == {RECIPIENT: (550, b"\x00\xff no")}


@delivered(b"550 \x00\xff\x1b no\r\n")
def test_case_13_log_of_drop_in(
    drop_in: DropIn, answer: bytes, delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    with drop_in.serve(refuses_recipient(answer), delivery=delivery) as server, drop_in:
        smtp = drop_in.open(server)
        smtp.set_debuglevel(1)
        with pytest.raises(SMTPRecipientsRefused):
            smtp.sendmail(SENDER, [RECIPIENT], BODY)
    log = capsys.readouterr().err
    assert "\\x00\\xff\\x1b no" in log
    assert "\x00" not in log
    assert "\x1b" not in log


@delivered(b"550 \x00\xff\x1b no\r\n")
def test_case_13_log_of_strict(strict: Strict, answer: bytes, delivery: Delivery) -> None:
    with strict.serve(refuses_recipient(answer), delivery=delivery) as server, strict:
        session = strict.open(server)
        with pytest.raises(SMTPRecipientsRefused):
            session.sendmail(SENDER, [RECIPIENT], BODY)
    assert str(session.outcomes[0]).endswith("(550 \\x00\\xff\\x1b no)")


def refuses_recipient(answer: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL FROM:")
        peer.say("250 sender ok")
        peer.expect("RCPT TO:")
        peer.deliver(answer)
        peer.expect("RSET")
        peer.say("250 reset")

    return script


@delivered(b"250 x\n", b"250-a\n250 x\n", b"250\n")
def test_case_14_bare_lf(face: Face, answer: bytes, delivery: Delivery) -> None:
    sends_although_mail_is_answered(face, answer, delivery)


def sends_although_mail_is_answered(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL FROM:")
        peer.deliver(answer)
        peer.expect("RCPT TO:")
        peer.say("250 recipient ok")
        peer.expect("DATA\r\n")
        peer.say("354 go on")
        assert peer.read_body() == BODY + b".\r\n"
        peer.say("250 queued")

    with face.serve(script, delivery=delivery) as server, face:
        face.open(server).sendmail(SENDER, [RECIPIENT], BODY)


@at_greeting_or_mail
@delivered(b"100 wait\r\n", b"100-wait\r\n100 on\r\n")
def test_case_15_preliminary_reply(
    face: Face, place: str, answer: bytes, delivery: Delivery
) -> None:
    # The drop-in has an error of its own for a greeting other than 220.
    expected = (SMTPServerDisconnected, *([SMTPConnectError] if place == "greeting" else []))
    with face.serve(says_at(place, answer), delivery=delivery) as server, face:
        with pytest.raises(expected, match=r"100.*wait"):
            face.open(server).sendmail(SENDER, [RECIPIENT], BODY)
        assert face.is_closed
        assert b"RCPT" not in server.received.upper()


@over_lmtp_too
@delivered(b"250 ok\r\n250 extra\r\n")
def test_case_16_surplus_reply(face: Face, answer: bytes, delivery: Delivery) -> None:
    # Where the first segment is just the reply that was due, RCPT may leave before the other comes.
    may_come_late = delivery.split in (0, len(b"250 ok\r\n"))

    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL FROM:")
        peer.deliver(answer)
        if may_come_late:
            peer.answer_rest("550 no such user", "250 recipient ok", "354 go on")
        else:
            peer.expect_close()

    with face.serve(script, delivery=delivery) as server, face:
        expected = SMTPException if may_come_late else SMTPServerDisconnected
        with pytest.raises(expected):
            face.open(server).sendmail(SENDER, ["nobody@x.test", RECIPIENT], BODY)
        assert may_come_late or face.is_closed
    assert BODY not in server.received


def test_case_16_replies_one_late(face: Face) -> None:
    """The worst that a surplus reply can do: each answer is read as that to the next command."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.answer_rest(
            "250 sender ok", "250 extra", "550 no such user", "250 recipient ok", "354 go on"
        )

    with face.serve(script) as server, face:
        with pytest.raises(SMTPException):
            face.open(server).sendmail(SENDER, ["nobody@x.test", RECIPIENT], BODY)
        face.close()
        assert BODY not in server.received


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(["220 ready"], id="mail-220"),
        pytest.param(["251 will forward"], id="mail-251"),
        pytest.param(["354 go on"], id="mail-354"),
        pytest.param(["250 ok", "220 ready"], id="rcpt-220"),
        pytest.param(["250 ok", "354 go on"], id="rcpt-354"),
        pytest.param(["250 ok", "250 ok", "250 ok"], id="data-250"),
        pytest.param(["250 ok", "250 ok", "220 ready"], id="data-220"),
    ],
)
def test_case_16_success_of_another_command(face: Face, answers: list[str]) -> None:
    """A code that would be good news elsewhere is none here: nothing was accepted."""

    def script(peer: Peer) -> None:
        peer.greet()
        # Whoever goes on behind the answer under test is refused in the end, and not left waiting.
        peer.answer_rest(*answers, "250 reset", "554 no", "250 reset")

    with face.serve(script) as server, face:
        with pytest.raises(SMTPException):
            face.open(server).sendmail(SENDER, [RECIPIENT], BODY)
        face.close()
        assert BODY not in server.received


@delivered(b"421 idle for too long\r\n")
def test_case_17_421_on_idle_connection(face: Face, answer: bytes, delivery: Delivery) -> None:
    is_idle, said_bye = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.accept_message()
        assert is_idle.wait(TIMEOUT)
        peer.deliver(answer)
        said_bye.set()
        if isinstance(face, DropIn):
            peer.expect("MAIL FROM:")
        peer.expect_close()

    with face.serve(script, delivery=delivery) as server, face:
        session = face.open(server)
        session.sendmail(SENDER, [RECIPIENT], BODY)
        is_idle.set()
        assert said_bye.wait(TIMEOUT)
        if isinstance(face, (DropIn, Async)):
            with pytest.raises(SMTPSenderRefused, match="421"):
                session.sendmail(SENDER, [RECIPIENT], BODY)
        else:
            with pytest.raises(SMTPServerDisconnected):
                session.sendmail(SENDER, [RECIPIENT], BODY)
        assert face.is_closed
        assert server.received.count(BODY) == 1


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_case_17_421_and_the_end(face: Face, reset: bool) -> None:
    is_idle, said_bye = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.accept_message()
        assert is_idle.wait(TIMEOUT)
        peer.say("421 idle for too long")
        if reset:
            peer.reset()
        else:
            peer.close()
        said_bye.set()

    with face.serve(script) as server, face:
        session = face.open(server)
        session.sendmail(SENDER, [RECIPIENT], BODY)
        is_idle.set()
        assert said_bye.wait(TIMEOUT)
        # The 421 may be lost with the connection.
        with pytest.raises((SMTPSenderRefused, SMTPServerDisconnected)):
            session.sendmail(SENDER, [RECIPIENT], BODY)
        assert face.is_closed
