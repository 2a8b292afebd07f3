"""Text parts as MIME has them (RFC 2045): their encodings, and lines that are encoded once for many
messages."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .. import kernel

CRLF = b"\r\n"

# The Content-Transfer-Encodings that encoded() chooses from.
ENCODINGS = ("7bit", "quoted-printable", "base64")

# What each boundary begins with, behind the "--" of its line. In quoted-printable and base64 it
# can't occur (RFC 2045 section 6.7), and a part that has it does not go as 7bit: so whatever a row
# holds, it can't end its part.
BOUNDARY_PREFIX = "=_"
_BOUNDARY_LINE = b"--=_"

_SEVEN_BIT_LINE = 78  # RFC 5322 section 2.1.1
_ENCODED_LINE = 76  # RFC 2045 section 6.7 and 6.8

# What quoted-printable leaves as it is.
_SAFE = b"\t\r\n" + bytes(octet for octet in range(0x20, 0x7F) if octet != ord("="))
# A space or tab that is encoded for being the last of its line.
_ENCODED_SPACE = re.compile(rb"=(?:20|09)\r\n")

# Constant text that is shorter is not worth a buffer of its own.
_WORTH_SHARING = 200


class Constant(NamedTuple):
    """Text of a template that stands in many messages: the end of a line, whole lines, and the
    beginning of a line. What is known of the lines is known once."""

    head: str
    lines: bytes
    tail: str
    quoted: bytes  # the lines as quoted-printable
    unsafe: int  # how many of their octets that encodes
    seven_bit: bool  # whether they need no encoding


def constants(texts: Iterable[str]) -> dict[str, Constant]:
    """Those of the texts that are worth it, by themselves."""
    found = {}
    for text in texts:
        head, head_end, rest = text.partition("\r\n")
        inner, end, tail = rest.rpartition("\r\n")
        # A text with other line ends is left to encoded(), which makes CR LF of them.
        if len(inner) >= _WORTH_SHARING and kernel.fix_eols(text) == text:
            lines = (inner + end).encode()
            found[text] = Constant(
                head + head_end,
                lines,
                tail,
                _quoted_printable(lines),
                _unsafe(lines),
                _is_seven_bit(lines),
            )
    return found


def encoded(pieces: Iterable[str], known: Mapping[str, Constant]) -> tuple[str, list[bytes]]:
    """A text that comes in pieces: the Content-Transfer-Encoding that suits it, and its octets in
    that, in buffers.

    Line ends become CR LF, and the last line has one. known: pieces that have been encoded before.
    Raises ValueError for NUL, UnicodeEncodeError for what is no Unicode (lone surrogates).
    """
    # Whole lines of either kind in turn, so what is true of all of them is true of the part.
    varying: list[bytes] = []
    shared: list[Constant] = []
    open_line: list[str] = []
    for piece in pieces:
        constant = known.get(piece)
        if constant is None:
            open_line.append(piece)
        else:
            open_line.append(constant.head)
            varying.append(_octets(open_line))
            shared.append(constant)
            open_line = [constant.tail]
    last = _octets(open_line)
    varying.append(last + CRLF if last and not last.endswith(CRLF) else last)
    together = b"".join(varying)
    if b"\0" in together:
        raise ValueError("the text holds a NUL character")
    if _is_seven_bit(together) and all(constant.seven_bit for constant in shared):
        return "7bit", _in_turn(varying, [constant.lines for constant in shared])
    size = len(together) + sum(len(constant.lines) for constant in shared)
    unsafe = _unsafe(together) + sum(constant.unsafe for constant in shared)
    # One takes two octets more for each that is not safe, the other a third more for all.
    if unsafe * 6 > size:
        lines = _in_turn(varying, [constant.lines for constant in shared])
        return "base64", [_base64(b"".join(lines))]
    quoted = [_quoted_printable(run) for run in varying]
    return "quoted-printable", _in_turn(quoted, [constant.quoted for constant in shared])


def _octets(pieces: list[str]) -> bytes:
    return kernel.fix_eols("".join(pieces)).encode()


def _in_turn(varying: list[bytes], shared: list[bytes]) -> list[bytes]:
    buffers = [each for pair in zip(varying, shared, strict=False) for each in pair]
    if varying[-1]:
        buffers.append(varying[-1])
    return buffers


def _is_seven_bit(lines: bytes) -> bool:
    longest, _, has_eight_bit = kernel.survey(lines)
    return not has_eight_bit and longest <= _SEVEN_BIT_LINE and _BOUNDARY_LINE not in lines


def _unsafe(lines: bytes) -> int:
    return len(lines.translate(None, _SAFE))


def _base64(octets: bytes) -> bytes:
    text = binascii.b2a_base64(octets, newline=False)
    starts = range(0, len(text), _ENCODED_LINE)
    return b"".join([text[start : start + _ENCODED_LINE] + CRLF for start in starts])


def _quoted_printable(lines: bytes) -> bytes:
    text = binascii.b2a_qp(lines, istext=True)
    # It does not count what an encoded space at the end of a line adds to that.
    return _ENCODED_SPACE.sub(_on_a_line_of_its_own, text)


def _on_a_line_of_its_own(found: re.Match[bytes]) -> bytes:
    length = found.end() - len(CRLF) - (found.string.rfind(b"\n", 0, found.start()) + 1)
    return found[0] if length <= _ENCODED_LINE else b"=\r\n" + found[0]
