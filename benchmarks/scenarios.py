"""What is measured: each scenario is one or more panels, and a panel is one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .columns import MEMORY, RATES, THREADS, Column

Method = Literal["sendmail", "send_many"]

MILLION = 1_000_000
MESSAGE_SIZE = 2_000
BIG_MESSAGE_SIZE = 64 * 1024
# Where each message waits for round trips of 50 ms, a few tell as much as many.
FEW = 12
QUICK_FRACTION = 20
QUICK_LEAST = 5


@dataclass(frozen=True)
class Entry:
    """A contender, its method where it has two, and how many messages it sends."""

    contender: str
    count: int
    method: Method = "sendmail"

    @property
    def label(self) -> str:
        """What the table calls it."""
        ours = self.contender.startswith("csmtplib")
        return f"{self.contender}, {self.method}" if ours else self.contender

    def messages(self, *, quick: bool) -> int:
        """Return how many messages to send, many fewer in a quick run."""
        least = min(QUICK_LEAST, self.count)
        return max(least, self.count // QUICK_FRACTION) if quick else self.count


@dataclass(frozen=True)
class Panel:
    """Contenders that send the same mail to the same server (one of servers/endpoints.py).

    `client` is the module of clients/ that runs smtplib and csmtplib. With `timed` that client
    sends for a while, and the count is only an upper bound. With `threaded` it has work for several
    CPUs. No worker takes more than `limit` seconds.
    """

    title: str
    server: str
    entries: tuple[Entry, ...]
    size: int = MESSAGE_SIZE
    client: str = "drop_in"
    columns: tuple[Column, ...] = RATES
    rounds: int | None = None
    timed: bool = False
    threaded: bool = False
    limit: float = 120


def ours(count: int, method: Method) -> tuple[Entry, ...]:
    """Return this project's entries, one for each implementation."""
    return (Entry("csmtplib c", count, method), Entry("csmtplib python", count, method))


def peers(count: int) -> tuple[Entry, ...]:
    """Return the entries of other projects' clients."""
    names = ("aiosmtplib", "pycurl", "nodemailer", "smtp-source")
    return tuple(Entry(name, count) for name in names)


def scenarios(million: int) -> dict[str, tuple[Panel, ...]]:
    """Return all scenarios by name; `million` is how many messages the one of that name sends."""
    return {
        "sendmail": (
            Panel(
                "SMTP.sendmail()",
                "smtp-sink",
                (Entry("stdlib", 10_000), *ours(10_000, "sendmail"), *peers(10_000)),
            ),
        ),
        "stream": (
            Panel(
                "SMTP.send_many(), PIPELINING",
                "smtp-sink",
                (Entry("stdlib", 10_000), *ours(10_000, "send_many"), *peers(10_000)),
            ),
        ),
        "tls": (
            Panel(
                "SMTP_SSL",
                "smtp-sink, TLS",
                (
                    Entry("stdlib", 5_000),
                    *ours(5_000, "sendmail"),
                    *ours(5_000, "send_many"),
                ),
            ),
        ),
        "rtt-sendmail": (
            Panel(
                "SMTP.sendmail()",
                "smtp-sink, 50 ms",
                (Entry("stdlib", FEW), *ours(FEW, "sendmail"), *peers(FEW)),
            ),
        ),
        "rtt-stream": (
            Panel(
                "SMTP.send_many(), PIPELINING",
                "smtp-sink, 50 ms",
                (Entry("stdlib", FEW), *ours(5 * FEW, "send_many")),
            ),
        ),
        "rtt-chunking": (
            Panel(
                "SMTP.send_many(), PIPELINING and CHUNKING",
                "Postfix, 50 ms",
                (Entry("stdlib", FEW), *ours(4_000, "send_many")),
            ),
            Panel(
                "SMTP.send_many(), PIPELINING and CHUNKING",
                "sink, 50 ms",
                (Entry("stdlib", FEW), *ours(40_000, "send_many")),
            ),
        ),
        "cpu": (
            Panel(
                "SMTP.send_many(), PIPELINING",
                "smtp-sink",
                (Entry("stdlib", 10_000), *ours(20_000, "send_many")),
            ),
            Panel(
                "SMTP.send_many(), PIPELINING and CHUNKING",
                "sink",
                (Entry("stdlib", 10_000), *ours(40_000, "send_many")),
            ),
        ),
        "million": (
            Panel(
                "Messages that are made as they are sent",
                "sink",
                ours(million, "send_many"),
                client="memory",
                columns=MEMORY,
                rounds=1,
                limit=1200,
            ),
        ),
        "threads": (
            Panel(
                "A thread that counts, beside messages of 64 KiB",
                "sink",
                (Entry("stdlib", 1_000_000), *ours(1_000_000, "send_many")),
                size=BIG_MESSAGE_SIZE,
                client="threads",
                columns=THREADS,
                timed=True,
                threaded=True,
            ),
        ),
    }
