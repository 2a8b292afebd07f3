"""`csmtplib bulk`: sends a campaign, from a template and tables of recipients or from messages."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from .conventions import Exit, Failure
from .options import (
    Parser,
    add_run_options,
    add_server_option,
    check_run_options,
    count,
    given_run_options,
    parse_run_options,
)
from .streams import lenient_stdout

if TYPE_CHECKING:
    from ..bulk.journal import Journal
    from .plan import Plan

_USAGE = """\
csmtplib bulk --template FILE [--html FILE] [OPTION ...] TABLE...
       csmtplib bulk [OPTION ...] MESSAGES..."""

# 78 columns: it is read on terminals.
_DESCRIPTION = """\
Send a letter to each recipient in tables, or finished messages, over several
connections. With --journal nothing is lost or sent twice if the run is
stopped or killed: csmtplib resume continues it. Without --server no mail
leaves this machine: it is filed in the Maildir ./csmtplib-sink."""

_MANUAL = """\
tables
  .csv or .tsv (the first line names the columns), or .jsonl or .ndjson (one
  object per line), in UTF-8, with one recipient per row. The address is in
  the column email, e-mail, mail or address, or in the one that
  --address-column names. An address that occurs twice gets one letter, and
  is reported before anything is sent: see --duplicates.

templates
  A template is a file with header fields, an empty line and a text. Jinja2
  inserts the values of a row: "Dear {{ name }}". --html adds a second part.
  Date and Message-ID are added, and stay the same when the campaign is
  resumed.
    From: Ann <ann@shop.example>
    To: {{ name }} <{{ email }}>
    Subject: News from {{ city }}

    Dear {{ name }}, ...

messages
  Files, mbox files and Maildirs. The envelope comes from the header, and Bcc
  is removed: see csmtplib send --help.

servers
  As for csmtplib send: smtp://HOST, smtp+starttls://HOST, submission://HOST,
  smtps://HOST, lmtp://HOST, lmtp+unix:/PATH, or sink:DIRECTORY, the embedded
  server. Keep the password in a file that CSMTPLIB_PASSWORD_FILE names; a
  journal never contains it.

exit status
    0  all recipients were accepted
    1  some recipients were rejected
   64  wrong usage, or the journal already contains a campaign
   65  errors in the template, in rows or in messages; tables without rows
   66  a file can't be read
   69  the server is unreachable, has no valid certificate, or refuses the
       session, all mail, or the first 50 recipients with the same reply
       (unless --max-failed is given); or a package is missing
   74  the journal, the metrics or the log can't be written
   75  some recipients are deferred or not sent yet: use csmtplib resume
   76  some are in doubt, and nothing else is left to do: see resume --help
   77  the server refuses the login, or requires one
   78  --server, or a file that it names, is invalid
  130  interrupted, without a journal. The first Ctrl-C, or SIGTERM, waits for
       the messages in progress, the second aborts them (in doubt if a whole
       message may have left), the third ends the command at once.

examples
  csmtplib bulk --template letter.txt --dry-run recipients.csv
  csmtplib bulk --template letter.txt --html letter.html recipients.csv
  csmtplib bulk --server submission://news@mail.example --rate 50/s \\
      --journal may.journal --template letter.txt recipients.csv
  csmtplib resume may.journal
  csmtplib report may.journal
