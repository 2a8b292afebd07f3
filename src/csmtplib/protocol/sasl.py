"""AUTH (RFC 4954): challenges, as all clients read them, and the SASL mechanisms of the strict
flows (RFC 4422)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re

from . import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def decode_challenge(text: bytes) -> bytes:
    """Return the challenge in the text of a 334 reply. Raises ValueError if it is not base64.

    Like the stdlib, ignores other characters between the base64 ones.
    """
    try:
        challenge = base64.decodebytes(text)
    except binascii.Error as error:
        raise ValueError(f"a challenge that is not base64: {text!r}") from error
    if text and not challenge:
        raise ValueError(f"a challenge that is not base64: {text!r}")
    return challenge


def decode_prompt(text: bytes) -> bytes:
    """Return the challenge in the text of a 334 reply of a mechanism that does not depend on it:
    the text itself if it is not base64. qmail's "334 ok. go on." is an example."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        return text


def asks_for_user_name(prompt: bytes) -> bool:
    """Return whether a prompt of LOGIN is one of the two that servers send for the user name.

    The order of the prompts says what to send, not their text: the first answer is the user name,
    the second the password (draft-murchison-sasl-login section 2.1; MS-XLOGIN section 3.1.5.1).
    Servers prompt in their language, with nothing at all, or by "User password:". The text counts
    only if the password is due: "Username:" then means that the server has ignored the user name in
    the AUTH command, or prompts the other way round. A password in the place of a user name can't
    log in, and ends up in the server's logs.
    """
    prompt = prompt.rstrip(b"\0").strip().rstrip(b":").strip()
    return prompt.lower() in (b"username", b"user name")


class AuthError(ValueError):
    """The server's challenge can't be answered, or its answers prove nothing: the exchange ends
    with "*" (RFC 4954 section 4), and the user is not authenticated."""


class Mechanism:
    """One exchange: the initial response, the answer to each challenge, and whether 235 may be
    believed."""

    def initial_response(self) -> bytes | None:
        """Return what is sent with the AUTH command, None for nothing."""
        return None

    def answer(self, challenge: bytes) -> bytes:
        """Return the answer to a challenge, both without base64. Raises AuthError."""
        raise NotImplementedError

    # The challenge in the text of a 334 reply. Raises ValueError for what can't be answered.
    decode = staticmethod(decode_challenge)

    def check_complete(self) -> None:
        """Raise AuthError if the server sends 235 before the exchange is complete."""


def _encoded(text: str | bytes) -> bytes:
    """Return a user name or a password as bytes: UTF-8, unless it is bytes already."""
    return text.encode() if isinstance(text, str) else text


class Plain(Mechanism):
    """PLAIN (RFC 4616). The text of the server's 334 means nothing."""

    decode = staticmethod(decode_prompt)

    def __init__(self, user: str | bytes, password: str | bytes) -> None:
        self._message = b"\0%s\0%s" % (_encoded(user), _encoded(password))

    def initial_response(self) -> bytes | None:
        return self._message

    def answer(self, challenge: bytes) -> bytes:
        return self._message


class Login(Mechanism):
    """LOGIN, which was never standardised: the server prompts for the user name, then for the
    password. See asks_for_user_name()."""

    decode = staticmethod(decode_prompt)

    def __init__(self, user: str | bytes, password: str | bytes) -> None:
        self._user = _encoded(user)
        self._password = _encoded(password)
        self._said_user = self._said_password = False

    def answer(self, challenge: bytes) -> bytes:
        if self._said_password:
            raise AuthError("the server asks for more than a user name and a password")
        if not self._said_user or asks_for_user_name(challenge):
            self._said_user = True
            return self._user
        self._said_password = True
        return self._password


class LoginAtOnce(Login):
    """LOGIN with the user name in the AUTH command, which most servers take: one reply less."""

    def initial_response(self) -> bytes | None:
        self._said_user = True
        return self._user


class CramMD5(Mechanism):
    """CRAM-MD5 (RFC 2195)."""

    def __init__(self, user: str | bytes, password: str | bytes) -> None:
        self._user = _encoded(user)
        self._password = _encoded(password)

    def answer(self, challenge: bytes) -> bytes:
        digest = hmac.new(self._password, challenge, "md5").hexdigest()
        return b"%s %s" % (self._user, digest.encode())


class XOAuth2(Mechanism):
    """XOAUTH2, Google's and Microsoft's: the password is an OAuth 2 access token."""

    decode = staticmethod(decode_prompt)

    def __init__(self, user: str | bytes, password: str | bytes) -> None:
        self._message = b"user=%s\1auth=Bearer %s\1\1" % (_encoded(user), _encoded(password))

    def initial_response(self) -> bytes | None:
        return self._message

    def answer(self, challenge: bytes) -> bytes:
        # The challenge is the error; an empty answer asks for the reply that goes with it.
        return b""


