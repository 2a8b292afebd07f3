"""What became of a message for one recipient."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

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
        """The text on one line, with what a terminal would act on as escapes."""
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
    # A code of another class than the reply's is no code.
    is_one = _ENHANCED.fullmatch(word) and word.startswith(b"%d" % first_digit)
    return word.decode() if is_one else None


class State(Enum):
    """Where a message stands for a recipient.

    In doubt: the whole message left and no answer came, so that the server may have it or not (RFC
    1047). Sending it again is somebody's decision, never a default.
    """

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    IN_DOUBT = "in doubt"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A recipient, the state of the message for it, and the reply or the fault that says so.

    to_rcpt: whether the reply is to RCPT, and so about this recipient alone.
    """

    recipient: str
    state: State
    reply: Reply | None = None
    fault: str | None = None
    to_rcpt: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.state.value} {self.recipient} ({self.reply or self.fault})"


def answered(recipient: str, reply: Reply, *, to_rcpt: bool = False) -> Outcome:
    """The outcome that a reply means. A 552 to RCPT is about the number of recipients, and stands
    for 452 (RFC 5321 section 4.5.3.1.10)."""
    if 200 <= reply.code <= 299:
        state = State.ACCEPTED
    elif reply.code >= 500 and not (to_rcpt and reply.code == 552):
        state = State.REJECTED
    else:
        state = State.DEFERRED
    return Outcome(recipient, state, reply, to_rcpt=to_rcpt)
