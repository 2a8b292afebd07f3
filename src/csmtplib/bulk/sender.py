"""BulkSender: many messages over many connections to one server."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Container, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..drive.transactions import MOST_TOGETHER
from ..protocol import limits, server_url
from ..protocol.server_url import Server
from .delivery import Delivery
from .fleet import Fleet
from .ledger import Ledger, Recorded, Unrecorded
from .pool import Pool
from .retry import Retry
from .run import Run
from .throttle import Rate, Throttle

if TYPE_CHECKING:
    from .journal import Journal


# Outcomes from which on a share of them says something.
_SHARE_OF = 100


@dataclass(slots=True)
class Status:
    """Where a run stands, in recipients.

    taken: of the messages that were taken up. accepted, rejected, in_doubt: their results. waiting:
    deferred, to be tried again. suppressed: left out, for the suppression list. settled_before:
    left out, for a result that the journal has of a former run. connections: that are open now.
    stopped: why the run ends before its time.
    """

    taken: int = 0
    accepted: int = 0
    rejected: int = 0
    in_doubt: int = 0
    waiting: int = 0
    suppressed: int = 0
    settled_before: int = 0
    connections: int = 0
    stopped: str | None = None

    @property
    def queued(self) -> int:
        """Taken up, and on their way or before their first try."""
        settled = self.accepted + self.rejected + self.in_doubt
        return self.taken - settled - self.waiting


class BulkSender:
    """Sends messages over several connections to one server, and keeps its limits.

    Use it as a context manager, or close() it; the connections stay open between two calls of
    send(). One send() runs at a time.
    """

    def __init__(
        self,
        server: str | Server,
        *,
        connections: int = 10,
        max_in_flight: int = limits.MAX_IN_FLIGHT,
        max_per_connection: int | None = None,
        max_connection_seconds: float | None = None,
        idle_seconds: float = 30.0,
        rate: Rate | None = None,
        domain_rates: Mapping[str, Rate] | Rate | None = None,
        retry: Retry | None = None,
        max_failed: float | None = None,
        suppress: Container[str] = frozenset(),
        journal: Journal | None = None,
        in_doubt: Literal["hold", "resend"] = "hold",
        max_waiting: int = 10_000,
        chunking: bool = True,
    ) -> None:
        """server: a URL (protocol.server_url.parse) or a description; certificates are verified and
        passwords kept out of the clear unless it says otherwise.

        connections: how many there may be; fewer are open while the server shows that it is too
        much. max_in_flight: messages that may be under way on each, which bounds what is in doubt
        after a crash. max_per_connection, max_connection_seconds, idle_seconds: when a connection
        is closed and another opened for it. rate, domain_rates: recipients in a time, in total and
        by domain: one Rate for each domain, or a mapping of domains, "*" for all others. retry:
        when deferred recipients are tried again (default: Retry()). max_failed: stops the run when
        so many recipients were rejected, or by a number below 1, such a share of at least a
        hundred. suppress: addresses, in lower case, that nothing is sent to. journal: where a run
        that was ended goes on. in_doubt: whether messages of which nobody knows whether the server
        has them are left for somebody to decide ("hold", at most once) or sent again ("resend", at
        least once). max_waiting: messages that are kept in memory for later; more are not taken
        until some are settled. chunking: whether BDAT is used where the server offers it.

        Raises ValueError for what is out of range, and ServerURLError.
        """
        if not 1 <= connections <= MOST_TOGETHER:
            raise ValueError(f"connections: from 1 to {MOST_TOGETHER}, not {connections}")
        for name, count in (
            ("max_in_flight", max_in_flight),
            ("max_waiting", max_waiting),
            ("max_per_connection", max_per_connection),
        ):
            if count is not None and count < 1:
                raise ValueError(f"{name}: at least 1, not {count}")
        for name, seconds in (
            ("max_connection_seconds", max_connection_seconds),
            ("idle_seconds", idle_seconds),
            ("max_failed", max_failed),
        ):
            if seconds is not None and not 0 < seconds < math.inf:
                raise ValueError(f"{name}: more than 0, not {seconds}")
        if in_doubt not in ("hold", "resend"):
            raise ValueError(f'in_doubt: "hold" or "resend", not {in_doubt!r}')
        if isinstance(server, str):
            server = server_url.parse(server, os.environ)
        self.status = Status()
        self.server = server
        self.throttle = Throttle(rate, domain_rates)
        self.retry = Retry() if retry is None else retry
        self.max_failed = math.inf if max_failed is None else max_failed
        self.suppress = suppress
        self.resend = in_doubt == "resend"
        self.max_waiting = max_waiting
        self.max_open = connections * max_in_flight
        self.pool = Pool(
            connections,
            max_per_connection=max_per_connection,
            max_connection_seconds=max_connection_seconds,
            idle_seconds=idle_seconds,
        )
        self.fleet = Fleet(server, max_in_flight=max_in_flight, chunking=chunking)
        # Why a run is to end, as long as it has not.
        self.stopping: str | None = None
        self._journal = journal
        self._running = threading.Lock()

    def __enter__(self) -> BulkSender:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self.fleet.close()

    def send(self, jobs: Iterable[object]) -> Generator[Delivery, None, None]:
        """Sends messages; a result for each recipient, as it comes, and not before the journal has
        it where there is one.

        jobs: each a delivery.Job; or what SMTP.send_many() takes, which then has its number, from 1
        on, for a key. They are taken as they can be sent; one that comes within a millisecond of
        the one before may wait for the next, so that they leave together. A recipient whose
        Delivery is DEFERRED was not tried to the end, as the run was stopped; one that was is
        REJECTED. Results of former runs are not told again.

        Raises OSError (smtplib's exceptions among them) and ValueError where no session is to be
        had, bulk.journal.JournalError where the journal fails, and what `jobs` raises; before that,
        what is under way is brought to its end and told. That is also done when the iteration is
        left early.
        """
        if not self._running.acquire(blocking=False):
            raise RuntimeError("one send() at a time: make another BulkSender")
        self.status = Status()
        ledger: Ledger
        ledger = Unrecorded() if self._journal is None else Recorded(self._journal, self.fleet.wake)
        try:
            yield from Run(self, ledger, jobs).deliveries()
        finally:
            self.stopping = None
            self._running.release()

    def count_rejected(self) -> None:
        """Another recipient was rejected; stops the run where that are too many."""
        self.status.rejected += 1
        failed, most = self.status.rejected, self.max_failed
        if most < 1:
            settled = failed + self.status.accepted
            most = most * settled if settled >= _SHARE_OF else math.inf
        if failed >= most:
            self.stop(f"{failed} recipients were rejected")

    def stop(self, reason: str) -> None:
        """Has the run, or the next one, end: what is under way is brought to its end, and the rest
        stays as it is. For signal handlers and other threads."""
        if self.stopping is None:
            self.stopping = reason
            self.fleet.wake()
