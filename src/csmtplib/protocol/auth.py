"""What an AUTH exchange is read as, by every face (RFC 4954)."""

from __future__ import annotations

import base64
import binascii


def decode_challenge(text: bytes) -> bytes:
    """The challenge in the text of a 334 reply. Raises ValueError where it is no base64.

    As tolerant as the stdlib of what stands between the base64 characters.
    """
    try:
        challenge = base64.decodebytes(text)
    except binascii.Error as error:
        raise ValueError(f"a challenge that is no base64: {text!r}") from error
    if text and not challenge:
        raise ValueError(f"a challenge that is no base64: {text!r}")
    return challenge


def login_prompt(challenge: bytes) -> str | None:
    """What a prompt of LOGIN asks for, "user" or "password"; None where that can't be told.

    "Username:" and "Password:" are usual, "User Name" and the like are seen.
    """
    prompt = challenge.strip().lower()
    if prompt.startswith(b"user"):
        return "user"
    return "password" if prompt.startswith(b"pass") else None
