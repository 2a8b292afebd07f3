"""The columns of the tables: each makes a cell of the reports of one contender."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .clients.worker import Report

Reports = Sequence[Report]
Yardsticks = Mapping[str, Reports]
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Column:
    """A heading, and what stands under it for a contender's reports. Those of the contenders that
    the others are measured by are handed over, too, by name, of such as took part.
    """

    heading: str
    cell: Callable[[Reports, Yardsticks], str]


def rates(reports: Reports) -> list[float]:
    """Return the messages a second of each round."""
    return [report["accepted"] / report["seconds"] for report in reports]


def costs(reports: Reports) -> list[float]:
    """Return the microseconds of the client's CPU that a message took, of each round."""
    return [report["cpu"] / report["accepted"] * 1e6 for report in reports]


def figure(number: float) -> str:
    """Return a number with as many digits as tell something."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def spread(numbers: Sequence[float]) -> str:
    """Return the median, and in brackets what it lies between where there are several."""
    if len(numbers) == 1:
        return figure(numbers[0])
    return f"{figure(median(numbers))} ({figure(min(numbers))} - {figure(max(numbers))})"


def times(
    numbers: Callable[[Reports], list[float]], yardstick: str
) -> Callable[[Reports, Yardsticks], str]:
    """Return a cell's function: the ratio of the median to that of another contender."""

    def cell(reports: Reports, yardsticks: Yardsticks) -> str:
        of = yardsticks.get(yardstick)
        return figure(median(numbers(reports)) / median(numbers(of))) if of else ""

    return cell


def middle(name: str, scale: float = 1) -> Callable[[Reports, Yardsticks], str]:
    """Return a cell's function: the median of what the reports hold under that name."""
    return lambda reports, _: figure(median(report[name] for report in reports) / scale)


def kept(reports: Reports, _: Yardsticks) -> str:
    """Return how much of its rate the counting thread keeps."""
    return f"{median(report['beside'] / report['alone'] for report in reports):.0%}"


RATE = Column("messages/s", lambda reports, _: spread(rates(reports)))
COST = Column("CPU us/message", lambda reports, _: spread(costs(reports)))
RATIO = Column("x stdlib", times(rates, "stdlib"))
COST_RATIO = Column("CPU / stdlib", times(costs, "stdlib"))

RATES = (RATE, RATIO, COST, COST_RATIO)
ASYNCHRONOUS = (
    RATE,
    Column("x aiosmtplib", times(rates, "aiosmtplib")),
    COST,
    Column("CPU / aiosmtplib", times(costs, "aiosmtplib")),
)
BULK = (RATE, RATIO, Column("x smtp-source", times(rates, "smtp-source")), COST, COST_RATIO)
MEMORY = (
    RATE,
    COST,
    *(Column(f"MiB at the {name}", middle(name, MEBIBYTE)) for name in ("start", "middle", "end")),
)
# A client that gets no turn leaves the thread all of its rate: the first two columns belong to it.
THREADS = (
    RATE,
    RATIO,
    Column("counts/s alone", middle("alone")),
    Column("while sending", middle("beside")),
    Column("kept", kept),
)
