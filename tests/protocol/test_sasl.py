"""protocol/sasl.py: challenges (RFC 4954), and SASL mechanisms against the examples of their RFCs,
and against a server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csmtplib.protocol import limits
from csmtplib.protocol.sasl import (
    MECHANISMS,
    TOKEN_MECHANISMS,
    AuthError,
    Mechanism,
    Scram,
    asks_for_user_name,
    decode_challenge,
    decode_prompt,
)

# Challenges


@given(st.binary())
def test_challenge_of_any_bytes(challenge: bytes) -> None:
    assert decode_challenge(base64.b64encode(challenge)) == challenge


@pytest.mark.parametrize("text", [b"VXNlcm5hbWU6\n", b" VXNl cm5h bWU6", b"-VXNlcm5hbWU6"])
def test_challenge_with_something_between(text: bytes) -> None:
    """Prompts that the stdlib reads, too."""
    assert decode_challenge(text) == base64.decodebytes(text) == b"Username:"


@pytest.mark.parametrize("text", [b"!!!", b"Login:", b"A", b"VXNlcm5hbWU", b"="])
def test_challenge_that_is_no_base64(text: bytes) -> None:
    with pytest.raises(ValueError, match="not base64"):
        decode_challenge(text)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (b"VXNlcm5hbWU6", b"Username:"),
        (b" VXNl\ncm5h bWU6", b"Username:"),
        (b"", b""),
        (b"Username:", b"Username:"),
        (b"Enter user", b"Enter user"),
        (b"ok. go on.", b"ok. go on."),
        (b"!!!", b"!!!"),
        (b"YWJ", b"YWJ"),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_prompts_may_be_anything(text: bytes, prompt: bytes) -> None:
    """T18: also no base64."""
    assert decode_prompt(text) == prompt


@pytest.mark.parametrize(
    "prompt",
    [b"Username:", b"User Name\0", b"USERNAME", b" username: \r\n", b"User name :\0", b"username"],
)
def test_a_prompt_for_the_user_name(prompt: bytes) -> None:
    assert asks_for_user_name(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        *(b"", b"Password:", b"User password:", b"User's password", b"Username password:"),
        *(b"Login:", b"Benutzername:", "Пароль:".encode(), b"User:", b"\0\xff"),
        b"Username for x.test:",
    ],
)
def test_a_prompt_that_may_be_for_the_password(prompt: bytes) -> None:
    """T18: "User password:" got the user name."""
    assert not asks_for_user_name(prompt)


# Mechanisms


def make(name: str, user: str = "user", password: str = "pencil") -> Mechanism:
    return (MECHANISMS | TOKEN_MECHANISMS)[name](user, password)


def test_best_mechanism_first() -> None:
    assert list(MECHANISMS) == ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5"]
    assert list(TOKEN_MECHANISMS) == ["XOAUTH2"]


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"])
def test_mechanisms_that_prove_nothing_of_the_server(name: str) -> None:
    make(name).check_complete()


# PLAIN, LOGIN, CRAM-MD5, XOAUTH2


def test_plain_by_rfc_4616() -> None:
    # Section 4, first example, as the answer to an empty challenge and as initial response.
    plain = make("PLAIN", "tim", "tanstaaftanstaaf")
    assert plain.initial_response() == b"\0tim\0tanstaaftanstaaf"
    assert plain.answer(b"") == b"\0tim\0tanstaaftanstaaf"


def test_plain_is_utf8() -> None:
    assert make("PLAIN", "ä", "ö").initial_response() == b"\0\xc3\xa4\0\xc3\xb6"


PROMPTS = [b"", b"?", b"Enter user", "Имя:".encode(), b"\xff\0", b"Password:", b"User password:"]


@pytest.mark.parametrize("first", [b"Username:", *PROMPTS])
@pytest.mark.parametrize("second", PROMPTS)
def test_login_answers_in_order(first: bytes, second: bytes) -> None:
    """T18: whatever the server prompts by."""
    login = make("LOGIN", "tim", "tanstaaf")
    assert login.initial_response() is None
    assert login.answer(first) == b"tim"
    assert login.answer(second) == b"tanstaaf"
    with pytest.raises(AuthError, match="more than a user name and a password"):
        login.answer(b"")


def test_login_sends_no_password_for_a_user_name() -> None:
    """Case 28: it would fail, and the password be in the server's logs."""
    login = make("LOGIN", "tim", "tanstaaf")
    assert [login.answer(each) for each in (b"Password:", b"Username:")] == [b"tim"] * 2
    assert login.answer(b"Password:") == b"tanstaaf"


