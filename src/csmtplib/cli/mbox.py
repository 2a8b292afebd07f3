"""mbox files (RFC 4155): finds where their messages begin.

A line "From ADDRESS DATE" separates messages, in all the forms that mail programs write. Another
line that begins with "From " is text. If it could be either, the message that contains it is not
sent: half a letter, or two in one, would be worse.
"""

from __future__ import annotations

import codecs
import re
from array import array
from collections.abc import Iterator
from typing import IO, NamedTuple

from ..protocol.mail_object import Unsendable

# The beginning of a separator, and its maximum length.
FROM = b"From "
LONGEST = 1000

_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?"
_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_NUMBER = rb"[0-3]?[0-9],?"
_TIME = rb"[0-2]?[0-9]:[0-5][0-9](?::[0-6][0-9])?"
_YEAR = rb"(?:[0-9]{2}){1,2}"
_ZONE = rb"(?:[A-Z]{1,5}|(?:GMT|UTC)?[+-][0-9]{2}:?[0-9]{2}|\([^()\r\n]{1,40}\))"
_ZONES = rb"(?:[ \t]+%b){0,3}" % _ZONE
_DATE = rb"(?:%b)" % rb"|".join(
    form.replace(b"~", rb"[ \t]+")
    for form in (
        # As asctime() writes it, with a time zone before the year, after it, or none.
        rb"%b~%b~%b~%b%b~%b%b" % (_DAY, _MONTH, _NUMBER, _TIME, _ZONES, _YEAR, _ZONES),
        rb"%b~%b~%b~%b~%b%b" % (_DAY, _MONTH, _NUMBER, _YEAR, _TIME, _ZONES),
        # As in RFC 5322, and ISO 8601.
        rb"(?:%b~)?%b~%b~%b~%b%b" % (_DAY, _NUMBER, _MONTH, _YEAR, _TIME, _ZONES),
        rb"[12][0-9]{3}-[01][0-9]-[0-3][0-9](?:T|~)%b(?:\.[0-9]+)?Z?%b" % (_TIME, _ZONES),
    )
)
# "-" and "???@???" count as addresses; web archives write "ann at example.org".
_ADDRESS = rb'(?:"[^"\r\n]*"\S*|\S+(?:[ \t]+at[ \t]+\S+)?)'
_SEPARATOR = re.compile(
    rb"From(?:[ \t]+%b)?[ \t]+%b(?:[ \t]+remote[ \t]+from[ \t]+\S+)?\s*" % (_ADDRESS, _DATE),
    re.IGNORECASE,
)
# Thunderbird writes a separator without address and date.
_EMPTY = re.compile(rb"From[ \t]+-?[ \t]*[\r\n]*")
# Matches separators in unknown forms, and seldom text.
_LOOKS_LIKE_ONE = re.compile(
    rb"From[ \t]+\S*@|.*(?:[0-9]:[0-9]{2}|\b(?:19|20)[0-9]{2}\b)", re.DOTALL
)

_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
# Some programs leave the separator of another mbox before the header.
_BEGINS_A_MESSAGE = re.compile(rb"%b|>From " % _FIELD.pattern)


def is_separator(line: bytes, following: bytes) -> bool:
    """Return whether the first line of a file, or of a program's output, is a separator before a
    message and not part of it. following: the next line."""
    return line.startswith(FROM) and (_is_dated(line) or _FIELD.match(following) is not None)


def _is_dated(line: bytes) -> bool:
    return len(line) <= LONGEST and _SEPARATOR.fullmatch(line) is not None


class _Line(NamedTuple):
    """A line that begins with "From "; whether it separates depends on its neighbours."""

    data: bytes
    number: int
    at: int
    follows_empty: bool


class Mbox:
    """The messages of an mbox file. The constructor finds them, message() reads them, len() counts
    them."""

    def __init__(self, file: IO[bytes]) -> None:
        """file: opened for reading, at its start."""
        self._file = file
        self._starts = array("Q")
        # Ambiguous lines, by the number of the message.
        self._doubtful: dict[int, _Line] = {}
        self._is_dated = True
        self._end = self._find()

    def __len__(self) -> int:
        return len(self._starts)

    def _find(self) -> int:
        for line, following in _candidates(self._file):
            if self._separates(line, following):
                self._starts.append(line.at)
            elif self._is_doubtful(line, following):
                self._doubtful.setdefault(len(self._starts) - 1, line)
        return self._file.seek(0, 2)

    def _separates(self, line: _Line, following: bytes) -> bool:
        is_dated = _is_dated(line.data)
        if not self._starts:
            self._is_dated = is_dated
            return is_separator(line.data, following)
        if is_dated:
            is_end = not following.strip(b"\r\n")
            begins = _BEGINS_A_MESSAGE.match(following) is not None
            return begins or (is_end and line.follows_empty)
        return _EMPTY.fullmatch(line.data) is not None and _FIELD.match(following) is not None

    def _is_doubtful(self, line: _Line, following: bytes) -> bool:
        if not self._starts or not line.follows_empty:
            return False
        if _is_dated(line.data):
            return True
        looks_like_one = not self._is_dated or _LOOKS_LIKE_ONE.match(line.data) is not None
        return looks_like_one and _BEGINS_A_MESSAGE.match(following) is not None

    def message(self, number: int) -> bytes:
        """Return a message by its number, from 0 on. All bytes are kept, including ">From ".

        Raises OSError, and Unsendable if the end of the message is unknown.
        """
        if (line := self._doubtful.get(number)) is not None:
            shown = line.data[:80].rstrip().decode("ascii", "backslashreplace")
            raise Unsendable(
                f"line {line.number}, {shown!r}, may or may not begin another message: if it does, "
                'write it as "From ADDRESS DATE" (Mon Jan  5 10:00:00 2026), followed by a header; '
                'if it is text, write ">From"'
            )
        start = self._starts[number]
        end = self._starts[number + 1] if number + 1 < len(self) else self._end
        self._file.seek(start)
        separator, _, message = self._file.read(end - start).partition(b"\n")
        # The empty line before the next separator is not part of the message.
        line_end = b"\r\n" if separator.endswith(b"\r") else b"\n"
        if message == line_end or message.endswith(b"\n" + line_end):
            message = message.removesuffix(line_end)
        return message


def _candidates(file: IO[bytes]) -> Iterator[tuple[_Line, bytes]]:
    """Yield each line that begins with "From ", and the line after it, b"" at the end."""
    at = 0
    follows_empty = True
    candidate: _Line | None = None
    for number, data in enumerate(file, 1):
        size = len(data)
        if number == 1 and data.startswith(codecs.BOM_UTF8):
            data = data.removeprefix(codecs.BOM_UTF8)
        if candidate is not None:
            yield candidate, data
            candidate = None
        if data.startswith(FROM):
            candidate = _Line(data, number, at + size - len(data), follows_empty)
        follows_empty = data in (b"\n", b"\r\n")
        at += size
    if candidate is not None:
        yield candidate, b""
