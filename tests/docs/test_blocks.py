"""Every code block of the README and of docs/ is run, and something has to come of it.

Python runs in one session a page, and so do shell commands in one directory; the hosts that they
name are those of mailhost.py. How a block is written says what is expected:

- `python` has to come to its end, `pycon` has to show what the page shows, `sh` has to exit with 0,
  or with the number of a comment `<!-- exit 75 -->` before it;
- what has to be run there has a comment `<!-- in the repository -->`;
- `text` behind one of them is its output, where "..." stands for anything;
- a `{code-block}` with a caption is a file of that name, which is written, and compiled if it is
  Python.

What sends nothing, makes no file, and shows nothing, fails: it would go unseen if it did nothing.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import csmtplib

from ..requirements import unavailable
from . import mailhost
from .mailhost import MailHost
from .pages import PAGES, ROOT, Block, PageError, blocks

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the examples are for a POSIX shell"
)

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
SECONDS = 60

# Blocks that are run elsewhere, by how they begin. Each has to be there once.
ELSEWHERE = {
    "README.md": [
        # By .ci/run, in a fresh clone.
        "python3 -m venv .venv && .venv/bin/pip install '.[cli]' && .venv/bin/csmtplib bulk",
        "python3 -m venv --upgrade-deps .venv && .venv/bin/pip install -q . --group test && "
        ".venv/bin/python -m tests",
        # From a package index.
        "pip install csmtplib",
    ],
    # They measure, for a long time; .ci/run has them measure for a short one.
    "docs/performance.md": [
        ".venv/bin/pip install -q . --group bench && .venv/bin/python -m benchmarks",
        ".venv/bin/python -m benchmarks hostile",
        # By tests/benchmarks/test_chart.py.
        ".venv/bin/python -m benchmarks --from",
    ],
    "CONTRIBUTING.md": ["python3 -m venv --upgrade-deps .venv\n", ".ci/run\n"],
    # By .ci/run, or too long for a test; they work on the repository itself.
    "docs/develop.md": [
        "python3 -m venv --upgrade-deps .venv\n",
        "CSMTPLIB_BUILD=require .venv/bin/python setup.py",
        ".venv/bin/python -m tests -q\n",
        "python3 -m tests.servers.fetch\n",
        ".ci/run\n",
        ".venv/bin/python -m pytest tests/c tests/fuzz\n",
        ".venv/bin/pip install -q . --group bench\n",
        ".venv/bin/python -m benchmarks hostile\n",
        ".venv/bin/pip install -q cibuildwheel\n",
        "pip install -q -U pip cython setuptools",
        ".venv/bin/pip install -q . --group docs\n",
    ],
}


class Page:
    """A page that is read: its directory, its Python session, and the servers."""

    def __init__(self, directory: Path, site: MailHost, session: subprocess.Popen[str]) -> None:
        self.directory = directory
        self._site = site
        self._session = session

    def run(self, block: Block, output: str | None) -> None:
        """Runs a block whose output the page shows, or does not."""
        before = self._seen()
        shown = self._run_shell(block) if block.language == "sh" else self._run_python(block)
        unchanged = self._seen() == before
        if output is not None:
            check_output(block, output, shown)
        elif block.language != "pycon" and not block.mark.startswith("exit") and unchanged:
            pytest.fail(f"{block}: nothing came of it; it printed:\n{shown}")

    def write(self, block: Block) -> None:
        """Writes the file that a block shows."""
        file = self.directory / block.caption
        if file.parent != self.directory:
            pytest.fail(f"{block}: {block.caption} is not in the page's directory")
        if file.suffix == ".py":
            # It may need a framework that is not there; then nobody runs it.
            try:
                compile(block.text, f"{block}", "exec", dont_inherit=True)
            except SyntaxError as error:
                pytest.fail(f"{block}: {error}")
        file.write_text(block.text, encoding="utf-8")

    def _seen(self) -> Any:
        """All that a block may change."""
        files = {
            path: path.stat().st_mtime_ns
            for path in self.directory.rglob("*")
            # The indexes of SQLite's logs come and go with the readers.
            if path.is_file() and not path.name.endswith(("-shm", "-wal"))
        }
        return len(self._site.deliveries), files

    def _run_shell(self, block: Block) -> str:
        expected = 0
        directory = self.directory
        if found := re.fullmatch("exit ([0-9]+)", block.mark):
            expected = int(found[1])
        elif block.mark == "in the repository":
            directory = ROOT
        elif block.mark:
            pytest.fail(f"{block}: what does the mark {block.mark!r} mean?")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=directory,
            env=environment(self._site, self.directory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        if done.returncode != expected:
            pytest.fail(f"{block}: exit {done.returncode}, not {expected}:\n{done.stdout}")
        return done.stdout

    def _run_python(self, block: Block) -> str:
        if block.mark:
            pytest.fail(f"{block}: what does the mark {block.mark!r} mean?")
        asked = {
            "language": block.language,
            "text": block.text,
            "file": str(block.page),
            "line": block.line,
        }
        stdin, stdout = self._session.stdin, self._session.stdout
        assert stdin is not None
        assert stdout is not None
        # A block without end is ended; then there is no answer.
        watchdog = threading.Timer(SECONDS, self._session.kill)
        watchdog.start()
        try:
            stdin.write(json.dumps(asked) + "\n")
            stdin.flush()
            line = stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            pytest.fail(f"{block}: the interpreter has ended")
        answer = json.loads(line)
        if answer["error"] is not None:
            pytest.fail(f"{block}: {answer['error']}\nit printed:\n{answer['output']}")
        output: str = answer["output"]
        return output


def check_output(block: Block, expected: str, shown: str) -> None:
    """Fails where a block has printed something else than its page shows."""
    checker = doctest.OutputChecker()
    if not checker.check_output(expected, shown, doctest.ELLIPSIS):
        pytest.fail(f"{block}: the page shows\n{expected}\nand it printed\n{shown}")


def environment(site: MailHost, directory: Path) -> dict[str, str]:
    """The environment of the programs of a page: `csmtplib` and `python` are there, and the
    servers are found and trusted."""
    programs = directory.parent / "bin"
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        # The last is for environments that a page makes: pip finds the package installed there.
        "PYTHONPATH": os.pathsep.join(
            [str(HERE / "redirect"), *import_path(), sysconfig.get_path("purelib")]
        ),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "DOCUMENTED_PORTS": " ".join(f"{port}={ours}" for port, ours in site.ports.items()),
        "DOCUMENTED_PROVIDERS": " ".join(mailhost.PROVIDERS),
        "SSL_CERT_FILE": str(site.authority),
        "CSMTPLIB_IMPL": csmtplib.implementation,
        "CSMTPLIB_PASSWORD_FILE": str(programs.parent / "password"),
        "COLUMNS": "100",
    }


def import_path() -> list[str]:
    """Where the package is, for programs that are started elsewhere."""
    return [str(Path(csmtplib.__path__[0]).parent), *filter(None, [os.environ.get("PYTHONPATH")])]


def write_programs(directory: Path) -> None:
    """Writes the commands that pages call, so that they run in this interpreter."""
    directory.mkdir()
    for name, arguments in (("csmtplib", "-m csmtplib"), ("python", ""), ("python3", "")):
        program = directory / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)


def write_files(directory: Path) -> None:
    """Writes the files that the pages take for granted."""
    directory.mkdir()
    campaign = DATA / "campaign"
    for source, name in (
        (campaign / "letter.txt", "letter.txt"),
        (campaign / "letter.html", "letter.html"),
        (campaign / "few.csv", "recipients.csv"),
        (DATA / "sample.mbox", "newsletter.mbox"),
    ):
        shutil.copyfile(source, directory / name)
    message = "From: me@example.org\nTo: you@example.net\nSubject: Hello\n\nHello\n"
    (directory / "letter.eml").write_text(message)
    for folder in ("tmp", "new", "cur"):
        (directory / "Maildir" / folder).mkdir(parents=True)
    (directory / "Maildir" / "new" / "1.example").write_text(message)
    (directory / "readers.txt").write_text("ann@example.net\nbob@example.com\nnobody@example.net\n")


@pytest.fixture(scope="module", autouse=True)
def shell() -> None:
    if shutil.which("bash") is None:
        unavailable("there is no bash: install it")


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailHost]:
    with mailhost.running(tmp_path_factory.mktemp("mailhost")) as running:
        yield running


@contextmanager
def read(directory: Path, site: MailHost) -> Iterator[Page]:
    """A page that is read in a directory of its own."""
    write_programs(directory / "bin")
    (directory / "password").write_text("secret\n")
    work = directory / "work"
    write_files(work)
    with subprocess.Popen(
        [sys.executable, str(HERE / "session.py")],
        cwd=work,
        env=environment(site, work),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        try:
            yield Page(work, site, session)
        finally:
            session.kill()


def run_all(found: list[Block], page: Page) -> int:
    """Runs blocks in order; how many were run."""
    count = 0
    for place, block in enumerate(found):
        following = found[place + 1] if place + 1 < len(found) else None
        if block.caption:
            page.write(block)
        elif block.language in ("python", "pycon", "sh"):
            count += 1
            shows_output = following is not None and is_output(following)
            page.run(block, following.text if following is not None and shows_output else None)
        elif not (is_output(block) and place and found[place - 1].language in ("python", "sh")):
            raise PageError(f"{block}: who would run {block.language or 'this'}?")
    return count


def is_output(block: Block) -> bool:
    """Whether a block shows what the one before it prints."""
    return block.language == "text" and not block.caption


def own(page: Path) -> list[Block]:
    """The blocks of a page without those that are run elsewhere."""
    found = list(blocks(page))
    for start in ELSEWHERE.get(str(page.relative_to(ROOT)), ()):
        elsewhere = [block for block in found if block.text.startswith(start)]
        assert len(elsewhere) == 1, f"{page}: {start!r} begins {len(elsewhere)} blocks"
        found.remove(elsewhere[0])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, site: MailHost, tmp_path: Path) -> None:
    found = own(page)
    if found:
        with read(tmp_path, site) as reader:
            assert run_all(found, reader)


# The tests of the tests: what they would not see is no proof.

SENDS = """\
import csmtplib
with csmtplib.SMTP("mail.example.org", 587) as smtp:
    print(smtp.sendmail("me@example.org", "you@example.net", b"Hello"))
