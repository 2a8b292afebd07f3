"""The header fields of a template, each compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from ..protocol.message import EMPTY_GROUP
from . import headers
from .addresses import envelope_address
from .template import SINGLE_BRACES, TAG, Environment, TemplateError, is_constant, reason

# Fields that are lists of addresses (RFC 5322 sections 3.6.2 and 3.6.3), and fields that programs
# read, where encoded words are not allowed.
_ADDRESSES = {"from", "sender", "reply-to", "to", "cc"}
_STRUCTURED = {
    *("date", "message-id", "in-reply-to", "references"),
    *("list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post"),
    *("auto-submitted", "feedback-id", "precedence"),
}

# A message has at most one of each (RFC 5322 section 3.6).
_ONCE = {
    *_ADDRESSES,
    *("date", "message-id", "in-reply-to", "references", "subject"),
    *("list-unsubscribe", "list-unsubscribe-post"),
}
_FORBIDDEN = {
    "bcc": "every recipient would see it",
    "resent-bcc": "every recipient would see it",
    "content-transfer-encoding": "csmtplib sets it, to suit the text",
    "content-type": "csmtplib sets it, to suit the parts",
    "mime-version": "csmtplib adds it",
}

_LINE_END = re.compile(r"\n(?![ \t])")
_FIELD = re.compile(r"([!-9;-~]{1,60}):[ \t]*(.*)", re.DOTALL)
# A brace that begins no tag. The alternatives must not overlap, or the search could take very long.
_BRACE = r"\{(?![{%#])"
_QUOTED = rf'"(?:{TAG}|{_BRACE}|\\.|[^"\\{{])*"'
_ANGLE = rf"<(?:{TAG}|{_BRACE}|[^<>{{])*>"
_LIST_ITEM = re.compile(rf"(?:{TAG}|{_QUOTED}|{_ANGLE}|[^,])+", re.DOTALL)
_NAMED = re.compile(
    rf'(?P<display_name>(?:{TAG}|{_BRACE}|{_QUOTED}|[^<"{{])*)<(?P<address>[^<].*)>\s*', re.DOTALL
)
_ALL_QUOTED = re.compile(_QUOTED, re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)")
_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[bq]\?", re.IGNORECASE)
_URI = re.compile(r"(?:https?|mailto):[!-+\--;=?-~]+", re.IGNORECASE)

Variables: TypeAlias = "dict[str, object]"


class Field(NamedTuple):
    """A header field. make: returns its bytes for some variables, with CR LF at the end; raises
    whatever the template raises, and ValueError for a value that is not allowed there."""

    name: str
    constant: bool
    make: Callable[[Variables], bytes]

    def data(self, variables: Variables) -> bytes:
        """Return the bytes of the field. Raises ValueError if it can't be made from these
        variables."""
        try:
            return self.make(variables)
        # An expression may raise anything; it concerns this row only.
        except Exception as error:
            raise ValueError(f"{self.name}: {reason(error, variables)}") from error


def parse_header(block: str, environment: Environment, file: str) -> list[Field]:
    """Compile the fields of a header block, whose lines are separated by LF.

    Raises TemplateError for a line that is not a field, a field that a template may not set, a
    field that occurs twice, and a missing From.
    """
    fields: list[Field] = []
    seen: set[str] = set()
    for line, name, source in _unfolded(block, file):
        lower = name.lower()
        if lower in _FORBIDDEN:
            raise TemplateError(file, line, f"remove {name}: {_FORBIDDEN[lower]}")
        if lower in seen and lower in _ONCE:
            raise TemplateError(file, line, f"{name} occurs twice: remove one")
        seen.add(lower)
        fields.append(_field(name, source, environment, file, line))
    if "from" not in seen:
        raise TemplateError(
            file, 1, "From is missing: write header fields, an empty line, and the text"
        )
    return fields


def unsubscribe_field(source: str, environment: Environment) -> Field:
    """Compile List-Unsubscribe (RFC 2369) for a list of URIs, with List-Unsubscribe-Post (RFC 8058)
    if one of them is https. Raises TemplateError."""
    name = "List-Unsubscribe"
    # Split before values are inserted, so that no value can add another URI.
    texts = _texts([item.strip() for item in _LIST_ITEM.findall(source)], environment, name, 1)

    def make(variables: Variables) -> bytes:
        found = texts(variables)
        for uri in found:
            if _URI.fullmatch(uri) is None:
                raise ValueError(
                    f"{uri!r} is not an https, http or mailto URI: write {{{{ x | urlencode }}}} "
                    "for values in it"
                )
        data = headers.uris(name, found)
        if any(uri[:6].lower() == "https:" for uri in found):
            data += b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        return data

    return _checked(Field(name, is_constant(source), make), name, 1)


def _unfolded(block: str, file: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, name and value of each field."""
    line = 1
    for folded in _LINE_END.split(block) if block else ():
        field = folded.replace("\n", "")
        found = _FIELD.fullmatch(field)
        if found is None:
            raise TemplateError(
                file, line, f"{field!r} is not a header field: put an empty line before the text"
            )
        yield line, found[1], found[2].strip()
        line += folded.count("\n") + 1


