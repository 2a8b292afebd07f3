"""Cases 26 to 35: servers that would talk a client out of its password, or into trusting them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import operator
import os

import pytest

from csmtplib import SMTPAuthenticationError, SMTPException, SMTPNotSupportedError

from .faces import Async, DropIn, Face, Strict
from .server import WHOLE, Delivery, Peer, Script, delivered

USER, PASSWORD = LOGIN = ("user@x.test", "correct horse")

with_secrets_protected = pytest.mark.parametrize(
    "face", ["drop-in clear", "drop-in tls", "strict tls", "aio clear", "aio tls"], indirect=True
)
in_tls = pytest.mark.parametrize("strict", ["tls"], indirect=True)


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def tells_password(received: bytes) -> bool:
    """Whether some word of a dialogue is the password, or has it inside its base64."""
    for word in received.split():
        try:
            plain = base64.b64decode(word, validate=True)
        except ValueError:
            plain = b""
        if PASSWORD.encode() in word + b" " + plain:
            return True
    return False


@pytest.mark.parametrize("strict", ["clear"], indirect=True)
@delivered(b"250-mx.test\r\n250 AUTH PLAIN LOGIN\r\n")
def test_case_26_strict_no_password_in_clear(
    strict: Strict, answer: bytes, delivery: Delivery
) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mx.test")
        peer.expect("EHLO")
        peer.deliver(answer)
        peer.expect_close()

    with strict.serve(script, delivery=delivery) as server, strict:
        with pytest.raises(SMTPNotSupportedError):
            strict.open(server, login=LOGIN)
        assert server.received == b"EHLO client.test\r\n"


@pytest.mark.parametrize("face", ["drop-in clear", "strict clear", "aio clear"], indirect=True)
def test_case_26_password_in_clear_where_allowed(face: Face) -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.expect(f"AUTH PLAIN {b64(chr(0) + USER + chr(0) + PASSWORD)}\r\n")
        peer.say("235 welcome")

    with face.serve(script) as server, face:
        if isinstance(face, Strict):
            face.open(server, login=LOGIN, cleartext_auth=True)
        else:
            face.open(server, login=LOGIN)
        face.close()
        assert tells_password(server.received)


@pytest.mark.parametrize(
    ("face", "strong"),
    [
        ("drop-in clear", "CRAM-MD5"),
        ("drop-in tls", "CRAM-MD5"),
        ("strict tls", "SCRAM-SHA-256"),
        ("strict tls", "SCRAM-SHA-1"),
    ],
    indirect=["face"],
)
@delivered(b"535 no\r\n")
def test_case_27_no_weaker_mechanism_after_535(
    face: Face, strong: str, answer: bytes, delivery: Delivery
) -> None:
    """Not with csmtplib.aio: aiosmtplib's tests want the others to be tried."""

    def script(peer: Peer) -> None:
        peer.greet(f"AUTH PLAIN LOGIN {strong}")
        peer.expect(f"AUTH {strong}")
        if strong == "CRAM-MD5":
            peer.say(f"334 {b64('<challenge@mx.test>')}")
            peer.expect()
        peer.deliver(answer)

    with face.serve(script, delivery=delivery) as server, face:
        with pytest.raises(SMTPAuthenticationError) as caught:
            face.open(server, login=LOGIN)
        assert caught.value.smtp_code == 535
        face.close()
        assert server.received.upper().count(b"AUTH ") == 1
        assert not tells_password(server.received)


