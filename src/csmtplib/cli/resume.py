"""`csmtplib resume`: what is left of a campaign that was stopped or killed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack

from . import run_options
from .conventions import Exit, Failure, Parser, lenient_stdout

_DESCRIPTION = """\
Goes on with a campaign that `csmtplib bulk --journal` has started: recipients
that have no result get their message, deferred ones are tried again when
they are due, and nobody gets it twice. The files of the campaign have to be
where they were, as they were. Options that are not given are those of
`csmtplib bulk`, but for --metrics, --log-json, --verbose and --quiet."""

_MANUAL = """\
in doubt
  Messages under way when a run is killed may have arrived or not. They stay
  as they are, unless --in-doubt resend sends them again, with the same
  Message-ID. csmtplib report --format csv JOURNAL tells which.

The exit status is that of csmtplib bulk, of the campaign as a whole. The
password of the server comes from the file that CSMTPLIB_PASSWORD_FILE names,
or from --server.

examples
  csmtplib resume may.journal
  csmtplib resume --server smtp://other.example --connections 4 may.journal
"""


def main(arguments: Sequence[str]) -> int:
    """Resumes a campaign; its exit code is in the manual of `bulk` (bulk_options).

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
    from .display import Display
    from .jobs import messages
    from .plan import from_parameters
    from .sending import Sending

    name: str = options.journal
    if not os.path.exists(name):
        raise Failure(Exit.NOINPUT, f"{name}: there is no such journal")
    written = run_options.given(options)
    with ExitStack() as resources:
        journal = resources.enter_context(Journal(name))
        plan, total, before = from_parameters(journal.parameters())
        run = run_options.run(before | written)
        items = messages(plan)
        display = Display(quiet=options.quiet, lines=options.verbose)
        if journal.recovered:
            display.say(f"{journal.recovered} were under way when a run was killed: in doubt")
        sending = Sending(
            plan.server if options.server is None else options.server,
            run,
            display,
            options,
            resources,
            id=plan.id,
            journal=journal,
            journal_name=name,
        )
        return sending.send(items, total, stop_at_fault=plan.errors == "stop")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="csmtplib resume",
        usage="csmtplib resume [OPTION ...] JOURNAL",
        description=_DESCRIPTION,
        epilog=_MANUAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("journal", metavar="JOURNAL", help="the file that bulk --journal names")
    parser.add_argument("--server", metavar="URL", help="another server (default: the same)")
    run_options.add(parser)
    options = parser.parse_args(arguments)
    run_options.check(parser, options)
    return options
