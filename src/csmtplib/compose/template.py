"""Jinja2 templates, compiled once and rendered in pieces, and the names that they use.

This module, and those that import it, require Jinja2.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple

import jinja2
from jinja2 import meta, nodes
from jinja2.defaults import DEFAULT_NAMESPACE
from jinja2.sandbox import SandboxedEnvironment

# Markup of Jinja2. Text without it is the same in each message.
TAG = r"\{(?:\{(?:(?!\}\}).)*\}|%(?:(?!%\}).)*%|#(?:(?!#\}).)*#)\}"
_OPENING = ("{{", "{%", "{#")
_UNDEFINED = re.compile(r"'(.+)' is undefined")
# "{name}", as in str.format().
SINGLE_BRACES = re.compile(r"\{[ \t]*([^\W\d]\w*)[ \t]*\}")
# Filters and tests that accept an undefined variable.
_GUARDS = {"default", "d", "defined", "undefined"}


class Use(NamedTuple):
    """A name, and the line of the template on which it occurs, from 1 on."""

    name: str
    line: int


class TemplateError(ValueError):
    """An invalid template: the file, the line in it, and what is wrong there."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}, line {line}: {message}")
        self.file = file
        self.line = line
        self.message = message


class Environment:
    """The environment of the templates in one directory, and of those that they include or extend.

    autoescape: whether to escape "<" and the like in values, for HTML. templates: those compiled
    so far.
    """

    def __init__(self, directory: str | os.PathLike[str], *, autoescape: bool) -> None:
        self._jinja = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(directory),
            undefined=jinja2.StrictUndefined,
            autoescape=autoescape,
            finalize=_not_null,
            keep_trailing_newline=True,
            newline_sequence="\r\n",
            # All messages of a campaign are made from the same templates.
            auto_reload=False,
        )
        # A message that is made again must have the same bytes.
        del self._jinja.filters["random"]
        del self._jinja.globals["lipsum"]
        self._globals = dict(self._jinja.globals)
        self.templates: list[Template] = []

    def compile(self, source: str, file: str, line: int = 1) -> Template:
        """Compile a template, whose source begins on this line of this file.

        Raises TemplateError for a syntax error, and if an included file is missing.
        """
        try:
            code = self._jinja.compile(source, filename=file)
            literals = set(self._literals(source, set()))
        except jinja2.TemplateSyntaxError as error:
            # An included file is named as the loader names it.
            inside = error.filename in (None, file, "<unknown>")
            at = line + error.lineno - 1 if inside else error.lineno
            raise TemplateError(
                file if inside else str(error.filename), at, error.message or "a syntax error"
            ) from error
        except jinja2.TemplateNotFound as error:
            raise TemplateError(
                file, line, f"there is no file {error.name} in its directory"
            ) from error
        compiled = jinja2.Template.from_code(self._jinja, code, {})
        template = Template(compiled, literals, self._jinja.parse(source), file, line)
        self.templates.append(template)
        return template

    def variables(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Return the variables of a template: the fields, and the functions of Jinja2 whose names
        no field has."""
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
    """A compiled template. literals: the text in it that is not markup. file, line: where it
    begins. needed: the names without which no text can be made. in_single_braces: names in single
    braces, which are sent as they are."""

    def __init__(
        self,
        template: jinja2.Template,
        literals: set[str],
        tree: nodes.Template,
        file: str,
        line: int,
    ) -> None:
        self.literals = literals
        self.file = file
        self.needed = [self._placed(use, line) for use in needed(tree)]
        self.in_single_braces = [self._placed(use, line) for use in in_single_braces(tree)]
        self._template = template

    @staticmethod
    def _placed(use: Use, line: int) -> Use:
        return use._replace(line=use.line + line - 1)

    def pieces(self, variables: dict[str, object]) -> Iterable[str]:
        """Render the text piece by piece, with the literals as pieces of their own.

        variables: from Environment.variables(). Raises whatever an expression of the template
        raises, while it is iterated; see reason().
        """
        # Shared: the variables are not copied. Nothing writes to them.
        template = self._template
        return template.root_render_func(template.new_context(variables, shared=True))

    def text(self, variables: dict[str, object]) -> str:
        """Render the whole text. Raises what pieces() raises."""
        return "".join(self.pieces(variables))


def _referenced(tree: nodes.Template) -> Iterator[str]:
    """Yield the names of the files that a template requires."""
    for node in tree.find_all((nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)):
        name = getattr(node, "template", None)
        if isinstance(name, nodes.Const) and not getattr(node, "ignore_missing", False):
            yield str(name.value)


def is_constant(source: str) -> bool:
    """Return whether the source of a template contains no markup."""
    return not any(mark in source for mark in _OPENING)


def reason(error: Exception, variables: Mapping[str, object]) -> str:
    """Return the reason why a template could not be rendered with these variables, in words."""
    if isinstance(error, jinja2.UndefinedError):
        said = str(error.message)
        if (found := _UNDEFINED.fullmatch(said)) is not None and found[1] not in variables:
            fields = [name for name in variables if name not in DEFAULT_NAMESPACE]
            return unknown(found[1], fields)
        return f"{said}; give it a value, or a default: {{{{ x | default('') }}}}"
    if isinstance(error, UnicodeEncodeError):
        return "a value is not valid Unicode: it contains half of a surrogate pair"
    if isinstance(error, (ValueError, jinja2.TemplateError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _not_null(value: object) -> object:
    if value is None:
        raise ValueError("a value is null: write {{ x or '' }} to leave it empty")
    return value


def needed(tree: nodes.Template) -> Iterator[Use]:
    """Yield the variables without which no text can be made: those in expressions that are always
    evaluated."""
    free = meta.find_undeclared_variables(tree)
    for statement in tree.body:
        if isinstance(statement, nodes.Output):
            for name in _certain(statement):
                if name.name in free:
                    yield Use(name.name, name.lineno)


def _certain(node: nodes.Node) -> Iterator[nodes.Name]:
    """Yield the names in an expression that are always looked up and must be defined."""
    if isinstance(node, nodes.Name):
        yield node
        return
    if isinstance(node, (nodes.Filter, nodes.Test)) and node.name in _GUARDS:
        return
    if isinstance(node, nodes.CondExpr):
        inner: Iterable[nodes.Node] = [node.test]
    elif isinstance(node, (nodes.And, nodes.Or)):
        inner = [node.left]
    else:
        inner = node.iter_child_nodes()
    for each in inner:
        yield from _certain(each)


def in_single_braces(tree: nodes.Template) -> Iterator[Use]:
    """Yield the names in single braces in the text of a template, which are sent as they are."""
    for data in tree.find_all(nodes.TemplateData):
        for found in SINGLE_BRACES.finditer(data.data):
            yield Use(found[1], data.lineno + data.data.count("\n", 0, found.start()))


def unknown(name: str, columns: Collection[str]) -> str:
    """Return the message for a name that no column has."""
    by_lower_case = {column.lower(): column for column in columns}
    near = get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    if near:
        hint = f"did you mean {by_lower_case[near[0]]!r}?"
    else:
        hint = f"for a default, write {{{{ {name} | default('') }}}}"
    there = ", ".join(map(repr, columns)) or "none"
    return f"no column is named {name!r}; columns: {there}; {hint}"
