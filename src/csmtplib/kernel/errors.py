"""What a server sent that is no SMTP reply (RFC 5321 section 4.2)."""

from __future__ import annotations


class ReplyError(Exception):
    """The octets at the head of the receive buffer are no reply; the stream can't be read on.

    `octets` is what was refused, as far as it had been received.
    """

    def __init__(self, reason: str, octets: bytes) -> None:
        super().__init__(reason, octets)
        self.reason = reason
        self.octets = octets

    def __str__(self) -> str:
        shown = self.octets if len(self.octets) <= 200 else self.octets[:200] + b"..."
        return f"{self.reason}: {shown!r}"


class ReplyTooLong(ReplyError):
    """A line, or a reply with all its lines, is longer than the receive buffer allows."""


class ReplyMalformed(ReplyError):
    """A line would be taken for a reply that it is not: its code is not three digits followed by a
    space, "-" or the line's end, or the lines of one reply have different codes."""


def unreadable_code(reply: bytes, text: bytes) -> tuple[int, bytes]:
    """What the stdlib makes of a reply whose last line has no code: (-1, text).

    `text` is the joined text of the lines. Raises ReplyMalformed where the stdlib would read a code
    from that line that is not there ("+25", "2_5", "2500", "250x").
    """
    last_line = reply[reply.rfind(b"\n", 0, -1) + 1 :]
    try:
        int(last_line[:3])
    except ValueError:
        return -1, text
    raise ReplyMalformed("a reply with a malformed code", reply)


class ReplyUnexpected(ReplyError):
    """A reply that answers no command, or is no answer to the one that waits: whatever follows it
    would be taken for the answer to another."""


class SessionClosed(ReplyError):
    """A reply of code 421: the server closes the connection, and does nothing that it was told
    after the command that it answers (RFC 5321 section 3.8)."""

    def __init__(self, reason: str, code: int, text: bytes) -> None:
        super().__init__(reason, b"%d %b" % (code, text))
        self.reply = (code, text)


class ChunkingRefused(ReplyError):
    """The server offers CHUNKING and does not know BDAT, so it may have taken a message for
    commands."""


# Why a reply that is well formed is refused, by the numbers that csrc/pipeline.h has for it.
UNEXPECTED = (
    "a reply that answers no command",
    "a reply to a message that had not left",
    "a preliminary reply, or none of SMTP's",
    "a success that nothing succeeded by",
)


def unexpected(why: int, code: int, text: bytes) -> ReplyUnexpected:
    """The error for a reply that is refused; `why` is an index into UNEXPECTED. The code is 0 where
    there are but the first octets of a reply."""
    return ReplyUnexpected(UNEXPECTED[why], b"%d %b" % (code, text) if code else text)
