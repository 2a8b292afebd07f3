"""The columns of the tables: each makes a cell of the reports of one contender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from .clients.worker import Report

Reports = Sequence[Report]
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Column:
    """A heading, and what stands under it for a contender's reports. The reports of the standard
    library are handed over, too, where it took part.
    """

    heading: str
    cell: Callable[[Reports, Reports], str]


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


def times(numbers: Sequence[float], of: Sequence[float]) -> str:
    """Return the ratio of two medians."""
    return figure(median(numbers) / median(of)) if of else ""


def middle(name: str, scale: float = 1) -> Callable[[Reports, Reports], str]:
    """Return a cell's function: the median of what the reports hold under that name."""
    return lambda reports, _: figure(median(report[name] for report in reports) / scale)


def kept(reports: Reports, _: Reports) -> str:
    """Return how much of its rate the counting thread keeps."""
    return f"{median(report['beside'] / report['alone'] for report in reports):.0%}"


RATE = Column("messages/s", lambda reports, _: spread(rates(reports)))
COST = Column("CPU us/message", lambda reports, _: spread(costs(reports)))
RATIO = Column("x stdlib", lambda reports, stdlib: times(rates(reports), rates(stdlib)))

RATES = (
    RATE,
    RATIO,
    COST,
    Column("CPU / stdlib", lambda reports, stdlib: times(costs(reports), costs(stdlib))),
)
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
