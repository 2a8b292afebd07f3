"""The kernels in pure Python: same names, same results, byte for byte, as `_c`."""

from __future__ import annotations

import re

from .errors import MIXED_CODES, ReplyMalformed, ReplyTooLong, unreadable_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .transaction import BytesLike


# The start of a line: its code, and "-" if another line follows.
_LINE = re.compile(rb"(\d\d\d)(?:( |-)|\r?\n)")
_REPLY = re.compile(rb"(\d\d\d)(?:-[^\n]*\n\1)*(?: [^\n]*|\r?)\n")
_STRIPPED = b" \t\r\n"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN_ADDRESS = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", re.ASCII)


class ReplyBuffer:
    """The receive buffer of one connection, and the replies in it."""

    __slots__ = (
        "_code",
        "_data",
        "_line",
        "_max_line",
        "_max_reply",
        "_searched",
        "_shorter_cap",
        "_start",
    )

    def __init__(self, max_line: int, max_reply: int, /) -> None:
        self._max_line = max_line
        self._max_reply = max_reply
        self._shorter_cap = min(max_line, max_reply)
        self._data = b""
        self._start = 0
        self._restart()

    def _restart(self) -> None:
        """Start the search for the reply that begins at _start."""
        self._line = self._searched = self._start
        self._code: bytes | None = None

    def __len__(self) -> int:
        return len(self._data) - self._start

    def feed(self, data: BytesLike, /) -> None:
        if type(data) is not bytes:
            data = _as_bytes(data)
        read = self._start
        if read == len(self._data):
            self._data = data
        else:
            self._data = self._data[read:] + data
        if read:
            self._start = 0
            self._line -= read
            self._searched -= read

    def end_of_stream(self) -> bool:
        if not len(self) or self._data.endswith(b"\n"):
            return False
        self.feed(b"\n")
        return True

    def peek(self, count: int, /) -> bytes:
        return self._data[self._start : self._start + max(count, 0)]

    def take(self, count: int, /) -> bytes:
        taken = self.peek(count)
        self._start += len(taken)
        self._restart()
        return taken

    def readline(self, limit: int = -1, /) -> bytes | None:
        stop = len(self._data) if limit < 0 else self._start + limit
        newline = self._data.find(b"\n", self._start, stop)
        if newline >= 0:
            return self.take(newline + 1 - self._start)
        return self.take(limit) if 0 <= limit <= len(self) else None

    def reply(self) -> tuple[int, bytes] | None:
        data, start = self._data, self._start
        if self._searched == len(data):
            return None
        if self._searched == start:
            # Most replies come in one piece and one line, too short to reach any cap.
            end = data.find(b"\n", start) + 1
            code = data[start : start + 3]
            if 0 < end - start <= self._shorter_cap and code.isdigit() and data[start + 3] == 0x20:
                self._start = self._line = self._searched = end
                return int(code), data[start + 4 : end].strip(_STRIPPED)
            if (whole := _REPLY.match(data, start)) and len(whole[0]) <= self._shorter_cap:
                self._start = self._line = self._searched = whole.end()
                return int(whole[1]), _joined(whole[0])
        return self._reply_by_lines()

    def _reply_by_lines(self) -> tuple[int, bytes] | None:
        data, start = self._data, self._start
        while True:
            line_cap, reply_cap = self._line + self._max_line, start + self._max_reply
            cap = min(line_cap, reply_cap)
            after = data.find(b"\n", self._searched, cap) + 1
            if not after and len(data) > cap:
                what = "Line" if line_cap <= reply_cap else "Reply"
                raise ReplyTooLong(f"{what} too long.", self.take(cap - start))
            self._searched = after or len(data)
            if not after:
                return None
            line = _LINE.match(data, self._line)
            if line is None:
                reply = self.take(after - start)
                return unreadable_code(reply, _joined(reply))
            if self._code is not None and line[1] != self._code:
                reply = self.take(after - start)
                raise ReplyMalformed(MIXED_CODES, reply)
            self._code = line[1]
            self._line = after
            if line[2] != b"-":
                return int(line[1]), _joined(self.take(after - start))


def _joined(reply: bytes) -> bytes:
    """Return the texts of a reply's lines joined by LF, as the stdlib's getreply() does."""
    return b"\n".join([line[4:].strip(_STRIPPED) for line in reply[:-1].split(b"\n")])


def _as_bytes(data: BytesLike) -> bytes:
    return data if type(data) is bytes else bytes(memoryview(data))


def fix_eols(text: str, /) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


def quote_periods(data: BytesLike, /) -> bytes:
    quoted = _as_bytes(data).replace(b"\n.", b"\n..")
    return b"." + quoted if quoted.startswith(b".") else quoted


class BodyEncoder:
    """Normalise line ends to CR LF and double leading dots, chunk by chunk."""

    __slots__ = ("_at_line_start", "_dots", "_owes_lf")

    def __init__(self, dots: bool = True) -> None:
        self._dots = dots
        self._at_line_start = True
        self._owes_lf = False

    def encode(self, data: BytesLike, /) -> bytes:
        chunk = _as_bytes(data)
        if not chunk:
            return b""
        owed = b""
        if self._owes_lf:
            # The previous chunk ended in CR, which is already written.
            owed = b"\n"
            chunk = chunk.removeprefix(b"\n")
            self._at_line_start = True
        self._owes_lf = chunk.endswith(b"\r")
        encoded = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        if self._dots:
            encoded = encoded.replace(b"\n.", b"\n..")
            if self._at_line_start and encoded.startswith(b"."):
                encoded = b"." + encoded
        if encoded:
            self._at_line_start = encoded.endswith(b"\n")
        if self._owes_lf:
            encoded = encoded[:-1]
        return owed + encoded

    def finish(self) -> bytes:
        end = b"\n" if self._owes_lf else b"" if self._at_line_start else b"\r\n"
        if self._dots:
            end += b".\r\n"
        self._at_line_start = True
        self._owes_lf = False
        return end


def scan(data: BytesLike, /) -> tuple[int, bool, bool]:
    body = _as_bytes(data)
    longest_line = max(map(len, body.replace(b"\r", b"\n").split(b"\n")))
    return longest_line, b"\0" in body, not body.isascii()


def has_control(text: str, /) -> bool:
    return _CONTROL.search(text) is not None


def is_plain_address(address: str, /) -> bool:
    return _PLAIN_ADDRESS.fullmatch(address) is not None


def envelope_lines(
    mail: str,
    sender: str,
    mail_parameters: str,
    rcpt: str,
    recipients: Iterable[str],
    rcpt_parameters: str,
    /,
) -> list[bytes] | None:
    lines = []
    is_plain = _PLAIN_ADDRESS.fullmatch
    for parameters in (mail_parameters, rcpt_parameters):
        if not parameters.isascii() or _CONTROL.search(parameters):
            return None
    if type(sender) is not str or not is_plain(sender):
        return None
    lines.append(f"{mail}{sender}>{mail_parameters}\r\n".encode("ascii"))
    for recipient in recipients:
        if type(recipient) is not str or not is_plain(recipient):
            return None
        lines.append(f"{rcpt}{recipient}>{rcpt_parameters}\r\n".encode("ascii"))
    return lines