@with_secrets_protected
@pytest.mark.parametrize(
    "prompts",
    [
        ("VXNlcm5hbWU6", "UGFzc3dvcmQ6"),
        (b64("User Name\0"), b64("Password\0")),
        (b64("Benutzername:"), b64("Passwort:")),
        (b64("Enter user"), b64("User password:")),  # which got the user name again
        (b64("Имя пользователя:"), b64("Пароль:")),
        ("", ""),
        (b64("?"), b64("?")),
        (b64("\0"), b64("\0")),
        ("Enter user name", "Enter password"),
        ("!!!", "YWJ"),
        ("=", "Password:"),
    ],
    ids=str,
)
def test_login_by_order(face: Face, prompts: tuple[str, str]) -> None:
    """T18: the first answer is the user name, the second the password, whatever the prompts are."""

    def script(peer: Peer) -> None:
        peer.greet("AUTH LOGIN")
        command = peer.expect("AUTH LOGIN")
        if len(command.split()) == 2:
            peer.say(f"334 {prompts[0]}")
            peer.expect(f"{b64(USER)}\r\n")
        else:
            assert command.split()[2] == b64(USER).encode()
        peer.say(f"334 {prompts[1]}")
        peer.expect(f"{b64(PASSWORD)}\r\n")
        peer.say("235 welcome")

    with face.serve(script) as server, face:
        face.open(server, login=LOGIN)


@pytest.mark.parametrize("prompt", ["ok. go on.", "", "Z28="])
def test_plain_does_not_read_the_prompt(drop_in: DropIn, prompt: str) -> None:
    """T18: qmail's is no base64."""

    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.expect("AUTH PLAIN\r\n")
        peer.say(f"334 {prompt}")
        peer.expect(f"{b64(chr(0) + USER + chr(0) + PASSWORD)}\r\n")
        peer.say("235 welcome")

    with drop_in.serve(script) as server, drop_in:
        assert drop_in.open(server).login(*LOGIN, initial_response_ok=False)[0] == 235


@with_secrets_protected
@pytest.mark.parametrize("user_prompt", ["Username:", "User Name\0"])
def test_case_28_login_prompts_swapped(face: Face, user_prompt: str) -> None:
    """There are no such servers (T18: order counts), so the login may fail. But nobody gets the
    password who asks for a user name."""
    got: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet("AUTH LOGIN")
        peer.expect("AUTH LOGIN")
        peer.say(f"334 {b64('Password:')}")
        got.append(peer.expect())
        peer.say(f"334 {b64(user_prompt)}")
        got.append(peer.expect())
        peer.say("535 no")

    with face.serve(script) as server, face:
        with pytest.raises(SMTPAuthenticationError):
            face.open(server, login=LOGIN)
        face.close()
        # These have sent the user name with AUTH, so the password was due.
        first = PASSWORD if isinstance(face, (DropIn, Async)) else USER
        second = "*" if isinstance(face, Async) else b64(USER)
        assert got == [f"{b64(first)}\r\n".encode(), f"{second}\r\n".encode()]


@pytest.mark.parametrize(
    "face", ["drop-in clear", "drop-in tls", "aio clear", "aio tls"], indirect=True
)
@delivered(b"334 VXNlcm5hbWU6\r\n")
def test_case_28_initial_response_ignored(face: Face, answer: bytes, delivery: Delivery) -> None:
    """The server prompts for the user name that it was given with AUTH already."""

    def script(peer: Peer) -> None:
        peer.greet("AUTH LOGIN")
        peer.expect(f"AUTH LOGIN {b64(USER)}\r\n")
        peer.deliver(answer)
        peer.expect(f"{b64(USER)}\r\n")
        peer.say(f"334 {b64('Password:')}")
        peer.expect(f"{b64(PASSWORD)}\r\n")
        peer.say("235 welcome")

    with face.serve(script, delivery=delivery) as server, face:
        face.open(server, login=LOGIN)


