"""The picture of a terminal in the README."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from ..requirements import needs_terminals
from .picture import COLUMNS, PICTURE, session, svg

# Without the numbers, and the bar that they move.
VARIES = re.compile(r"[0-9.:]+|[^\x00-\x7f]+| {2,}")


def lines_of(picture: str) -> list[str]:
    """The lines of a picture, those of different runs alike."""
    texts = [each for each in ElementTree.fromstring(picture) if each.tag.endswith("}text")]
    return [VARIES.sub("#", each.text or "") for each in texts]


@needs_terminals
def test_the_picture_shows_what_the_commands_print(tmp_path: Path) -> None:
    drawn = PICTURE.read_text("utf-8")
    assert lines_of(drawn) == lines_of(svg(session(tmp_path)))
    assert max(len(each) for each in lines_of(drawn)) <= COLUMNS
    assert len(drawn) < 5_000
