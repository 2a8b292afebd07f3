"""The command `csmtplib`: finds a subcommand and runs it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import csmtplib

from . import streams
from .conventions import Exit, Failure, visible
from .options import Parser

# Each is a module of this package with `main(arguments) -> int`, imported when needed. "run" has
# `parse(arguments)` and `run(parsed)` instead, because a program uses the standard streams and ends
# in its own way.
COMMANDS = {
    "send": "send mail from files or standard input",
    "bulk": "send a campaign to many recipients, over several connections",
    "resume": "continue a campaign that was stopped or killed",
    "report": "show the results of a campaign",
    "run": "run a Python program with csmtplib in place of smtplib",
    "completion": "print a shell completion script",
}

_PROGRAM = "run"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return the exit code.

    Raises SystemExit for --help, --version and wrong usage.
    """
    with streams.prepared():
        try:
            with streams.flushing_stdout():
                options = _options(argv)
                command = importlib.import_module(f".{options.command}", __package__)
                if options.command != _PROGRAM:
                    code: int = command.main(options.arguments)
                    return code
                program = command.parse(options.arguments)
        except Failure as failure:
            if str(failure):
                print(f"csmtplib: {visible(str(failure))}", file=sys.stderr)
            return failure.code
    command.run(program)
    return Exit.OK


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = option_parser()
    if not (sys.argv[1:] if argv is None else argv):
        # A user without a command needs the help; a script sees the mistake in the exit code.
        parser.print_help(sys.stderr)
        raise SystemExit(Exit.USAGE)
    return parser.parse_args(argv)


def option_parser() -> Parser:
    """Return the parser of csmtplib itself."""
    parser = Parser(
        "csmtplib",
        description="A C-accelerated drop-in for smtplib, and tools that send mail.",
        manual="\n".join(
            [
                "commands:",
                *(f"  {name:<12}{summary}" for name, summary in COMMANDS.items()),
                "",
                "csmtplib COMMAND --help shows the manual of a command.",
            ]
        ),
    )
    implementation = "compiled" if csmtplib.implementation == "c" else "pure Python"
    parser.add_argument(
        "--version",
        action="version",
        version=f"csmtplib {csmtplib.__version__} ({implementation})",
    )
    parser.add_argument(
        "command", metavar="COMMAND", choices=COMMANDS, help="one of the commands below"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    return parser
