"""Cases 45 to 61 and 64 to 66: what becomes of messages where a server takes several commands at
once, whatever it answers, and wherever the connection ends."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence

import pytest

from csmtplib import (
    LMTP,
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)
from csmtplib.kernel.transaction import Mode, Step
from csmtplib.protocol import extension_policy
from csmtplib.protocol.mail_object import MailObject

from ..protocol.serving import show_all
from .faces import (
    BODY,
    RECIPIENT,
    SENDER,
    SHORT_TIMEOUT,
    TIMEOUT,
    Async,
    AsyncSession,
    AsyncStream,
    AsyncStreamSession,
    DropIn,
    Face,
    ResultSession,
    Session,
    StreamSession,
)
from .server import WHOLE, Delivery, Peer, Script, ScriptedServer, delivered

THREE = ["a@x.test", "b@x.test", "c@x.test"]

# On the wire.
ENDED_BODY = BODY + b".\r\n"

# More than the socket buffers of both ends can hide, once they are narrowed.
WINDOW = 1 << 15
LARGE_BODY = (b"x" * 76 + b"\r\n") * 20_000

ACCEPTED, REJECTED, DEFERRED, IN_DOUBT = "accepted", "rejected", "deferred", "in doubt"

# What a server offers, for each way to send.
MODES = {"sequential": (), "pipelined": ("PIPELINING",), "chunked": ("PIPELINING", "CHUNKING")}

every_face = pytest.mark.parametrize(
    "face",
    [
        f"{face} {transport}"
        for face in ("drop-in", "strict", "stream", "aio", "aio-stream")
        for transport in ("clear", "tls")
    ],
    indirect=True,
)
by_results = pytest.mark.parametrize(
    "face",
    [
        f"{face} {transport}"
        for face in ("strict", "stream", "aio-stream")
        for transport in ("clear", "tls")
    ],
    indirect=True,
)
by_lmtp = pytest.mark.parametrize(
    "face",
    ["drop-in unix", "strict unix", "stream unix", "aio unix", "aio-stream unix"],
    indirect=True,
)
streaming = pytest.mark.parametrize(
    "face",
    ["stream clear", "stream tls", "aio-stream clear", "aio-stream tls", "aio-source clear"],
    indirect=True,
)
every_face_in_clear = pytest.mark.parametrize(
    "face",
    ["drop-in clear", "strict clear", "stream clear", "aio clear", "aio-stream clear"],
    indirect=True,
)
streaming_in_clear = pytest.mark.parametrize(
    "face", ["stream clear", "aio-stream clear", "aio-source clear"], indirect=True
)
every_mode = pytest.mark.parametrize("mode", MODES)
with_data = pytest.mark.parametrize("mode", ["sequential", "pipelined"])


def opened(face: Face, server: ScriptedServer, *, timeout: float = TIMEOUT) -> Session:
    """A session that sends by BDAT where that is offered."""
    session = face.open(server, timeout=timeout)
    if isinstance(session, SMTP):
        session.chunking = True
    elif isinstance(session, AsyncSession):
        session.client.chunking = True
    return session


def narrowed(face: Face, server: ScriptedServer) -> Session:
    """The same, with little room for what the server does not read."""
    session = opened(face, server)
    face.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WINDOW)
    return session


def assert_told(
    session: Session,
    recipients: Sequence[str],
    states: Sequence[str],
    by_drop_in: type[SMTPException] | dict[str, tuple[int, bytes]],
    body: bytes = BODY,
) -> str:
    """Sends a message. Results have these states; the drop-in raises or returns that, and so does
    csmtplib.aio, whose exceptions have a result too. What the error or the first result says."""
    if isinstance(session, ResultSession):
        (result,) = session.results(MailObject(SENDER, recipients, body))
        assert [each.recipient for each in result.outcomes] == list(recipients)
        assert [each.state.value for each in result.outcomes] == list(states)
        assert result.accepted == (set(states) == {ACCEPTED})
        return str(result.outcomes[0])
    if isinstance(by_drop_in, dict):
        assert session.sendmail(SENDER, recipients, body) == by_drop_in
        return ""
    with pytest.raises(by_drop_in) as caught:
        session.sendmail(SENDER, recipients, body)
    assert type(caught.value) is by_drop_in
    if isinstance(session, AsyncSession):
        assert [each.state.value for each in session.outcomes] == list(states)
    return str(caught.value)


def assert_usable(session: Session) -> None:
    """Sends another message, which the server accepts."""
    assert_told(session, [RECIPIENT], [ACCEPTED], {})


def take_envelope(peer: Peer, mode: str, *answers: str) -> None:
    """Takes MAIL, RCPT for each answer but the first, and DATA where it is to come with them.

    MAIL and RCPT are answered like that; sequentially at once, otherwise when all are there.
    """
    commands = ["MAIL FROM:", *(["RCPT TO:"] * (len(answers) - 1))]
    for command, answer in zip(commands, answers, strict=True):
        peer.expect(command)
        if mode == "sequential":
            peer.say(answer)
    if mode == "pipelined":
        peer.expect("DATA\r\n")
    if mode != "sequential":
        peer.say(*answers)


def take_message(peer: Peer, mode: str, recipients: int = 1) -> bytes:
    """Takes a message with its end, by whatever the mode has for it, and does not answer that."""
    take_envelope(peer, mode, "250 sender ok", *["250 recipient ok"] * recipients)
    return take_content(peer, mode)


def take_content(peer: Peer, mode: str) -> bytes:
    """Takes what follows an envelope that was taken, up to the message's end."""
    if mode == "chunked":
        return peer.read_chunk()
    if mode == "sequential":
        peer.expect("DATA\r\n")
    peer.say("354 go on")
    return peer.read_body()


