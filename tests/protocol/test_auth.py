"""protocol/auth.py: what a server's AUTH challenges say (RFC 4954)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csmtplib.protocol.auth import decode_challenge, login_prompt


@given(st.binary())
def test_challenge_of_any_octets(challenge: bytes) -> None:
    assert decode_challenge(base64.b64encode(challenge)) == challenge


@pytest.mark.parametrize("text", [b"VXNlcm5hbWU6\n", b" VXNl cm5h bWU6", b"-VXNlcm5hbWU6"])
def test_challenge_with_something_between(text: bytes) -> None:
    """What the stdlib reads, too."""
    assert decode_challenge(text) == base64.decodebytes(text) == b"Username:"


@pytest.mark.parametrize("text", [b"!!!", b"Login:", b"A", b"VXNlcm5hbWU", b"="])
def test_challenge_that_is_no_base64(text: bytes) -> None:
    with pytest.raises(ValueError, match="no base64"):
        decode_challenge(text)


@pytest.mark.parametrize(
    ("challenge", "wanted"),
    [
        (b"Username:", "user"),
        (b"User Name\0", "user"),
        (b"USER", "user"),
        (b" username: \r\n", "user"),
        (b"Password:", "password"),
        (b"pass", "password"),
        (b"", None),
        (b"Login:", None),
        (b"Your Password:", None),
    ],
)
def test_login_prompt(challenge: bytes, wanted: str | None) -> None:
    assert login_prompt(challenge) == wanted
