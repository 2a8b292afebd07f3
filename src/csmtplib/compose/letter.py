"""A letter to many: header fields and a text from one file, an HTML part from another."""

from __future__ import annotations

import os
from email.utils import getaddresses
from pathlib import Path
from typing import TypeAlias

from . import mime
from .fields import Field, Variables, parse_header
from .template import Environment, TemplateError, reason

StrPath: TypeAlias = "str | os.PathLike[str]"


class Part:
    """A text of a letter, compiled. subtype: "plain" or "html"."""

    def __init__(self, subtype: str, source: str, environment: Environment, file: str, line: int):
        self.subtype = subtype
        self._template = environment.compile(source, file, line)
        self._constants = mime.constants(self._template.literals)

    def encoded(self, variables: Variables) -> tuple[str, list[bytes]]:
        """The Content-Transfer-Encoding and the octets of the part, in buffers; those that are the
        same in many messages are the same objects.

        Raises ValueError where the text can't be made of these variables.
        """
        try:
            return mime.encoded(self._template.pieces(variables), self._constants)
        # Whatever an expression raises, it is about this row.
        except Exception as error:
            name = "HTML" if self.subtype == "html" else "text"
            raise ValueError(f"{name} part: {reason(error)}") from error


class Letter:
    """A letter to many, compiled once.

    template: a file with header fields, an empty line and the text, in UTF-8, where Jinja2 puts the
    fields of a row in ("To: {{ name }} <{{ email }}>"). A field of the header is a template of its
    own. html: a file with the HTML part; where the text is empty, it is the only part. Includes and
    ancestors are found beside their files. Raises OSError, and TemplateError for what is no letter.
    """

    def __init__(self, template: StrPath, html: StrPath | None = None) -> None:
        self.environment = Environment(Path(template).parent, autoescape=False)
        file = os.fspath(template)
        block, line, text = _split(_read(template))
        self.fields: list[Field] = parse_header(block, self.environment, file)
        self.parts: list[Part] = []
        if html is None or text.strip():
            self.parts.append(Part("plain", text, self.environment, file, line))
        if html is not None:
            escaping = Environment(Path(html).parent, autoescape=True)
            self.parts.append(Part("html", _read(html), escaping, os.fspath(html), 1))

    @property
    def author(self) -> str | None:
        """The address in From, where all messages have the same; the first, if there are more."""
        field = next(field for field in self.fields if field.name.lower() == "from")
        if not field.constant:
            return None
        return getaddresses([field.octets({}).decode().partition(":")[2].strip()])[0][1]


def _read(path: StrPath) -> str:
    octets = Path(path).read_bytes()
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise TemplateError(os.fspath(path), line, "not UTF-8: save it with that") from error
    if (nul := text.find("\0")) >= 0:
        raise TemplateError(os.fspath(path), text.count("\n", 0, nul) + 1, "a NUL character")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _split(text: str) -> tuple[str, int, str]:
    """The header block, the line on which the text begins, and the text."""
    if text.startswith("\n"):
        return "", 2, text[1:]
    header, _, rest = text.partition("\n\n")
    return header.rstrip("\n"), header.count("\n") + 3, rest