"""


def page_of(directory: Path, text: str) -> Path:
    """A page with this text."""
    page = directory / "page.md"
    page.write_text(text)
    return page


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{SENDS}```\n",
        f"```python\n{SENDS}```\n\n```text\n{{}}\n```\n",
        f"```python\n{SENDS}```\n\nIt shows this:\n\n```text\n{{...\n```\n",
        "```pycon\n>>> 1 + 1\n2\n```\n",
        "```python\nx = 1\nprint(x)\n```\n```text\n1\n```\n\n```pycon\n>>> x\n1\n```\n",
        "<!-- exit 3 -->\n```sh\nexit 3\n```\n",
        "```sh\ncsmtplib send letter.eml\n```\n",
        "```{code-block} text\n:caption: new\n\na\n```\n```sh\ncat new\n```\n```text\na\n```\n",
    ],
)
def test_blocks_that_do_what_they_say(text: str, site: MailHost, tmp_path: Path) -> None:
    with read(tmp_path, site) as reader:
        assert run_all(list(blocks(page_of(tmp_path, text))), reader)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```python\n1 / 0\n```\n", "line 2, in <module>"),
        ("```python\nx = 1\n```\n", "nothing came of it"),
        ("```sh\ntrue\n```\n", "nothing came of it"),
        ("```sh\nfalse\ntouch file\n```\n", "exit 1, not 0"),
        ("<!-- exit 3 -->\n```sh\nexit 4\n```\n", "exit 4, not 3"),
        ("<!-- exit 3 -->\n```python\n1 / 0\n```\n", "what does the mark"),
        ("<!-- exist 3 -->\n```sh\nexit 3\n```\n", "what does the mark"),
        (f"```python\n{SENDS}```\n```text\n[]\n```\n", "the page shows"),
        ("```sh\necho b\n```\n```text\na\n```\n", "the page shows"),
        ("```pycon\n>>> 1 + 1\n3\n```\n", "Expected:"),
        ("```pycon\n1 + 1\n```\n", "page.md"),
        ("```\n1 + 1\n```\n", "who would run this"),
        ("```ruby\n1 + 1\n```\n", "who would run ruby"),
        ("```text\nof nobody\n```\n", "who would run text"),
        ("text\n\n    indented\n", "fence it"),
        ("```{code-block} python\n:caption: a.py\n\n1 +\n```\n", "invalid syntax"),
        ("```{python}\n1\n```\n", "what is {python}"),
        (
            '```python\nimport csmtplib\ncsmtplib.SMTP("mx.example.com")\n```\n',
            "is no host of the documentation",
        ),
        ("```python\nimport os\nos._exit(0)\n```\n", "the interpreter has ended"),
    ],
)
def test_blocks_that_do_not(text: str, told: str, site: MailHost, tmp_path: Path) -> None:
    with (
        read(tmp_path, site) as reader,
        pytest.raises((pytest.fail.Exception, PageError, AssertionError), match=re.escape(told)),
    ):
        run_all(list(blocks(page_of(tmp_path, text))), reader)