"""


def main(arguments: Sequence[str]) -> int:
    """Send a campaign, and return the exit code (see the manual).

    Raises Failure, and SystemExit for wrong usage.
    """
    options = _parse(arguments)
    # Not for --help.
    from ..bulk.journal import JournalError

    lenient_stdout()
    try:
        return _bulk(options)
    except JournalError as error:
        raise Failure(Exit.IOERR, str(error)) from error
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _bulk(options: argparse.Namespace) -> Exit:
    from . import checks
    from .campaign_run import CampaignRun
    from .destination import SINK
    from .display import Display
    from .jobs import messages
    from .plan import to_parameters

    written = given_run_options(options)
    run_options = parse_run_options(written)
    plan = _plan(options)
    items = messages(plan)
    display = Display(quiet=options.quiet, lines=options.verbose)
    for remark in items.remarks:
        display.say(remark)
    if options.dry_run:
        return checks.show_first(items, options.limit or checks.FIRST, display)
    with ExitStack() as resources:
        journal = None
        if options.journal is not None:
            journal = resources.enter_context(_journal(options.journal))
        campaign_run = CampaignRun(
            plan.server,
            run_options,
            display,
            options,
            resources,
            id=plan.id,
            journal=journal,
            journal_name=options.journal,
        )
        total = items.count
        if plan.errors == "stop":
            total = checks.check_all(items, display)
        if journal is not None:
            if run_options.suppress is not None:
                written["suppress"] = os.path.abspath(run_options.suppress)
            if options.metrics is not None:
                written["metrics"] = os.path.abspath(options.metrics)
            journal.set_parameters(to_parameters(plan, total, written), replace=True)
        elif not (options.quiet or options.server.startswith(SINK)):
            display.say("without --journal this run can't be resumed if it is stopped or killed")
        return campaign_run.send(items, total, stop_at_fault=plan.errors == "stop")


def _plan(options: argparse.Namespace) -> Plan:
    from .addressing import parse_sender
    from .plan import Plan, is_table, new_id, now

    for name in options.sources:
        if name == "-":
            raise Failure(Exit.USAGE, "standard input can be read only once: write it to a file")
        if [os.path.realpath(each) for each in options.sources].count(os.path.realpath(name)) > 1:
            raise Failure(Exit.USAGE, f"{name} is given twice")
        if is_table(name) and options.template is None:
            raise Failure(Exit.USAGE, f"{name} is a table: give a letter with --template")
        if not is_table(name) and options.template is not None:
            raise Failure(
                Exit.USAGE,
                f"{name} is not a table: its name must end with .csv, .tsv, .jsonl or .ndjson",
            )
    try:
        sender = None if options.sender is None else parse_sender(options.sender)
    except ValueError as error:
        raise Failure(Exit.USAGE, str(error)) from error
    return Plan(
        directory=os.getcwd(),
        sources=tuple(options.sources),
        server=options.server,
        sender=sender,
        template=options.template,
        html=options.html,
        address_column=options.address_column,
        list_unsubscribe=options.list_unsubscribe,
        verp=options.verp,
        errors=options.errors,
        duplicates=options.duplicates,
        limit=options.limit,
        id=new_id(),
        date=now(),
    )


def _journal(name: str) -> Journal:
    """Open the journal of a campaign that has not begun: a new one, or that of a run that ended
    before its first message. Raises Failure for any other."""
    from ..bulk.journal import Journal
    from .plan import is_of_campaign

    journal = Journal(name)
    counts, parameters = journal.counts(), journal.parameters()
    if not counts and (not parameters or is_of_campaign(parameters)):
        return journal
    journal.close()
    shown = shlex.quote(name)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    raise Failure(
        Exit.USAGE,
        f"{name} already contains a campaign ({states or 'of a program'}): csmtplib report {shown} "
        f"shows its results, csmtplib resume {shown} sends what is left of it; give another "
        "--journal for another campaign",
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options. Exits on wrong usage."""
    parser = option_parser()
    options = parser.parse_args(arguments)
    if options.template is None:
        for name in ("html", "verp", "address_column", "list_unsubscribe"):
            if vars(options)[name]:
                parser.error(f"--{name.replace('_', '-')} needs --template")
    check_run_options(parser, options)
    return options


def option_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "csmtplib bulk",
        usage=_USAGE,
        description=_DESCRIPTION,
        manual=_MANUAL,
    )
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="table, or file, mbox or Maildir of messages"
    )
    add_server_option(parser)
    parser.add_argument(
        "--journal",
        metavar="FILE",
        help="record results, so that csmtplib resume can continue",
    )

    group = parser.add_argument_group("messages")
    group.add_argument(
        "--template", metavar="FILE", help="the letter: header fields, an empty line, and the text"
    )
    group.add_argument("--html", metavar="FILE", help="add this HTML part to the letter")
    group.add_argument(
        "--from",
        dest="sender",
        metavar="ADDRESS",
        help="sender of the envelope (default: the address in From)",
    )
    group.add_argument(
        "--verp",
        action="store_true",
        help="use one sender address per recipient (VERP)",
    )
    group.add_argument(
        "--address-column",
        metavar="NAME",
        help="column with the address (default: see tables)",
    )
    group.add_argument(
        "--list-unsubscribe",
        metavar="TEMPLATE",
        help='add List-Unsubscribe (one-click for https): "https://x.example/u/{{ token }}"',
    )
    group.add_argument(
        "--limit", metavar="N", type=_number, help="send only the first N rows or messages"
    )
    group.add_argument(
        "--errors",
        choices=["stop", "aside"],
        default="stop",
        help="faulty rows and messages: find them first, and send nothing (stop, the default), or "
        "skip them (aside)",
    )
    group.add_argument(
        "--duplicates",
        choices=["skip", "send"],
        default="skip",
        help="rows with a repeated address: skip them (the default), or send to them, too",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the first 3 (or --limit) messages, send nothing",
    )
    add_run_options(parser)
    return parser


def _number(text: str) -> int:
    try:
        return count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
