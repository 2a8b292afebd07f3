"""`csmtplib bulk`: a campaign, from a template and tables of recipients or from messages."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from . import bulk_options, run_options
from .conventions import Exit, Failure, lenient_stdout

if TYPE_CHECKING:
    from ..bulk.journal import Journal
    from .display import Display
    from .jobs import Messages
    from .plan import Plan

# Faults that are told before anything is sent.
_TOLD = 20


def main(arguments: Sequence[str]) -> int:
    """Sends a campaign; its exit code is in the manual (bulk_options).

    Raises Failure, and SystemExit for wrong usage.
    """
    options = bulk_options.parse(arguments)
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
    from . import dry_run
    from .display import Display
    from .jobs import messages
    from .plan import to_parameters
    from .sending import Sending

    written = run_options.given(options)
    run = run_options.run(written)
    plan = _plan(options)
    items = messages(plan)
    display = Display(quiet=options.quiet, lines=options.verbose)
    if options.dry_run:
        return dry_run.show(items, options.limit or dry_run.FIRST, display)
    with ExitStack() as resources:
        journal = None
        if options.journal is not None:
            journal = resources.enter_context(_new_journal(options.journal))
        sending = Sending(
            plan.server,
            run,
            display,
            options,
            resources,
            id=plan.id,
            journal=journal,
            journal_name=options.journal,
        )
        total = items.count
        if plan.errors == "stop":
            total = _check(items, display)
        if journal is not None:
            if run.suppress is not None:
                written["suppress"] = os.path.abspath(run.suppress)
            journal.set_parameters(to_parameters(plan, total, written))
        return sending.send(items, total, stop_at_fault=plan.errors == "stop")


def _plan(options: argparse.Namespace) -> Plan:
    from .addressing import parse_sender
    from .plan import Plan, is_table, new_id, now

    for name in options.sources:
        if name == "-":
            raise Failure(Exit.USAGE, "standard input is read once: write it to a file")
        if options.sources.count(name) > 1:
            raise Failure(Exit.USAGE, f"{name} is named twice")
        if is_table(name) and options.template is None:
            raise Failure(Exit.USAGE, f"{name} is a table: name a letter by --template")
        if not is_table(name) and options.template is not None:
            raise Failure(Exit.USAGE, f"{name} is no .csv, .tsv, .jsonl or .ndjson")
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
        limit=options.limit,
        id=new_id(),
        date=now(),
    )


def _new_journal(name: str) -> Journal:
    from ..bulk.journal import Journal

    journal = Journal(name)
    if journal.parameters() or journal.counts():
        journal.close()
        raise Failure(
            Exit.USAGE, f"{name} holds a campaign already; resume it by: csmtplib resume {name}"
        )
    return journal


def _check(items: Messages, display: Display) -> int:
    """Makes all messages, and how many recipients they have.

    Raises Failure where some can't be made, and tells the first of them.
    """
    from .jobs import Fault

    recipients = 0
    faults = []
    count = 0
    for item in display.checking(items, items.count):
        if isinstance(item, Fault):
            count += 1
            if count <= _TOLD:
                faults.append(item)
        else:
            to_addrs = item.mail.to_addrs
            recipients += 1 if isinstance(to_addrs, str) else len(to_addrs)
    if not count:
        return recipients
    for fault in faults:
        display.say(f"{fault.where}: {fault.reason}")
    code = Exit.NOINPUT if all(fault.unreadable for fault in faults) else Exit.DATAERR
    faulty = "one is faulty" if count == 1 else f"{count} are faulty"
    raise Failure(code, f"nothing was sent, as {faulty}; --errors aside leaves them out")
