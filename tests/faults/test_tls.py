"""Cases 18 to 25: TLS that a server, or a man in the middle, withholds, spoils or forges."""

from __future__ import annotations

import contextlib
import ssl

import pytest

from csmtplib import (
    SMTP,
    SMTP_SSL,
    SMTPNotSupportedError,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from .faces import TIMEOUT, Async, DropIn, Face, Transport
from .server import Delivery, Peer, Script, ScriptedServer, delivered

LOGIN = ("user", "secret")
STARTTLS_DIALOGUE = b"ehlo client.test\r\nstarttls\r\n"
TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # alert, handshake

in_clear = pytest.mark.parametrize(
    "face", ["drop-in clear", "strict clear", "aio clear"], indirect=True
)
by_starttls_and_implicit = pytest.mark.parametrize(
    "face",
    ["drop-in clear", "drop-in tls", "strict clear", "strict tls", "aio clear", "aio tls"],
    indirect=True,
)


@in_clear
@delivered(b"502 no\r\n")
def test_case_18_no_ehlo(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mx.test")
        peer.expect("EHLO")
        peer.deliver(answer)
        peer.expect("HELO")
        peer.say("250 mx.test")

    with face.serve(script, delivery=delivery) as server, face:
        with pytest.raises(SMTPNotSupportedError):
            face.open(server, starttls=True, login=LOGIN)
        face.close()
        assert server.received.lower() == b"ehlo client.test\r\nhelo client.test\r\n"


@in_clear
@delivered(b"250-mx.test\r\n250-XSTARTTLS\r\n250 AUTH PLAIN\r\n")
def test_case_19_starttls_not_offered(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mx.test")
        peer.expect("EHLO")
        peer.deliver(answer)

    with face.serve(script, delivery=delivery) as server, face:
        with pytest.raises(SMTPNotSupportedError):
            face.open(server, starttls=True, login=LOGIN)
        face.close()
        assert server.received.lower() == b"ehlo client.test\r\n"


@in_clear
@delivered(b"454 later\r\n", b"502 no\r\n", b"354 go on\r\n")
def test_case_20_starttls_refused(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet("STARTTLS", "AUTH PLAIN")
        peer.expect("STARTTLS\r\n")
        peer.deliver(answer)

    with face.serve(script, delivery=delivery) as server, face:
        with pytest.raises(SMTPResponseException) as caught:
            face.open(server, starttls=True, login=LOGIN)
        assert caught.value.smtp_code == int(answer[:3])
        face.close()
        assert server.received.lower() == STARTTLS_DIALOGUE


@in_clear
@delivered(b"220 go\r\n250 X\r\n")
def test_case_21_plaintext_reply_behind_220(face: Face, answer: bytes, delivery: Delivery) -> None:
    refuses_injected_plaintext(face, answer, delivery)


@in_clear
@delivered(b"220 go\r\n250-AU")
def test_case_22_plaintext_fragment_behind_220(
    face: Face, answer: bytes, delivery: Delivery
) -> None:
    refuses_injected_plaintext(face, answer, delivery)


def refuses_injected_plaintext(face: Face, answer: bytes, delivery: Delivery) -> None:
    # Where the first segment is just the 220, the rest may arrive in the midst of the handshake.
    may_come_late = delivery.split in (0, len(b"220 go\r\n"))

    def script(peer: Peer) -> None:
        peer.greet("STARTTLS", "AUTH PLAIN")
        peer.expect("STARTTLS\r\n")
        peer.deliver(answer)
        if may_come_late:
            peer.drain()
        else:
            peer.expect_close()

    with face.serve(script, delivery=delivery) as server, face:
        expected = (SMTPServerDisconnected, *([ssl.SSLError] if may_come_late else []))
        with pytest.raises(expected):
            face.open(server, starttls=True, login=LOGIN)
        assert face.is_closed
        assert_nothing_but_tls(face, server.received)


@in_clear
@delivered(b"250-mx.test\r\n250 PIPELINING\r\n")
def test_case_23_auth_offered_before_tls_only(
    face: Face, answer: bytes, delivery: Delivery
) -> None:
    def script(peer: Peer) -> None:
        peer.greet("STARTTLS", "AUTH PLAIN")
        peer.expect("STARTTLS\r\n")
        peer.say("220 go")
        peer.start_tls(face.certificates.good)
        peer.expect("EHLO")
        peer.deliver(answer)

    with face.serve(script, delivery=delivery) as server, face:
        with pytest.raises(SMTPNotSupportedError):
            face.open(server, starttls=True, login=LOGIN)
        face.close()
        assert server.received_in_clear.lower() == STARTTLS_DIALOGUE
        assert b"AUTH" not in server.received.upper()


@by_starttls_and_implicit
@pytest.mark.parametrize("fault", ["unknown-authority", "wrong-host", "expired"])
def test_case_24_bad_certificate(face: Face, fault: str) -> None:
    certificate = face.certificates.bad[fault]
    with ScriptedServer(begins_tls(face, certificate)) as server, face:
        with pytest.raises(ssl.SSLCertVerificationError):
            face.open(server, starttls=face.transport is Transport.CLEAR, login=LOGIN)
        assert face.is_closed
        assert_nothing_but_tls(face, server.received)


@pytest.mark.parametrize("fault", ["unknown-authority", "wrong-host", "expired"])
def test_case_24_unverified_by_default(drop_in: DropIn, fault: str) -> None:
    """The drop-in keeps the documented default of the standard library."""

    def script(peer: Peer) -> None:
        begins_tls(drop_in, drop_in.certificates.bad[fault])(peer)
        if drop_in.transport is Transport.TLS:
            peer.say("220 mx.test")
        peer.expect("EHLO")
        peer.say("250 mx.test")

    with ScriptedServer(script) as server:
        if drop_in.transport is Transport.TLS:
            smtp: SMTP = SMTP_SSL(server.host, server.port, "client.test", timeout=TIMEOUT)
        else:
            smtp = SMTP(server.host, server.port, "client.test", timeout=TIMEOUT)
            smtp.starttls()
        with smtp:
            assert smtp.ehlo() == (250, b"mx.test")


def test_case_24_verified_although_it_was_not_before(aio: Async) -> None:
    """T2: a connection is verified as its context says by then."""
    certificate = aio.certificates.bad["unknown-authority"]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def first(peer: Peer) -> None:
        begins_tls(aio, certificate)(peer)
        if aio.transport is Transport.TLS:
            peer.say("220 mx.test")
        peer.expect("EHLO")
        peer.say("250 mx.test")

    with ScriptedServer(first, begins_tls(aio, certificate)) as server, aio:
        starttls = aio.transport is Transport.CLEAR
        aio.connect(server, starttls=starttls, context=context)
        context.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(ssl.SSLCertVerificationError):
            aio.connect(server, starttls=starttls, context=context)


@by_starttls_and_implicit
@delivered(
    b"220 mx.test\r\n",
    b"\x15\x03\x03\x00\x02\x02\x28",  # an alert: handshake failure
    b"\x16\x03\x03\x00\x04\x02\x00\x00\x00",  # a ServerHello that is empty
)
def test_case_25_garbage_for_a_tls_record(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        asks_for_tls(peer, face)
        peer.expect_handshake()
        peer.deliver(answer)
        peer.drain()

    with ScriptedServer(script, delivery=delivery) as server, face:
        with pytest.raises(ssl.SSLError):
            face.open(server, starttls=face.transport is Transport.CLEAR, login=LOGIN)
        assert face.is_closed
        assert_nothing_but_tls(face, server.received)


def asks_for_tls(peer: Peer, face: Face) -> None:
    """Plays the dialogue before TLS, which has none where TLS is implicit."""
    if face.transport is Transport.CLEAR:
        peer.greet("STARTTLS", "AUTH PLAIN")
        peer.expect("STARTTLS\r\n")
        peer.say("220 go")


def begins_tls(face: Face, certificate: ssl.SSLContext) -> Script:
    """Does the handshake, which the client may break off."""

    def script(peer: Peer) -> None:
        asks_for_tls(peer, face)
        with contextlib.suppress(OSError):
            peer.start_tls(certificate)

    return script


def assert_nothing_but_tls(face: Face, received: bytes) -> None:
    """Behind the dialogue before TLS come whole TLS records, or nothing at all."""
    before = STARTTLS_DIALOGUE if face.transport is Transport.CLEAR else b""
    assert received[: len(before)].lower() == before
    records = received[len(before) :]
    while records:
        assert records.startswith(TLS_RECORDS)
        records = records[5 + int.from_bytes(records[3:5], "big") :]
