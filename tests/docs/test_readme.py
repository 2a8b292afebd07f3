"""README.md and its like: right wherever they are read: in a clone, on GitHub, and on PyPI."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from .mailhost import MailHost
from .pages import ROOT, Block
from .test_blocks import own, read, run_all
from .test_blocks import site as site

README = ROOT / "README.md"
DOCS = "https://csmtplib.readthedocs.io/"
FILES = re.compile(
    r"https://(?:raw\.githubusercontent\.com/csmtplib/csmtplib/main"
    r"|github\.com/csmtplib/csmtplib/(?:blob|tree)/main)/(.+)"
)
BLOCKS = own(README)


def links(page: Path) -> list[str]:
    """Everything that a page links to, pictures included."""
    text = page.read_text("utf-8")
    return re.findall(r"(?:\]\(|\]: |src=\"|srcset=\")([^)\"\s]+)", text)


def slugs(page: Path) -> set[str]:
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9]+", "-", each.lower()).strip("-") for each in headings}


def test_it_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_somewhere(name: str) -> None:
    found = links(ROOT / name)
    assert len(found) > 2
    for link in found:
        # PyPI shows it without the repository.
        assert link.startswith("https://"), link
        if link.startswith(DOCS) and link != DOCS:
            name, _, anchor = link.removeprefix(f"{DOCS}en/latest/").partition("#")
            page = ROOT / "docs" / name.replace(".html", ".md")
            assert page.exists(), link
            assert not anchor or anchor in slugs(page), link
        elif named := FILES.fullmatch(link):
            assert (ROOT / named[1]).exists(), link


@pytest.mark.skipif(sys.platform == "win32", reason="the examples are for a POSIX shell")
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("place", [at for at, each in enumerate(BLOCKS) if each.language != "text"])
def test_each_example_works_alone(place: int, site: MailHost, tmp_path: Path) -> None:
    alone: list[Block] = BLOCKS[place : place + 1]
    if BLOCKS[place + 1 : place + 2] and BLOCKS[place + 1].language == "text":
        alone = BLOCKS[place : place + 2]
    with read(tmp_path, site) as reader:
        for file in reader.directory.iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        assert run_all(alone, reader) == 1
