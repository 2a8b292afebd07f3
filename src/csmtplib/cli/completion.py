"""`csmtplib completion`: a script that lets a shell complete the commands and their options."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from .conventions import Exit, missing_package
from .options import Parser

_SHELLS = ("bash", "zsh", "fish")

_DESCRIPTION = """\
Print a script that completes csmtplib's commands, options and file names.
"""

_MANUAL = """\
where the script goes:
  bash  ~/.local/share/bash-completion/completions/csmtplib
  zsh   _csmtplib, in a directory of $fpath
  fish  ~/.config/fish/completions/csmtplib.fish

exit codes:
  0    the script was printed
  69   the package shtab is missing
"""

# The metavars that stand for a file or a directory.
_FILES = {"FILE", "JOURNAL", "PATH", "SCRIPT", "SOURCE"}
_DIRECTORIES = {"DIR"}


def main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    shell: str = option_parser().parse_args(arguments).shell
    try:
        import shtab
    except ImportError:
        raise missing_package("csmtplib completion", "shtab", "cli") from None
    parser = _of_all_commands()
    for each in [parser, *_subparsers(parser).values()]:
        for action in each._actions:
            if action.metavar in _FILES:
                vars(action)["complete"] = shtab.FILE
            elif action.metavar in _DIRECTORIES:
                vars(action)["complete"] = shtab.DIRECTORY
    print(shtab.complete(parser, shell))
    return Exit.OK


def option_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "csmtplib completion",
        usage="csmtplib completion SHELL",
        description=_DESCRIPTION,
        manual=_MANUAL,
    )
    parser.add_argument("shell", metavar="SHELL", choices=_SHELLS, help="bash, zsh or fish")
    return parser


def _of_all_commands() -> argparse.ArgumentParser:
    """Return a parser with the commands as subparsers. Command lines are not parsed with it: that
    would import all commands."""
    from .main import COMMANDS

    parser = argparse.ArgumentParser(prog="csmtplib", description="csmtplib")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers()
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f".{name}", __package__)
        commands.add_parser(
            name,
            help=summary,
            description=summary,
            parents=[module.option_parser()],
            conflict_handler="resolve",
        )
    return parser


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (commands,) = (each for each in parser._actions if each.nargs == argparse.PARSER)
    assert isinstance(commands.choices, dict)
    return commands.choices
