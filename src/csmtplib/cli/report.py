"""`csmtplib report`: what became of a campaign, by its journal; also while it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .conventions import Exit, Failure, Parser, abandon_stdout, lenient_stdout

_DESCRIPTION = """\
Tells what became of a campaign that has a journal (csmtplib bulk --journal),
while it runs and after it."""

_MANUAL = """\
formats
  table   to be read: the campaign, its states, the domains with the most
          recipients, and the most frequent replies
  csv     a line for each recipient, below the names of the columns: key,
          address, state, code, enhanced, text, attempts, host, time
  jsonl   the same, a JSON object a line
  With --by, a line for each domain, or for each code, enhanced code and
  state, in each of the formats.

  key names the row or the message ("recipients.csv:2" for line 2). text is
  that of the last reply, and what went wrong.

states
  accepted   the server has taken the message
  rejected   it will not, or was asked too often
  deferred   it did not yet; csmtplib resume tries again
  in doubt   the message had left and no answer came: it may have arrived
  queued     not sent yet
  armed      under way at this moment

exit status
    0  told
   64  wrong usage
   65  there are no results yet to be plotted
   69  a package is missing
   74  the journal can't be read, or the output can't be written

examples
  csmtplib report may.journal
  csmtplib report --by code may.journal
  csmtplib report --format csv may.journal > results.csv
  csmtplib report --plot rate.svg may.journal
"""


def main(arguments: Sequence[str]) -> int:
    """Reports; its exit code is in the manual. Raises Failure, and SystemExit for wrong usage."""
    options = _parse(arguments)
    # Not for --help.
    from ..bulk.journal_format import JournalError
    from ..bulk.journal_view import JournalView

    lenient_stdout()
    try:
        with JournalView(options.journal) as view:
            if options.plot is not None:
                from . import plot

                plot.draw(view, options.plot)
            if options.format == "table":
                from . import report_table

                report_table.show(view, options.by)
            else:
                from . import report_rows

                report_rows.show(view, options.by, options.format)
        sys.stdout.flush()
    except JournalError as error:
        raise Failure(Exit.IOERR, str(error)) from error
    except BrokenPipeError:
        # As by "| head": who reads has seen enough.
        abandon_stdout()
        return Exit.IOERR
    except OSError as error:
        abandon_stdout()
        raise Failure(Exit.IOERR, f"standard output: {error.strerror or error}") from error
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return Exit.OK


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="csmtplib report",
        usage="csmtplib report [OPTION ...] JOURNAL",
        description=_DESCRIPTION,
        epilog=_MANUAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("journal", metavar="JOURNAL", help="the file that bulk --journal names")
    parser.add_argument(
        "--format",
        choices=["table", "csv", "jsonl"],
        default="table",
        help="see formats (default: %(default)s)",
    )
    parser.add_argument("--by", choices=["domain", "code"], help="counts, not recipients")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the rate over time into FILE.svg or FILE.png as well"
    )
    options = parser.parse_args(arguments)
    if options.plot is not None and not options.plot.lower().endswith((".svg", ".png")):
        parser.error(f"--plot: a file that ends with .svg or .png, not {options.plot!r}")
    return options
