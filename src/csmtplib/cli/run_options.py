"""The options of a run of a campaign, which `bulk` and `resume` share: how fast, how long, when to
stop."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .conventions import Exit, Failure

if TYPE_CHECKING:
    from ..bulk.throttle import Rate

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Run:
    """What BulkSender is to keep to. retry_for: how many seconds the run tries deferred recipients
    again. suppress: the file of the suppression list."""

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


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the options. What is not given is not in the namespace."""
    group = parser.add_argument_group("pace")
    _option(group, "connections", "N", "connections at most, at the same time (default: 10)")
    _option(group, "rate", "R", "recipients in a time, in total: 100/s, 6000/m, 5000/h, 50000/d")
    group.add_argument(
        "--domain-rate",
        action="append",
        metavar="[DOMAIN=]R",
        default=argparse.SUPPRESS,
        help="the same for each recipient domain, or for one; may be repeated",
    )
    _option(group, "max-in-flight", "N", "messages under way on a connection (default: 100)")
    _option(group, "max-per-connection", "N", "messages before a connection is closed")
    _option(group, "max-connection-seconds", "N", "seconds before a connection is closed")
    group.add_argument(
        "--no-chunking",
        action="store_const",
        const="yes",
        default=argparse.SUPPRESS,
        help="no BDAT, even where the server offers it",
    )

    group = parser.add_argument_group("retries and stops")
    _option(
        group,
        "retry-for",
        "DURATION",
        "how long this run tries deferred recipients again: 30s, 15m, 4h, 2d (default: 1h; "
        "0: not at all)",
    )
    _option(group, "retry-first", "DURATION", "when it tries them first (default: 5m)")
    _option(group, "max-failed", "N", "stop when so many are rejected, or such a share: 100, 5%%")
    group.add_argument(
        "--in-doubt",
        choices=["hold", "resend"],
        default=argparse.SUPPRESS,
        help="messages that the server may have or not: leave them (hold, the default: at most "
        "once), or send them again (resend: at least once)",
    )
    _option(group, "suppress", "FILE", "addresses that get nothing, one a line")

    group = parser.add_argument_group("what is told")
    group.add_argument("--metrics", metavar="FILE", help="write a Prometheus textfile, every 5 s")
    group.add_argument(
        "--log-json",
        metavar="FILE",
        help="append a JSON object for each result; - for standard output",
    )
    group.add_argument(
        "-v", "--verbose", action="store_true", help="print a line for each result, as send does"
    )
    group.add_argument("--quiet", action="store_true", help="no summary, no progress")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exits where options contradict each other."""
    if options.log_json == "-" and options.verbose:
        parser.error("--log-json - and --verbose both want standard output")


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The options of a run that were given, as they were written: what a journal keeps."""
    return {name: value for name, value in vars(options).items() if name in _NAMES}


def run(written: Mapping[str, Any]) -> Run:
    """The options by what is written for them. Raises Failure for what can't be read."""

    def value(name: str, parse: Callable[[str], _T], default: _T) -> _T:
        if name not in written:
            return default
        try:
            return parse(written[name])
        except ValueError as error:
            raise Failure(Exit.USAGE, f"--{name.replace('_', '-')}: {error}") from error

    return Run(
        connections=value("connections", _count, 10),
        rate=value("rate", _rate, None),
        domain_rates=_domain_rates(written.get("domain_rate", ())),
        in_doubt=written.get("in_doubt", "hold"),
        suppress=written.get("suppress"),
        max_failed=value("max_failed", _failures, None),
        max_per_connection=value("max_per_connection", _count, None),
        max_connection_seconds=value("max_connection_seconds", _duration, None),
        retry_for=value("retry_for", _duration, 3600.0),
        retry_first=value("retry_first", _duration, 300.0),
        max_in_flight=value("max_in_flight", _count, 100),
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


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"a number from 1 on, not {text!r}")
    return int(text)


def _duration(text: str) -> float:
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "s")
    try:
        seconds = float(number) * _UNITS[unit]
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"a duration such as 30s, 15m, 4h or 2d, not {text!r}")
    return seconds


def _failures(text: str) -> float:
    if not text.endswith("%"):
        return _count(text)
    try:
        share = float(text[:-1]) / 100
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ValueError(f"a number, or a share such as 5%, not {text!r}")
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
            raise Failure(Exit.USAGE, f"--domain-rate: there are two for {domain}")
        try:
            rates[domain] = _rate(rate)
        except ValueError as error:
            raise Failure(Exit.USAGE, f"--domain-rate: {error}") from error
    return rates["*"] if list(rates) == ["*"] else rates or None
