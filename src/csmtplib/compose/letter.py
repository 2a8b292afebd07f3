"""A letter to many recipients: header fields and text from one file, HTML from another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from email.utils import getaddresses
from pathlib import Path
from typing import TypeAlias

from . import mime
from .fields import Field, Variables, parse_header
from .template import Environment, TemplateError, reason, unknown

StrPath: TypeAlias = "str | os.PathLike[str]"


class Part:
    """A compiled text of a letter. subtype: "plain" or "html"."""

    def __init__(self, subtype: str, source: str, environment: Environment, file: str, line: int):
        self.subtype = subtype
        self._template = environment.compile(source, file, line)
        self._constants = mime.constants(self._template.literals)

    def encoded(self, variables: Variables) -> tuple[str, list[bytes]]:
        """Return the Content-Transfer-Encoding and the bytes of the part, in buffers; messages
        share the objects that are the same in many of them.

        Raises ValueError if the text can't be made from these variables.
        """
        try:
            return mime.encoded(self._template.pieces(variables), self._constants)
        # An expression may raise anything; it concerns this row only.
        except Exception as error:
            name = "HTML" if self.subtype == "html" else "text"
            raise ValueError(f"{name} part: {reason(error, variables)}") from error


class Letter:
    """A letter to many recipients, compiled once.

    template: a file with header fields, an empty line and the text, in UTF-8. Jinja2 inserts the
    fields of a row ("To: {{ name }} <{{ email }}>"). Each header field is a template of its own.
    html: a file with the HTML part; if the text is empty, it is the only part. Included and
    extended templates are found in the directory of the file that names them. Raises OSError, and
    TemplateError for an invalid letter.
    """

    def __init__(self, template: StrPath, html: StrPath | None = None) -> None:
        self.environment = Environment(Path(template).parent, autoescape=False)
        self.file = file = os.fspath(template)
        block, line, text = _split(_read(template))
        self.fields: list[Field] = parse_header(block, self.environment, file)
        self.parts: list[Part] = []
        self._environments = [self.environment]
        if html is None or text.strip():
            self.parts.append(Part("plain", text, self.environment, file, line))
        if html is not None:
            escaping = Environment(Path(html).parent, autoescape=True)
            self._environments.append(escaping)
            self.parts.append(Part("html", _read(html), escaping, os.fspath(html), 1))

    def check(self, columns: Sequence[str], *, all_rows: bool) -> list[str]:
        """Check the letter against the columns of a table, and return warnings, one line each.

        all_rows: whether all rows have exactly these columns. Raises TemplateError for a name that
        the text needs and no column has; and for the name of a column in single braces, which would
        be sent as it is.
        """
        remarks = []
        by_lower_case = {column.lower(): column for column in columns}
        for template in [each for one in self._environments for each in one.templates]:
            for name, line in template.needed if all_rows else ():
                if name not in columns:
                    raise TemplateError(template.file, line, unknown(name, columns))
            for name, line in template.in_single_braces:
                as_it_is = f"{{{name}}} would be sent as it is"
                column = by_lower_case.get(name.lower())
                if column is not None:
                    raise TemplateError(
                        template.file,
                        line,
                        f"{as_it_is}: write {{{{ {column} }}}} for the value of the column, or "
                        f"{{{{ '{{{name}}}' }}}} for the braces",
                    )
                remarks.append(
                    f"{template.file}, line {line}: {as_it_is}; write values in {{{{ }}}}"
                )
        return remarks + self._missing()

    def _missing(self) -> list[str]:
        """Return warnings for fields that a reader expects and the header lacks."""
        # A field that is empty only for some rows is meant to be.
        there = {
            field.name.lower()
            for field in self.fields
            if not field.constant or field.data({}).partition(b":")[2].strip()
        }
        remarks = []
        if "subject" not in there:
            remarks.append(f"{self.file}: the letter has no Subject")
        if there.isdisjoint({"to", "cc"}):
            remarks.append(f"{self.file}: the letter has no To, such as To: {{{{ email }}}}")
        return remarks

    @property
    def author(self) -> str | None:
        """The (first) address in From if it is the same in all messages, else None."""
        field = next(field for field in self.fields if field.name.lower() == "from")
        if not field.constant:
            return None
        return getaddresses([field.data({}).decode().partition(":")[2].strip()])[0][1]


def _read(path: StrPath) -> str:
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TemplateError(os.fspath(path), line, "not UTF-8: save it as UTF-8") from error
    if (nul := text.find("\0")) >= 0:
        raise TemplateError(os.fspath(path), text.count("\n", 0, nul) + 1, "a NUL character")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _split(text: str) -> tuple[str, int, str]:
    """Return the header block, the line on which the text begins, and the text."""
    if text.startswith("\n"):
        return "", 2, text[1:]
    header, _, rest = text.partition("\n\n")
    return header.rstrip("\n"), header.count("\n") + 3, rest
