"""What all commands have in common: exit codes, the way to fail, the option parser."""

from __future__ import annotations

import argparse
import io
import os
import sys
from enum import IntEnum
from typing import NoReturn

# Where nothing leaves this machine.
DEFAULT_SINK = "sink:csmtplib-sink"


class Exit(IntEnum):
    """Exit codes: sysexits.h where it has one, as sendmail's callers expect."""

    OK = 0
    REFUSED = 1
    USAGE = 64
    DATAERR = 65
    NOINPUT = 66
    UNAVAILABLE = 69
    IOERR = 74
    TEMPFAIL = 75
    NOPERM = 77
    CONFIG = 78
    INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


class Failure(Exception):
    """Ends the command: one line for the reader, and the exit code."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


def lacking(what: str, package: str) -> Failure:
    """The end of a command that needs a package which is not there."""
    return Failure(Exit.UNAVAILABLE, f"{what} needs {package}: pip install {package}")


class Parser(argparse.ArgumentParser):
    """A parser of options that exits with EX_USAGE and one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def visible(text: str) -> str:
    """The text with what a terminal would act on, or could not show, as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def lenient_stdout() -> None:
    """Letters that the terminal lacks are written as escapes: they are no reason to stop."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Gives up standard output after it failed."""
    # What it holds would fail once more when the interpreter flushes it at the end.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
