"""Colours for the states of recipients, on a terminal that has them."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_CODES = {"accepted": 32, "rejected": 31, "deferred": 33, "in doubt": 35}
_NAMES = "|".join(_CODES)

# "3 accepted" in a sentence, unless the number is 0; "accepted" as the cell of a table.
_STATE = re.compile(
    rf"(?<![\w.,-])[1-9][\d.,]*k? (?P<counted>{_NAMES})(?!\w)"
    rf"|(?:^|(?<=  )|(?<=: ))(?P<alone>{_NAMES})(?=  |$)"
)


def coloured(line: str, stream: TextIO) -> str:
    """Return the line with its states in colour; unchanged if the stream is not a terminal, or the
    user wants no colours (https://no-color.org)."""
    if not has_colours(stream):
        return line
    return _STATE.sub(_colour, line)


def has_colours(stream: TextIO) -> bool:
    """Return whether the stream is a terminal on which colours are wanted."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or sys.platform == "win32":
        return False
    return stream.isatty()


def _colour(found: re.Match[str]) -> str:
    return f"\x1b[{_CODES[found['counted'] or found['alone']]}m{found[0]}\x1b[m"
