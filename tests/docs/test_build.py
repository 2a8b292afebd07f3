"""Sphinx builds the documentation without a warning, and leaves nothing public out."""

from __future__ import annotations

import functools
import html
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
import types
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import csmtplib
import csmtplib.aio
import csmtplib.bulk
from csmtplib.cli.conventions import Exit
from csmtplib.cli.main import COMMANDS
from csmtplib.protocol import server_url

from ..requirements import unavailable
from .pages import ROOT
from .test_blocks import import_path

Inventory = dict[str, str]

WANTED = ("sphinx", "myst_parser", "furo", "sphinx_copybutton", "jinja2")
# What it says is the same on all interpreters, but Sphinx is not.
pytestmark = pytest.mark.long

SOURCE = Path(csmtplib.__path__[0])

# Beside __all__, which is the standard library's.
BESIDE = ("DSN", "LMTP", "MailObject", "Outcome", "Result", "State", "install", "uninstall")
BESIDE_VALUES = ("implementation", "SMTP_PORT", "SMTP_SSL_PORT", "LMTP_PORT")

# What parts of the house ask of each other.
INTERNAL = {
    f"csmtplib.bulk.BulkSender.{name}"
    for name in ("inbox", "learned", "send_from", "server", "waits")
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as HTML."""
    if missing := [each for each in WANTED if importlib.util.find_spec(each) is None]:
        unavailable(f"there is no {' and no '.join(missing)}: pip install 'csmtplib[docs]'")
    directory = tmp_path_factory.mktemp("docs")
    directories = ["-d", str(directory / "doctrees"), str(ROOT / "docs"), str(directory / "html")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", *directories],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(import_path())},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return directory / "html"


@pytest.fixture(scope="module")
def documented(built: Path) -> Inventory:
    """The names of Python that can be linked to."""
    lines = (built / "objects.inv").read_bytes().split(b"\n", 4)[4]
    # Name, kind, priority, where, and a title.
    entries = (line.split(" ", 4) for line in zlib.decompress(lines).decode().splitlines())
    # By the module where it is defined, a class may be found too.
    return {
        name: where
        for name, kind, _, where, _ in entries
        if kind.startswith("py:") and where.endswith("#$")
    }


def text_of(page: Path) -> str:
    """Return what a reader sees of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def public_names() -> Iterator[str]:
    """All names that are for users."""
    for name in (*csmtplib.__all__, *BESIDE, *BESIDE_VALUES):
        yield f"csmtplib.{name}"
    for name in csmtplib.bulk.__all__:
        yield f"csmtplib.bulk.{name}"
    for name in csmtplib.aio.__all__:
        yield f"csmtplib.aio.{name}"


def class_of(name: str) -> type | None:
    """The class of ours that is documented by this name."""
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError:
        return None  # a member of a class, or of a type
    # The exceptions of smtplib are the standard library's.
    return found if inspect.isclass(found) and found.__module__.startswith("csmtplib.") else None


def inherited_from(cls: type) -> list[type]:
    """The class, and those of ours that it is made of."""
    return [base for base in cls.__mro__ if base.__module__.startswith("csmtplib.")]


def methods(cls: type) -> set[str]:
    """The public methods and properties of a class."""
    kinds = (types.FunctionType, classmethod, staticmethod, property, functools.cached_property)
    return {
        name
        for base in inherited_from(cls)
        for name, member in vars(base).items()
        if isinstance(member, kinds) and not name.startswith("_")
    }


def values(cls: type) -> set[str]:
    """The other public attributes of a class."""
    names = {
        name
        for base in inherited_from(cls)
        for name in (*vars(base), *vars(base).get("__annotations__", ()))
        if not name.startswith("_")
    }
    return names - methods(cls)


def test_a_signature_shows_the_numbers_of_its_defaults(built: Path) -> None:
    pages = (built / "reference").glob("*.html")
    text = html.unescape(" ".join(re.sub(r"<[^>]+>", "", page.read_text()) for page in pages))
    assert "max_in_flight: int = 100" in text
    assert "= limits." not in text


def test_each_option_has_an_address(built: Path) -> None:
    page = (built / "commands.html").read_text("utf-8")
    for each in ("bulk-rate", "resume-retry-rejected", "report-format", "send-from", "run-m"):
        assert f'id="cmdoption-csmtplib-{each}"' in page


def test_the_manual_page(built: Path, tmp_path: Path) -> None:
    """The page that distributions install as csmtplib(1)."""
    doctrees = built.parent / "doctrees"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-b",
            "man",
            "-d",
            doctrees,
            ROOT / "docs",
            tmp_path,
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(import_path())},
        check=True,
        timeout=300,
    )
    text = (tmp_path / "csmtplib.1").read_text("utf-8").replace("\\-", "-")
    for each in (*COMMANDS, "--in-doubt", "smtps://", "EXIT CODES", "NOPERM"):
        assert each in text


