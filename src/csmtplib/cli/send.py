"""`csmtplib send`: sends mail from files over one connection, to a server or into a Maildir."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from smtplib import SMTPNotSupportedError

from ..bulk import refusals
from ..protocol.mail_object import Unsendable
from . import sources
from .addressing import Addressing, parse_argument, parse_sender, without_bcc
from .conventions import Exit, Failure
from .destination import NoSession, destination
from .display import Ticker, WaitReporter
from .interrupt import Interrupt
from .options import Parser, add_server_option
from .send_report import Report
from .session import Session
from .sources import Mail, Source
from .streams import abandon_stdout, lenient_stdout

_USAGE = """\
csmtplib send [OPTION ...] [PATH ...]
       csmtplib send {-t | -i | -f ADDRESS} [OPTION ...] [RECIPIENT ...]"""

# 78 columns: it is read on terminals.
_DESCRIPTION = """\
Send the messages in files over one connection. Without --server no mail
leaves this machine: it is filed in the Maildir ./csmtplib-sink."""

_MANUAL = """\
messages
  PATH is a file with one message (.eml or any other name), an mbox (a line
  "From ADDRESS DATE" precedes each message), a Maildir (the messages in new/
  and cur/), or - for standard input, which contains one message or an mbox
  and is the default. An empty file contains no message. If a PATH can't be
  read, nothing is sent.

  Messages are sent unchanged, with CR LF at the end of each line, except that
  the header fields Bcc and Resent-Bcc are removed. Nothing is added, and
  ">From " is kept. A message that contains a NUL, a line of more than 998
  bytes, or a Bcc in a malformed header, can't be sent.

  If the server closes the connection, it is reopened. A message that had not
  been sent completely is retried once. One that had been sent and got no
  reply may have arrived: it is "in doubt" and not sent again.

envelope
  Sender: --from, else the address in Sender, else the first in From.
  Recipients: --to, else those in To, Cc and Bcc. In a header with
  Resent-Date, the Resent- fields are used instead. An address that occurs
  twice gets the message once.

as sendmail
  With any of -t -i -f -F -o -b -B the arguments are recipients, and one
  message is read from standard input, up to a line with a single dot unless
  -i or -oi is given. A first line "From ADDRESS DATE" is dropped. Recipients
  in the header are used only with -t, in addition to the arguments. So
  csmtplib can replace sendmail in other programs:
    git config sendemail.sendmailCmd 'csmtplib send --server smtp://localhost'
    set sendmail = "csmtplib send --server smtp://localhost -oem -oi"  (mutt)

servers
  smtp://HOST            port 25, STARTTLS if the server offers it
  smtp+starttls://HOST   port 25, STARTTLS required
  submission://HOST      port 587, STARTTLS required
  smtps://HOST           port 465, TLS from the start
  lmtp://HOST            port 24, STARTTLS if the server offers it
  lmtp+unix:/PATH        a Unix socket
  sink:DIRECTORY         an embedded server that runs during the command. It
                         files each message once in the Maildir DIRECTORY, with
                         LF at the end of each line and no other change.

  HOST may be followed by :PORT, and by ?option=value&option=value: cafile,
  certfile, keyfile (PEM files), verify=no (accept any certificate; otherwise
  it is verified), auth (the mechanism), cleartext-auth=yes (allow a password
  without TLS), timeout (seconds), name (for EHLO).

  USER:PASSWORD@ before HOST logs in; write %40 for @, and so on. Others on
  this machine can see the command line, so omit :PASSWORD, and name a file
  that contains it in the variable CSMTPLIB_PASSWORD_FILE.

exit status
    0  all recipients were accepted
    1  some recipients were rejected
   64  wrong usage
   65  some messages can't be sent as they are: no sender, no recipient, an
       invalid address, a line too long, ...
   66  a PATH can't be read
   69  the server is unreachable, has no valid certificate, or refuses the
       session or all mail; or the sink lacks the package aiosmtpd
   75  some recipients are deferred, or the run ended early
   76  some recipients are in doubt, and none is deferred: if it is sent again,
       the message may arrive twice
   77  the server refuses the login, or requires one
   78  --server, or a file that it names, is invalid
  130  interrupted: the first Ctrl-C waits for the message in progress, the
       second aborts it (in doubt if the whole message may have left), the
       third ends the command at once
  After 64, 69, 77 and 78 nothing was sent. If several others apply, the first
  of 130, 75, 76, 66, 65, 1 is returned: what can still get through, what is
  unknown, what must be corrected, what is final.

examples
  csmtplib send letter.eml
  csmtplib send --server smtp://mx.example --verbose archive.mbox > outcomes
  csmtplib send --server smtps://ann@mail.example --to bob@b.example Maildir/
