"""Header fields as bytes (RFC 5322): folding, and encoded words for non-ASCII text (RFC 2047)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from email.header import Header

from ..protocol import limits

_LINE = 78  # RFC 5322 section 2.1.1
_LINE_WITH_ENCODED_WORD = 76  # RFC 2047 section 2
_ENCODED_WORD = 75

# Everything that some program treats as the end of a line, and other control characters.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_SPECIAL = re.compile(r'(["\\])')
_WORD = re.compile(" *[^ ]+")


def unstructured(name: str, value: str) -> bytes:
    """Return a field whose value is text for people, such as Subject.

    Raises ValueError for control characters, including line ends.
    """
    value = _clean(value)
    if value.isascii() and "=?" not in value:
        if len(name) + len(value) <= _LINE - 2:
            return f"{name}: {value}\r\n".encode("ascii")
        if max(map(len, _WORD.findall(value))) < limits.MESSAGE_LINE_BYTES // 2:
            return _folded(name, value)
    return _folded(name, _encoded_words(name, value))


def structured(name: str, value: str) -> bytes:
    """Return a field whose value is for programs, such as References. Raises ValueError for
    non-ASCII text, control characters and values that can't be folded."""
    value = _clean(value)
    if not value.isascii():
        raise ValueError("only ASCII is allowed in this field")
    return _folded(name, value)


def mailboxes(name: str, addresses: Sequence[tuple[str, str]]) -> bytes:
    """Return a field whose value is addresses, each with a display name or "".

    Non-ASCII addresses are kept, which requires SMTPUTF8. Raises ValueError for control characters
    in a name.
    """
    return _folded(name, ", ".join([_mailbox(name, *each) for each in addresses]))


def uris(name: str, values: Sequence[str]) -> bytes:
    """Return a field whose value is URIs (RFC 2369). Raises ValueError for one that is longer than
    a line."""
    return _folded(name, ", ".join([f"<{value}>" for value in values]))


def _mailbox(name: str, display_name: str, address: str) -> str:
    if not display_name:
        return address
    # The regular expression matches no control characters; other names are checked by _clean().
    if _ATOMS.fullmatch(display_name) is None or "=?" in display_name:
        display_name = _clean(display_name)
        if not display_name:
            return address
        if display_name.isascii() and "=?" not in display_name:
            display_name = '"' + _SPECIAL.sub(r"\\\1", display_name) + '"'
        else:
            display_name = _encoded_words(name, display_name)
    return f"{display_name} <{address}>"


def _clean(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        if found := _CONTROL.search(value):
            character = f"U+{ord(found[0]):04X}"
            raise ValueError(f"{value!r} contains {character}, which is not allowed in a header")
        value = value.replace("\t", " ")
    return value.strip(" ")


def _encoded_words(name: str, text: str) -> str:
    """Return the text as encoded words separated by spaces, the first short enough to follow the
    field's name on its line."""
    data = text.encode()
    word = f"=?utf-8?b?{binascii.b2a_base64(data, newline=False).decode('ascii')}?="
    # The stdlib splits text into words, but slowly.
    if len(word) <= _ENCODED_WORD - len(name) - 2:
        return word
    header = Header(text, "utf-8", maxlinelen=_LINE_WITH_ENCODED_WORD, header_name=name)
    return header.encode(linesep="").strip()


def _folded(name: str, value: str) -> bytes:
    line = f"{name}: {value}"
    if len(line) <= _LINE_WITH_ENCODED_WORD:
        return f"{line}\r\n".encode()
    longest = _LINE_WITH_ENCODED_WORD if "=?" in value else _LINE
    lines = []
    # No line break directly after the name: some programs would take the field for empty.
    first, *words = _WORD.findall(value)
    line = f"{name}: {first}"
    for word in words:
        if len(line) + len(word) > longest:
            lines.append(line)
            line = word
        else:
            line += word
    data = [each.encode() for each in (*lines, line)]
    if max(map(len, data)) > limits.MESSAGE_LINE_BYTES:
        raise ValueError(f"a word in it is longer than {limits.MESSAGE_LINE_BYTES} bytes")
    return b"".join([each + b"\r\n" for each in data])
