"""Jinja2 templates, compiled once and rendered in pieces. This and what imports it need Jinja2."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

import jinja2
from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment

# Markup of Jinja2. A text without it is the same in each message.
TAG = r"\{(?:\{(?:(?!\}\}).)*\}|%(?:(?!%\}).)*%|#(?:(?!#\}).)*#)\}"
_OPENING = ("{{", "{%", "{#")


class TemplateError(ValueError):
    """A template that can't be used: the file, the line in it, and what is wrong there."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}, line {line}: {message}")
        self.file = file
        self.line = line
        self.message = message


class Environment:
    """What the templates of one directory, and those that they include or extend, have in common.

    autoescape: for HTML, where "<" in a value stands for itself.
    """

    def __init__(self, directory: str | os.PathLike[str], *, autoescape: bool) -> None:
        self._jinja = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(directory),
            undefined=jinja2.StrictUndefined,
            autoescape=autoescape,
            finalize=_not_null,
            keep_trailing_newline=True,
            newline_sequence="\r\n",
            # Messages of one campaign are made of the same templates.
            auto_reload=False,
        )
        # A message that is made again has the same octets again.
        del self._jinja.filters["random"]
        del self._jinja.globals["lipsum"]
        self._globals = dict(self._jinja.globals)

    def compile(self, source: str, file: str, line: int = 1) -> Template:
        """The template with this source, which stands on that line of that file.

        Raises TemplateError for what Jinja2 can't compile, and where an included file is missing.
        """
        try:
            code = self._jinja.compile(source, filename=file)
            literals = set(self._literals(source, set()))
        except jinja2.TemplateSyntaxError as error:
            # Names of included files are those that the loader has.
            inside = error.filename in (None, file, "<unknown>")
            at = line + error.lineno - 1 if inside else error.lineno
            raise TemplateError(
                file if inside else str(error.filename), at, error.message or "a syntax error"
            ) from error
        except jinja2.TemplateNotFound as error:
            raise TemplateError(file, line, f"there is no file {error.name} beside it") from error
        return Template(jinja2.Template.from_code(self._jinja, code, {}), literals)

    def variables(self, fields: Mapping[str, object]) -> dict[str, object]:
        """What a template finds by name: the fields, and the functions of Jinja2 where no field
        has their name."""
        return {**self._globals, **fields}

    def _literals(self, source: str, seen: set[str]) -> Iterator[str]:
        tree = self._jinja.parse(source)
        for data in tree.find_all(nodes.TemplateData):
            yield data.data
        for name in _referenced(tree):
            if name not in seen:
                seen.add(name)
                self._jinja.get_template(name)
                assert self._jinja.loader is not None
                source, *_ = self._jinja.loader.get_source(self._jinja, name)
                yield from self._literals(source, seen)


class Template:
    """A compiled template. literals: the texts in it that are no markup."""

    def __init__(self, template: jinja2.Template, literals: set[str]) -> None:
        self.literals = literals
        self._template = template

    def pieces(self, variables: dict[str, object]) -> Iterable[str]:
        """The text that it gives, piece by piece, literals as they are.

        variables: those of its environment. Raises whatever an expression of the template raises,
        when it is iterated; see `reason`.
        """
        # Shared: the variables are not copied. They are not written to either.
        template = self._template
        return template.root_render_func(template.new_context(variables, shared=True))

    def text(self, variables: dict[str, object]) -> str:
        """The text as a whole. Raises what pieces() raises."""
        return "".join(self.pieces(variables))


def _referenced(tree: nodes.Template) -> Iterator[str]:
    """The files that a template can't do without."""
    for node in tree.find_all((nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)):
        name = getattr(node, "template", None)
        if isinstance(name, nodes.Const) and not getattr(node, "ignore_missing", False):
            yield str(name.value)


def is_constant(source: str) -> bool:
    """Whether the source of a template is its text."""
    return not any(mark in source for mark in _OPENING)


def reason(error: Exception) -> str:
    """Why a template could not be rendered, in words."""
    if isinstance(error, jinja2.UndefinedError):
        return f"{error.message}; give it a value, or a default: {{{{ x | default('') }}}}"
    if isinstance(error, UnicodeEncodeError):
        return "a value is no Unicode: it holds half of a surrogate pair"
    if isinstance(error, (ValueError, jinja2.TemplateError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _not_null(value: object) -> object:
    if value is None:
        raise ValueError("a value is null: {{ x or '' }} writes nothing for it")
    return value
