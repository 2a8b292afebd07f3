"""docs/develop.md: the functions that it names are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from ..test_house import MODULES, ROOMS


def walk() -> list[str]:
    """Return the names in docs/develop.md on the way of a message."""
    page = (Path(__file__).parents[2] / "docs" / "develop.md").read_text("utf-8")
    _, _, page = page.partition("How one message gets from a call to the wire")
    page, _, _ = page.partition("The rules that no test can hold")
    rooms = "|".join(ROOMS)
    return re.findall(rf"`((?:{rooms})(?:\.\w+)+)`", page)


def test_the_way_of_a_message_is_described_as_it_is() -> None:
    named = walk()
    assert len(named) > 30
    for name in named:
        parts = ["csmtplib", *name.split(".")]
        size = max(n for n in range(1, len(parts)) if ".".join(parts[:n]) in MODULES)
        found: object = importlib.import_module(".".join(parts[:size]))
        for part in parts[size:]:
            found = getattr(found, part)
