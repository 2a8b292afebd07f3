"""The pages of the documentation, and the code in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

# What Sphinx makes of these is no code.
DIRECTIVES = {"{command}", "{eval-rst}", "{image}", "{include}", "{toctree}"}

_OPTION = re.compile(r":([\w-]+):[ \t]*(.*)\n")
_MARK = re.compile(r"<!-- (.*) -->\s*")


class PageError(Exception):
    """A block that nobody could run."""


@dataclass(frozen=True)
class Block:
    """A code block.

    line: of its first line of code. caption: names the file that it shows, "" for other blocks.
    mark: what a comment right before it says.
    """

    page: Path
    line: int
    language: str
    text: str
    caption: str = ""
    mark: str = ""

    def __str__(self) -> str:
        return f"{os.path.relpath(self.page, ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page, in order. Raises PageError for one that can't be told apart."""
    mark = ""
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            found = _MARK.fullmatch(token.content)
            mark = found[1] if found else ""
            continue
        if token.type == "code_block":
            assert token.map is not None
            raise PageError(f"{page}:{token.map[0] + 1}: fence it, and say what it is")
        if token.type == "fence":
            assert token.map is not None
            name, _, language = token.info.strip().partition(" ")
            if name not in DIRECTIVES:
                line = token.map[0] + 2
                yield _block(page, line, name, language, token.content, mark)
        mark = ""


def _block(page: Path, line: int, name: str, language: str, text: str, mark: str) -> Block:
    if not name.startswith("{"):
        return Block(page, line, name, text, mark=mark)
    if name != "{code-block}":
        raise PageError(f"{page}:{line - 1}: what is {name}? It is no directive of DIRECTIVES")
    options = {}
    while found := _OPTION.match(text):
        options[found[1]] = found[2]
        text = text[found.end() :]
        line += 1
    blank = len(text) - len(text.lstrip("\n"))
    return Block(page, line + blank, language, text[blank:], options.get("caption", ""), mark)
