"""Cases 62 and 63: neither end may wait for the other to read, however little room there is."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Iterator

import pytest

from csmtplib import kernel
from csmtplib.drive.pump import pump
from csmtplib.kernel.transaction import LAST_STEP, Mode
from csmtplib.protocol import limits
from csmtplib.protocol.mail_object import MailObject

from ..protocol.serving import show_all
from .faces import BODY, SENDER, Certificates, DropIn, Face, ResultSession, StreamSession, Transport
from .server import Peer, Script, ScriptedServer, ScriptError

# Windows can't make loopback's segments smaller, and those larger than a window wait for timers.
WINDOW = 4096 if sys.platform != "win32" else 1 << 16
TLS_RECORD = 1 << 14
RECIPIENTS = [f"recipient-{number:05}@x.test" for number in range(10_000)]

# So long that the answers to all of them are more than any buffer on the way.
LONG_TEXT = "x" * 400
LARGE_BODY = (b"x" * 76 + b"\r\n") * 2_000

every_face = pytest.mark.parametrize(
    "face",
    [
        f"{face} {transport}"
        for face in ("drop-in", "strict", "stream", "aio", "aio-stream")
        for transport in ("clear", "tls")
    ],
    indirect=True,
)
streaming = pytest.mark.parametrize(
    "face",
    ["stream clear", "stream tls", "aio-stream clear", "aio-stream tls", "aio-source clear"],
    indirect=True,
)


def know_all(session: StreamSession) -> None:
    """Make it known that the server can do all that it offers."""
    for mode in Mode:
        show_all(session.host, mode)


def narrow(sock: socket.socket) -> None:
    """Leaves little room for what one end has sent and the other has not read."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WINDOW)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)


def answers_at_once(peer: Peer) -> None:
    """Reads on only when its answer to the command before is on its way."""
    peer.greet("PIPELINING")
    peer.expect("MAIL FROM:")
    peer.say(f"250 {LONG_TEXT}")
    for _ in RECIPIENTS:
        peer.expect("RCPT TO:")
        peer.say(f"250 {LONG_TEXT}")
    take_data(peer)


def take_data(peer: Peer) -> None:
    peer.expect("DATA\r\n")
    peer.say("354 go on")
    assert peer.read_body().endswith(b"\r\n.\r\n")
    peer.say("250 queued")


def withholds_answers(room: int) -> Script:
    """Keeps its answers until it has so many bytes of them, or DATA asks for them."""

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.expect("MAIL FROM:")
        kept = "250 sender ok\r\n"
        for number, _ in enumerate(RECIPIENTS):
            peer.expect("RCPT TO:")
            kept += f"250 recipient {number} ok\r\n"
            if len(kept) >= room:
                peer.say(kept.removesuffix("\r\n"))
                kept = ""
        peer.expect("DATA\r\n")
        peer.say(f"{kept}354 go on")
        assert peer.read_body().endswith(b"\r\n.\r\n")
        peer.say("250 queued")

    return script


def send(face: Face, server: ScriptedServer, body: bytes = BODY) -> None:
    session = face.open(server)
    narrow(face.sock)
    if isinstance(session, ResultSession):
        (result,) = session.results(MailObject(SENDER, RECIPIENTS, body))
        assert result.accepted
    else:
        assert session.sendmail(SENDER, RECIPIENTS, body) == {}


@every_face
def test_case_62_replies_while_commands_leave(face: Face) -> None:
    with face.serve(answers_at_once, window=WINDOW) as server, face:
        send(face, server, LARGE_BODY)


@every_face
@pytest.mark.parametrize("room", [4096, 1 << 30], ids=["4096", "all"])
def test_case_63_replies_are_withheld(face: Face, room: int) -> None:
    with face.serve(withholds_answers(room), window=WINDOW) as server, face:
        send(face, server)


def test_case_62_catches_who_does_not_read(certificates: Certificates) -> None:
    """A client that writes a group before it reads gets stuck on that server."""
    commands = b"MAIL FROM:<s@x.test>\r\n"
    commands += b"".join(b"RCPT TO:<%s>\r\n" % each.encode() for each in RECIPIENTS)

    def script(peer: Peer) -> None:
        with contextlib.suppress(ScriptError):
            answers_at_once(peer)
        peer.close()

    drop_in = DropIn(certificates, Transport.CLEAR)
    with drop_in.serve(script, window=WINDOW) as server, drop_in:
        drop_in.open(server)
        narrow(drop_in.sock)
        drop_in.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            drop_in.sock.sendall(commands + b"DATA\r\n")


