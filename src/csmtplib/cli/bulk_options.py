"""The options of `csmtplib bulk`, and its manual."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import run_options
from .conventions import DEFAULT_SINK, Parser

_USAGE = """\
csmtplib bulk --template FILE [--html FILE] [OPTION ...] TABLE...
       csmtplib bulk [OPTION ...] MESSAGES..."""

# 78 columns: it is read on terminals.
_DESCRIPTION = """\
Sends a letter to each recipient in tables, or messages that are ready, over
several connections. With --journal nothing is lost or sent twice when it is
stopped or killed: csmtplib resume goes on. Without --server nothing leaves
this machine: the mail is filed in the Maildir ./csmtplib-sink."""

_MANUAL = """\
tables
  .csv or .tsv (the first line names the columns) or .jsonl or .ndjson (an
  object a line), in UTF-8, a row a recipient. The address is in the column
  email, e-mail, mail or address, or in the one that --address-column names.

templates
  A template is a file with header fields, an empty line and a text. Values
  of the row stand in it as Jinja2 has them: "Dear {{ name }}". --html adds a
  second part. Date and Message-ID are added, and are the same again when
  the campaign is resumed.
    From: Ann <ann@shop.example>
    To: {{ name }} <{{ email }}>
    Subject: News from {{ city }}

    Dear {{ name }}, ...

messages
  Files, mbox files and Maildirs, with the envelope of their headers and
  without Bcc: see csmtplib send --help.

servers
  As for csmtplib send: smtp://HOST, smtp+starttls://HOST, submission://HOST,
  smtps://HOST, lmtp://HOST, lmtp+unix:/PATH, or sink:DIRECTORY, the embedded
  one. A password is best left to the file that CSMTPLIB_PASSWORD_FILE names;
  a journal never holds it.

exit status
    0  all recipients were accepted
    1  some were refused for good
   64  wrong usage; a journal that has a campaign already
   65  faults in the template, in rows or in messages
   66  a file can't be read
   69  no session: the server is out of reach, refuses it, or has no valid
       certificate; or a package is missing
   74  the journal, the metrics or the log can't be written
   75  some recipients are deferred, in doubt or not sent yet: resume it
   77  the server refuses the login
   78  something is wrong with --server, or with a file that it names
  130  interrupted, without a journal. The first Ctrl-C, or SIGTERM, waits for
       the messages under way, the second leaves them in doubt.

examples
  csmtplib bulk --template letter.txt --dry-run recipients.csv
  csmtplib bulk --template letter.txt --html letter.html recipients.csv
  csmtplib bulk --server submission://news@mail.example --rate 50/s \\
      --journal may.journal --template letter.txt recipients.csv
  csmtplib resume may.journal
  csmtplib report may.journal
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options. Exits on wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.template is None:
        for name in ("html", "verp", "address_column", "list_unsubscribe"):
            if vars(options)[name]:
                parser.error(f"--{name.replace('_', '-')} needs --template")
    run_options.check(parser, options)
    return options


def _parser() -> Parser:
    parser = Parser(
        prog="csmtplib bulk",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_MANUAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="table, or file, mbox or Maildir of messages"
    )
    parser.add_argument(
        "--server",
        metavar="URL",
        default=DEFAULT_SINK,
        help="where to send (see servers; default: %(default)s)",
    )
    parser.add_argument("--journal", metavar="FILE", help="record what happens, to be resumed")

    group = parser.add_argument_group("messages")
    group.add_argument("--template", metavar="FILE", help="the letter: header fields and text")
    group.add_argument("--html", metavar="FILE", help="its HTML part")
    group.add_argument(
        "--from",
        dest="sender",
        metavar="ADDRESS",
        help="the envelope's sender (default: the address in From)",
    )
    group.add_argument(
        "--verp", action="store_true", help="a sender of its own for each recipient (VERP)"
    )
    group.add_argument("--address-column", metavar="NAME", help="the column with the address")
    group.add_argument(
        "--list-unsubscribe",
        metavar="TEMPLATE",
        help='add List-Unsubscribe with these URIs ("https://x.example/u/{{ token }}"), one-click '
        "for https",
    )
    group.add_argument("--limit", metavar="N", type=_number, help="only the first N recipients")
    group.add_argument(
        "--errors",
        choices=["stop", "aside"],
        default="stop",
        help="what can't be sent as it is: look for it before anything is sent, and send nothing "
        "(stop, the default), or leave it out (aside)",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the first messages (3, or --limit) and send nothing",
    )
    run_options.add(parser)
    return parser


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"a number from 1 on, not {text!r}")
    return int(text)
