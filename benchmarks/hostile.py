"""The scenario "hostile": sendmail() beside smtplib's, over servers that make it hard to be fast.

A cell is one server, one number of recipients and one size of message. What counts is the ratio of
the times: above 1.1 csmtplib falls into a trap that smtplib does not fall into.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from tests.servers.certificates import Certificates, issue
from tests.servers.process import open_directory

from .clients.hostile import Request
from .clients.worker import READY
from .columns import figure
from .contenders import Contender
from .measuring import ROOT
from .placement import Placement, children_on
from .servers.hostile import Address, Settings, running_hostile

LIMIT = 1.1
ROUND_SECONDS = 0.25
QUICK_ROUND_SECONDS = 0.02
MOST = 500  # messages of a round

SMALL, BIG = 100, 20_000_000
SIZES = (SMALL, BIG)
RECIPIENTS = (1, 100)
CONTENDERS = ("stdlib", "csmtplib c", "csmtplib python")


@dataclass(frozen=True)
class Server:
    """A row of cells: the settings of a server, and what is sent to it."""

    title: str
    settings: Settings
    recipients: Sequence[int] = RECIPIENTS
    sizes: Sequence[int] = SIZES


SERVERS = (
    Server("a write for each flight", Settings()),
    Server("a write for each reply", Settings(reply_by_reply=True)),
    Server("Nagle, a write for each flight", Settings(nagle=True)),
    Server("Nagle, a write for each reply", Settings(nagle=True, reply_by_reply=True)),
    Server("window of 16 KiB", Settings(window=1 << 13)),
    Server("reads 64 KiB, then pauses", Settings(window=1 << 16, read_size=1 << 16, pause=0.0005)),
    Server("TLS", Settings(tls=True)),
    Server(
        "TLS, Nagle, a write for each reply", Settings(tls=True, nagle=True, reply_by_reply=True)
    ),
    Server("TLS, window of 16 KiB", Settings(tls=True, window=1 << 13), (1,)),
    Server("Unix socket", Settings(unix=True)),
    Server("Unix socket, a write for each reply", Settings(unix=True, reply_by_reply=True)),
    Server("no PIPELINING", Settings(pipelining=False)),
    Server("no PIPELINING, Nagle", Settings(pipelining=False, nagle=True), sizes=(SMALL,)),
    Server("no PIPELINING, TLS", Settings(pipelining=False, tls=True)),
    Server("CHUNKING", Settings(chunking=True)),
    Server("refuses all recipients", Settings(rcpt_reply="550 5.1.1 No such user")),
    Server(
        "refuses all recipients, Nagle, a write for each reply",
        Settings(rcpt_reply="550 5.1.1 No such user", nagle=True, reply_by_reply=True),
        sizes=(SMALL,),
    ),
    Server("200 ms for a recipient", Settings(rcpt_seconds=0.2), (1,), (SMALL,)),
    Server(
        "200 ms for a recipient, Nagle, a write for each reply",
        Settings(rcpt_seconds=0.2, nagle=True, reply_by_reply=True),
        (1,),
        (SMALL,),
    ),
    Server("2 ms for a recipient", Settings(rcpt_seconds=0.002), (100,), (SMALL,)),
    # The last, as what is learned of it holds for the host, which is the same for all.
    Server(
        "a proxy that delays acknowledgements",
        Settings(reply_by_reply=True, held_seconds=0.04),
        sizes=(SMALL,),
    ),
)
SESSIONS = (
    Server("connect, EHLO, QUIT", Settings()),
    Server("connect, EHLO, QUIT over TLS", Settings(tls=True)),
)


@dataclass
class Cell:
    """A measurement: the seconds of a message (or a session), by contender and round."""

    title: str
    recipients: int | None = None
    size: int | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, contender: str) -> float | None:
        """Return how long the contender takes beside smtplib, as a ratio, or None without it."""
        if contender not in self.seconds:
            return None
        pairs = zip(self.seconds[contender], self.seconds["stdlib"], strict=True)
        return median(ours / theirs for ours, theirs in pairs)


class Worker:
    """A client process (clients/hostile.py)."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def ask(self, request: Request) -> float:
        """Return the seconds that it took. Raises ValueError where the client failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))


@contextmanager
def working(contender: Contender) -> Iterator[Worker]:
    """Run a contender's client while the block lasts."""
    module = contender.module
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.clients.hostile", module],
        cwd=ROOT,
        env=os.environ | contender.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline().decode().strip() != READY:
                raise ValueError(f"{contender.name} did not start")
            yield Worker(process)
        finally:
            process.kill()