@streaming
@pytest.mark.parametrize("mode", ["pipelined", "chunked"])
def test_case_62_replies_while_messages_leave(face: Face, mode: str) -> None:
    """Each answer is as long as a reply may be; the server reads nothing while it says one."""
    count = 12
    lines = [f"250-{'x' * 2000}"] * 20

    def answer(peer: Peer, text: str) -> None:
        peer.say(*(line.replace("250", text[:3]) for line in lines), text)

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", *(["CHUNKING"] if mode == "chunked" else []))
        for _ in range(count):
            peer.take_rset()
            peer.expect("MAIL FROM:")
            answer(peer, "250 s")
            for _ in range(3):
                peer.expect("RCPT TO:")
                answer(peer, "250 r")
            if mode == "chunked":
                assert peer.read_chunk() == LARGE_BODY
            else:
                peer.expect("DATA\r\n")
                answer(peer, "354 d")
                assert peer.read_body() == LARGE_BODY + b".\r\n"
            answer(peer, "250 q")

    with face.serve(script, window=WINDOW) as server, face:
        session = face.open(server)
        narrow(face.sock)
        assert isinstance(session, StreamSession)
        know_all(session)
        results = session.results(*[MailObject(SENDER, RECIPIENTS[:3], LARGE_BODY)] * count)
        assert [result.accepted for result in results] == [True] * count


@streaming
def test_case_63_all_answers_at_the_end(face: Face) -> None:
    """Whole transactions are taken without a word, as many as the client sends."""
    count = 40
    window = threading.Event()

    def mails() -> Iterator[MailObject]:
        for _ in range(count):
            yield MailObject(SENDER, RECIPIENTS[:20], BODY)
        window.set()

    def script(peer: Peer) -> None:
        peer.greet("PIPELINING", "CHUNKING")
        answers: list[str] = []
        for number in range(count):
            if number:
                answers.append("250 reset")
                peer.expect("RSET\r\n")
            peer.expect("MAIL FROM:")
            for _ in range(20):
                peer.expect("RCPT TO:")
            assert peer.read_chunk() == BODY
            answers += ["250 s", *[f"250 {LONG_TEXT}"] * 20, "250 q"]
        peer.say(*answers)

    with face.serve(script, window=WINDOW) as server, face:
        session = face.open(server)
        narrow(face.sock)
        assert isinstance(session, StreamSession)
        know_all(session)
        results = session.send_many(mails())
        assert [result.accepted for result in results] == [True] * count
        assert window.is_set()


class _Blocked:
    """A TLS socket that takes nothing at first. OpenSSL then has a part of a record under way, and
    wants the very same bytes again: of more it may send a record and not tell."""

    def __init__(self) -> None:
        self.tried: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.tried.append(bytes(data))
        if len(self.tried) % 2:
            raise ssl.SSLWantWriteError
        return len(data)

    def recv(self, size: int) -> bytes:
        raise ssl.SSLWantReadError

    def gettimeout(self) -> float:
        return 5.0

    def settimeout(self, seconds: float) -> None:
        pass

    def fileno(self) -> int:
        return -1


def test_case_62_what_was_blocked_is_sent_again() -> None:
    replies = kernel.ReplyBuffer(limits.REPLY_LINE_BYTES, limits.REPLY_BYTES)
    pipeline = kernel.Pipeline(
        replies, Mode.CHUNKING, False, True, LAST_STEP[Mode.CHUNKING], 1 << 20
    )
    sock = _Blocked()
    for number in range(3):
        commands = [b"MAIL FROM:<s@x.test>\r\n", b"RCPT TO:<r@x.test>\r\n"]
        pipeline.push(number, commands, kernel.Content(BODY, False))
        pump(pipeline, replies, sock, 0, limits.at_most(5.0), seconds=0, can_poll=False)
    for first, again in zip(sock.tried[::2], sock.tried[1::2], strict=False):
        assert again == first


def test_case_62_a_write_is_one_record() -> None:
    """Of two, the first may be with the server while the call says that nothing was written."""
    replies = kernel.ReplyBuffer(limits.REPLY_LINE_BYTES, limits.REPLY_BYTES)
    pipeline = kernel.Pipeline(
        replies, Mode.PIPELINING, False, True, LAST_STEP[Mode.PIPELINING], 1 << 20
    )
    sock = _Blocked()
    commands = [b"MAIL FROM:<s@x.test>\r\n", *[b"RCPT TO:<r@x.test>\r\n"] * 10_000]
    pipeline.push(None, commands, kernel.Content(BODY, True))
    for _ in range(3):
        pump(pipeline, replies, sock, 0, limits.at_most(5.0), seconds=0, can_poll=False)
    assert max(map(len, sock.tried)) <= TLS_RECORD
