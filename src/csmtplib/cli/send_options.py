"""The options of `csmtplib send`, and its manual."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .conventions import DEFAULT_SINK, Parser

_USAGE = """\
csmtplib send [OPTION ...] [PATH ...]
       csmtplib send {-t | -i | -f ADDRESS} [OPTION ...] [RECIPIENT ...]"""

# 78 columns: it is read on terminals.
_DESCRIPTION = """\
Sends the messages in files, over one connection. Without --server nothing
leaves this machine: the mail is filed in the Maildir ./csmtplib-sink."""

_MANUAL = """\
messages
  PATH is a file with one message (.eml or whatever its name is), an mbox (it
  begins with "From ", and so does every message in it), a Maildir (all that
  is in new/ and cur/), or - for standard input, which holds one message or
  an mbox and is also read where there is no PATH. An empty file holds no
  message. Where a PATH can't be read, nothing is sent.

  The octets go out as they are, with CR LF at the end of each line, but for
  the header fields Bcc and Resent-Bcc, which are cut out. Nothing is added,
  and ">From " stays as it is. A message that holds a NUL, or a line of more
  than 998 octets, can't be sent.

  The connection is opened again when the server has closed it. A message
  that had not left as a whole by then is tried once more. One that had left,
  and got no answer, may have arrived: it is "in doubt" and not sent again.

envelope
  Sender: --from, else the address in Sender, else the first in From.
  Recipients: --to, else those in To, Cc and Bcc. In a header with
  Resent-Date, the Resent- fields take the place of these. An address that
  is there twice gets the message once.

as sendmail
  With any of -t -i -f -F -o -b -B the arguments are recipients, and one
  message is read from standard input, up to a line with a single dot unless
  there is -i or -oi. A first line that begins with "From " is dropped.
  Recipients in the header count with -t alone, beside the arguments. So
  csmtplib can stand where programs call sendmail:
    git config sendemail.sendmailCmd 'csmtplib send --server smtp://localhost'
    set sendmail = "csmtplib send --server smtp://localhost -oem -oi"  (mutt)

servers
  smtp://HOST            port 25, TLS (by STARTTLS) where the server offers it
  smtp+starttls://HOST   port 25, TLS or nothing
  submission://HOST      port 587, TLS or nothing
  smtps://HOST           port 465, TLS from the start
  lmtp://HOST            port 24, TLS where the server offers it
  lmtp+unix:/PATH        a Unix socket
  sink:DIRECTORY         a server of csmtplib's own while it runs. It files
                         each message once in the Maildir DIRECTORY, with LF
                         at the end of each line and no other change.

  HOST may be followed by :PORT, and by ?option=value&option=value: cafile,
  certfile, keyfile (PEM files), verify=no (trusts any certificate; they are
  verified otherwise), auth (the one mechanism), cleartext-auth=yes (lets a
  password leave without TLS), timeout (seconds), name (said in EHLO).

  USER:PASSWORD@ before HOST logs in; write %40 for @, and so on. Others on
  this machine can see the command line: better leave :PASSWORD out, and
  name a file that holds it in the variable CSMTPLIB_PASSWORD_FILE.

exit status
    0  all recipients were accepted
    1  some were refused for good
   64  wrong usage
   65  some messages can't be sent as they are: no sender, no recipient, a
       bad address, a line too long, ...
   66  a PATH can't be read
   69  no session: the server is out of reach, refuses it, or has no valid
       certificate; or there is no aiosmtpd for the sink
   75  some recipients are deferred or in doubt, or the run was cut short
   77  the server refuses the login
   78  something is wrong with --server, or with a file that it names
  130  interrupted: the first Ctrl-C waits for the message in flight, the
       second leaves it in doubt
  After 64, 69, 77 and 78 nothing was sent. Of the others 130 wins, then 75,
  66, 65, 1: what can still get through, what has to be mended, what is final.

examples
  csmtplib send letter.eml
  csmtplib send --server smtp://mx.example --verbose archive.mbox > outcomes
  csmtplib send --server smtps://ann@mail.example --to bob@b.example Maildir/
"""

_OF_SENDMAIL = ("reverse_path", "full_name", "settings", "mode", "body_type")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options, with `arguments` for what is none and `as_sendmail`. Exits on wrong usage."""
    parser = _parser()
    options = list(arguments)
    after: list[str] = []
    if "--" in options:
        # argparse would take an address that begins with "-" for an option all the same.
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


def _parser() -> Parser:
    parser = Parser(
        prog="csmtplib send",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_MANUAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="PATH",
        help="file, mbox, Maildir, or - for standard input",
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        default=DEFAULT_SINK,
        help="where to send (see servers; default: %(default)s)",
    )
    sender = parser.add_mutually_exclusive_group()
    sender.add_argument("--from", dest="sender", metavar="ADDRESS", help="the envelope's sender")
    parser.add_argument(
        "--to",
        dest="recipients",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="a recipient, or a list with commas; may be repeated",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print a line for each recipient: state, address, reply, message",
    )
    parser.add_argument("--quiet", action="store_true", help="no summary, no progress bar")

    sendmail = parser.add_argument_group("options as sendmail has them")
    sendmail.add_argument(
        "-t", dest="from_header", action="store_true", help="add the recipients in the header"
    )
    sendmail.add_argument(
        "-i", dest="ignore_dots", action="store_true", help="a line with a single dot is no end"
    )
    sender.add_argument(
        "-f", dest="reverse_path", metavar="ADDRESS", help="as --from, and as sendmail (see there)"
    )
    sendmail.add_argument("-F", dest="full_name", metavar="NAME", help="ignored")
    sendmail.add_argument(
        "-o", dest="settings", metavar="X", action="append", help="-oi is -i; others are ignored"
    )
    sendmail.add_argument("-b", dest="mode", metavar="MODE", choices=["m"], help="-bm is ignored")
    sendmail.add_argument("-B", dest="body_type", metavar="TYPE", help="ignored")
    return parser