def accept_pipelined(peer: Peer) -> None:
    assert take_message(peer, "pipelined") == ENDED_BODY
    peer.say("250 queued")


def accept_chunked(peer: Peer) -> None:
    """Takes the message that proves BDAT."""
    assert take_message(peer, "chunked") == BODY
    peer.say("250 queued")


def expect_rset(peer: Peer) -> None:
    peer.expect("RSET\r\n")
    peer.say("250 reset")


# 45 to 50: the envelope


@every_face
@delivered(b"250 s\r\n250 a\r\n550 b\r\n250 c\r\n354 go\r\n")
def test_case_45_some_recipients(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect("MAIL FROM:")
        for _ in THREE:
            peer.expect("RCPT TO:")
        peer.expect("DATA\r\n")
        peer.deliver(answer)
        assert peer.read_body() == ENDED_BODY
        peer.say("250 queued")
        accept_pipelined(peer)

    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        refused = {THREE[1]: (550, b"b")}
        assert_told(session, THREE, [ACCEPTED, REJECTED, ACCEPTED], refused)
        assert_usable(session)


@every_face
@every_mode
def test_case_45_in_every_mode(face: Face, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_envelope(peer, mode, "250 s", "250 a", "550 b", "250 c")
        assert take_content(peer, mode) == (BODY if mode == "chunked" else ENDED_BODY)
        peer.say("250 queued")

    with face.serve(script) as server, face:
        session = opened(face, server)
        refused = {THREE[1]: (550, b"b")}
        assert_told(session, THREE, [ACCEPTED, REJECTED, ACCEPTED], refused)


@by_results
@every_mode
@pytest.mark.parametrize("refusal", ["452 too many", "552 too many", "451 4.5.3 too many"])
def test_case_46_the_rest_in_another_transaction(face: Face, mode: str, refusal: str) -> None:
    recipients = [f"r{i}@x.test" for i in range(105)]
    envelopes: list[list[bytes]] = []

    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_envelope(peer, mode, "250 s", *["250 ok"] * 100, *[refusal] * 5)
        take_content(peer, mode)
        peer.say("250 queued")
        if mode == "chunked":
            peer.expect("RSET\r\n")
            peer.expect("MAIL FROM:")
            envelopes.append([peer.expect("RCPT TO:") for _ in range(5)])
            peer.say("250 reset", "250 s", *["250 ok"] * 4, "550 no")
            peer.read_chunk()
        else:
            take_envelope(peer, mode, "250 s", *["250 ok"] * 4, "550 no")
            take_content(peer, mode)
        peer.say("250 queued too")

    with face.serve(script) as server, face:
        assert_told(opened(face, server), recipients, [*[ACCEPTED] * 104, REJECTED], {})
        face.close()
        for recipient in recipients:
            count = 2 if recipient in recipients[100:] else 1
            assert server.received.count(f"<{recipient}>".encode()) == count


@pytest.mark.parametrize(
    "face", ["drop-in clear", "drop-in tls", "aio clear", "aio tls"], indirect=True
)
@every_mode
def test_case_46_is_the_callers_in_the_drop_in(face: Face, mode: str) -> None:
    recipients = [f"r{i}@x.test" for i in range(102)]

    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_envelope(peer, mode, "250 s", *["250 ok"] * 100, "452 too many", "552 too many")
        take_content(peer, mode)
        peer.say("250 queued")

    with face.serve(script) as server, face:
        refused = {recipients[100]: (452, b"too many"), recipients[101]: (552, b"too many")}
        assert_told(opened(face, server), recipients, [], refused)


@by_results
@every_mode
def test_case_46_all_are_too_many(face: Face, mode: str) -> None:
    """It is not tried for ever."""

    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_envelope(peer, mode, "250 s", "452 later", "452 later", "552 later")
        if mode == "pipelined":
            peer.say("503 no recipients")
        expect_rset(peer)

    with face.serve(script) as server, face:
        assert_told(opened(face, server), THREE, [DEFERRED] * 3, {})


@every_face
@delivered(b"250 s\r\n550 a\r\n550 b\r\n354 go\r\n")
def test_case_47_a_message_for_nobody(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.expect("RCPT TO:")
        peer.expect("DATA\r\n")
        peer.deliver(answer)
        assert peer.read_body() == b".\r\n"
        peer.say("554 nobody" if delivery.split else "250 queued")
        if isinstance(face, (DropIn, Async)):
            expect_rset(peer)
        accept_pipelined(peer)

    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        said = assert_told(session, THREE[:2], [REJECTED] * 2, SMTPRecipientsRefused)
        assert "550" in said
        assert_usable(session)
        face.close()
        assert server.received.count(BODY) == 1


@every_face
@pytest.mark.parametrize("accepted", range(3))
@pytest.mark.parametrize("refusal", ["450 later", "550 no", "552 full", "252 perhaps"])
def test_case_48_somebody_has_it_whole(face: Face, accepted: int, refusal: str) -> None:
    answers = [refusal] * 3
    answers[accepted] = "250 ok"
    bodies: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        take_envelope(peer, "pipelined", "250 s", *answers)
        peer.say("354 go on")
        bodies.append(peer.read_body())
        peer.say("250 queued")
        if refusal[:3] in ("452", "552") and not isinstance(face, (DropIn, Async)):
            take_envelope(peer, "pipelined", "250 s", refusal, refusal)
            peer.say("503 nobody")
            expect_rset(peer)

    with face.serve(script) as server, face:
        session = opened(face, server)
        # A success for all but smtplib, which reports it.
        state = {"550": REJECTED, "252": ACCEPTED}.get(refusal[:3], DEFERRED)
        states = [ACCEPTED if answer == "250 ok" else state for answer in answers]
        refused = {
            recipient: (int(refusal[:3]), refusal[4:].encode())
            for recipient, answer in zip(THREE, answers, strict=True)
            if answer == refusal
        }
        assert_told(session, THREE, states, refused)
    assert bodies == [ENDED_BODY]


@every_face
@delivered(b"250 s\r\n550 a\r\n550 b\r\n503 no\r\n")
def test_case_49_nobody_and_no_data(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.expect("RCPT TO:")
        peer.expect("DATA\r\n")
        peer.deliver(answer)
        expect_rset(peer)
        accept_pipelined(peer)

    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        said = assert_told(session, THREE[:2], [REJECTED] * 2, SMTPRecipientsRefused)
        assert "550" in said
        assert "503" not in said
        assert_usable(session)


@every_face
@pytest.mark.parametrize("mode", ["sequential", "chunked"])
def test_case_49_nobody_and_data_is_not_asked_for(face: Face, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_envelope(peer, mode, "250 s", "550 a", "450 b")
        expect_rset(peer)
        take_message(peer, mode)
        peer.say("250 queued")

    with face.serve(script) as server, face:
        session = opened(face, server)
        assert_told(session, THREE[:2], [REJECTED, DEFERRED], SMTPRecipientsRefused)
        assert_usable(session)


@every_face
@delivered(
    b"550 s\r\n503 a\r\n503 b\r\n503 d\r\n", b"450-s\r\n450 s\r\n503 a\r\n503 b\r\n503 d\r\n"
)
def test_case_50_sender_refused(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.expect("RCPT TO:")
        peer.expect("DATA\r\n")
        peer.deliver(answer)
        expect_rset(peer)
        accept_pipelined(peer)

    state = REJECTED if answer.startswith(b"550") else DEFERRED
    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        said = assert_told(session, THREE[:2], [state] * 2, SMTPSenderRefused)
        assert answer[:3].decode() in said
        assert "503" not in said
        assert_usable(session)


@every_face
@pytest.mark.parametrize(
    "answers",
    [
        ["550 s", "250 a", "354 go on"],
        ["550 s", "250 a", "503 no"],
        ["450 s", "503 a", "354 go on"],
    ],
    ids=" ".join,
)
def test_case_50_sender_refused_and_still(face: Face, answers: list[str]) -> None:
    """The commands behind a refused MAIL never make a message of it."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.expect("DATA\r\n")
        peer.say(*answers)
        peer.answer_rest("554 nobody", "250 reset")

    state = REJECTED if answers[0].startswith("550") else DEFERRED
    with face.serve(script) as server, face:
        session = opened(face, server)
        said = assert_told(session, [RECIPIENT], [state], SMTPSenderRefused)
        assert answers[0] in said or "b's'" in said
        face.close()
        assert BODY not in server.received


# 51 to 57: the message and its end


@every_face
@delivered(b"354 go\r\n250 queued\r\n")
def test_case_51_queued_before_it_is_sent(face: Face, answer: bytes, delivery: Delivery) -> None:
    # Where the first segment is the 354 alone, the body may leave before the other comes.
    may_come_late = delivery.split == 0 or (delivery.split or 0) >= len(b"354 go\r\n")
    may_come_late = may_come_late and (
        isinstance(face, DropIn) or delivery.split in (0, len(b"354 go\r\n"))
    )

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.expect("DATA\r\n")
        peer.say("250 s", "250 r")
        peer.deliver(answer)
        peer.drain()

    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        if not may_come_late:
            assert_told(session, [RECIPIENT], [DEFERRED], SMTPServerDisconnected)
            assert face.is_closed
            assert BODY not in server.received
        else:
            try:
                session.sendmail(SENDER, [RECIPIENT], BODY)
            except SMTPServerDisconnected:
                assert face.is_closed


@every_face
@every_mode
@pytest.mark.parametrize("split", [None, 0, 4])
def test_case_52_refused_in_the_midst(face: Face, mode: str, split: int | None) -> None:
    if isinstance(face, DropIn) and mode == "sequential":
        pytest.skip("this is as in the standard library: the body is sent by one call")

    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_envelope(peer, mode, "250 s", "250 r")
        if mode == "chunked":
            peer.expect("BDAT")
        elif mode == "sequential":
            peer.expect("DATA\r\n")
        if mode != "chunked":
            peer.say("354 go on")
        peer.take(1000)
        peer.deliver(b"552 too large\r\n")
        peer.drain()

    with face.serve(script, delivery=Delivery(split), window=WINDOW) as server, face:
        session = narrowed(face, server)
        said = assert_told(session, [RECIPIENT], [REJECTED], SMTPDataError, LARGE_BODY)
        assert "552" in said
        assert "too large" in said
        assert face.is_closed
        assert len(server.received) < len(LARGE_BODY)


@every_face
@with_data
@pytest.mark.parametrize("how", ["RST", "FIN"])
def test_case_53_lost_before_the_end(face: Face, mode: str, how: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_envelope(peer, mode, "250 s", "250 r")
        if mode == "sequential":
            peer.expect("DATA\r\n")
        peer.say("354 go on")
        peer.take(1000)
        if how == "RST":
            peer.reset()
        else:
            peer.end()

    with face.serve(script, window=WINDOW) as server, face:
        session = narrowed(face, server)
        assert_told(session, [RECIPIENT], [DEFERRED], SMTPServerDisconnected, LARGE_BODY)
        assert face.is_closed


@every_face
@pytest.mark.parametrize("how", ["RST", "FIN"])
def test_case_53_lost_in_a_chunk(face: Face, how: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES["chunked"])
        take_envelope(peer, "chunked", "250 s", "250 r")
        peer.expect("BDAT")
        peer.take(1000)
        if how == "RST":
            peer.reset()
        else:
            peer.end()

    with face.serve(script, window=WINDOW) as server, face:
        session = narrowed(face, server)
        assert_told(session, [RECIPIENT], [DEFERRED], SMTPServerDisconnected, LARGE_BODY)
        assert face.is_closed


@every_face
@every_mode
@pytest.mark.parametrize("how", ["RST", "FIN", "end"])
def test_case_54_no_answer_but_the_end(face: Face, mode: str, how: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_message(peer, mode, len(THREE))
        {"RST": peer.reset, "FIN": peer.close, "end": peer.end}[how]()

    with face.serve(script) as server, face:
        session = opened(face, server)
        assert_told(session, THREE, [IN_DOUBT] * 3, SMTPServerDisconnected)
        assert face.is_closed
        assert server.received.count(BODY) == 1


@every_face
@every_mode
def test_case_54_but_who_was_refused_is_told(face: Face, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_envelope(peer, mode, "250 s", "250 a", "550 b", "450 c")
        take_content(peer, mode)
        peer.close()

    with face.serve(script) as server, face:
        session = opened(face, server)
        states = [IN_DOUBT, REJECTED, DEFERRED]
        assert_told(session, THREE, states, SMTPServerDisconnected)


GARBAGE = [
    b"2500 x\r\n250 ok\r\n",
    b"250-a\r\n550 b\r\n250 ok\r\n",
    b"150 wait\r\n250 ok\r\n",
]


def doubts(face: Face, mode: str, answer: bytes, delivery: Delivery) -> None:
    """Sends a message; nobody can tell from this answer whether it was accepted."""

    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_message(peer, mode)
        peer.deliver(answer)
        peer.expect_close()

    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        assert_told(session, [RECIPIENT], [IN_DOUBT], SMTPServerDisconnected)
        assert face.is_closed


@every_face
@delivered(*GARBAGE)
def test_case_55_garbage_for_an_answer(face: Face, answer: bytes, delivery: Delivery) -> None:
    doubts(face, "pipelined", answer, delivery)


@every_face
@pytest.mark.parametrize("mode", ["sequential", "chunked"])
@pytest.mark.parametrize("answer", GARBAGE)
def test_case_55_in_every_mode(face: Face, mode: str, answer: bytes) -> None:
    doubts(face, mode, answer, WHOLE)


@every_face
@every_mode
def test_case_55_no_code_at_all(face: Face, mode: str) -> None:
    """The drop-in reports it as the standard library does, and reads nothing into what follows.
    csmtplib.aio does not take it for a reply, nor does aiosmtplib."""

    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_message(peer, mode)
        peer.say("garbage", "250 ok")
        peer.drain()

    with face.serve(script) as server, face:
        session = opened(face, server)
        by_aio = isinstance(session, AsyncSession)
        expected = SMTPServerDisconnected if by_aio else SMTPDataError
        said = assert_told(session, [RECIPIENT], [IN_DOUBT], expected)
        assert "age" in said
        assert face.is_closed
        assert server.received.count(b"MAIL") + server.received.count(b"mail") == 1


@every_face
@every_mode
def test_case_56_no_answer(face: Face, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_message(peer, mode)
        peer.expect_close()

    start = time.monotonic()
    with face.serve(script) as server, face:
        session = opened(face, server, timeout=SHORT_TIMEOUT)
        assert_told(session, [RECIPIENT], [IN_DOUBT], SMTPServerDisconnected)
        assert face.is_closed
        assert server.received.count(BODY) == 1
    assert SHORT_TIMEOUT <= time.monotonic() - start < TIMEOUT


@every_face
@every_mode
def test_case_57_quit_is_not_answered(face: Face, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_message(peer, mode)
        peer.say("250 queued")
        peer.expect("QUIT\r\n")
        peer.reset()

    with face.serve(script) as server, face:
        session = opened(face, server)
        assert_usable(session)
        if isinstance(session, SMTP):
            with pytest.raises(SMTPServerDisconnected):
                session.quit()
        elif isinstance(session, AsyncSession):
            session.quit()
        else:
            assert isinstance(session, ResultSession)
            session.quit()
        assert face.is_closed


# 58 to 60: BDAT


@every_face
@delivered(b"452 full\r\n")
def test_case_58_chunk_refused(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES["chunked"])
        assert take_message(peer, "chunked") == BODY
        peer.deliver(answer)
        expect_rset(peer)
        accept_chunked(peer)

    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        said = assert_told(session, [RECIPIENT], [DEFERRED], SMTPDataError)
        assert "452" in said
        assert_usable(session)
        face.close()
        assert server.received.count(BODY) == 2


@every_face
@delivered(b"503 what\r\n", b"500-what\r\n500 what\r\n")
def test_case_59_chunks_are_not_known(face: Face, answer: bytes, delivery: Delivery) -> None:
    """The message may have been taken for commands, so the connection is done with."""

    def first(peer: Peer) -> None:
        peer.greet(*MODES["chunked"])
        take_message(peer, "chunked")
        peer.deliver(answer)
        peer.expect_close()

    def second(peer: Peer) -> None:
        peer.greet(*MODES["chunked"])
        accept_pipelined(peer)

    with face.serve(first, second, delivery=delivery) as server, face:
        session = opened(face, server)
        assert_told(session, [RECIPIENT], [DEFERRED], SMTPServerDisconnected)
        assert face.is_closed
        assert_usable(opened(face, server))


@every_face
@delivered(b"503 what\r\n")
def test_case_59_of_a_server_that_knows_them(face: Face, answer: bytes, delivery: Delivery) -> None:
    """It may be about what was sent early, until it comes again where nothing was."""

    def script(peer: Peer) -> None:
        peer.greet(*MODES["chunked"])
        accept_chunked(peer)
        peer.take_rset()  # where it is the same pipeline
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.say("250 s", "250 r")
        assert peer.read_chunk() == BODY
        peer.deliver(answer)
        expect_rset(peer)
        take_envelope(peer, "sequential", "250 s", "250 r")
        if isinstance(face, (DropIn, Async)):
            peer.expect("DATA\r\n")
        else:
            assert peer.read_chunk() == BODY
        peer.deliver(answer)
        expect_rset(peer)
        accept_chunked(peer)

    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        assert_usable(session)
        assert_told(session, [RECIPIENT], [REJECTED], SMTPDataError)
        assert_usable(session)


def run_of_mails(count: int, recipients: Sequence[str] = (RECIPIENT,)) -> list[MailObject]:
    """Messages that can be told apart."""
    return [MailObject(SENDER, recipients, b"%d\r\n" % number + BODY) for number in range(count)]


def in_flight(
    answers: Sequence[Sequence[str]],
    then: Callable[[Peer], object],
) -> Script:
    """Accepts a message; takes as many whole transactions behind it as there are answers, with RSET
    before each, and then says all the answers: to RSET, MAIL, RCPT, BDAT."""

    def script(peer: Peer) -> None:
        peer.greet(*MODES["chunked"])
        assert take_message(peer, "chunked") == b"0\r\n" + BODY
        peer.say("250 queued")
        for number, _ in enumerate(answers, 1):
            peer.expect("RSET\r\n")
            peer.expect("MAIL FROM:")
            peer.expect("RCPT TO:")
            assert peer.read_chunk() == b"%d\r\n" % number + BODY
        data = "".join(f"{each}\r\n" for one in answers for each in one).encode()
        peer.deliver(data)
        then(peer)

    return script


def states_of(session: Session, *mails: MailObject, is_known: bool = True) -> list[str]:
    """Send a stream of messages to a server that has shown before what it can do."""
    assert isinstance(session, StreamSession)
    for mode in Mode if is_known else ():
        show_all(session.host, mode)
    results = session.results(*mails)
    assert [result.mail for result in results] == list(mails)
    return [result.outcomes[0].state.value for result in results]


OK = ("250 r", "250 m", "250 t", "250 q")

REFUSALS = {
    "mail": (("250 r", "550 m", "503 t", "503 q"), REJECTED),
    "rcpt": (("250 r", "250 m", "550 t", "503 q"), REJECTED),
    "rcpt-452": (("250 r", "250 m", "452 t", "554 q"), DEFERRED),
    "bdat": (("250 r", "250 m", "250 t", "552 q"), REJECTED),
    "bdat-452": (("250 r", "250 m", "250 t", "452 q"), DEFERRED),
    "rset": (("500 r", "250 m", "250 t", "250 q"), ACCEPTED),
}


@streaming
@pytest.mark.parametrize("place", REFUSALS)
@pytest.mark.parametrize("which", range(3))
def test_case_60_one_of_several_refused(face: Face, place: str, which: int) -> None:
    answers = [OK] * 3
    answers[which], state = REFUSALS[place]
    expected = [ACCEPTED] * 4
    expected[which + 1] = state

    with face.serve(in_flight(answers, Peer.take_rset)) as server, face:
        session = opened(face, server)
        assert states_of(session, *run_of_mails(4)) == expected
        assert not face.is_closed
        assert isinstance(session, StreamSession)
        assert session.ended is None


@streaming
@pytest.mark.parametrize("place", ["rcpt", "bdat-452"])
@delivered("".join(f"{each}\r\n" for each in OK).encode() * 2)
def test_case_60_split(face: Face, place: str, answer: bytes, delivery: Delivery) -> None:
    answers = [REFUSALS[place][0], OK]
    assert len(answer) <= sum(len(each) + 2 for one in answers for each in one)
    with face.serve(in_flight(answers, Peer.take_rset), delivery=delivery) as server, face:
        session = opened(face, server)
        expected = [ACCEPTED, REFUSALS[place][1], ACCEPTED]
        assert states_of(session, *run_of_mails(3)) == expected


@streaming
@pytest.mark.parametrize("said", range(len(OK) * 3))
@pytest.mark.parametrize("how", ["RST", "FIN", "garbage"])
def test_case_60_lost(face: Face, said: int, how: str) -> None:
    """All three have left; those without an answer are in doubt."""
    flat = [each for _ in range(3) for each in OK][:said]

    def then(peer: Peer) -> None:
        if how == "garbage":
            peer.say("2500 what")
            peer.expect_close()
        elif how == "FIN":
            peer.end()
        else:
            # Not so fast that the answers go with it.
            time.sleep(0.05)
            peer.reset()

    answers = [flat[start : start + len(OK)] for start in range(0, len(OK) * 3, len(OK))]
    with face.serve(in_flight(answers, then)) as server, face:
        session = opened(face, server)
        told = 1 + said // len(OK)
        assert states_of(session, *run_of_mails(4)) == [ACCEPTED] * told + [IN_DOUBT] * (4 - told)
        assert isinstance(session, StreamSession)
        assert isinstance(session.ended, SMTPServerDisconnected)
        assert face.is_closed


@streaming
@pytest.mark.parametrize("said", range(len(OK) * 3))
def test_case_60_closed_by_421(face: Face, said: int) -> None:
    """The server does nothing that it was told behind it, so nothing is in doubt."""
    flat = [*([each for _ in range(3) for each in OK][:said]), "421 bye"]
    answers = [flat[start : start + len(OK)] for start in range(0, len(OK) * 3, len(OK))]
    with face.serve(in_flight(answers, Peer.end)) as server, face:
        session = opened(face, server)
        told = 1 + said // len(OK)
        assert states_of(session, *run_of_mails(4)) == [ACCEPTED] * told + [DEFERRED] * (4 - told)
        assert isinstance(session, StreamSession)
        assert isinstance(session.ended, SMTPServerDisconnected)
        assert face.is_closed


@streaming
@pytest.mark.parametrize("how", ["RST", "end", "421"])
def test_case_60_the_last_had_not_left(face: Face, how: str) -> None:
    """A large message waits for the answers to its RCPT, so it is safe to send again."""

    def script(peer: Peer) -> None:
        peer.greet(*MODES["chunked"])
        take_message(peer, "chunked")
        peer.say("250 queued")
        for _ in range(2):
            peer.expect("RSET\r\n")
            peer.expect("MAIL FROM:")
            peer.expect("RCPT TO:")
            peer.read_chunk()
        peer.expect("RSET\r\n")
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.expect_silence(0.05)
        peer.say(*OK)
        if how == "RST":
            time.sleep(0.05)
            peer.reset()
            return
        if how == "421":
            peer.say("421 bye")
        peer.end()

    mails = [*run_of_mails(3), MailObject(SENDER, RECIPIENT, LARGE_BODY)]
    expected = [ACCEPTED, ACCEPTED, DEFERRED if how == "421" else IN_DOUBT, DEFERRED]
    with face.serve(script, window=WINDOW) as server, face:
        assert states_of(narrowed(face, server), *mails) == expected
        assert len(server.received) < len(LARGE_BODY)


@streaming
@pytest.mark.parametrize("how", ["RST", "end"])
def test_case_60_the_last_had_left_in_part(face: Face, how: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES["chunked"])
        take_message(peer, "chunked")
        peer.say("250 queued")
        peer.expect("RSET\r\n")
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.read_chunk()
        peer.expect("RSET\r\n")
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.say(*OK, *OK[:3])
        peer.expect("BDAT")
        peer.take(1000)
        if how == "RST":
            peer.reset()
        else:
            peer.end()

    mails = [*run_of_mails(2), MailObject(SENDER, RECIPIENT, LARGE_BODY)]
    with face.serve(script, window=WINDOW) as server, face:
        assert states_of(narrowed(face, server), *mails) == [ACCEPTED, ACCEPTED, DEFERRED]


# The same for DATA: the body, with the next message's envelope behind it


@streaming
@pytest.mark.parametrize("place", ["mail", "rcpt", "data", "content"])
@pytest.mark.parametrize("which", range(3))
def test_case_60_stream_of_data(face: Face, place: str, which: int) -> None:
    refusals = {
        "mail": ["550 m", "503 t", "503 d"],
        "rcpt": ["250 m", "550 t", "503 d"],
        "data": ["250 m", "250 t", "554 d"],
        "content": ["250 m", "250 t", "354 d", "554 q"],
    }

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        for number in range(4):
            answers = refusals[place] if number == which else ["250 m", "250 t", "354 d", "250 q"]
            peer.take_rset()
            for command in ("MAIL FROM:", "RCPT TO:", "DATA\r\n"):
                peer.expect(command)
            peer.say(*answers[:3])
            if len(answers) == 4:
                assert peer.read_body() == b"%d\r\n" % number + ENDED_BODY
                peer.say(answers[3])

    expected = [ACCEPTED] * 4
    expected[which] = REJECTED
    with face.serve(script) as server, face:
        assert states_of(opened(face, server), *run_of_mails(4)) == expected


@streaming
@pytest.mark.parametrize("how", ["RST", "end", "garbage", "421"])
def test_case_60_stream_of_data_lost(face: Face, how: str) -> None:
    """The second message has left whole, with the envelope of the third."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        for number in range(2):
            take_envelope(peer, "pipelined", "250 m", "250 t")
            peer.say("354 d")
            assert peer.read_body() == b"%d\r\n" % number + ENDED_BODY
            if number == 0:
                peer.say("250 q")
        peer.expect("MAIL FROM:")
        peer.expect("RCPT TO:")
        peer.expect("DATA\r\n")
        if how == "RST":
            peer.reset()
        elif how == "garbage":
            peer.say("2500 what")
        elif how == "421":
            peer.say("421 bye")
        if how != "RST":
            peer.end()

    second = DEFERRED if how == "421" else IN_DOUBT
    with face.serve(script) as server, face:
        session = opened(face, server)
        expected = [ACCEPTED, second, DEFERRED, DEFERRED]
        assert states_of(session, *run_of_mails(4)) == expected
        assert face.is_closed


@every_face
@pytest.mark.parametrize(
    ("mode", "place"),
    [
        (mode, place)
        for mode in MODES
        for place in ("mail", "rcpt", "data", "content")
        if (mode, place) != ("chunked", "data")
    ],
)
def test_421_is_no_doubt(face: Face, mode: str, place: str) -> None:
    """The reply by which a server closes the session is an answer."""
    replies, by_drop_in = {
        "mail": (["421 bye"], SMTPSenderRefused),
        "rcpt": (["250 s", "250 r", "421 bye"], SMTPRecipientsRefused),
        "data": (["250 s", "250 a", "550 b", "250 c", "421 bye"], SMTPDataError),
        "content": (["250 s", "250 a", "550 b", "250 c"], SMTPDataError),
    }[place]

    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        if place == "content":
            take_envelope(peer, mode, *replies)
            take_content(peer, mode)
            peer.say("421 bye")
        else:
            commands = ["MAIL FROM:", *["RCPT TO:"] * 3, *["DATA\r\n"] * (mode != "chunked")]
            for number, command in enumerate(commands):
                if mode == "sequential" and number == len(replies):
                    break
                peer.expect(command)
                if mode == "sequential":
                    peer.say(replies[number])
            if mode != "sequential":
                peer.say(*replies)
        peer.end()

    states = [DEFERRED, REJECTED if place in ("data", "content") else DEFERRED, DEFERRED]
    with face.serve(script) as server, face:
        session = opened(face, server)
        assert_told(session, THREE, states, by_drop_in)
        assert face.is_closed


# 61: LMTP


def lmtp_states(face: Face, script: Script, delivery: Delivery, states: list[str]) -> None:
    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        assert_told(session, THREE, states, SMTPServerDisconnected)
        assert face.is_closed
        if isinstance(session, LMTP):
            assert session.recipient_replies == {THREE[0]: (250, b"a"), THREE[1]: (550, b"b")}


@by_lmtp
@with_data
@delivered(b"250 a\r\n550 b\r\n")
def test_case_61_each_recipient(face: Face, mode: str, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_message(peer, mode, len(THREE))
        peer.deliver(answer)
        peer.end()

    lmtp_states(face, script, delivery, [ACCEPTED, REJECTED, IN_DOUBT])


@by_lmtp
@with_data
@pytest.mark.parametrize("last", ["250 c", "450 c", "421 c"])
def test_case_61_all_answered(face: Face, mode: str, last: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_message(peer, mode, len(THREE))
        peer.say("250 a", "550 b", last)
        if last.startswith("421"):
            peer.end()

    refused = {THREE[1]: (550, b"b")}
    if not last.startswith("250"):
        refused[THREE[2]] = (int(last[:3]), b"c")
    states = [ACCEPTED, REJECTED, ACCEPTED if last.startswith("250") else DEFERRED]
    with face.serve(script) as server, face:
        session = opened(face, server)
        assert_told(session, THREE, states, refused)
        assert face.is_closed == last.startswith("421")
        if isinstance(session, LMTP):
            assert session.recipient_replies == {**refused, THREE[0]: (250, b"a")} | (
                {THREE[2]: (250, b"c")} if last.startswith("250") else {}
            )


@by_lmtp
@with_data
def test_case_61_only_who_was_accepted_is_answered_for(face: Face, mode: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        take_envelope(peer, mode, "250 s", "250 a", "550 b", "250 c")
        take_content(peer, mode)
        peer.say("450 a", "250 c")

    with face.serve(script) as server, face:
        refused = {THREE[0]: (450, b"a"), THREE[1]: (550, b"b")}
        assert_told(opened(face, server), THREE, [DEFERRED, REJECTED, ACCEPTED], refused)


# 64 to 66: servers that are not up to what they offer


@every_face
@delivered(b"220 ***2**0***\r\n", b"220 ***************0*2****200 **0*********\r\n")
def test_case_64_pix(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.deliver(answer)
        peer.answer_hello("PIPELINING", "CHUNKING")
        for _ in range(2):
            for command, reply in [("MAIL", "250 s"), ("RCPT", "250 r"), ("DATA\r\n", "354 d")]:
                peer.expect(command)
                assert not peer.unread
                peer.say(reply)
            assert peer.read_body() == ENDED_BODY
            peer.say("250 queued")

    with face.serve(script, delivery=delivery) as server, face:
        session = opened(face, server)
        assert_usable(session)
        assert_usable(session)


@every_face
@pytest.mark.parametrize("offer", ["pipelined", "chunked"])
def test_case_65_second_command_is_lost(face: Face, offer: str) -> None:
    def loses_the_second(peer: Peer) -> None:
        peer.greet(*MODES[offer])
        peer.expect("MAIL FROM:")
        peer.say("250 s")
        peer.drain()

    def takes_one_at_a_time(peer: Peer) -> None:
        peer.greet(*MODES[offer])
        take_message(peer, "sequential")
        peer.say("250 queued")

    with face.serve(loses_the_second, takes_one_at_a_time) as server, face:
        session = opened(face, server, timeout=SHORT_TIMEOUT / 2)
        assert_told(session, [RECIPIENT], [DEFERRED], SMTPServerDisconnected)
        assert face.is_closed
        (host,) = extension_policy._hosts.values()
        assert host.limit(Mode.PIPELINING) == Step.ALONE
        assert_usable(opened(face, server))


@every_face_in_clear
@every_mode
@pytest.mark.parametrize("answers", [0, 3])
def test_case_65_is_not_learnt_from_silence(face: Face, mode: str, answers: int) -> None:
    """A server that answers nothing, or has answered all but the end, has lost no command."""

    def script(peer: Peer) -> None:
        peer.greet(*MODES[mode])
        if answers:
            take_message(peer, mode)
        peer.drain()

    with face.serve(script) as server, face:
        session = opened(face, server, timeout=SHORT_TIMEOUT / 2)
        state = IN_DOUBT if answers else DEFERRED
        assert_told(session, [RECIPIENT], [state], SMTPServerDisconnected)
        (host,) = extension_policy._hosts.values()
        assert host.limit(Mode.PIPELINING) > Step.ALONE


@every_face_in_clear
@pytest.mark.parametrize("recipients", [1, 3, 100])
def test_case_66_a_group_is_one_segment(face: Face, recipients: int) -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        for _ in range(2):
            peer.expect_one_segment("MAIL", *["RCPT"] * recipients, "DATA\r\n")
            peer.say("250 s", *["250 r"] * recipients, "354 d")
            assert peer.read_body() == ENDED_BODY
            peer.say("250 queued")

    with face.serve(script) as server, face:
        session = opened(face, server)
        everyone = [f"r{number}@x.test" for number in range(recipients)]
        for _ in range(2):
            assert_told(session, everyone, [ACCEPTED] * recipients, {})


def accept_pipelined_stream(peer: Peer, start: int, end: int) -> None:
    """Takes these of run_of_mails(), each body with the next envelope."""
    peer.expect_one_segment("MAIL", "RCPT", "DATA\r\n")
    for number in range(start, end):
        peer.say("250 s", "250 r", "354 d")
        lines = [f"{number}\r\n", *BODY.decode().splitlines(True), ".\r\n"]
        following = ["MAIL", "RCPT", "DATA\r\n"] if number + 1 < end else []
        peer.expect_one_segment(*lines, *following)
        peer.say("250 queued")


@streaming_in_clear
def test_case_66_body_and_next_envelope(face: Face) -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        accept_pipelined_stream(peer, 0, 4)

    with face.serve(script) as server, face:
        assert states_of(opened(face, server), *run_of_mails(4)) == [ACCEPTED] * 4


@streaming_in_clear
def test_case_66_whole_transactions(face: Face) -> None:
    transaction = ["MAIL", "RCPT", "BDAT", "", *BODY.decode().splitlines(True)]

    def script(peer: Peer) -> None:
        peer.greet(*MODES["chunked"])
        peer.expect_one_segment(*transaction, *["RSET\r\n", *transaction] * 3)
        peer.say(*OK[1:], *OK * 3)

    with face.serve(script) as server, face:
        assert states_of(opened(face, server), *run_of_mails(4)) == [ACCEPTED] * 4


@streaming_in_clear
def test_case_66_what_an_unknown_server_gets(face: Face) -> None:
    """T5, T6: at first only RSET leaves behind the end of a message, by DATA as by BDAT."""

    def by_data(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect_one_segment("MAIL", "RCPT", "DATA\r\n")
        peer.say("250 s", "250 r", "354 d")
        lines = ["0\r\n", *BODY.decode().splitlines(True), ".\r\n"]
        peer.expect_one_segment(*lines, "RSET\r\n")
        peer.say("250 queued", "250 reset")
        accept_pipelined_stream(peer, 1, 4)

    def by_chunks(peer: Peer) -> None:
        transaction = ["MAIL", "RCPT", "BDAT", "", *BODY.decode().splitlines(True)]
        peer.greet(*MODES["chunked"])
        peer.expect_one_segment("MAIL", "RCPT")
        peer.say("250 s", "250 r")
        peer.read_chunk()
        peer.say("250 queued")
        peer.expect_one_segment("RSET\r\n", *transaction, "RSET\r\n")
        peer.say(*OK, "250 reset")
        peer.expect_one_segment(*transaction, "RSET\r\n", *transaction)
        peer.say(*OK[1:], *OK)

    for script in (by_data, by_chunks):
        with face.serve(script) as server, face:
            session = opened(face, server)
            assert states_of(session, *run_of_mails(4), is_known=False) == [ACCEPTED] * 4


@pytest.mark.parametrize("face", ["aio-stream clear", "aio-stream tls"], indirect=True)
@pytest.mark.parametrize("kept", [False, True])
def test_left_with_a_half_read_stream(face: Face, kept: bool) -> None:
    """T25: leaving the block closes the connection, also where somebody still has the results."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        accept_pipelined_stream(peer, 0, 1)
        peer.drain()

    async def leave(session: AsyncStreamSession, mails: list[MailObject]) -> None:
        async with session.client as client:
            results = client.send_many(mails, max_in_flight=1)
            assert (await results.__anext__()).accepted
            if not kept:
                del results

    with face.serve(script) as server, face:
        assert isinstance(face, AsyncStream)
        session = face.open(server)
        show_all(session.host, Mode.PIPELINING)
        face.run(leave(session, run_of_mails(3)))
        assert face.is_closed
