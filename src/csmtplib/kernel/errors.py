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
