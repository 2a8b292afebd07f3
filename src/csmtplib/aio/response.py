"""Replies of a server, as csmtplib.aio returns them."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ("SMTPResponse", "SMTPStatus")


class SMTPResponse(NamedTuple):
    """A reply: its code, and its text with LF between the lines."""

    code: int
    message: str

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


@enum.unique
class SMTPStatus(enum.IntEnum):
    """The codes of replies (RFC 5321 section 4.2.3, RFC 3207, RFC 4954, RFC 7504)."""

    invalid_response = -1
    system_status_ok = 211
    help_message = 214
    ready = 220
    closing = 221
    auth_successful = 235
    completed = 250
    will_forward = 251
    cannot_vrfy = 252
    auth_continue = 334
    start_input = 354
    domain_unavailable = 421
    mailbox_unavailable = 450
    error_processing = 451
    insufficient_storage = 452
    tls_not_available = 454
    unrecognized_command = 500
    unrecognized_parameters = 501
    command_not_implemented = 502
    bad_command_sequence = 503
    parameter_not_implemented = 504
    domain_does_not_accept_mail = 521
    access_denied = 530
    auth_failed = 535
    mailbox_does_not_exist = 550
    user_not_local = 551
    storage_exceeded = 552
    mailbox_name_invalid = 553
    transaction_failed = 554
    syntax_error = 555


def response_text(text: bytes) -> str:
    """Return the text of a reply as a str. Bytes that are not UTF-8 come back when it is encoded
    with surrogateescape."""
    return text.decode("utf-8", "surrogateescape")


def reply_text(text: str) -> bytes:
    """Return the text of a response as it came; of other text, something that stands for it."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def response_of(reply: tuple[int, bytes]) -> SMTPResponse:
    """Return a reply of the engine as an SMTPResponse."""
    return SMTPResponse(reply[0], response_text(reply[1]))
