"""`csmtplib resume`: sends the rest of a campaign that was stopped or killed."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..bulk.retry import is_code
from .conventions import Exit, Failure
from .options import (
    Parser,
    add_run_options,
    check_run_options,
    given_run_options,
    parse_run_options,
)
from .streams import lenient_stdout

if TYPE_CHECKING:
    from ..bulk.journal import Journal

_RETRY = "--retry-rejected"

_DESCRIPTION = """\
Continue a campaign that was started by csmtplib bulk --journal: recipients
without a result get their message, deferred ones are retried when they are
due, and nobody gets it twice. The files of the campaign must be unchanged.
Options that are not given are those of csmtplib bulk, except --log-json,
--verbose and --quiet."""

_MANUAL = """\
in doubt
  Messages that were in progress when a run was killed may or may not have
  arrived. They stay in doubt until you decide: --in-doubt resend sends them
  again, with the same Message-ID; --in-doubt accept counts them as accepted,
  for example after a look at the server's log. To list them:
  csmtplib report --state in-doubt JOURNAL.

rejected
  Rejected recipients are not retried, unless you ask for it because the
  cause is gone: --retry-rejected retries all of them, --retry-rejected CODE
  those with a code (550), an enhanced code (5.7.1) or a class of codes (5xx,
  5.7.x).

The exit status is that of csmtplib bulk, for the campaign as a whole: 75 as
long as there is something to send, 76 when only recipients in doubt are left.
The password of the server comes from the file that CSMTPLIB_PASSWORD_FILE
names, or from --server.

examples
  csmtplib resume may.journal
  csmtplib resume --server smtp://other.example --connections 4 may.journal
  csmtplib resume --in-doubt accept --retry-rejected 5.7.x may.journal
"""


def main(arguments: Sequence[str]) -> int:
    """Resume a campaign, and return the exit code (see the manual of `bulk`).

    Raises Failure, and SystemExit for wrong usage.
    """
    options = _parse(arguments)
    # Not for --help.
    from ..bulk.journal import JournalError

    lenient_stdout()
    try:
        return _resume(options)
    except JournalError as error:
        raise Failure(Exit.IOERR, str(error)) from error
    except KeyboardInterrupt:
        return Exit.TEMPFAIL


def _resume(options: argparse.Namespace) -> Exit:
    from ..bulk.journal import Journal
    from . import metrics
    from .campaign_run import CampaignRun
    from .display import Display
    from .jobs import messages
    from .plan import from_parameters

    name: str = options.journal
    if not os.path.exists(name):
        raise Failure(Exit.NOINPUT, f"{name}: there is no such journal")
    written = given_run_options(options)
    with ExitStack() as resources:
        journal = resources.enter_context(Journal(name))
        parameters = journal.parameters()
        if not parameters:
            raise _no_campaign(name, journal)
        plan, total, before = from_parameters(parameters)
        is_accepting = written.get("in_doubt") == "accept"
        run_options = parse_run_options(
            before | written | ({"in_doubt": "hold"} if is_accepting else {})
        )
        items = messages(plan)
        display = Display(quiet=options.quiet, lines=options.verbose)
        if journal.recovered:
            display.say(f"{journal.recovered} were in progress when a run was killed: in doubt")
        if options.metrics is None:
            options.metrics = metrics.of_first_run(before.get("metrics"), display.say)
        campaign_run = CampaignRun(
            plan.server if options.server is None else options.server,
            run_options,
            display,
            options,
            resources,
            id=plan.id,
            journal=journal,
            journal_name=name,
        )
        # Last, after everything else that could fail.
        if is_accepting:
            count = journal.accept_in_doubt(time.time())
            display.say(f"{count} in doubt are counted as accepted")
        if options.retry_rejected is not None:
            code = options.retry_rejected or None
            count = journal.retry_rejected(code)
            with_code = "" if code is None else f" with {code}"
            display.say(f"{count} that were rejected{with_code} are retried")
        return campaign_run.send(items, total, stop_at_fault=plan.errors == "stop")


def option_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "csmtplib resume",
        usage="csmtplib resume [OPTION ...] JOURNAL",
        description=_DESCRIPTION,
        manual=_MANUAL,
    )
    parser.add_argument(
        "journal", metavar="JOURNAL", help="the file that was given to bulk --journal"
    )
    parser.add_argument(
        "--server", metavar="URL", help="send to another server (default: that of the campaign)"
    )
    add_run_options(parser, resuming=True)
    parser.add_argument(
        _RETRY,
        nargs="?",
        const="",
        type=_code,
        metavar="CODE",
        help="retry rejected recipients: all, or those with this code (see rejected): 550, 5.7.x",
    )
    return parser


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = option_parser()
    options = parser.parse_args(_with_code(arguments))
    check_run_options(parser, options)
    return options


def _with_code(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, with "=" after the option if no code but the journal follows."""
    found = list(arguments)
    for at, each in enumerate(found):
        if each == _RETRY and not (at + 1 < len(found) and is_code(found[at + 1])):
            found[at] += "="
    return found


def _code(text: str) -> str:
    if text and not is_code(text):
        raise argparse.ArgumentTypeError(
            f"must be a code such as 550, 5xx, 5.7.1 or 5.7.x, not {text!r}"
        )
    return text


def _no_campaign(name: str, journal: Journal) -> Failure:
    """Return why a journal without the parameters of a campaign can't be resumed."""
    shown = shlex.quote(name)
    if journal.counts():
        reason = f"{name} is the journal of a program: run the program again to resume"
    else:
        reason = (
            f"the campaign in {name} never began, and nothing was sent: start it again with "
            f"csmtplib bulk --journal {shown} ..."
        )
    return Failure(Exit.DATAERR, reason)
