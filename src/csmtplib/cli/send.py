"""`csmtplib send`: mail from files over one connection, to a server or into a Maildir."""

from __future__ import annotations

import argparse
import io
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from smtplib import SMTPNotSupportedError

from ..drive.sock import tls_context
from ..protocol import envelope, server_url
from ..protocol.mail_object import Unsendable
from ..protocol.server_url import Server
from . import send_options, sources
from .addressing import Addressing, parse_addresses, without_bcc
from .conventions import Exit, Failure
from .interrupt import Interrupt
from .report import Report
from .session import NoSession, Session
from .sources import Mail, Source

_SINK = "sink:"


def main(arguments: Sequence[str]) -> int:
    """Sends what the arguments name; its exit code is in the manual (send_options).

    Raises Failure, and SystemExit for wrong usage.
    """
    options = send_options.parse(arguments)
    addressing = _addressing(options)
    opening, destination = _destination(options.server)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Letters that the terminal lacks are no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with ExitStack() as resources:
            opened = _sources(options, resources)
            try:
                server = resources.enter_context(opening)
            except OSError as error:
                raise Failure(Exit.CONFIG, f"{options.server}: {error.strerror}") from error
            report = Report(destination, verbose=options.verbose, quiet=options.quiet)
            resources.callback(report.end_progress)
            interrupt = resources.enter_context(Interrupt())
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
            _abandon_stdout()
            return


def _abandon_stdout() -> None:
    # What it holds would fail once more when the interpreter flushes it at the end.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _addressing(options: argparse.Namespace) -> Addressing:
    sender = None
    if options.sender is not None:
        addresses = [""] if options.sender in ("", "<>") else _given(options.sender)
        if len(addresses) != 1:
            raise Failure(Exit.USAGE, f"one address is a sender, not {options.sender!r}")
        sender = addresses[0]
    given = options.recipients + (options.arguments if options.as_sendmail else [])
    recipients = [address for text in given for address in _given(text)]
    if options.as_sendmail and not recipients and not options.from_header:
        raise Failure(Exit.USAGE, "name recipients, or take those of the header by -t")
    return Addressing(sender, recipients, options.from_header)


def _given(text: str) -> list[str]:
    """The addresses in an argument, one at least."""
    try:
        # Before it is parsed, which would take a line break for a space.
        envelope.check_command(text)
        addresses = parse_addresses(text)
    except ValueError as error:
        raise Failure(Exit.USAGE, str(error)) from error
    if not addresses:
        raise Failure(Exit.USAGE, f"no address: {text!r}")
    return addresses


def _sources(options: argparse.Namespace, resources: ExitStack) -> list[Source]:
    stdin = sys.stdin.buffer
    if options.as_sendmail:
        return [sources.sendmail_input(stdin, dot_ends=not options.ignore_dots)]
    return sources.open_all(options.arguments or [sources.STANDARD_INPUT], stdin, resources)


def _destination(url: str) -> tuple[AbstractContextManager[Server], str]:
    """The server, for as long as the context, and how a summary names it."""
    if url.startswith(_SINK):
        directory = url.removeprefix(_SINK)
        if not directory:
            raise Failure(Exit.CONFIG, f"{url} lacks a directory: {send_options.DEFAULT_SERVER}")
        try:
            from . import sink
        except ImportError as error:
            raise Failure(
                Exit.UNAVAILABLE,
                "the sink needs aiosmtpd: pip install 'csmtplib[cli]', or name a --server",
            ) from error
        return sink.running(Path(directory)), f"into the Maildir {directory}, and no further,"
    try:
        server = server_url.parse(url, os.environ)
        if server.cafile or server.certfile or server.keyfile:
            tls_context(server)
    except server_url.ServerURLError as error:
        raise Failure(Exit.CONFIG, f"--server {error}") from error
    except OSError as error:
        raise Failure(Exit.CONFIG, f"--server: cafile, certfile or keyfile: {error}") from error
    return nullcontext(server), f"to {server}"
