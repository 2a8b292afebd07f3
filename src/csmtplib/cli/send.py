"""`csmtplib send`: mail from files over one connection, to a server or into a Maildir."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from smtplib import SMTPNotSupportedError

from ..protocol.mail_object import Unsendable
from . import send_options, sources
from .addressing import Addressing, parse_argument, parse_sender, without_bcc
from .conventions import Exit, Failure, abandon_stdout, lenient_stdout
from .destination import NoSession, destination
from .interrupt import Interrupt
from .send_report import Report
from .session import Session
from .sources import Mail, Source

_NOTICE = "stopping after this message; Ctrl-C again leaves it in doubt"


def main(arguments: Sequence[str]) -> int:
    """Sends what the arguments name; its exit code is in the manual (send_options).

    Raises Failure, and SystemExit for wrong usage.
    """
    options = send_options.parse(arguments)
    addressing = _addressing(options)
    opening, shown = destination(options.server)
    lenient_stdout()
    try:
        with ExitStack() as resources:
            opened = _sources(options, resources)
            server = resources.enter_context(opening)
            report = Report(shown, verbose=options.verbose, quiet=options.quiet)
            resources.callback(report.end_progress)
            interrupt = resources.enter_context(Interrupt(_NOTICE))
            session = resources.enter_context(Session(server))
            mails = itertools.chain.from_iterable(source.mails for source in opened)
            count = sum(source.count for source in opened)
            _deliver(report.watch(mails, count), addressing, session, report, interrupt)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    report.summarise()
    return Exit.INTERRUPTED if interrupt.requested else report.exit_code


def _deliver(
    mails: Iterable[Mail],
    addressing: Addressing,
    session: Session,
    report: Report,
    interrupt: Interrupt,
) -> None:
    for mail in mails:
        if interrupt.requested:
            report.stopped(f"before {mail.origin}", "interrupted")
            return
        try:
            message = mail.octets()
        except OSError as error:
            report.unreadable(mail, error)
            continue
        try:
            to = addressing.envelope(message)
            outcomes = session.send(to.sender, to.recipients, without_bcc(message))
        except (Unsendable, SMTPNotSupportedError) as error:
            report.unsendable(mail, error)
            continue
        except NoSession as error:
            if not session.was_open:
                raise Failure(error.code, str(error)) from error
            report.stopped(f"before {mail.origin}", str(error))
            return
        except KeyboardInterrupt:
            report.stopped(f"before {mail.origin}", "interrupted")
            return
        try:
            report.settled(mail, outcomes)
        except OSError as error:
            report.stopped(f"after {mail.origin}", f"standard output: {error.strerror}")
            abandon_stdout()
            return


def _addressing(options: argparse.Namespace) -> Addressing:
    try:
        sender = None if options.sender is None else parse_sender(options.sender)
        given = options.recipients + (options.arguments if options.as_sendmail else [])
        recipients = [address for text in given for address in parse_argument(text)]
    except ValueError as error:
        raise Failure(Exit.USAGE, str(error)) from error
    if options.as_sendmail and not recipients and not options.from_header:
        raise Failure(Exit.USAGE, "name recipients, or take those of the header by -t")
    return Addressing(sender, recipients, options.from_header)


def _sources(options: argparse.Namespace, resources: ExitStack) -> list[Source]:
    stdin = sys.stdin.buffer
    if options.as_sendmail:
        return [sources.sendmail_input(stdin, dot_ends=not options.ignore_dots)]
    return sources.open_all(options.arguments or [sources.STANDARD_INPUT], stdin, resources)