def _field(name: str, source: str, environment: Environment, file: str, line: int) -> Field:
    if _ENCODED_WORD.search(source):
        raise TemplateError(file, line, f"{name} contains an encoded word: write it as UTF-8")
    try:
        make = _maker(name, source, environment, file, line)
    except TemplateError as error:
        raise TemplateError(error.file, error.line, f"{name}: {error.message}") from error
    return _checked(Field(name, is_constant(source), make), file, line)


def _checked(field: Field, file: str, line: int) -> Field:
    """Return the field. Raises TemplateError if its value is constant and invalid."""
    if field.constant:
        try:
            field.data({})
        except ValueError as error:
            said = str(error)
            if SINGLE_BRACES.search(said):
                said += "; write values of a row in double braces: {{ x }}"
            raise TemplateError(file, line, said) from error
    return field


def _maker(
    name: str, source: str, environment: Environment, file: str, line: int
) -> Callable[[Variables], bytes]:
    lower = name.lower()
    if lower in _ADDRESSES and not EMPTY_GROUP.fullmatch(source):
        addresses = _addresses(source, environment, file, line)
        return lambda variables: headers.mailboxes(name, addresses(variables))
    template = environment.compile(source, file, line)
    if lower in _STRUCTURED | _ADDRESSES:
        return lambda variables: headers.structured(name, template.text(variables))
    return lambda variables: headers.unstructured(name, template.text(variables))


def _addresses(
    source: str, environment: Environment, file: str, line: int
) -> Callable[[Variables], list[tuple[str, str]]]:
    """Compile a list of mailboxes: the display name, or "", and the address of each."""
    # Split before values are inserted: a comma in a name must not begin another address.
    items = [item.strip() for item in _LIST_ITEM.findall(source)]
    sources = [text for item in items for text in _mailbox(item)]
    texts = _texts(sources, environment, file, line)

    def make(variables: Variables) -> list[tuple[str, str]]:
        found = texts(variables)
        return [
            (display_name, envelope_address(address))
            for display_name, address in zip(found[::2], found[1::2], strict=True)
        ]

    return make


def _mailbox(source: str) -> tuple[str, str]:
    """Return the sources of a display name, or "", and of an address."""
    found = _NAMED.fullmatch(source)
    if found is None:
        return "", source
    display_name, address = found["display_name"].strip(), found["address"].strip()
    # Quotes are added where a value needs them, so those of the template are not needed.
    if _ALL_QUOTED.fullmatch(display_name):
        display_name = display_name[1:-1]
        if is_constant(display_name):
            display_name = _QUOTED_PAIR.sub(r"\1", display_name)
    return display_name, address


def _texts(
    sources: Sequence[str], environment: Environment, file: str, line: int
) -> Callable[[Variables], list[str]]:
    """Compile templates that belong together as one, which takes less time to render."""
    if not sources:
        raise TemplateError(file, line, "the value is empty")
    template = environment.compile("\0".join(sources), file, line)

    def make(variables: Variables) -> list[str]:
        texts = template.text(variables).split("\0")
        if len(texts) != len(sources):
            raise ValueError("a value contains NUL, or a {% %} block contains a comma or '<'")
        return texts

    return make
