"""Letters as fixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from csmtplib.compose.letter import Letter


class Writing(Protocol):
    """A letter with a header, a text and an HTML part, as templates."""

    def __call__(
        self, text: str = "", html: str | None = None, header: str = "From: a@x.example"
    ) -> Letter: ...


@pytest.fixture
def write_letter(tmp_path: Path) -> Writing:
    def write(text: str = "", html: str | None = None, header: str = "From: a@x.example") -> Letter:
        path = tmp_path / "letter.txt"
        path.write_bytes(f"{header}\n\n{text}".encode())
        if html is None:
            return Letter(path)
        (tmp_path / "letter.html").write_bytes(html.encode())
        return Letter(path, tmp_path / "letter.html")

    return write
