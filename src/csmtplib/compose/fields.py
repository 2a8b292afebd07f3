"""Header fields of a template, each compiled once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from ..protocol.message import EMPTY_GROUP
from . import headers
from .addresses import envelope_address
from .template import TAG, Environment, TemplateError, is_constant, reason

# Those that are lists of addresses (RFC 5322 section 3.6.2 and 3.6.3), and those that programs
# read and so hold no encoded words.
_ADDRESSES = {"from", "sender", "reply-to", "to", "cc"}
_STRUCTURED = {
    *("date", "message-id", "in-reply-to", "references"),
    *("list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe", "list-post"),
    *("auto-submitted", "feedback-id", "precedence"),
}

# A message has one of each at most (RFC 5322 section 3.6).
_ONCE = {
    *_ADDRESSES,
    *("date", "message-id", "in-reply-to", "references", "subject"),
    *("list-unsubscribe", "list-unsubscribe-post"),
}
_FORBIDDEN = {
    "bcc": "a recipient in it would stand in every message",
    "content-transfer-encoding": "it depends on the text",
    "content-type": "it depends on the parts",
    "mime-version": "it is added",
}

_LINE_END = re.compile(r"\n(?![ \t])")
_FIELD = re.compile(r"([!-9;-~]{1,60}):[ \t]*(.*)", re.DOTALL)
# A brace that begins no tag; each text is read in one way only, or the search could take ages.
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
    """A header field. make: its octets for some variables, CR LF at the end. Raises whatever the
    template raises, and ValueError for a value that can't stand there."""

    name: str
    constant: bool
    make: Callable[[Variables], bytes]

    def octets(self, variables: Variables) -> bytes:
        """The octets of the field. Raises ValueError where there are none for these variables."""
        try:
            return self.make(variables)
        # Whatever an expression raises, it is about this row.
        except Exception as error:
            raise ValueError(f"{self.name}: {reason(error)}") from error


def parse_header(block: str, environment: Environment, file: str) -> list[Field]:
    """The fields of a header block, lines separated by LF.

    Raises TemplateError for what is no field, what a template may not set, what is there twice, and
    where From is missing.
    """
    fields: list[Field] = []
    seen: set[str] = set()
    for line, name, source in _unfolded(block, file):
        lower = name.lower()
        if lower in _FORBIDDEN:
            raise TemplateError(file, line, f"leave {name} out: {_FORBIDDEN[lower]}")
        if lower in seen and lower in _ONCE:
            raise TemplateError(file, line, f"{name} is there for the second time")
        seen.add(lower)
        fields.append(_field(name, source, environment, file, line))
    if "from" not in seen:
        raise TemplateError(
            file, 1, "From is missing: begin with header fields, then an empty line"
        )
    return fields


def unsubscribe_field(source: str, environment: Environment) -> Field:
    """List-Unsubscribe (RFC 2369) for a list of URIs, with List-Unsubscribe-Post (RFC 8058) where
    one of them is https. Raises TemplateError."""
    name = "List-Unsubscribe"
    # Cut here and not where values are in it, so that no value can add another.
    texts = _texts([item.strip() for item in _LIST_ITEM.findall(source)], environment, name, 1)

    def make(variables: Variables) -> bytes:
        found = texts(variables)
        for uri in found:
            if _URI.fullmatch(uri) is None:
                raise ValueError(
                    f"{uri!r} is no https, http or mailto URI: write {{{{ x | urlencode }}}} for "
                    "values in it"
                )
        octets = headers.uris(name, found)
        if any(uri[:6].lower() == "https:" for uri in found):
            octets += b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        return octets

    return _checked(Field(name, is_constant(source), make), name, 1)


def _unfolded(block: str, file: str) -> Iterator[tuple[int, str, str]]:
    """The line, name and value of each field."""
    line = 1
    for folded in _LINE_END.split(block) if block else ():
        field = folded.replace("\n", "")
        found = _FIELD.fullmatch(field)
        if found is None:
            raise TemplateError(
                file, line, f"{field!r} is no header field: put an empty line before the text"
            )
        yield line, found[1], found[2].strip()
        line += folded.count("\n") + 1


def _field(name: str, source: str, environment: Environment, file: str, line: int) -> Field:
    if _ENCODED_WORD.search(source):
        raise TemplateError(file, line, f"{name} has an encoded word: write it as UTF-8")
    try:
        make = _maker(name, source, environment, file, line)
    except TemplateError as error:
        raise TemplateError(error.file, error.line, f"{name}: {error.message}") from error
    return _checked(Field(name, is_constant(source), make), file, line)


def _checked(field: Field, file: str, line: int) -> Field:
    """The field, if it can stand in a header at all."""
    if field.constant:
        try:
            field.octets({})
        except ValueError as error:
            raise TemplateError(file, line, str(error)) from error
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
    """Display name, or "", and address of each mailbox of a list."""
    # Cut here and not where values are in it: a comma in a name begins no other address.
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
    """The sources of a display name, or "", and of an address."""
    found = _NAMED.fullmatch(source)
    if found is None:
        return "", source
    display_name, address = found["display_name"].strip(), found["address"].strip()
    # Values are quoted as they need it, in quotes or not.
    if _ALL_QUOTED.fullmatch(display_name):
        display_name = display_name[1:-1]
        if is_constant(display_name):
            display_name = _QUOTED_PAIR.sub(r"\1", display_name)
    return display_name, address


def _texts(
    sources: Sequence[str], environment: Environment, file: str, line: int
) -> Callable[[Variables], list[str]]:
    """What templates that belong together give. As one template they take less time."""
    if not sources:
        raise TemplateError(file, line, "nothing is there")
    template = environment.compile("\0".join(sources), file, line)

    def make(variables: Variables) -> list[str]:
        texts = template.text(variables).split("\0")
        if len(texts) != len(sources):
            raise ValueError("a value holds NUL, or a {% %} has a comma or a '<' in its block")
        return texts

    return make
