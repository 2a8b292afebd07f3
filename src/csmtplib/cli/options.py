"""The option parser of all commands, and the options of a campaign's run that `bulk` and `resume`
share: how fast, how long, when to stop."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from .conventions import DEFAULT_SINK, Exit, Failure
from .streams import writing_stdout

if TYPE_CHECKING:
    from ..bulk.throttle import Rate

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_T = TypeVar("_T")


class Parser(argparse.ArgumentParser):
    """The parser of a command, whose manual stands below its options in --help. It exits with
    EX_USAGE and one line."""

    def __init__(
        self, prog: str, *, description: str, usage: str | None = None, manual: str | None = None
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=manual,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse ignores write errors.
        if file is sys.stdout:
            with writing_stdout():
                file.write(message)
        else:
            super()._print_message(message, file)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The settings for BulkSender. retry_for: for how many seconds the run retries deferred
    recipients. suppress: the file of the suppression list."""

    connections: int
    rate: Rate | None
    domain_rates: Mapping[str, Rate] | Rate | None
    in_doubt: Literal["hold", "resend"]
    suppress: str | None
    max_failed: float | None
    max_per_connection: int | None
    max_connection_seconds: float | None
    retry_for: float
    retry_first: float
    max_in_flight: int
    chunking: bool


def add_server_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where to send to."""
    parser.add_argument(
        "--server",
        metavar="URL",
        default=DEFAULT_SINK,
        help="server URL, see servers (default: %(default)s)",
    )


def add_run_options(parser: argparse.ArgumentParser, *, resuming: bool = False) -> None:
    """Add the options. Those that are not given are not in the namespace. resuming: add the choices
    that concern earlier runs."""
    group = parser.add_argument_group("pace")
    _option(group, "connections", "N", "open at most N connections at a time (default: 10)")
    _option(
        group,
        "rate",
        "R",
        "recipients per time: 100/s, 5000/h (default: no limit)",
    )
    group.add_argument(
        "--domain-rate",
        action="append",
        metavar="[DOMAIN=]R",
        default=argparse.SUPPRESS,
        help="the same per recipient domain: 20/s for each, x.example=5/m for one; repeatable",
    )
    _option(
        group,
        "max-in-flight",
        "N",
        "unanswered messages per connection (default: 100)",
    )
    _option(group, "max-per-connection", "N", "close each connection after N messages")
    _option(group, "max-connection-seconds", "N", "close each connection after this time: 300, 5m")
    group.add_argument(
        "--no-chunking",
        action="store_const",
        const="yes",
        default=argparse.SUPPRESS,
        help="use DATA, even if the server offers BDAT",
    )

    group = parser.add_argument_group("retries and stops")
    _option(
        group,
        "retry-for",
        "DURATION",
        "retry deferred recipients for this long: 30s, 15m, 4h (default: 1h; 0: never)",
    )
    _option(group, "retry-first", "DURATION", "delay of their first retry (default: 5m)")
    _option(
        group,
        "max-failed",
        "N",
        "stop after N rejected recipients, or a share: 100, 5%%",
    )
    group.add_argument(
        "--in-doubt",
        choices=["hold", "resend", "accept"] if resuming else ["hold", "resend"],
        default=argparse.SUPPRESS,
        help="messages without a reply, which may have arrived: leave them (hold, the default: at "
        "most once), or send them again (resend: at least once)"
        + (", or count those of earlier runs as accepted (accept)" if resuming else ""),
    )
    _option(group, "suppress", "FILE", "send nothing to the addresses in FILE, one per line")

    group = parser.add_argument_group("output")
    group.add_argument(
        "--metrics", metavar="FILE", help="write a Prometheus textfile every 5 seconds"
    )
    group.add_argument(
        "--log-json",
        metavar="FILE",
        help="append one JSON object per result; -: standard output",
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print one line per result: state, address, reply, key",
    )
    group.add_argument("--quiet", action="store_true", help="print no summary and no progress")


def check_run_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit if options contradict each other."""
    if options.log_json == "-" and options.verbose:
        parser.error("--log-json - and --verbose both write to standard output: give one of them")


def given_run_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a run that were given, as they were written, for a journal."""
    return {name: value for name, value in vars(options).items() if name in _NAMES}


def parse_run_options(written: Mapping[str, Any]) -> RunOptions:
    """Parse the options of a run. Raises Failure for invalid values."""

    def value(name: str, parse: Callable[[str], _T], default: _T) -> _T:
        if name not in written:
            return default
        try:
            return parse(written[name])
        except ValueError as error:
            raise Failure(Exit.USAGE, f"--{name.replace('_', '-')}: {error}") from error

    return RunOptions(
        connections=value("connections", count, 10),
        rate=value("rate", _rate, None),
        domain_rates=_domain_rates(written.get("domain_rate", ())),
        in_doubt=written.get("in_doubt", "hold"),
        suppress=written.get("suppress"),
        max_failed=value("max_failed", _failures, None),
        max_per_connection=value("max_per_connection", count, None),
        max_connection_seconds=value("max_connection_seconds", _duration, None),
        retry_for=value("retry_for", _duration, 3600.0),
        retry_first=value("retry_first", _duration, 300.0),
        max_in_flight=value("max_in_flight", count, 100),
        chunking="no_chunking" not in written,
    )


_NAMES = frozenset(
    {
        "connections",
        "rate",
        "domain_rate",
        "in_doubt",
        "suppress",
        "max_failed",
        "max_per_connection",
        "max_connection_seconds",
        "retry_for",
        "retry_first",
        "max_in_flight",
        "no_chunking",
    }
)


def _option(group: argparse._ArgumentGroup, name: str, metavar: str, text: str) -> None:
    group.add_argument(f"--{name}", metavar=metavar, default=argparse.SUPPRESS, help=text)


def count(text: str) -> int:
    """Parse a whole number of at least 1. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _duration(text: str) -> float:
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "s")
    try:
        seconds = float(number) * _UNITS[unit]
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"must be a duration such as 30s, 15m, 4h or 2d, not {text!r}")
    return seconds


def _failures(text: str) -> float:
    if not text.endswith("%"):
        return count(text)
    try:
        share = float(text[:-1]) / 100
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ValueError(f"must be a number, or a share such as 5%, not {text!r}")
    return share


def _rate(text: str) -> Rate:
    from ..bulk.throttle import Rate

    return Rate.parse(text)


def _domain_rates(written: Sequence[str]) -> Mapping[str, Rate] | Rate | None:
    rates: dict[str, Rate] = {}
    for text in written:
        domain, _, rate = text.rpartition("=")
        domain = domain.lower() or "*"
        if domain in rates:
            raise Failure(Exit.USAGE, f"--domain-rate: {domain} is given twice")
        try:
            rates[domain] = _rate(rate)
        except ValueError as error:
            raise Failure(Exit.USAGE, f"--domain-rate: {error}") from error
    return rates["*"] if list(rates) == ["*"] else rates or None
