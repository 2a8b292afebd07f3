"""The command `csmtplib`: finds the subcommand and runs it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import csmtplib

from .conventions import Failure, Parser, visible

# Each is a module beside this one with `main(arguments) -> int`, imported when it is asked for.
COMMANDS = {
    "send": "send mail from files or standard input",
    "bulk": "send a campaign: a letter to many recipients, over several connections",
    "resume": "go on with a campaign that was stopped",
    "report": "tell what became of a campaign",
    "run": "run a Python program with csmtplib in the place of smtplib",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv`, the process's own where that is None; its exit code.

    SystemExit is raised for --help, --version and wrong usage.
    """
    options = _parser().parse_args(argv)
    command = importlib.import_module(f".{options.command}", __package__)
    try:
        code: int = command.main(options.arguments)
    except Failure as failure:
        print(f"csmtplib: {visible(str(failure))}", file=sys.stderr)
        return failure.code
    return code


def _parser() -> Parser:
    parser = Parser(
        prog="csmtplib",
        description="A C-accelerated drop-in for smtplib, and a sender of mail.",
        epilog="\n".join(
            [
                "commands:",
                *(f"  {name:<8}{summary}" for name, summary in COMMANDS.items()),
                "",
                "csmtplib COMMAND --help tells more.",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    implementation = "compiled" if csmtplib.implementation == "c" else "pure Python"
    parser.add_argument(
        "--version",
        action="version",
        version=f"csmtplib {csmtplib.__version__} ({implementation})",
    )
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    return parser
