"""Programs that are typed against the standard library's smtplib are so against csmtplib."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import pytest

from ..requirements import unavailable

pytestmark = pytest.mark.long
PROGRAMS = sorted(Path(__file__).with_name("programs").glob("*.py"))
CLASSES = ("SMTP", "SMTP_SSL", "LMTP")

Mypy: TypeAlias = Callable[..., list[str]]


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> Mypy:
    """A function that returns the errors that mypy has in a program."""
    if find_spec("mypy") is None:
        unavailable("no mypy: install the extra `test`")
    # What it knows of the standard library serves all programs.
    cache = tmp_path_factory.mktemp("mypy")
    always = ("--strict", "--config-file=", "--no-error-summary", f"--cache-dir={cache}")

    def check(program: Path, *options: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "mypy", *always, *options, str(program)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=program.parent,
        )
        assert not done.stderr, done.stderr
        return done.stdout.splitlines()

    return check


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program(program: Path, tmp_path: Path, mypy: Mypy) -> None:
    """The same program passes with either module."""
    source = program.read_text()
    assert "import smtplib\n" in source
    theirs, ours = tmp_path / "theirs.py", tmp_path / "ours.py"
    theirs.write_text(source)
    ours.write_text(source.replace("import smtplib\n", "import csmtplib as smtplib\n"))
    assert mypy(theirs) == []
    assert mypy(ours) == []


def typeshed() -> ast.Module:
    """The types of smtplib as mypy knows them."""
    found = find_spec("mypy")
    if found is None or found.origin is None:
        unavailable("no mypy: install the extra `test`")
    path = Path(found.origin).parent / "typeshed" / "stdlib" / "smtplib.pyi"
    return ast.parse(path.read_text())


def named(nodes: list[ast.stmt]) -> Iterator[str]:
    """The public names that statements of a stub define, whatever the Python."""
    for node in nodes:
        if isinstance(node, ast.If):
            yield from named([*node.body, *node.orelse])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def public(nodes: list[ast.stmt]) -> list[str]:
    return sorted({name for name in named(nodes) if not name.startswith("_")})


def test_each_name_stands_in_for_the_one_of_smtplib(tmp_path: Path, mypy: Mypy) -> None:
    """Each function and method may be assigned to its counterpart: it takes all that this takes,
    and gives what this gives. Attributes have the counterpart's type."""
    module = typeshed()
    classes = {each.name: each for each in module.body if isinstance(each, ast.ClassDef)}
    lines = [
        "import csmtplib, smtplib",
        *(
            f"smtplib.{name} = csmtplib.{name}"
            for name in public(module.body)
            # Classes are compared by what they have; the exceptions are the very same objects.
            if name not in classes
        ),
    ]
    for name in CLASSES:
        lines.append(f"def {name}(theirs: smtplib.{name}, ours: csmtplib.{name}) -> None:")
        members = public([*classes["SMTP"].body, *classes[name].body])
        lines += [f"    theirs.{member} = ours.{member}" for member in members]
    assert len(lines) > 100
    program = tmp_path / "each_name.py"
    program.write_text("\n".join(lines))
    told = [
        f"{lines[int(error.split(':')[1]) - 1].strip()}: {error}"
        # To methods and to constants one does not assign; the types are compared all the same.
        for error in mypy(
            program, *map("--disable-error-code={}".format, ["method-assign", "misc"])
        )
        if ": note:" not in error
    ]
    assert told == []


def test_a_type_error_is_told_alike(tmp_path: Path, mypy: Mypy) -> None:
    """The types say something: what is wrong with smtplib is so with csmtplib, line by line."""
    wrong = [
        "SMTP(25)",
        "SMTP('h', 25).sendmail('me', 'you', 1)",
        "SMTP('h').login('me')",
        "SMTP('h').starttls(context='no')",
        "SMTP('h').helo(1)",
        "SMTP('h').send_message('text')",
        "SMTP('h').nothing()",
        "SMTP('h').sendmail('me', ['you'], 'text').append(1)",
        "SMTP('h').noop()[2]",
    ]
    told = {}
    for module in ("smtplib", "csmtplib"):
        program = tmp_path / f"with_{module}.py"
        program.write_text("\n".join([f"from {module} import SMTP", *wrong]))
        told[module] = {int(error.split(":")[1]) for error in mypy(program)}
    assert told["smtplib"] == set(range(2, len(wrong) + 2))
    assert told["csmtplib"] == told["smtplib"]
