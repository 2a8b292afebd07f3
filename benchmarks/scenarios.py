"""The scenarios: each is one or more panels, and a panel is one table."""

from __future__ import annotations

from dataclasses import dataclass

from .clients.worker import Method
from .columns import BULK, MEMORY, RATES, THREADS, Column

MILLION = 1_000_000
MESSAGE_SIZE = 2_000
BIG_MESSAGE_SIZE = 64 * 1024
# Where each message waits for round trips of 50 ms, a few tell as much as many.
FEW = 12
QUICK_FRACTION = 20
QUICK_LEAST = 5
CONNECTIONS = 10


@dataclass(frozen=True)
class Entry:
    """A contender, its method where it has several, how many messages it sends, and over how many
    connections. `client` is the module of clients/ that runs it where it is smtplib or csmtplib.
    """

    contender: str
    count: int
    method: Method = "sendmail"
    client: str = "drop_in"
    connections: int = 1

    @property
    def label(self) -> str:
        """Its name in the table."""
        parts = [self.contender]
        if self.contender.startswith("csmtplib"):
            parts.append(self.method)
        if self.connections > 1:
            parts.append(f"{self.connections} connections")
        return ", ".join(parts)

    def messages(self, *, quick: bool) -> int:
        """Return how many messages to send, many fewer in a quick run."""
        least = min(QUICK_LEAST, self.count)
        return max(least, self.count // QUICK_FRACTION) if quick else self.count


@dataclass(frozen=True)
class Panel:
    """Contenders that send the same mail to the same server (one of servers/endpoints.py).

    With `timed` their clients send for a while, and the count is only an upper bound. With
    `threaded` they have work for several CPUs. No worker takes more than `limit` seconds.
    """

    title: str
    server: str
    entries: tuple[Entry, ...]
    size: int = MESSAGE_SIZE
    columns: tuple[Column, ...] = RATES
    rounds: int | None = None
    timed: bool = False
    threaded: bool = False
    limit: float = 120


def ours(
    count: int, method: Method, *, client: str = "drop_in", connections: int = 1
) -> tuple[Entry, ...]:
    """Return this project's entries, one for each implementation."""
    return tuple(
        Entry(contender, count, method, client, connections)
        for contender in ("csmtplib c", "csmtplib python")
    )


def bulk(count: int, method: Method, *, client: str = "bulk") -> tuple[Entry, ...]:
    """Return this project's entries over several connections."""
    return ours(count, method, client=client, connections=CONNECTIONS)


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
                ours(million, "send_many", client="memory"),
                columns=MEMORY,
                rounds=1,
                limit=1200,
            ),
        ),
        "bulk": (
            Panel(
                "BulkSender, PIPELINING",
                "smtp-sink",
                (
                    Entry("stdlib", 10_000),
                    Entry("smtp-source", 20_000, connections=CONNECTIONS),
                    *bulk(20_000, "BulkSender"),
                    *bulk(20_000, "BulkSender with a journal")[:1],
                ),
                columns=BULK,
            ),
        ),
        "bulk-render": (
            Panel(
                "A template for each recipient: Jinja2, EmailMessage and threads, or csmtplib",
                "smtp-sink",
                (
                    Entry("stdlib", 3_000, client="rendering", connections=CONNECTIONS),
                    *bulk(10_000, "BulkSender", client="rendering"),
                ),
            ),
        ),
        "bulk-million": (
            Panel(
                "BulkSender, messages that are made as they are sent",
                "sink",
                (
                    *bulk(million, "BulkSender", client="memory"),
                    *bulk(million, "BulkSender with a journal", client="memory")[:1],
                ),
                columns=MEMORY,
                rounds=1,
                limit=1200,
            ),
        ),
        "threads": (
            Panel(
                "A thread that counts, beside messages of 64 KiB",
                "sink",
                (
                    Entry("stdlib", 1_000_000, client="threads"),
                    *ours(1_000_000, "send_many", client="threads"),
                ),
                size=BIG_MESSAGE_SIZE,
                columns=THREADS,
                timed=True,
                threaded=True,
            ),
        ),
    }
