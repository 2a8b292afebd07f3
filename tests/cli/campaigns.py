"""Campaigns for tests of the commands that send them."""

from __future__ import annotations

from collections.abc import Iterable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

DATA = Path(__file__).parent.parent / "data" / "campaign"

LETTER = """\
From: Ann <ann@x.test>
To: {{ name }} <{{ email }}>
Subject: Hello {{ name }}

Dear {{ name }},
this is for you.
"""


def addresses(count: int) -> list[str]:
    """So many addresses."""
    return [f"r{number}@y.test" for number in range(1, count + 1)]


def write(
    directory: Path, recipients: Iterable[str], *, letter: str = LETTER, table: str = "table.csv"
) -> list[str]:
    """Writes a letter and a table of recipients; the arguments of `bulk` that name them, relative
    to the directory."""
    (directory / "letter.txt").write_text(letter, encoding="utf-8")
    lines = [f"{each},{each.partition('@')[0]}\n" for each in recipients]
    (directory / table).write_text("".join(["email,name\n", *lines]), encoding="utf-8")
    return ["--template", "letter.txt", table]


def parsed(data: bytes) -> EmailMessage:
    """A message as its reader has it."""
    message = message_from_bytes(data, policy=default)
    assert isinstance(message, EmailMessage)
    return message
