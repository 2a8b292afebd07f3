"""`csmtplib report`: shows the results of a campaign from its journal, also while it runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .conventions import Exit, Failure, missing_package
from .options import Parser
from .streams import lenient_stdout, writing_stdout

if TYPE_CHECKING:
    from ..bulk.journal_view import JournalView

# A line of the plot has at most this many points, one of these steps in seconds apart.
_POINTS = 120
_STEPS = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400)

_STATES = ("accepted", "rejected", "deferred", "in doubt")
_COLOURS = ("tab:blue", "tab:red", "tab:orange", "tab:purple")

_DESCRIPTION = """\
Show the results of a campaign that has a journal (csmtplib bulk --journal),
while it runs and afterwards."""

_MANUAL = """\
formats
  table   text for people: the campaign, its states, the domains with the most
          recipients, and the most frequent replies
  csv     one line per recipient, after a line with the names of the columns:
          key, address, state, code, enhanced, text, attempts, host, time
  jsonl   the same, one JSON object per line
  With --by, every format has one line per domain, or per code, enhanced code
  and state. With --state, one line per recipient.

  key identifies the row or the message ("recipients.csv:2" for line 2). text
  is that of the last reply, or describes the error.

states
  accepted   the server has accepted the message
  rejected   the server has rejected it, or has deferred it too often
  deferred   the server has not accepted it yet; csmtplib resume retries
  in doubt   the message was sent and no reply came: it may have arrived;
             csmtplib resume --in-doubt resend sends it again, and
             csmtplib resume --in-doubt accept counts it as accepted
  queued     not sent yet
  sending    in progress at this moment; in doubt if its run was killed

exit status
    0  the report is complete
   64  wrong usage
   65  there are no results to plot yet
   66  the journal does not exist
   69  a package is missing
   74  the journal can't be read, or the output can't be written

examples
  csmtplib report may.journal
  csmtplib report --by code may.journal
  csmtplib report --state in-doubt may.journal
  csmtplib report --format csv may.journal > results.csv
  csmtplib report --plot rate.svg may.journal
"""


def main(arguments: Sequence[str]) -> int:
    """Print a report, and return the exit code (see the manual).

    Raises Failure, and SystemExit for wrong usage.
    """
    options = _parse(arguments)
    # Not for --help.
    from ..bulk.journal_format import JournalError, NoCampaign
    from ..bulk.journal_view import JournalView
    from . import report_table, results

    lenient_stdout()
    if not os.path.exists(options.journal):
        raise Failure(Exit.NOINPUT, f"{options.journal}: there is no such journal")
    state = None if options.state is None else options.state.replace("-", " ")
    try:
        with writing_stdout(), JournalView(options.journal) as view:
            if options.plot is not None:
                _plot(view, options.plot)
            if options.format == "table":
                report_table.print_report(view, options.by, state, options.journal)
            else:
                results.write_report(view, options.by, options.format, state)
    except NoCampaign:
        # Its run is about to write it, or was killed before that.
        with writing_stdout():
            if options.format == "table":
                print(report_table.NOTHING)
            else:
                results.write_empty_report(options.by, options.format)
    except JournalError as error:
        raise Failure(Exit.IOERR, str(error)) from error
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return Exit.OK


def option_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "csmtplib report",
        usage="csmtplib report [OPTION ...] JOURNAL",
        description=_DESCRIPTION,
        manual=_MANUAL,
    )
    parser.add_argument(
        "journal", metavar="JOURNAL", help="the file that was given to bulk --journal"
    )
    parser.add_argument(
        "--format",
        choices=["table", "csv", "jsonl"],
        default="table",
        help="output format, see formats (default: %(default)s)",
    )
    parser.add_argument(
        "--state",
        choices=["accepted", "rejected", "deferred", "in-doubt", "queued", "sending"],
        help="list the recipients in this state, one per line",
    )
    parser.add_argument(
        "--by", choices=["domain", "code"], help="count recipients by domain, or by code and state"
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="also draw the rate over time, to a file that ends with .svg or .png",
    )
    return parser


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = option_parser()
    options = parser.parse_args(arguments)
    if options.state is not None and options.by is not None:
        parser.error("--state lists recipients, --by counts them: give one of them")
    if options.plot is not None and not options.plot.lower().endswith((".svg", ".png")):
        parser.error(f"--plot: the file must end with .svg or .png, not {options.plot!r}")
    return options


def _plot(view: JournalView, path: str) -> None:
    """Draw the results per second, one line for each state. Raises Failure and JournalError."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_package("--plot", "matplotlib", "plot") from error
    first, last = view.span()
    if first is None or last is None:
        raise Failure(Exit.DATAERR, "there are no results to plot yet")
    step = next((each for each in _STEPS if (last - first) / each <= _POINTS), _STEPS[-1])
    counts = {(at, state): count for at, state, count in view.over_time(step)}
    begin, end = (int(time // step) * step for time in (first, last))
    # Begin and end at zero: a single point would not be visible as a line.
    times = range(begin - step, end + 2 * step, step)
    with rc_context({"date.converter": "concise"}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes: Any = figure.add_subplot()
        for state, colour in zip(_STATES, _COLOURS, strict=True):
            rates = [counts.get((at, state), 0) / step for at in times]
            if any(rates):
                moments = [datetime.fromtimestamp(at) for at in times]
                axes.plot(moments, rates, label=state, color=colour)
        axes.set_ylabel("recipients/s")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
        try:
            figure.savefig(path)
        except OSError as error:
            raise Failure(Exit.IOERR, f"--plot {path}: {error.strerror or error}") from error
