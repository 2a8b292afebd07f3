"""`csmtplib` itself: its help, version and start-up time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import csmtplib
from csmtplib.cli.main import COMMANDS

from .conftest import Command


def test_version_says_which_implementation(cli: Command) -> None:
    kind = {"c": "compiled", "python": "pure Python"}[csmtplib.implementation]
    done = cli("--version")
    assert (done.code, done.out) == (0, f"csmtplib {csmtplib.__version__} ({kind})\n")


def test_help_names_the_commands(cli: Command) -> None:
    done = cli("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert f"  {command}  " in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(cli: Command, command: str) -> None:
    done = cli(command, "--help")
    assert done.code == 0
    assert done.out.startswith(f"usage: csmtplib {command} ")


@pytest.mark.parametrize("command", ["send", "bulk", "resume", "report", "completion"])
def test_the_manual_fits_a_terminal(cli: Command, command: str) -> None:
    assert max(map(len, cli(command, "--help").out.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [
        ["post"],
        ["--nonsense"],
        ["send", "--nonsense"],
        ["send", "--serv", "sink:x"],
        ["bulk"],
        ["resume"],
        ["report", "--format", "pdf", "x"],
        ["run"],
        ["run", "-x", "script.py"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(cli: Command, arguments: list[str]) -> None:
    done = cli(*arguments)
    assert done.code == 64
    assert done.err.count("\n") == 1
    assert "--help" in done.err


def test_it_runs_as_a_module_and_imports_little_for_help() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['csmtplib', 'send', '--help']\n"
        "try: runpy.run_module('csmtplib', run_name='__main__')\n"
        "except SystemExit as end: print('exit', end.code)\n"
        "print('imported', *(set(sys.modules) & {'aiosmtpd', 'tqdm', 'asyncio'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == ["exit 0", "imported"]
