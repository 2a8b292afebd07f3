"""Docstrings, which are plain text, as autodoc is to have them.

What they say of parameters and attributes, "name: meaning" one behind the other, becomes a list;
what they raise stands by itself; names of what is public become links, and other names code.
"""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata

import csmtplib
import csmtplib.aio
import csmtplib.bulk
import csmtplib.compose

PUBLIC = {
    **{name: f"csmtplib.{name}" for name in csmtplib.__all__},
    **{name: f"csmtplib.{name}" for name in ("DSN", "LMTP", "MailObject", "Outcome", "Result")},
    **{name: f"csmtplib.{name}" for name in ("State", "install", "uninstall")},
    **{name: f"csmtplib.bulk.{name}" for name in csmtplib.bulk.__all__},
    **{name: f"csmtplib.compose.{name}" for name in csmtplib.compose.__all__},
    "Entry": "csmtplib.bulk.journal.Entry",
    "Server": "csmtplib.protocol.server_url.Server",
    "ServerURLError": "csmtplib.protocol.server_url.ServerURLError",
    "TLS": "csmtplib.protocol.server_url.TLS",
    "parse": "csmtplib.protocol.server_url.parse",
}
"""What is public, by its name, and where it is documented."""

AIO = {name: f"csmtplib.aio.{name}" for name in csmtplib.aio.__all__}
"""The same within csmtplib.aio, where some of these names mean something else."""

TYPES = {
    **{
        name: f"csmtplib.{name}"
        for name in ("BytesLike", "Refusals", "Sendable", "SourceAddress", "StrOrBytesPath", "Text")
    },
    "StrPath": "csmtplib.compose.StrPath",
}
"""Names of types that stand in signatures alone."""

# What named tuples say of themselves and their fields, if they are asked.
_OF_NAMED_TUPLES = ("Alias for field number", "Create new instance of")
# A name or several, at the beginning of a sentence, before a colon.
_ENTRY = re.compile(r"(?:^|(?<=\.) )((?:\w+, )*\w+): ")
_RAISES = re.compile(r"(?:^|(?<=\.) )(?=Raises )")
# What is to be code: `this`; names called; names with dots, from the packages that occur; and
# names of two words in one, as classes have them.
_CODE = re.compile(
    r"`(?P<marked>[^`]+)`"
    r"|(?P<called>\w+(?:\.\w+)*)\(\)"
    r"|\b(?P<dotted>(?:csmtplib|email|smtplib|ssl|bulk|protocol|delivery|journal)(?:\.\w+)+)"
    r"|\b(?P<camel>[A-Z]+[a-z]+(?:[A-Z]\w+)+|[A-Z]{2,}[a-z]\w+)\b"
)
# The title of a paragraph that is indented, line by line: code.
_EXAMPLE = "Example"
# The classes whose methods are documented as those of SMTP, but for what LMTP has of its own.
_SMTP = {"Connection", "Session", "SMTP", "SMTP_SSL", "LMTP"}
# The name of a constant as the default of a parameter.
_CONSTANT = re.compile(r"(?<= = )[A-Za-z_][\w.]*")
_SPECIAL = re.compile(r"([\\*|@]|(?<=\w)_(?!\w))")


def process(
    app: Sphinx, what: str, name: str, thing: Any, options: object, lines: list[str]
) -> None:
    """Marks a docstring up, in place."""
    if lines and lines[0].startswith(_OF_NAMED_TUPLES):
        lines.clear()
    lines[:] = marked_up(lines, thing)


def marked_up(lines: list[str], thing: Any) -> list[str]:
    """The lines of a docstring of that thing as reStructuredText."""
    marked = []
    for title, parts in groupby(_parts(lines, thing), key=itemgetter(0)):
        if title == _EXAMPLE:
            marked += [".. code-block:: python", "", *(text for _, _, text in parts), ""]
            continue
        texts = [
            _inline(text, thing) if names is None else f"{_bold(names)} {_inline(text, thing)}"
            for _, names, text in parts
        ]
        if title is None:
            marked += [line for text in texts for line in (text, "")]
        elif title == "Raises" and len(texts) == 1:
            marked += [f":Raises: {texts[0]}", ""]
        else:
            marked += [f":{title}:", *(f"   * {text}" for text in texts), ""]
    return marked


def _bold(names: str) -> str:
    return ", ".join(f"**{name}**" for name in names.split(", ")) + " \N{EN DASH}"


def _parts(lines: list[str], thing: Any) -> Iterator[tuple[str | None, str | None, str]]:
    """The title of the list that it is in, None for none; what it tells of, None for nothing that
    has a name; and the text of each part."""
    names = _names(thing)
    title = _title(thing, lines)
    for paragraph in "\n".join(lines).split("\n\n"):
        if all(line.startswith("    ") for line in paragraph.splitlines()):
            yield from ((_EXAMPLE, None, line) for line in paragraph.splitlines())
            continue
        for part in filter(None, _RAISES.split(" ".join(paragraph.split()))):
            if part.startswith("Raises "):
                yield "Raises", None, part.removeprefix("Raises ").strip()
                continue
            found = [
                each for each in _ENTRY.finditer(part) if names.issuperset(each[1].split(", "))
            ]
            ends = [each.start() for each in found] + [len(part)]
            if ends[0]:
                yield None, None, part[: ends[0]]
            for each, end in zip(found, ends[1:], strict=True):
                yield title, each[1], part[each.end() : end].strip()


