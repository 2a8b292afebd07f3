"""What all commands have in common: exit codes, the way to fail, the option parser."""

from __future__ import annotations

import argparse
from enum import IntEnum
from typing import NoReturn


class Exit(IntEnum):
    """Exit codes: sysexits.h where it has one, as sendmail's callers expect."""

    OK = 0
    REFUSED = 1
    USAGE = 64
    DATAERR = 65
    NOINPUT = 66
    UNAVAILABLE = 69
    TEMPFAIL = 75
    NOPERM = 77
    CONFIG = 78
    INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


class Failure(Exception):
    """Ends the command: one line for the reader, and the exit code."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


class Parser(argparse.ArgumentParser):
    """A parser of options that exits with EX_USAGE and one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def visible(text: str) -> str:
    """The text with what a terminal would act on, or could not show, as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