@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "XOAUTH2"])
def test_mechanisms_that_read_no_challenge(name: str) -> None:
    """T18: it may be anything."""
    assert make(name).decode(b"ok. go on.") == b"ok. go on."


@pytest.mark.parametrize("name", ["CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_mechanisms_that_read_the_challenge(name: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        make(name).decode(b"ok. go on.")


def test_cram_md5_by_rfc_2195() -> None:
    # Section 2, the example.
    cram_md5 = make("CRAM-MD5", "tim", "tanstaaftanstaaf")
    assert cram_md5.initial_response() is None
    assert (
        cram_md5.answer(b"<1896.697170952@postoffice.reston.mci.net>")
        == b"tim b913a602c7eda7a495b4e6e7334d3890"
    )


def test_xoauth2() -> None:
    xoauth2 = make("XOAUTH2", "tim@x.test", "token")
    assert xoauth2.initial_response() == b"user=tim@x.test\1auth=Bearer token\1\1"
    # The challenge is an error in JSON; an empty answer asks for the reply of code 535.
    assert xoauth2.answer(b'{"status":"401"}') == b""


# SCRAM


def with_nonce(monkeypatch: pytest.MonkeyPatch, name: str, nonce: str) -> Mechanism:
    """A SCRAM mechanism with the nonce of an example."""
    monkeypatch.setattr(os, "urandom", lambda count: base64.b64decode(nonce))
    return make(name)


def test_scram_sha_1_by_rfc_5802(monkeypatch: pytest.MonkeyPatch) -> None:
    # Section 5, the example.
    scram = with_nonce(monkeypatch, "SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL")
    assert scram.initial_response() == b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
    assert scram.answer(
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    ) == (b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")
    assert scram.answer(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=") == b""
    scram.check_complete()


RFC_7677_NONCE = "rOprNGfwEbeRWgbNEkqO"
RFC_7677_SERVER_NONCE = RFC_7677_NONCE + "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
RFC_7677_SERVER_FIRST = f"r={RFC_7677_SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()


@pytest.fixture
def scram(monkeypatch: pytest.MonkeyPatch) -> Mechanism:
    """SCRAM-SHA-256 as in RFC 7677's example, at its beginning."""
    scram = with_nonce(monkeypatch, "SCRAM-SHA-256", RFC_7677_NONCE)
    assert scram.initial_response() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    return scram


def test_scram_sha_256_by_rfc_7677(scram: Mechanism) -> None:
    # Section 3, the example.
    assert scram.answer(RFC_7677_SERVER_FIRST) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert scram.answer(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    scram.check_complete()


def test_scram_nonce_is_new_each_time() -> None:
    assert make("SCRAM-SHA-256").initial_response() != make("SCRAM-SHA-256").initial_response()


@pytest.mark.parametrize(
    ("server_first", "fault"),
    [
        (b"", "malformed"),
        (b"r", "malformed"),
        (b"go on", "malformed"),
        (b"r=%b,,i=4096", "malformed"),
        (b"\xff=1", "not UTF-8"),
        (b"s=QSXC,i=4096", "nonce"),
        (b"r=,s=QSXC,i=4096", "nonce"),
        (b"r=foreign,s=QSXC,i=4096", "nonce"),
        (b"r=xrOprNGfwEbeRWgbNEkqO,s=QSXC,i=4096", "nonce"),
        (b"r=rOprNGfwEbeRWgbNEkqO,s=QSXC,i=4096", "nonce"),  # nothing of the server's own
        (b"m=ext,r=%b,s=QSXC,i=4096", "extension"),
        (b"r=%b,s=QSXC", "asks for no SCRAM iterations"),
        (b"r=%b,s=QSXC,i=", "asks for no SCRAM iterations"),
        (b"r=%b,s=QSXC,i=0", "asks for 0 SCRAM iterations"),
        (b"r=%b,s=QSXC,i=1", "asks for 1 SCRAM iterations; from 4096 to 10000000 are accepted"),
        (b"r=%b,s=QSXC,i=4095", "asks for 4095 SCRAM iterations"),
        (b"r=%b,s=QSXC,i=-4096", "asks for -4096 SCRAM iterations"),
        (b"r=%b,s=QSXC,i=+4096", "iterations"),
        (b"r=%b,s=QSXC,i=04096", "iterations"),
        (b"r=%b,s=QSXC,i=4_096", "iterations"),
        (b"r=%b,s=QSXC,i=4096 ", "iterations"),
        ("r=%b,s=QSXC,i=٤٠٩٦".encode(), "iterations"),
        (b"r=%b,s=QSXC,i=10000001", "asks for 10000001 SCRAM iterations"),
        (b"r=%b,s=QSXC,i=4294967295", "asks for 4294967295 SCRAM iterations"),
        (b"r=%b,s=QSXC,i=" + b"9" * 5000, "iterations"),
        (b"r=%b,i=4096", "without a valid s="),
        (b"r=%b,s=,i=4096", "without a valid s="),
        (b"r=%b,s=!!!,i=4096", "without a valid s="),
        (b"r=%b,s=QSX,i=4096", "without a valid s="),
    ],
)
def test_scram_refuses_the_servers_first_message(
    scram: Mechanism, server_first: bytes, fault: str
) -> None:
    """Cases 32 - 34: without a word that depends on the password."""
    with pytest.raises(AuthError, match=fault):
        scram.answer(server_first.replace(b"%b", RFC_7677_SERVER_NONCE.encode()))
    with pytest.raises(AuthError, match="without a proof"):
        scram.check_complete()


@pytest.mark.parametrize(
    ("server_final", "fault"),
    [
        (b"", "malformed"),
        (b"v=", "without a valid v="),
        (b"v=!!!", "without a valid v="),
        (b"x=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "without a valid v="),
        (b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8=", "does not prove"),
        (b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95A==", "does not prove"),
        (b"v=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "does not prove"),
        (b"e=invalid-proof", "refuses SCRAM: invalid-proof"),
        (RFC_7677_SERVER_FIRST, "without a valid v="),
    ],
)
def test_scram_refuses_the_servers_final_message(
    scram: Mechanism, server_final: bytes, fault: str
) -> None:
    scram.answer(RFC_7677_SERVER_FIRST)
    with pytest.raises(AuthError, match=fault):
        scram.answer(server_final)
    with pytest.raises(AuthError, match="without a proof"):
        scram.check_complete()


def test_scram_is_incomplete_before_the_servers_proof(scram: Mechanism) -> None:
    with pytest.raises(AuthError, match="without a proof"):
        scram.check_complete()
    scram.answer(RFC_7677_SERVER_FIRST)
    with pytest.raises(AuthError, match="without a proof"):
        scram.check_complete()


def test_scram_answers_nothing_after_the_servers_proof(scram: Mechanism) -> None:
    scram.answer(RFC_7677_SERVER_FIRST)
    proof = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    scram.answer(proof)
    with pytest.raises(AuthError):
        scram.answer(proof)


class ScramServer:
    """The server's side of SCRAM (RFC 5802 section 3); it keeps no password, as servers should."""

    nonce = "server's own"

    def __init__(self, hash_name: str, user: str, password: str, salt: bytes, count: int) -> None:
        salted = hashlib.pbkdf2_hmac(hash_name, password.encode(), salt, count)
        self.hash_name = hash_name
        self.user = user
        self.stored_key = hashlib.new(hash_name, self.hmac(salted, b"Client Key")).digest()
        self.server_key = self.hmac(salted, b"Server Key")
        self.parameters = f"s={base64.b64encode(salt).decode()},i={count}"
        self.messages: list[str] = []

    def hmac(self, key: bytes, text: bytes) -> bytes:
        return hmac.digest(key, text, self.hash_name)

    def first(self, client_first: bytes) -> bytes:
        """The answer to the client's first message."""
        gs2_cbind_flag, authzid, name, nonce = client_first.decode().split(",")
        assert (gs2_cbind_flag, authzid) == ("n", "")
        assert name.removeprefix("n=").replace("=2C", ",").replace("=3D", "=") == self.user
        server_first = f"{nonce}{self.nonce},{self.parameters}"
        self.messages = [f"{name},{nonce}", server_first]
        return server_first.encode()

    def final(self, client_final: bytes) -> bytes:
        """The answer to the client's proof, which has to be right."""
        without_proof, _, proof = client_final.decode().rpartition(",p=")
        channel_binding, nonce = without_proof.split(",")
        assert base64.b64decode(channel_binding.removeprefix("c=")) == b"n,,"
        assert self.messages[1].startswith(f"{nonce},")
        signed = ",".join([*self.messages, without_proof]).encode()
        signature = self.hmac(self.stored_key, signed)
        client_key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        assert hashlib.new(self.hash_name, client_key).digest() == self.stored_key
        return b"v=" + base64.b64encode(self.hmac(self.server_key, signed))


# Characters that SASLprep leaves as they are; "," and "=" are SCRAM's own.
NAMES = st.text("ab ,=äß日", min_size=1, max_size=8)


@settings(max_examples=20, deadline=None)
@given(
    hash_name=st.sampled_from(["sha1", "sha256"]),
    user=NAMES,
    password=NAMES,
    salt=st.binary(min_size=1, max_size=32),
    count=st.integers(limits.SCRAM_ITERATIONS[0], limits.SCRAM_ITERATIONS[0] + 10),
)
def test_scram_with_a_server(
    hash_name: str, user: str, password: str, salt: bytes, count: int
) -> None:
    server = ScramServer(hash_name, user, password, salt, count)
    client = Scram(user, password, hash_name)
    client_first = client.initial_response()
    assert client_first is not None
    assert client.answer(server.final(client.answer(server.first(client_first)))) == b""
    client.check_complete()


def test_scram_with_a_wrong_password() -> None:
    server = ScramServer("sha256", "user", "pencil", b"salt", 4096)
    client = Scram("user", "pen", "sha256")
    client_first = client.initial_response()
    assert client_first is not None
    proof = client.answer(server.first(client_first))
    with pytest.raises(AssertionError):
        server.final(proof)


# SASLprep


def prepared(text: str) -> str:
    """A user name as SCRAM sends it."""
    response = Scram(text, "", "sha256").initial_response()
    assert response is not None
    return response.decode().removeprefix("n,,n=").rpartition(",r=")[0]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        # RFC 4013 section 3, examples 1 to 5.
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # Section 2.1: other spaces, and what maps to nothing; section 2.2: NFKC.
        ("a\u00a0b\u3000c", "a b c"),
        ("a\ufe00\u200bb", "ab"),
        ("e\u0301", "\u00e9"),
    ],
)
def test_saslprep(text: str, result: str) -> None:
    assert prepared(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "\u0007",  # RFC 4013 section 3, example 6
        "a\0",
        "a\x7f",
        "\u0085",
        "\u200e",
        "\u2028",
        "\ue000",
        "\ufdd0",
        "\ufffd",
        "\U000e0001",
    ],
    ids=ascii,
)
@pytest.mark.parametrize(
    "scram_with",
    [lambda text: Scram(text, "", "sha256"), lambda text: Scram("", text, "sha256")],
    ids=["user", "password"],
)
def test_saslprep_prohibits(scram_with: Callable[[str], Scram], text: str) -> None:
    with pytest.raises(AuthError, match="RFC 4013"):
        scram_with(text)


def test_password_is_prepared() -> None:
    server = ScramServer("sha256", "user", "IX", b"salt", 4096)
    client = Scram("user", "I\u00adX", "sha256")
    client_first = client.initial_response()
    assert client_first is not None
    client.answer(server.final(client.answer(server.first(client_first))))
    client.check_complete()
