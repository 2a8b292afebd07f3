"""`csmtplib completion`: what shells complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from csmtplib.cli.main import COMMANDS

from .conftest import Command

COMPLETE = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_csmtplib
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["re"], ["report", "resume"]),
        (["bulk", "--conn"], ["--connections"]),
        (["report", "--format", ""], ["csv", "jsonl", "table"]),
        (["bulk", "--template", "let"], ["letter.txt"]),
    ],
    ids=" ".join,
)
def test_bash_completes(
    cli: Command, tmp_path: Path, words: list[str], expected: list[str]
) -> None:
    (tmp_path / "letter.txt").touch()
    (tmp_path / "complete").write_text(cli("completion", "bash").out)
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", "complete", "csmtplib", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(done.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_there(cli: Command, shell: str) -> None:
    done = cli("completion", shell)
    assert (done.code, done.err) == (0, "")
    for each in (*COMMANDS, "in-doubt", "retry-rejected"):
        assert each in done.out
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=done.out, text=True, check=True)


def test_without_the_package(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    done = cli("completion", "bash")
    assert (done.code, done.out) == (69, "")
    assert done.err == "csmtplib: csmtplib completion needs shtab: pip install 'csmtplib[cli]'\n"