def _names(thing: Any) -> set[str]:
    """What a docstring may tell the meaning of: parameters, and attributes of a class."""
    names = set(_parameters(thing))
    if inspect.isclass(thing):
        for each in thing.__mro__:
            names |= set(vars(each)) | set(vars(each).get("__annotations__", ()))
            # Set by __init__ alone.
            init = vars(each).get("__init__")
            if inspect.isfunction(init):
                names |= set(init.__code__.co_names)
    return names


def _parameters(thing: Any) -> list[str]:
    try:
        return list(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return []


def _title(thing: Any, lines: list[str]) -> str:
    """What a docstring of that thing lists."""
    if dataclasses.is_dataclass(thing) or hasattr(thing, "_fields"):
        return "Fields"
    listed = {name for each in _ENTRY.findall(" ".join(lines)) for name in each.split(", ")}
    others = listed & _names(thing) - set(_parameters(thing))
    return "Attributes" if others else "Parameters"


def _inline(text: str, thing: Any) -> str:
    """The text with its code as code, and everything else as it is."""
    marked = []
    position = 0
    for found in _CODE.finditer(text):
        marked.append(_SPECIAL.sub(r"\\\1", text[position : found.start()]))
        marked.append(_code(found, thing))
        position = found.end()
    marked.append(_SPECIAL.sub(r"\\\1", text[position:]))
    return "".join(marked)


def _code(found: re.Match[str], thing: Any) -> str:
    shown = found["marked"] or found[0]
    name = shown.removesuffix("()")
    owner, _, last = name.rpartition(".")
    public = _public(thing)
    complete = {*PUBLIC.values(), *AIO.values()}
    target = None
    if name in complete or owner in complete:
        target = name
    elif owner in public:
        target = f"{public[owner]}.{last}"
    elif last in public and (not owner or found["dotted"]):
        target = public[last]
    elif not owner and found["called"]:
        target = _method(thing, last)
    if target is not None:
        return rf":py:obj:`{shown} <{target}>`\ "
    if found["camel"] and not hasattr(builtins, name):
        return shown
    return rf"``{shown}``\ "


def _method(thing: Any, name: str) -> str | None:
    """Where the method of the same class is documented."""
    public = _public(thing)
    owner = thing.__name__ if inspect.isclass(thing) else _owner(thing)
    lmtp = csmtplib.aio.LMTP if public is not PUBLIC else csmtplib.LMTP
    if owner in _SMTP and not (owner == "LMTP" and name in vars(lmtp)):
        owner = "SMTP"
    if owner not in public:
        return None
    module, _, attribute = public[owner].rpartition(".")
    cls = getattr(importlib.import_module(module), attribute)
    return f"{public[owner]}.{name}" if callable(getattr(cls, name, None)) else None


def _public(thing: Any) -> dict[str, str]:
    """What is public, as the module of a thing names it."""
    if isinstance(thing, property):
        thing = thing.fget
    module = str(getattr(thing, "__module__", ""))
    return PUBLIC | AIO if module.startswith("csmtplib.aio") else PUBLIC


def _owner(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", "")).rpartition(".")[0]


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """What a name in a signature leads to, where it is not documented by just that name."""
    target = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py":
        return None
    root, _, _ = target.partition(".")
    known = PUBLIC | TYPES
    if target.startswith("csmtplib.aio.") or (
        root == target and node.get("py:module") == "csmtplib.aio"
    ):
        known |= AIO
    documented = known.get(target.rpartition(".")[2])
    if root in ("csmtplib", target) and documented is not None:
        domain = env.domains.python_domain
        return domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", documented, node, content
        )
    return None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-bases", show_bases)
    app.connect("autodoc-process-signature", show_numbers)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}


def show_bases(app: Sphinx, name: str, thing: Any, options: object, bases: list[Any]) -> None:
    """Leaves out bases that are nobody's to use."""
    bases[:] = [
        base
        for base in bases
        if base.__name__ in PUBLIC or base.__name__ in AIO or hasattr(builtins, base.__name__)
    ]


def show_numbers(
    app: Sphinx,
    what: str,
    name: str,
    thing: Any,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None] | None:
    """Shows the number of a default, in place of the constant that has it."""
    if signature is None:
        return None
    # A class may have its arguments from a base in another module.
    defined = thing.__init__ if inspect.isclass(thing) else thing
    names = vars(sys.modules[getattr(defined, "__module__", thing.__module__)])

    def number(found: re.Match[str]) -> str:
        first, *others = found[0].split(".")
        value = names.get(first)
        for each in others:
            value = getattr(value, each, None)
        return str(value) if type(value) in (int, float) else found[0]

    return _CONSTANT.sub(number, signature), returns
