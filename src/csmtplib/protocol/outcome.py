"""The outcome of a message for one recipient."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from ..kernel.transaction import is_success

_ENHANCED = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}")


class Reply(NamedTuple):
    """A server's reply: its code, and its text with LF between the lines."""

    code: int
    text: bytes

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code at the head of the text (RFC 2034, RFC 3463)."""
        return _enhanced(self.code // 100, self.text.partition(b" ")[0])

    @property
    def shown(self) -> str:
        """The text on one line, with control characters as escapes."""
        # Servers may say anything, and logs are read on terminals.
        text = self.text.decode("ascii", "backslashreplace")
        if text.isprintable():
            return text
        text = text.replace("\n", " / ")
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)

    def __str__(self) -> str:
        return f"{self.code} {self.shown}".rstrip()


@lru_cache(maxsize=256)
def _enhanced(first_digit: int, word: bytes) -> str | None:
    # If its first digit differs from the reply's, it is not an enhanced code.
    is_one = _ENHANCED.fullmatch(word) and word.startswith(b"%d" % first_digit)
    return word.decode() if is_one else None


class State(Enum):
    """The state of a message for a recipient.

    In doubt: the whole message was sent and no reply came, so the server may or may not have it
    (RFC 1047). Whether to send it again is for a person to decide, never a default.
    """

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    IN_DOUBT = "in doubt"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A recipient, the state of the message for it, and the reply or the fault that is the reason.

    recipient: "" if the message could not be sent and its recipients are unknown.

    to_rcpt: whether the reply is to RCPT, and so about this recipient alone. to_mail: whether it is
    to MAIL, and so may be about more than this message.
    """

    recipient: str
    state: State
    reply: Reply | None = None
    fault: str | None = None
    to_rcpt: bool = field(default=False, compare=False)
    to_mail: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        # The recipient is "" if those of the message are unknown.
        about = f"{self.state.value} {self.recipient}".rstrip()
        return f"{about} ({self.reply or self.fault})"


def is_too_many_recipients(code: int, text: bytes) -> bool:
    """Return whether a refusal of RCPT is about how many recipients there are, and not about this
    one: 452, 552 in its place (RFC 5321 section 4.5.3.1.10), and x.5.3 with any code. Another
    enhanced code means something else, such as a full mailbox in 552 5.2.2 (RFC 3463)."""
    enhanced = Reply(code, text).enhanced
    return code in (452, 552) if enhanced is None else enhanced[1:] == ".5.3"


def answered(
    recipient: str, reply: Reply, *, to_rcpt: bool = False, to_mail: bool = False
) -> Outcome:
    """Return the outcome that a reply means. A recipient that is one too many is only deferred."""
    if is_success(reply.code):
        state = State.ACCEPTED
    elif reply.code >= 500 and not (to_rcpt and is_too_many_recipients(*reply)):
        state = State.REJECTED
    else:
        state = State.DEFERRED
    return Outcome(recipient, state, reply, to_rcpt=to_rcpt, to_mail=to_mail)
