"""The scenarios: each is one or more panels, and a panel is one table."""

from __future__ import annotations

from dataclasses import dataclass

from .clients.worker import Method
from .columns import ASYNCHRONOUS, BULK, MEMORY, RATES, THREADS, Column

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
    `uvloop` is for asynchronous clients.
    """

    contender: str
    count: int
    method: Method = "sendmail"
    client: str = "drop_in"
    connections: int = 1
    uvloop: bool = False

    @property
    def label(self) -> str:
        """Its name in the table."""
        parts = [self.contender]
        if self.contender.startswith("csmtplib"):
            parts.append(self.method)
        if self.connections > 1:
            parts.append(f"{self.connections} connections")
        if self.uvloop:
            parts.append("uvloop")
        return ", ".join(parts)

    def messages(self, *, quick: bool) -> int:
        """Return how many messages to send, many fewer in a quick run."""
        least = min(QUICK_LEAST, self.count)
        return max(least, self.count // QUICK_FRACTION) if quick else self.count


@dataclass(frozen=True)
class Panel:
    """Contenders that send the same mail to the same server (one of servers/endpoints.py).

    With `timed` their clients send for a while, and the count is only an upper bound. With
    `threaded` they have work for several CPUs. With `together` they share the server's, so that
    what they take does not depend on how long the system takes to wake up another one. No worker
    takes more than `limit` seconds.
    """

    title: str
    server: str
    entries: tuple[Entry, ...]
    size: int = MESSAGE_SIZE
    columns: tuple[Column, ...] = RATES
    rounds: int | None = None
    timed: bool = False
    threaded: bool = False
    together: bool = False
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


def asynchronous(
    title: str,
    server: str,
    count: int,
    method: Method = "sendmail",
    *,
    ours: int | None = None,
    connections: int = 1,
    uvloop: bool = False,
    together: bool = False,
) -> Panel:
    """Return a panel of csmtplib.aio beside aiosmtplib. ours: how many messages csmtplib sends, if
    it is so much faster."""
    entries = tuple(
        Entry(contender, many, method, "asynchronous", connections, uvloop)
        for contender, many in (
            ("aiosmtplib", count),
            ("csmtplib c", ours or count),
            ("csmtplib python", ours or count),
        )
    )
    return Panel(title, server, entries, columns=ASYNCHRONOUS, together=together)


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
            Panel(
                "SMTP.sendmail(), on the server's CPU",
                "smtp-sink",
                (Entry("stdlib", 10_000), *ours(10_000, "sendmail")),
                together=True,
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
        "asyncio": (
            asynchronous("await sendmail(), DATA", "smtp-sink", 5_000),
            asynchronous("await sendmail(), DATA", "sink", 5_000),
            asynchronous(
                "await sendmail(), DATA, on the server's CPU", "sink", 5_000, together=True
            ),
            asynchronous("50 tasks that await sendmail()", "sink", 10_000, connections=50),
            asynchronous("send_many(), PIPELINING", "smtp-sink", 5_000, "send_many"),
            asynchronous("send_many(), CHUNKING", "sink", 5_000, "send_many", ours=50_000),
            asynchronous("1 message a task, a pool", "sink", 5_000, "pool", connections=10),
            asynchronous("await sendmail(), TLS", "smtp-sink, TLS", 3_000),
            asynchronous("send_many(), TLS", "smtp-sink, TLS", 3_000, "send_many"),
        ),
        "asyncio-uvloop": (
            asynchronous("await sendmail(), DATA", "sink", 5_000, uvloop=True),
            asynchronous(
                "50 tasks that await sendmail()", "sink", 10_000, connections=50, uvloop=True
            ),
            asynchronous(
                "send_many(), CHUNKING", "sink", 5_000, "send_many", ours=50_000, uvloop=True
            ),
        ),
        "asyncio-rtt": (
            asynchronous("await sendmail()", "smtp-sink, 50 ms", FEW),
            asynchronous(
                "1 message a task, a pool", "sink, 50 ms", 10 * FEW, "pool", connections=10
            ),
            asynchronous("send_many(), CHUNKING", "sink, 50 ms", FEW, "send_many", ours=40_000),
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
