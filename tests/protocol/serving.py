"""The server's side of SMTP and LMTP, without I/O: it takes bytes and says what it answers.

As strict as servers are: MAIL within a transaction is refused, and so is a chunk without a
recipient; a message that BDAT brought and that was refused leaves its transaction open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from csmtplib.kernel import Pipeline, ReplyBuffer
from csmtplib.kernel.transaction import LAST_STEP, Mode
from csmtplib.protocol import extension_policy

Answer: TypeAlias = "str | None"
"""One or several whole replies without the last CR LF; None hangs up."""

Answers: TypeAlias = "Answer | Sequence[Answer] | Callable[[str], Answer]"
"""Of a sequence the last is said again and again. A function is given the command line; of a
message its recipient (LMTP), or its text."""


def known_host(mode: Mode) -> extension_policy.Host:
    """Return a host that has shown everything there is to show in a mode."""
    host = extension_policy.Host()
    show_all(host, mode)
    return host


def show_all(host: extension_policy.Host, mode: Mode) -> None:
    """Make it known that the server has shown that."""
    seen = Pipeline(ReplyBuffer(8192, 65536), mode, False, True, LAST_STEP[mode], 0)
    host.learn(mode, seen)


class Delivery(NamedTuple):
    """A message that the server has taken: its recipients as their commands have them."""

    recipients: tuple[str, ...]
    text: bytes


class Host:
    """answers: by the verb of a command in lower case, and to "message"; a good one if there is
    none."""

    def __init__(self, *extensions: str, lmtp: bool = False, **answers: Any) -> None:
        self.received = bytearray()
        self.lines: list[str] = []
        """The commands, without line ends."""
        self.deliveries: list[Delivery] = []
        self.hung_up = False
        *before, last = "mx.test", *extensions
        hello = "\r\n".join([*(f"250-{each}" for each in before), f"250 {last}"])
        self._answers: dict[str, Answers] = {"ehlo": hello, "lhlo": hello, **answers}
        self._lmtp = lmtp
        self._unread = bytearray()
        self._is_open = False
        self._recipients: list[str] = []
        self._reading_text = False
        self._chunk: int | None = None

    @property
    def verbs(self) -> list[str]:
        """The beginnings of the commands."""
        return [verb_of(line) for line in self.lines]

    @property
    def texts(self) -> list[bytes]:
        """Of the messages that were taken."""
        return [each.text for each in self.deliveries]

    def take(self, data: bytes) -> bytes:
        """Return its replies to these bytes."""
        return b"".join(self.answers(data))

    def answers(self, data: bytes) -> Iterator[bytes]:
        """The same, answer by answer."""
        self.received += data
        self._unread += data
        while not self.hung_up and (answer := self._next()) is not None:
            yield answer

    def say(self, name: str, default: str, about: str = "") -> bytes:
        """An answer with its line end, nothing where it hangs up instead."""
        answer = self._answers.get(name, default)
        if callable(answer):
            answer = answer(about)
        elif answer is not None and not isinstance(answer, str):
            kept = list(answer)
            answer = kept.pop(0)
            self._answers[name] = kept or answer
        # Nobody says anything behind 421 (RFC 5321 section 3.8).
        self.hung_up = self.hung_up or answer is None or answer.startswith("421")
        return b"" if answer is None else f"{answer}\r\n".encode("latin-1")

    def _next(self) -> bytes | None:
        if self._chunk is not None:
            if len(self._unread) < self._chunk:
                return None
            text = self._cut(self._chunk)
            self._chunk = None
            return self._answer_text(text) if self._recipients else b"503 no recipients\r\n"
        if not self._reading_text:
            size = self._unread.find(b"\r\n")
            if size < 0:
                return None
            line = self._cut(size)
            self._cut(2)
            return self._answer_command(line.decode())
        # The line end before the dot may be the one of DATA.
        size = (b"\r\n" + self._unread).find(b"\r\n.\r\n")
        if size < 0:
            return None
        text = re.sub(rb"(?m)^\.", b"", self._cut(size))
        self._cut(3)
        self._reading_text = False
        answer = self._answer_text(text)
        self._end()
        return answer

    def _cut(self, size: int) -> bytes:
        cut = bytes(self._unread[:size])
        del self._unread[:size]
        return cut

    def _end(self) -> None:
        self._is_open = False
        self._recipients = []

    def _answer_command(self, line: str) -> bytes:
        self.lines.append(line)
        verb = verb_of(line)
        if verb == "mail" and self._is_open:
            return b"503 nested MAIL\r\n"
        if verb == "rcpt" and not self._is_open:
            return b"503 need MAIL\r\n"
        if verb == "bdat":
            self._chunk = int(line.split()[1])
            answer = self._answers.get("bdat")
            if answer is not None:
                self._chunk = None
                return self.say("bdat", "")
            return b""
        default = {"data": "354 go on", "quit": "221 bye"}.get(verb, "250 ok")
        if verb == "data" and not self._recipients:
            default = "554 no valid recipients"
        said = self.say(verb, default, line)
        code = said[:3]
        if verb == "mail":
            self._is_open = code == b"250"
        elif verb == "rcpt" and code in (b"250", b"251"):
            self._recipients.append(line)
        elif verb == "data":
            self._reading_text = code == b"354"
        elif verb == "rset":
            self._end()
        elif verb == "quit":
            self.hung_up = True
        return said

    def _answer_text(self, text: bytes) -> bytes:
        if not self._recipients:
            return b"554 no valid recipients\r\n"
        if not self._lmtp:
            takers = self._recipients
            said = self.say("message", "250 queued", text.decode("latin-1"))
            if not said.startswith(b"2"):
                return said
        else:
            takers = []
            said = b""
            for each in self._recipients:
                if self.hung_up:
                    break
                answer = self.say("message", "250 delivered", each)
                if answer.startswith(b"2"):
                    takers.append(each)
                said += answer
        self.deliveries.append(Delivery(tuple(takers), text))
        self._end()
        return said


def verb_of(line: str) -> str:
    return re.split("[ :]", line)[0].lower()
