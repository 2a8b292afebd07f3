"""Conventions of all commands: exit codes, failures, and what to advise the user."""

from __future__ import annotations

import shlex
from enum import IntEnum

# The default server. With it, no mail leaves this machine.
DEFAULT_SINK = "sink:csmtplib-sink"


class Exit(IntEnum):
    """Exit codes: those of sysexits.h where one fits, as callers of sendmail expect."""

    OK = 0
    REFUSED = 1
    USAGE = 64
    DATAERR = 65
    NOINPUT = 66
    UNAVAILABLE = 69
    IOERR = 74
    TEMPFAIL = 75
    IN_DOUBT = 76  # EX_PROTOCOL: the server has not answered, and a retry might send twice
    NOPERM = 77
    CONFIG = 78
    INTERRUPTED = 130  # 128 + SIGINT, as in a shell


class Failure(Exception):
    """End the command with one line for the user, and this exit code."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


def missing_package(what: str, package: str, extra: str) -> Failure:
    """Return the failure of a command that needs a package which is not installed. extra: the extra
    of csmtplib that installs it."""
    return Failure(Exit.UNAVAILABLE, f"{what} needs {package}: pip install 'csmtplib[{extra}]'")


def visible(text: str) -> str:
    """Return the text with the characters that a terminal would act on, or could not show, as
    escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def resume_advice(journal: str) -> str:
    """Return how to send what was not sent, or was deferred."""
    return f"to send the rest: csmtplib resume {shlex.quote(journal)}"


def doubt_advice(count: int, journal: str | None) -> list[str]:
    """Return how to decide about recipients in doubt, as lines; none if there are none."""
    if not count:
        return []
    known = f"{count} in doubt: the server may or may not have accepted them"
    if journal is None:
        return [f"{known}; check its log before you send to them again"]
    name = shlex.quote(journal)
    return [
        f"{known}; to list them: csmtplib report --state in-doubt {name}",
        f"to send them again: csmtplib resume --in-doubt resend {name}",
        f"to count them as accepted: csmtplib resume --in-doubt accept {name}",
    ]
