"""The documentation reads as if it had been written in English: phrases that it doesn't use.

Each of them was there, translated word for word, and made a reader stop.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from .pages import DIRECTIVES, PAGES, ROOT

# What to write instead.
PHRASES = {
    r"(is|are|was|were|gets?|been) told": "reported, printed, shown",
    r"tells (which|what|how|whether|the rest|of)": "says, shows, lists, describes",
    r"beside": "next to, in addition to, relative to",
    r"unasked": "unless you say so",
    r"in the midst": "in the middle of, during",
    r"under way": "in progress",
    r"mend(ed|s)?": "correct, fix",
    r"anew": "again",
    r"lest": "so that ... not",
    r"likewise": "the same, also",
    r"will do": "is enough, is accepted",
    r"(is|are) at work": "is in use, runs",
    r"what stands|stands here": "this is",
    r"what (is|has) to be": "what you can set, required",
    r"(waits?|repl(y|ies)|connections?|results?|one) a (message|line|recipient|connection)": "per",
    r"(messages?|mails?|letters?|recipients?|bytes) a second": "per second",
    r"goes? on (where|with)": "continues",
    r"takes? it for": "mistakes it for",
    r"whom it is about": "that identifies the recipient",
    r"of other makes": "of other classes",
    r"comes? to (its|their) end": "ends",
    r"much silence": "idle time",
    r"gives? way": "yields",
    r"has (it|them) (known|called|sent)": "an active verb",
}


def prose(text: str) -> str:
    """Return what a reader reads as English: the text of a page without its code."""
    words = []
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "fence" and token.info.strip().partition(" ")[0] == "{eval-rst}":
            # Directives and their options are no prose.
            lines = token.content.splitlines()
            words += [line for line in lines if not line.lstrip().startswith((":", ".."))]
        for child in token.children or ():
            if child.type in ("text", "softbreak"):
                words.append(child.content or " ")
    return " ".join(" ".join(words).split())


def found_in(text: str) -> list[str]:
    """The phrases that a page uses, each with what to write instead."""
    read = prose(text)
    return [
        f"... {read[max(found.start() - 40, 0) : found.end()]}: write {instead}"
        for phrase, instead in PHRASES.items()
        for found in re.finditer(rf"\b(?:{phrase})\b", read, re.IGNORECASE)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_is_written_in_english(page: Path) -> None:
    assert found_in(page.read_text(encoding="utf-8")) == []


def test_phrases_are_found_in_prose_and_not_in_code() -> None:
    assert "{eval-rst}" in DIRECTIVES
    assert len(found_in("Its result is\ntold; mend it.")) == 2
    assert len(found_in("| a |\n|---|\n| one a line |\n")) == 1
    assert len(found_in("```{eval-rst}\n.. x:: beside\n\n   It is beside that.\n```\n")) == 1
    assert found_in("`told beside` is code.\n\n```python\nbeside = told\n```\n") == []
