"""Errors for server output that is not a usable SMTP reply (RFC 5321 section 4.2), and the texts
that both implementations use."""

from __future__ import annotations

MALFORMED_CODE = "malformed reply code"
MIXED_CODES = "a reply whose lines have different codes"
CLOSED = "the server closes the session"
CLOSED_IN_CONTENT = "the server refuses a message before all of it was sent"
NO_CHUNKING = "the server does not know BDAT"
NOTHING_HELD = "no content is held that this could replace"
TOO_FEW_COMMANDS = "a transaction needs MAIL and at least one RCPT"
WROTE_TOO_MUCH = "more bytes were reported as written than there are to write"

# Why a well-formed reply is refused, in the order of csmtp_fault in csrc/pipeline.h.
UNEXPECTED = (
    "the server sent a reply that answers no command",
    "the server refused a message before all of it was sent",
    "the server sent a reply with a code that SMTP does not use",
    "the server sent a positive reply that does not fit the command",
)


class ReplyError(Exception):
    """The bytes at the start of the receive buffer are no usable reply. Nothing more can be read
    from the connection.

    `data` is what was refused, as far as it was received.
    """

    def __init__(self, reason: str, data: bytes) -> None:
        super().__init__(reason, data)
        self.reason = reason
        self.data = data

    def __str__(self) -> str:
        shown = self.data if len(self.data) <= 200 else self.data[:200] + b"..."
        return f"{self.reason}: {shown!r}"


class ReplyTooLong(ReplyError):
    """A line, or a reply with all its lines, is longer than the receive buffer allows."""


class ReplyMalformed(ReplyError):
    """A line could be mistaken for a reply: its code is not three digits followed by a space, "-"
    or the end of the line, or the lines of one reply have different codes."""


def unreadable_code(reply: bytes, text: bytes) -> tuple[int, bytes]:
    """Return what the stdlib makes of a reply whose last line has no code: (-1, text).

    `text` is the joined text of the lines. Raises ReplyMalformed if the stdlib would read a code
    from that line that is not there ("+25", "2_5", "2500", "250x").
    """
    last_line = reply[reply.rfind(b"\n", 0, -1) + 1 :]
    try:
        int(last_line[:3])
    except ValueError:
        return -1, text
    raise ReplyMalformed(MALFORMED_CODE, reply)


class ReplyUnexpected(ReplyError):
    """A reply that answers no command, or can't answer the command that waits for one. Whatever
    follows it would be taken for the answer to another command."""


class SessionClosed(ReplyError):
    """A reply with code 421: the server closes the connection, and ignores everything it was told
    after the command that it answers (RFC 5321 section 3.8)."""

    def __init__(self, reason: str, code: int, text: bytes) -> None:
        super().__init__(reason, (b"%d %b" % (code, text)).rstrip())
        self.reply = (code, text)

    def __str__(self) -> str:
        code, text = self.reply
        shown = text.decode("ascii", "backslashreplace").replace("\n", " / ")
        shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)
        if len(shown) > 200:
            shown = f"{shown[:200]}..."
        return f"{self.reason}: {code} {shown}".rstrip()


class ResetRefused(SessionClosed):
    """554 to RSET, followed by the end of the connection. As there is nothing in RSET to refuse,
    that reply is about the session: Exim sends it to clients that have sent too many of them, and
    ignores what they sent after it."""

    def __init__(self) -> None:
        super().__init__("the server refuses RSET and closes the session", 554, b"")


# How the end of a connection is reported, as opposed to an end that the client itself decides on.
END_OF_CONNECTION = (EOFError, ConnectionError)


class ChunkingRefused(ReplyError):
    """The server offers CHUNKING but does not know BDAT, so it may have taken a message for
    commands."""


def unexpected(why: int, code: int, text: bytes) -> ReplyUnexpected:
    """Return the error for a reply that is refused. `why` is an index into UNEXPECTED; `code` is 0
    if only the beginning of a reply has come."""
    return ReplyUnexpected(UNEXPECTED[why], b"%d %b" % (code, text) if code else text)