class Scram(Mechanism):
    """SCRAM without channel binding (RFC 5802, RFC 7677): both sides prove that they know the
    password, and neither sends it."""

    def __init__(self, user: str, password: str, hash_name: str) -> None:
        self._hash = hash_name
        self._password = _saslprep(password).encode()
        name = _saslprep(user).replace("=", "=3D").replace(",", "=2C")
        self._nonce = base64.b64encode(os.urandom(24)).decode()
        self._client_first = f"n={name},r={self._nonce}"
        self._server_signature: bytes | None = None
        self._verified = False

    def initial_response(self) -> bytes | None:
        return f"n,,{self._client_first}".encode()

    def answer(self, challenge: bytes) -> bytes:
        if self._server_signature is None:
            return self._prove(challenge)
        attributes = _scram_attributes(challenge)
        if "e" in attributes:
            raise AuthError(f"the server refuses SCRAM: {attributes['e']}")
        signature = _scram_bytes(attributes, "v")
        if self._verified or not hmac.compare_digest(signature, self._server_signature):
            raise AuthError("the server does not prove that it knows the password (SCRAM v=)")
        self._verified = True
        return b""

    def check_complete(self) -> None:
        if not self._verified:
            raise AuthError("the server accepts without a proof that it knows the password (SCRAM)")

    def _prove(self, server_first: bytes) -> bytes:
        attributes = _scram_attributes(server_first)
        if "m" in attributes:
            raise AuthError("the server asks for a SCRAM extension that is not known (m=)")
        nonce = attributes.get("r", "")
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise AuthError("the server's SCRAM nonce does not continue the client's")
        count = attributes.get("i", "")
        if not re.fullmatch("[1-9][0-9]{0,9}", count) or int(count) not in limits.SCRAM_ITERATIONS:
            raise AuthError(
                f"the server asks for {count or 'no'} SCRAM iterations; from "
                f"{limits.SCRAM_ITERATIONS[0]} to {limits.SCRAM_ITERATIONS[-1]} are accepted"
            )
        salted = hashlib.pbkdf2_hmac(
            self._hash, self._password, _scram_bytes(attributes, "s"), int(count)
        )
        client_key = hmac.digest(salted, b"Client Key", self._hash)
        without_proof = f"c=biws,r={nonce}"
        signed = f"{self._client_first},{server_first.decode()},{without_proof}".encode()
        stored_key = hashlib.new(self._hash, client_key).digest()
        signature = hmac.digest(stored_key, signed, self._hash)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", self._hash)
        self._server_signature = hmac.digest(server_key, signed, self._hash)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def _scram_attributes(message: bytes) -> dict[str, str]:
    try:
        fields = message.decode().split(",")
    except UnicodeDecodeError as error:
        raise AuthError(f"a SCRAM message that is not UTF-8: {message!r}") from error
    if any(field[1:2] != "=" for field in fields):
        raise AuthError(f"a malformed SCRAM message: {message!r}")
    return {field[0]: field[2:] for field in fields}


def _scram_bytes(attributes: dict[str, str], name: str) -> bytes:
    try:
        data = base64.b64decode(attributes[name], validate=True)
    except (KeyError, ValueError):
        data = b""
    if not data:
        raise AuthError(f"a SCRAM message without a valid {name}=")
    return data


def _saslprep(text: str) -> str:
    """Return the text as prepared by SASLprep (RFC 4013); its rules on the order of right-to-left
    characters and on unassigned ones are left to the server."""
    if text.isascii() and text.isprintable():
        return text
    # Rarely needed, and large.
    import stringprep
    import unicodedata

    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if any(table(character) for character in prepared for table in prohibited):
        raise AuthError("user name or password holds a character that SASL prohibits (RFC 4013)")
    return prepared


# Best first: those that send the password to nobody, then those that send it inside TLS. CRAM-MD5
# is last, as it asks the server to keep the password readable, and fails where it does not.
MECHANISMS: dict[str, Callable[[str, str], Mechanism]] = {
    "SCRAM-SHA-256": lambda user, password: Scram(user, password, "sha256"),
    "SCRAM-SHA-1": lambda user, password: Scram(user, password, "sha1"),
    "PLAIN": Plain,
    "LOGIN": Login,
    "CRAM-MD5": CramMD5,
}

# Only when asked for: the password is then a token.
TOKEN_MECHANISMS: dict[str, Callable[[str, str], Mechanism]] = {"XOAUTH2": XOAuth2}