"""

_OF_SENDMAIL = ("reverse_path", "full_name", "settings", "mode", "body_type")

_NOTICE = "stopping after this message; press Ctrl-C again to abort it"


def main(arguments: Sequence[str]) -> int:
    """Send what the arguments name, and return the exit code (see the manual).

    Raises Failure, and SystemExit for wrong usage.
    """
    options = _parse(arguments)
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
            session = resources.enter_context(Session(server, interrupt))
            mails = itertools.chain.from_iterable(source.mails for source in opened)
            count = sum(source.count for source in opened)
            if not options.quiet:
                report_waits = partial(_report_waits, WaitReporter(report.say), session)
                resources.enter_context(Ticker((0.0, report_waits)))
            _deliver(report.watch(mails, count), addressing, session, report, interrupt)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    report.summarise()
    return Exit.INTERRUPTED if interrupt.requested else report.exit_code


def _report_waits(reporter: WaitReporter, session: Session) -> None:
    reporter.report(session.waits(), time.monotonic())


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
            message = mail.data()
        except OSError as error:
            report.unreadable(mail, error)
            continue
        except Unsendable as error:
            report.unsendable(mail, error)
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
        refused = refusals.of_session(outcomes)
        try:
            report.completed(mail, outcomes)
        except OSError as error:
            report.stopped(f"after {mail.origin}", f"standard output: {error.strerror}")
            abandon_stdout()
            return
        if refused is not None:
            code = Exit.NOPERM if refused is refusals.Subject.LOGIN else Exit.UNAVAILABLE
            report.stopped(
                f"after {mail.origin}", "the server would refuse all other messages too", code
            )
            return


def _addressing(options: argparse.Namespace) -> Addressing:
    try:
        sender = None if options.sender is None else parse_sender(options.sender)
        given = options.recipients + (options.arguments if options.as_sendmail else [])
        recipients = [address for text in given for address in parse_argument(text)]
    except ValueError as error:
        raise Failure(Exit.USAGE, str(error)) from error
    if options.as_sendmail and not recipients and not options.from_header:
        raise Failure(Exit.USAGE, "name recipients, or give -t to use those of the header")
    return Addressing(sender, recipients, options.from_header)


def _sources(options: argparse.Namespace, resources: ExitStack) -> list[Source]:
    stdin = sys.stdin.buffer
    if options.as_sendmail:
        try:
            return [sources.sendmail_input(stdin, dot_ends=not options.ignore_dots)]
        except OSError as error:
            reason = error.strerror or str(error)
            raise Failure(Exit.NOINPUT, f"standard input: {reason}") from error
    return sources.open_all(options.arguments or [sources.STANDARD_INPUT], stdin, resources)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options; `arguments` are the positional ones. Exits on wrong usage.

    as_sendmail: whether the arguments are recipients.
    """
    parser = option_parser()
    options = list(arguments)
    after: list[str] = []
    if "--" in options:
        # argparse would still take an address that begins with "-" for an option.
        after = options[options.index("--") + 1 :]
        del options[options.index("--") :]
    parsed = parser.parse_intermixed_args(options)
    parsed.arguments += after
    parsed.as_sendmail = (
        parsed.from_header
        or parsed.ignore_dots
        or any(vars(parsed)[name] is not None for name in _OF_SENDMAIL)
    )
    parsed.ignore_dots = parsed.ignore_dots or "i" in (parsed.settings or ())
    if parsed.reverse_path is not None:
        parsed.sender = parsed.reverse_path
    return parsed


def option_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "csmtplib send",
        usage=_USAGE,
        description=_DESCRIPTION,
        manual=_MANUAL,
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="PATH",
        help="file, mbox, Maildir, or - for standard input",
    )
    add_server_option(parser)
    sender = parser.add_mutually_exclusive_group()
    sender.add_argument(
        "--from",
        dest="sender",
        metavar="ADDRESS",
        help="sender of the envelope (default: that of the header)",
    )
    parser.add_argument(
        "--to",
        dest="recipients",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="recipient, or several separated by commas; repeatable (default: those of the header)",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print one line per recipient: state, address, reply, message",
    )
    parser.add_argument("--quiet", action="store_true", help="print no summary and no progress bar")

    sendmail = parser.add_argument_group("options of sendmail")
    sendmail.add_argument(
        "-t",
        dest="from_header",
        action="store_true",
        help="also send to the recipients in the header",
    )
    sendmail.add_argument(
        "-i",
        dest="ignore_dots",
        action="store_true",
        help="do not treat a line with a single dot as the end",
    )
    sender.add_argument(
        "-f",
        dest="reverse_path",
        metavar="ADDRESS",
        help="like --from, and turns on the sendmail mode (see as sendmail)",
    )
    sendmail.add_argument("-F", dest="full_name", metavar="NAME", help="ignored")
    sendmail.add_argument(
        "-o", dest="settings", metavar="X", action="append", help="-oi means -i; others are ignored"
    )
    sendmail.add_argument("-b", dest="mode", metavar="MODE", choices=["m"], help="-bm is ignored")
    sendmail.add_argument("-B", dest="body_type", metavar="TYPE", help="ignored")
    return parser