def measure(
    everyone: Mapping[str, Contender], places: Placement, *, rounds: int, quick: bool
) -> Iterator[Cell]:
    """Yield the cells, each once it is measured."""
    with ExitStack() as stack:
        certificates = issue(stack.enter_context(open_directory("certificates")))
        with children_on(places.clients):
            workers = {
                name: stack.enter_context(working(everyone[name]))
                for name in CONTENDERS
                if everyone[name].missing is None
            }
        for server in SERVERS:
            with started(server, certificates, places) as address:
                for size in server.sizes:
                    for recipients in server.recipients:
                        cell = Cell(server.title, recipients, size)
                        measure_cell(cell, workers, address, "send", rounds, quick)
                        yield cell
        for server in SESSIONS:
            with started(server, certificates, places) as address:
                cell = Cell(server.title)
                measure_cell(cell, workers, address, "connect", rounds, quick)
                yield cell


@contextmanager
def started(server: Server, certificates: Certificates, places: Placement) -> Iterator[Address]:
    """Run a server on its CPUs while the block lasts."""
    with ExitStack() as stack:
        with children_on(places.servers):
            address = stack.enter_context(running_hostile(server.settings, certificates))
        yield address


def measure_cell(
    cell: Cell,
    workers: Mapping[str, Worker],
    address: Address,
    what: str,
    rounds: int,
    quick: bool,
) -> None:
    """Have each worker do the same, by turns."""
    request: dict[str, Any] = {**asdict(address), "what": what}
    if cell.size is not None:
        request |= {"size": cell.size, "recipients": cell.recipients}
    for worker in workers.values():
        if what == "send":
            worker.ask(Request(**request | {"what": "open"}))
    # The first ones are slower: connections have to grow their windows.
    warm = {name: worker.ask(Request(**request)) for name, worker in workers.items()}
    warm = {name: worker.ask(Request(**request)) for name, worker in workers.items()}
    length = QUICK_ROUND_SECONDS if quick else ROUND_SECONDS
    count = min(MOST, max(1, round(length / warm["stdlib"])))
    measure_rounds(cell, workers, request, rounds, count)
    if any((cell.ratio(name) or 0) > LIMIT for name in workers):
        # It may be noise: then the median of more rounds is below.
        measure_rounds(cell, workers, request, 2 * rounds, count)


def measure_rounds(
    cell: Cell,
    workers: Mapping[str, Worker],
    request: Mapping[str, Any],
    rounds: int,
    count: int,
) -> None:
    """Add rounds to a cell; in each, every worker sends so many messages, or opens sessions."""
    names = list(workers)
    for number in range(rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            seconds = workers[name].ask(Request(**request, count=count))
            cell.seconds.setdefault(name, []).append(seconds / count)


HEADINGS = ("server", "recipients", "bytes", "smtplib, ms", "c / smtplib", "python / smtplib")


def row(cell: Cell) -> list[str]:
    """Return the cells of the table's row; a ratio above LIMIT is marked."""
    ratios = [cell.ratio(name) for name in CONTENDERS[1:]]
    return [
        cell.title,
        "" if cell.recipients is None else str(cell.recipients),
        "" if cell.size is None else figure(cell.size),
        figure(median(cell.seconds["stdlib"]) * 1e3),
        *("" if each is None else f"{each:.2f}{' !' if each > LIMIT else '  '}" for each in ratios),
    ]


def run(
    everyone: Mapping[str, Contender],
    places: Placement,
    *,
    rounds: int,
    quick: bool,
) -> list[Cell]:
    """Measure all cells and print the table, line by line as it grows."""
    widths = [max(len(each.title) for each in (*SERVERS, *SESSIONS)), 10, 10, 11, 13, 16]
    print(aligned(HEADINGS, widths), flush=True)
    cells = []
    for cell in measure(everyone, places, rounds=rounds, quick=quick):
        print(aligned(row(cell), widths), flush=True)
        cells.append(cell)
    over = sum((cell.ratio(name) or 0) > LIMIT for cell in cells for name in CONTENDERS[1:])
    print(f"{over} ratios above {LIMIT} (marked !)")
    return cells


def aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return a line of the table."""
    return "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])])
