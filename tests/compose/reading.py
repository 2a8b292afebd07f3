"""Messages as a mail program reads them."""

from __future__ import annotations

import email.policy
import email.utils
from collections.abc import Sequence
from email.header import decode_header, make_header
from email.message import EmailMessage
from typing import Any


def parse(data: bytes) -> EmailMessage:
    """A message, checked for what all must be: no lone line ends, no line that is too long."""
    assert b"\r" not in data.replace(b"\r\n", b"")
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert data.endswith(b"\r\n")
    lines = data.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    header = lines[: lines.index(b"")]
    assert not [line for line in header if not line.strip()]
    assert not [line for line in header if b"=?" in line and len(line) > 76]
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert [part.defects for part in message.walk()] == [[]] * len(list(message.walk()))
    return message


def text(message: EmailMessage, subtype: str = "plain") -> str:
    """The text of a part, LF at the lines' ends."""
    part: Any = message.get_body((subtype,))
    content = part.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")


def content(msg: object) -> bytes:
    """The bytes of buffers."""
    assert isinstance(msg, Sequence)
    return b"".join(msg)


def mailboxes(data: bytes, name: str) -> list[tuple[str, str]]:
    """Display name and address of each mailbox in a field.

    By the older parser: the one of parse() leaves backslashes in quoted strings, and takes the
    white space between encoded words for a part of the name (RFC 2047 section 6.2).
    """
    field = email.message_from_bytes(data, policy=email.policy.compat32)[name]
    found = email.utils.getaddresses([str(field).replace("\r\n", "")])
    return [(str(make_header(decode_header(name))), address) for name, address in found]