def test_every_public_name_is_there(documented: Inventory) -> None:
    assert {name for name in public_names() if name not in documented} == set()


def test_every_public_member_is_there(documented: Inventory, built: Path) -> None:
    missing = set()
    for name in documented:
        cls = class_of(name)
        if cls is None:
            continue
        page = text_of(built / documented[name].partition("#")[0])
        bases = [each for each in documented if class_of(each) in cls.__mro__]
        for method in methods(cls):
            if not any(f"{base}.{method}" in documented for base in bases):
                missing.add(f"{name}.{method}")
        # The docstring of the class tells of them.
        missing |= {
            f"{name}.{value}" for value in values(cls) if not re.search(rf"\b{value}\b", page)
        }
    assert missing == INTERNAL


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_is_there(command: str, built: Path) -> None:
    usage = f"usage: csmtplib {command}".rstrip()
    assert usage in text_of(built / "commands.html")


def test_every_exit_code_is_there() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| ([0-9]+) \| `(\w+)` \|", page, re.MULTILINE)
    assert told == [(str(code.value), code.name) for code in Exit]


def test_every_environment_variable_is_there() -> None:
    sources = [*SOURCE.rglob("*.py"), ROOT / "setup.py"]
    read = {
        found.replace("{extension}", extension)
        for source in sources
        for found in re.findall(r"CSMTPLIB_[A-Z_]+(?:\{[\w.()]+\})?", source.read_text("utf-8"))
        for extension in ("PIPELINING", "CHUNKING")
    }
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(CSMTPLIB_[A-Z_]+)`", page, re.MULTILINE)) == read


def test_every_scheme_and_option_of_a_server_is_there() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for scheme in server_url._SCHEMES:
        assert f"| `{scheme}://host` |" in page
    with pytest.raises(server_url.ServerURLError) as raised:
        server_url.parse("smtp://host?other=1", {})
    for option in re.findall(r"([\w-]+)=", str(raised.value).partition("there are")[2]):
        assert f"`{option}=" in page


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("attachment", "how-to/attachments"),
        ("Gmail", "how-to/providers"),
        ("Django", "how-to/web-frameworks"),
        ("thread", "how-to/threads"),
        ("cron", "how-to/logging-and-cron"),
        ("asyncio", "how-to/asyncio"),
        ("uvloop", "how-to/asyncio"),
        ("Starlette", "how-to/web-frameworks"),
        ("DKIM", "troubleshooting"),
        ("aiosmtplib", "migration"),
    ],
)
def test_search_finds_what_readers_look_for(word: str, page: str, built: Path) -> None:
    from sphinx.search.en import SearchEnglish

    written = (built / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(written.removeprefix("Search.setIndex(").removesuffix(")"))
    term = SearchEnglish({}).stem(word.lower())
    pages = set()
    for terms in (index["terms"], index["titleterms"]):
        found = terms.get(term, [])
        numbers = [found] if isinstance(found, int) else found
        pages |= {index["docnames"][number] for number in numbers}
    assert page in pages


def test_names_of_python_lead_to_its_documentation(built: Path) -> None:
    page = (built / "reference" / "smtplib.html").read_text(encoding="utf-8")
    assert 'href="https://docs.python.org/3/library/ssl.html#ssl.SSLContext"' in page


def test_pages_can_be_edited_and_code_copied(built: Path) -> None:
    page = (built / "how-to" / "threads.html").read_text(encoding="utf-8")
    assert "/edit/main/docs/how-to/threads.md" in page
    assert "copybutton.js" in page
