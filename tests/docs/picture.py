"""Draws docs/static/campaign.svg: a campaign that is killed and resumed, as a terminal shows it.

    python -m tests.docs.picture

runs the commands, and draws what they print.
"""

from __future__ import annotations

import html
import shlex
import shutil
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..cli.campaigns import DATA
from ..cli.terminal import Terminal

PICTURE = Path(__file__).parents[2] / "docs" / "static" / "campaign.svg"

COLUMNS = 96
SECONDS = 60.0
FILES = ("letter.txt", "letter.html", "recipients.csv")

BULK = "bulk --template letter.txt --journal may.journal --server sink:outbox recipients.csv"
# The server is named so that the summary shows its directory as it is given.
RESUME = "resume --server sink:outbox may.journal"
# The run is killed as soon as its bar begins with this: between 50 % and 59 %.
HALF = "\r 5"

CHARACTER = 7.83
LINE = 19
MARGIN = 14
STYLE = (
    "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "white-space:pre;fill:#d1d7e0}.command{fill:#7ee787}.bar{fill:#79c0ff}.killed{fill:#ff7b72}"
)

# The class of a line, and its text.
Line = tuple[str, str]


def session(directory: Path) -> Iterator[Line]:
    """Run the commands in a directory; yield each of them, and the lines that it prints."""
    for each in FILES:
        shutil.copyfile(DATA / each, directory / each)
    yield "command", f"$ csmtplib {BULK}"
    with Terminal(*shlex.split(BULK), cwd=directory, columns=COLUMNS, seconds=SECONDS) as terminal:
        terminal.until(HALF)
        terminal.process.kill()
        terminal.end()
        _, _, bar = terminal.written.partition(HALF)
    yield "bar", HALF.strip("\r") + bar.partition("\r")[0].rstrip()
    yield "killed", "Killed"
    yield "command", f"$ csmtplib {RESUME}"
    with Terminal(
        *shlex.split(RESUME), cwd=directory, columns=COLUMNS, seconds=SECONDS
    ) as terminal:
        terminal.end()
        lines = terminal.screen()
    for line in lines:
        # As a terminal breaks them.
        for part in textwrap.wrap(line, COLUMNS):
            yield "", part


def svg(lines: Iterable[Line]) -> str:
    """Return the picture of a terminal with these lines."""
    drawn = []
    for number, (kind, line) in enumerate(lines, 1):
        named = f' class="{kind}"' if kind else ""
        drawn.append(
            f'<text{named} x="{MARGIN}" y="{MARGIN + LINE * number - 5}">{html.escape(line)}</text>'
        )
    width = round(2 * MARGIN + CHARACTER * COLUMNS)
    height = 2 * MARGIN + LINE * len(drawn)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            "<title>A campaign that is killed and resumed</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#151b23"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        PICTURE.write_text(svg(session(Path(directory))), encoding="utf-8")


if __name__ == "__main__":
    main()