@with_secrets_protected
@delivered(b"503 already\r\n")
def test_case_29_503_to_auth(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.expect("AUTH PLAIN")
        peer.deliver(answer)

    with face.serve(script, delivery=delivery) as server, face:
        if isinstance(face, DropIn):
            assert face.open(server).login(*LOGIN) == (503, b"already")
        else:
            with pytest.raises(SMTPAuthenticationError) as caught:
                face.open(server, login=LOGIN)
            assert caught.value.smtp_code == 503


@with_secrets_protected
@delivered(b"250 ok\r\n", b"200 ok\r\n", b"354 go on\r\n")
def test_case_29_success_is_235_alone(face: Face, answer: bytes, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.expect("AUTH PLAIN")
        peer.deliver(answer)

    with (
        face.serve(script, delivery=delivery) as server,
        face,
        pytest.raises(SMTPAuthenticationError),
    ):
        face.open(server, login=LOGIN)


@with_secrets_protected
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_case_30_challenges_without_end(face: Face, mechanism: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet(f"AUTH {mechanism}")
        peer.answer_rest(*[f"334 {b64('Username:')}"] * 1000)

    with face.serve(script) as server, face:
        with pytest.raises(SMTPException):
            face.open(server, login=LOGIN)
        face.close()
        # EHLO, AUTH, and as few answers as any mechanism needs.
        assert server.received.count(b"\r\n") <= 10


@with_secrets_protected
@pytest.mark.parametrize("mechanism", ["CRAM-MD5"])
@delivered(b"334 !!!\r\n", b"334 \xff\xfe\r\n", b"334 YWJ\r\n")
def test_case_31_challenge_that_is_no_base64(
    face: Face, mechanism: str, answer: bytes, delivery: Delivery
) -> None:
    """LOGIN and PLAIN do not read theirs (T18)."""

    def script(peer: Peer) -> None:
        peer.greet(f"AUTH {mechanism}")
        peer.expect(f"AUTH {mechanism}")
        peer.deliver(answer)
        peer.expect("*\r\n")
        peer.say("501 cancelled")

    with face.serve(script, delivery=delivery) as server, face:
        with pytest.raises(SMTPAuthenticationError):
            face.open(server, login=LOGIN)
        face.close()
        assert not tells_password(server.received)


class ScramServer:
    """The server's half of SCRAM-SHA-256 (RFC 5802), which lies where a test overrides it."""

    iterations = "4096"

    def nonce(self, of_client: str) -> str:
        return of_client + os.urandom(9).hex()

    def last_message(self, signature: bytes) -> str:
        return f"v={b64(signature)}"

    def first_message(self, client_first: bytes) -> str:
        """Answers n,,n=user,r=nonce."""
        self._client_first = client_first.decode().removeprefix("n,,")
        self._salt = os.urandom(16)
        nonce = self.nonce(self._client_first.partition(",r=")[2])
        self._server_first = f"r={nonce},s={b64(self._salt)},i={self.iterations}"
        return self._server_first

    def signature(self, client_final: bytes) -> bytes:
        """Checks the client's proof in c=biws,r=nonce,p=proof; returns the server's own."""
        without_proof, _, proof = client_final.decode().partition(",p=")
        signed = f"{self._client_first},{self._server_first},{without_proof}".encode()
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), self._salt, int(self.iterations))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        mask = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        assert base64.b64decode(proof) == bytes(map(operator.xor, client_key, mask))
        return hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")

    def begin(self, peer: Peer) -> None:
        """Plays the exchange up to the server's first message."""
        peer.greet("AUTH SCRAM-SHA-256")
        client_first = peer.expect("AUTH SCRAM-SHA-256 ").split()[2]
        peer.deliver(f"334 {b64(self.first_message(base64.b64decode(client_first)))}\r\n".encode())

    def prove(self, peer: Peer) -> None:
        """Plays it on to the server's last message."""
        signature = self.signature(base64.b64decode(peer.expect()))
        peer.deliver(f"334 {b64(self.last_message(signature))}\r\n".encode())


whole_and_in_bytes = pytest.mark.parametrize("delivery", [WHOLE, Delivery(0)], ids=str)


@in_tls
@whole_and_in_bytes
def test_case_32_to_34_honest_server(strict: Strict, delivery: Delivery) -> None:
    """The baseline of the lies below."""

    def script(peer: Peer) -> None:
        scram = ScramServer()
        scram.begin(peer)
        scram.prove(peer)
        peer.expect("\r\n")
        peer.say("235 welcome")

    with strict.serve(script, delivery=delivery) as server, strict:
        strict.open(server, login=LOGIN)


def assert_aborts(strict: Strict, script: Script, delivery: Delivery) -> None:
    with strict.serve(script, delivery=delivery) as server, strict:
        with pytest.raises(SMTPAuthenticationError):
            strict.open(server, login=LOGIN)
        assert not tells_password(server.received)


def expect_cancellation(peer: Peer) -> None:
    peer.expect("*\r\n")
    peer.say("501 cancelled")
    peer.expect_close()


@in_tls
@whole_and_in_bytes
@pytest.mark.parametrize("iterations", ["1", "4294967295", "0", "-4096", "4096.0", ""])
def test_case_32_scram_iterations(strict: Strict, iterations: str, delivery: Delivery) -> None:
    def script(peer: Peer) -> None:
        scram = ScramServer()
        scram.iterations = iterations
        scram.begin(peer)
        expect_cancellation(peer)

    assert_aborts(strict, script, delivery)


@in_tls
@whole_and_in_bytes
@pytest.mark.parametrize("nonce", ["foreign", "{}", "x{}", ""])
def test_case_33_scram_foreign_nonce(strict: Strict, nonce: str, delivery: Delivery) -> None:
    """The server's nonce has to be the client's and something behind it."""

    class ForeignNonce(ScramServer):
        def nonce(self, of_client: str) -> str:
            return nonce.format(of_client)

    def script(peer: Peer) -> None:
        ForeignNonce().begin(peer)
        expect_cancellation(peer)

    assert_aborts(strict, script, delivery)


@in_tls
@delivered(b"235 welcome\r\n")
@pytest.mark.parametrize("behind", ["AUTH", "proof"])
def test_case_34_scram_235_without_signature(
    strict: Strict, behind: str, answer: bytes, delivery: Delivery
) -> None:
    def script(peer: Peer) -> None:
        if behind == "AUTH":
            peer.greet("AUTH SCRAM-SHA-256")
            peer.expect("AUTH SCRAM-SHA-256")
        else:
            ScramServer().begin(peer)
            peer.expect()
        peer.deliver(answer)
        peer.expect_close()

    assert_aborts(strict, script, delivery)


@in_tls
@whole_and_in_bytes
@pytest.mark.parametrize("last_message", ["v=AAAA", "v=", "", "x=AAAA", "e=other-error"])
def test_case_34_scram_wrong_signature(
    strict: Strict, last_message: str, delivery: Delivery
) -> None:
    class WrongSignature(ScramServer):
        def last_message(self, signature: bytes) -> str:
            return last_message

    def script(peer: Peer) -> None:
        scram = WrongSignature()
        scram.begin(peer)
        scram.prove(peer)
        expect_cancellation(peer)

    assert_aborts(strict, script, delivery)


@in_tls
@delivered(b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n")  # {"status":"401"}
def test_case_35_xoauth2_error(strict: Strict, answer: bytes, delivery: Delivery) -> None:
    token = f"user={USER}\1auth=Bearer {PASSWORD}\1\1"

    def script(peer: Peer) -> None:
        peer.greet("AUTH XOAUTH2 PLAIN")
        peer.expect(f"AUTH XOAUTH2 {b64(token)}\r\n")
        peer.deliver(answer)
        peer.expect("\r\n")
        peer.say("535 token expired")
        peer.expect_close()

    with (
        strict.serve(script, delivery=delivery) as server,
        strict,
        pytest.raises(SMTPAuthenticationError) as caught,
    ):
        strict.open(server, login=LOGIN, auth="XOAUTH2")
    assert (caught.value.smtp_code, caught.value.smtp_error) == (535, b"token expired")


@delivered(b"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n")
def test_case_35_xoauth2_error_aio(aio: Async, answer: bytes, delivery: Delivery) -> None:
    token = f"user={USER}\1auth=Bearer {PASSWORD}\1\1"

    def script(peer: Peer) -> None:
        peer.greet("AUTH XOAUTH2 PLAIN")
        peer.expect(f"AUTH XOAUTH2 {b64(token)}\r\n")
        peer.deliver(answer)
        peer.expect("\r\n")
        peer.say("535 token expired")

    with aio.serve(script, delivery=delivery) as server, aio:
        client = aio.connect(server)
        with pytest.raises(SMTPAuthenticationError) as caught:
            aio.run(client.auth_xoauth2(USER, PASSWORD))
    assert (caught.value.smtp_code, caught.value.smtp_error) == (535, b"token expired")
