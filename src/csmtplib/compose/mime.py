"""Text parts of MIME (RFC 2045): encodings, and lines that are encoded once for many messages."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .. import kernel

CRLF = b"\r\n"

# The Content-Transfer-Encodings that encoded() chooses from.
ENCODINGS = ("7bit", "quoted-printable", "base64")

# The beginning of each boundary, after the "--" of its line. It can't occur in quoted-printable
# and base64 (RFC 2045 section 6.7), and a part that contains it is not sent as 7bit. So no value
# of a row can end its part.
BOUNDARY_PREFIX = "=_"
_BOUNDARY_LINE = b"--=_"

_SEVEN_BIT_LINE = 78  # RFC 5322 section 2.1.1
_ENCODED_LINE = 76  # RFC 2045 section 6.7 and 6.8

# The bytes that quoted-printable does not encode.
_SAFE = b"\t\r\n" + bytes(byte for byte in range(0x20, 0x7F) if byte != ord("="))
# A space or tab that is encoded because it is the last on its line.
_ENCODED_SPACE = re.compile(rb"=(?:20|09)\r\n")

# Shorter constant text is not worth a buffer of its own.
_WORTH_SHARING = 200


class Constant(NamedTuple):
    """Text of a template that occurs in many messages: the end of a line, whole lines, and the
    beginning of a line. The properties of the lines are computed once."""

    head: str
    lines: bytes
    tail: str
    quoted: bytes  # the lines as quoted-printable
    unsafe: int  # how many of their bytes that encodes
    seven_bit: bool  # whether they need no encoding


def constants(texts: Iterable[str]) -> dict[str, Constant]:
    """Return a Constant for each text that is long enough to be shared, by the text."""
    found = {}
    for text in texts:
        head, head_end, rest = text.partition("\r\n")
        inner, end, tail = rest.rpartition("\r\n")
        # Text with other line ends is left to encoded(), which converts them to CR LF.
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
    """Return the Content-Transfer-Encoding that suits a text given in pieces, and the encoded
    bytes, in buffers.

    Line ends become CR LF, and the last line gets one. known: pieces that have been encoded before.
    Raises ValueError for NUL, UnicodeEncodeError for lone surrogates.
    """
    # Both kinds consist of whole lines, so a property that all of them have is one of the part.
    varying: list[bytes] = []
    shared: list[Constant] = []
    open_line: list[str] = []
    for piece in pieces:
        constant = known.get(piece)
        if constant is None:
            open_line.append(piece)
        else:
            open_line.append(constant.head)
            varying.append(_data(open_line))
            shared.append(constant)
            open_line = [constant.tail]
    last = _data(open_line)
    varying.append(last + CRLF if last and not last.endswith(CRLF) else last)
    together = b"".join(varying)
    if b"\0" in together:
        raise ValueError("the text contains a NUL character")
    if _is_seven_bit(together) and all(constant.seven_bit for constant in shared):
        return "7bit", _in_turn(varying, [constant.lines for constant in shared])
    size = len(together) + sum(len(constant.lines) for constant in shared)
    unsafe = _unsafe(together) + sum(constant.unsafe for constant in shared)
    # Quoted-printable adds two bytes for each unsafe one, base64 a third of the whole.
    if unsafe * 6 > size:
        lines = _in_turn(varying, [constant.lines for constant in shared])
        return "base64", [_base64(b"".join(lines))]
    quoted = [_quoted_printable(run) for run in varying]
    return "quoted-printable", _in_turn(quoted, [constant.quoted for constant in shared])


def _data(pieces: list[str]) -> bytes:
    return kernel.fix_eols("".join(pieces)).encode()


def _in_turn(varying: list[bytes], shared: list[bytes]) -> list[bytes]:
    buffers = [each for pair in zip(varying, shared, strict=False) for each in pair]
    if varying[-1]:
        buffers.append(varying[-1])
    return buffers


def _is_seven_bit(lines: bytes) -> bool:
    longest, _, has_eight_bit = kernel.scan(lines)
    return not has_eight_bit and longest <= _SEVEN_BIT_LINE and _BOUNDARY_LINE not in lines


def _unsafe(lines: bytes) -> int:
    return len(lines.translate(None, _SAFE))


def _base64(data: bytes) -> bytes:
    text = binascii.b2a_base64(data, newline=False)
    starts = range(0, len(text), _ENCODED_LINE)
    return b"".join([text[start : start + _ENCODED_LINE] + CRLF for start in starts])


def _quoted_printable(lines: bytes) -> bytes:
    text = binascii.b2a_qp(lines, istext=True)
    # binascii ignores that encoding a space at the end of a line makes the line longer.
    return _ENCODED_SPACE.sub(_on_a_line_of_its_own, text)


def _on_a_line_of_its_own(found: re.Match[bytes]) -> bytes:
    length = found.end() - len(CRLF) - (found.string.rfind(b"\n", 0, found.start()) + 1)
    return found[0] if length <= _ENCODED_LINE else b"=\r\n" + found[0]
