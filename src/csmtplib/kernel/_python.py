"""The kernels in pure Python: same names, same results, octet for octet, as `_c`."""

from __future__ import annotations

import re

from .errors import ReplyMalformed, ReplyTooLong, unreadable_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import Octets

_MAX_LINE = 8192
_MAX_REPLY = 65536
_ROOM = 8192

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN_ADDRESS = re.compile(
    rf"{_ATEXT}(?:\.{_ATEXT})*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", re.ASCII
)


class ReplyBuffer:
    """The receive buffer of one connection, and the replies in it."""

    __slots__ = (
        "_code",
        "_end",
        "_line",
        "_max_line",
        "_max_reply",
        "_octets",
        "_searched",
        "_start",
    )

    def __init__(self, max_line: int = _MAX_LINE, max_reply: int = _MAX_REPLY) -> None:
        self._max_line = max_line
        self._max_reply = max_reply
        self._octets = bytearray(_ROOM)
        self._start = self._end = 0
        self._restart()

    def _restart(self) -> None:
        """The next reply begins at _start."""
        if self._start == self._end:
            self._start = self._end = 0
        self._line = self._searched = self._start
        self._code: bytes | None = None

    def __len__(self) -> int:
        return self._end - self._start

    def space(self) -> memoryview:
        if len(self._octets) - self._end < _ROOM:
            # A new object, not a move inside the old one: a view of that may still be held.
            unread = self._octets[self._start : self._end]
            self._octets = unread + bytes(max(_ROOM, len(unread)))
            self._line -= self._start
            self._searched -= self._start
            self._start, self._end = 0, len(unread)
        return memoryview(self._octets)[self._end :]

    def received(self, count: int) -> None:
        if not 0 <= count <= len(self._octets) - self._end:
            raise ValueError(f"{count} octets do not fit into the space that was given")
        self._end += count

    def end_of_stream(self) -> bool:
        if self._start == self._end or self._octets[self._end - 1] == 0x0A:
            return False
        self.space()[0] = 0x0A
        self._end += 1
        return True

    def peek(self, count: int) -> bytes:
        return bytes(self._octets[self._start : min(self._start + max(count, 0), self._end)])

    def take(self, count: int) -> bytes:
        taken = self.peek(count)
        self._start += len(taken)
        self._restart()
        return taken

    def readline(self, limit: int = -1) -> bytes | None:
        stop = self._end if limit < 0 else min(self._end, self._start + limit)
        newline = self._octets.find(b"\n", self._start, stop)
        if newline >= 0:
            return self.take(newline + 1 - self._start)
        return self.take(limit) if 0 <= limit <= len(self) else None

    def reply(self) -> tuple[int, bytes] | None:
        octets = self._octets
        while True:
            after = octets.find(b"\n", self._searched, self._end) + 1
            searched = after or self._end
            if searched - self._line > self._max_line:
                raise ReplyTooLong("a line that is too long", self.take(searched - self._start))
            if searched - self._start > self._max_reply:
                raise ReplyTooLong("a reply that is too long", self.take(searched - self._start))
            self._searched = searched
            if not after:
                return None
            code = bytes(octets[self._line : self._line + 3])
            separator = octets[self._line + 3 : self._line + 5]
            # bytes.isdigit() knows ASCII digits only; a short line's LF makes it false.
            if not code.isdigit() or (
                separator[0] not in b" -\n" and separator != b"\r\n"
            ):
                reply = self.take(after - self._start)
                return unreadable_code(reply, _joined(reply))
            if self._code is not None and code != self._code:
                raise ReplyMalformed(
                    "a reply whose lines have different codes", self.take(after - self._start)
                )
            self._code = code
            self._line = after
            if separator[0] != 0x2D:
                return int(code), _joined(self.take(after - self._start))


def _joined(reply: bytes) -> bytes:
    """The texts of a reply's lines, LF between them, as the stdlib's getreply() joins them."""
    return b"\n".join([line[4:].strip(b" \t\r\n") for line in reply[:-1].split(b"\n")])


def _as_bytes(octets: Octets) -> bytes:
    return octets if type(octets) is bytes else bytes(memoryview(octets))


def fix_eols(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


def quote_periods(octets: Octets) -> bytes:
    quoted = _as_bytes(octets).replace(b"\n.", b"\n..")
    return b"." + quoted if quoted.startswith(b".") else quoted


class BodyEncoder:
    """Normalises line ends to CR LF and doubles leading dots, chunk by chunk (strict bodies)."""

    __slots__ = ("_at_line_start", "_owes_lf")

    def __init__(self) -> None:
        self._at_line_start = True
        self._owes_lf = False

    def encode(self, octets: Octets) -> bytes:
        chunk = _as_bytes(octets)
        if not chunk:
            return b""
        owed = b""
        if self._owes_lf:
            # The chunk before ended in CR, which went out already.
            owed = b"\n"
            chunk = chunk.removeprefix(b"\n")
            self._at_line_start = True
        self._owes_lf = chunk.endswith(b"\r")
        encoded = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        encoded = encoded.replace(b"\n.", b"\n..")
        if self._at_line_start and encoded.startswith(b"."):
            encoded = b"." + encoded
        if encoded:
            self._at_line_start = encoded.endswith(b"\n")
        if self._owes_lf:
            encoded = encoded[:-1]
        return owed + encoded

    def finish(self) -> bytes:
        if self._owes_lf:
            return b"\n.\r\n"
        return b".\r\n" if self._at_line_start else b"\r\n.\r\n"


def survey(octets: Octets) -> tuple[int, bool, bool]:
    body = _as_bytes(octets)
    longest_line = max(map(len, body.replace(b"\r", b"\n").split(b"\n")))
    return longest_line, b"\0" in body, not body.isascii()


def has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None


def is_plain_address(address: str) -> bool:
    return _PLAIN_ADDRESS.fullmatch(address) is not None
