"""BulkSender: many messages over many connections to one server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from ..drive.performer import Waiting
from ..protocol import limits
from ..protocol.arguments import check_kind, refuse_type
from ..protocol.mail_object import iterator_of
from ..protocol.result import Lazy
from ..protocol.server_url import Server
from .connections import ThreadedConnections
from .delivery import Delivery, Job
from .driver import Driver
from .inbox import Inbox
from .pool import OUTAGE_SECONDS, Pool
from .recorder import JournalRecorder, NullRecorder, Recorder
from .retry import Retry
from .run import Run
from .settings import Settings, domain_rates_of, rate_of, server_of
from .status import Status, StopRequest
from .throttle import Rate, Throttle

if TYPE_CHECKING:
    from .journal import Journal


class BulkSender:
    """Sends messages over several connections to one server, within its limits.

    Use it as a context manager, or close() it. Connections stay open between two calls of send().
    One send() runs at a time.
    """

    # Identifies the current run; set on the instance while it lasts.
    _run: object = None

    def __init__(
        self,
        server: str | Server,
        *,
        connections: int = 10,
        max_in_flight: int = limits.MAX_IN_FLIGHT,
        max_per_connection: int | None = None,
        max_connection_seconds: float | None = None,
        idle_seconds: float = 30.0,
        rate: Rate | str | None = None,
        domain_rates: Mapping[str, Rate | str] | Rate | str | None = None,
        retry: Retry | None = None,
        max_failed: float | None = None,
        suppress: Container[str] = frozenset(),
        journal: Journal | str | os.PathLike[str] | None = None,
        in_doubt: Literal["hold", "resend"] = "hold",
        max_waiting: int = 10_000,
        chunking: bool = True,
    ) -> None:
        """server: a URL (protocol.server_url.parse) or a Server. Certificates are verified, and
        passwords are never sent in the clear, unless the server says otherwise.

        connections: how many there may be; fewer are open while the server signals overload.
        max_in_flight: messages that may be in progress on each, which bounds how many are in doubt
        after a crash. max_per_connection, max_connection_seconds, idle_seconds: when a connection
        is closed and, if needed, replaced. rate: recipients per time, such as "100/s", "5000/h" or
        Rate(100). domain_rates: the same for each domain: one rate for every domain, or a mapping
        of domains to rates, "*" for all others. retry: when deferred recipients are tried again
        (default: Retry()). max_failed: stop the run when this many recipients were rejected; a
        value below 1 is a fraction, applied once 100 recipients have a result. Without it, the run
        stops when the first 50 results are the same refusal. suppress: addresses, in lower case,
        that nothing is sent to. journal: a Journal, or the path of one, which close() closes; an
        interrupted run resumes from it. in_doubt: "hold" leaves recipients in doubt alone until you
        decide (at most once), "resend" sends to them again (at least once). max_waiting: messages
        that are kept in memory for later; no more are taken until some are completed. chunking:
        whether BDAT is used if the server offers it.

        Raises TypeError for an argument of the wrong type, ValueError for one that is out of range,
        ServerURLError, and JournalError if the journal can't be opened.
        """
        self.settings = settings = Settings(
            server=server_of(server),
            connections=connections,
            max_in_flight=max_in_flight,
            max_per_connection=max_per_connection,
            max_connection_seconds=max_connection_seconds,
            idle_seconds=idle_seconds,
            rate=rate_of("rate", rate),
            domain_rates=domain_rates_of(domain_rates),
            retry=Retry() if retry is None else retry,
            max_failed=max_failed,
            suppress=suppress,
            in_doubt=in_doubt,
            max_waiting=max_waiting,
            chunking=chunking,
        )
        self.status = Status()
        self._pool = Pool(
            settings.connections,
            max_per_connection=settings.max_per_connection,
            max_connection_seconds=settings.max_connection_seconds,
            idle_seconds=settings.idle_seconds,
        )
        self._throttle = Throttle(settings.rate, settings.domain_rates)
        self._stop = StopRequest()
        self._owns_journal = isinstance(journal, (str, os.PathLike))
        self._journal = _journal_of(journal)
        self._connections = ThreadedConnections(
            settings.server,
            max_in_flight=settings.max_in_flight,
            chunking=settings.chunking,
            has_journal=journal is not None,
        )

    def __enter__(self) -> BulkSender:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and the journal if it was given as a path."""
        self._connections.close()
        self.status.connections = 0
        if self._journal is not None and self._owns_journal:
            self._journal.close()

    def send(self, jobs: Iterable[object]) -> Generator[Delivery, None, None]:
        """Send messages, and yield a result for each recipient as it comes. With a journal, a
        result is recorded before it is yielded.

        jobs: each a Job, or a message as SMTP.send_many() takes it, whose key is then its number,
        from 1 on. They are taken as they can be sent, in the thread that iterates. While `jobs`
        blocks, a thread of csmtplib sends the messages already taken, within 50 ms if a connection
        is free, and records their results; these are yielded when `jobs` yields its next item, or
        ends. A Delivery is DEFERRED only if the run was stopped before the last attempt; a deferral
        in the last one counts as REJECTED. Results of former runs are not reported again.

        Raises OSError (smtplib's exceptions among them) and ValueError if no session can be opened,
        RunRefused, which is an OSError, for a refusal that every message would meet (the recipients
        stay queued), JournalError if the journal fails, and whatever `jobs` raises; messages in
        progress finish before that, and are reported. They also finish if the iteration is left
        early. Raises TypeError, at once, for a single job. Nothing is sent before the first result
        is asked for: a RuntimeWarning is issued if that never happens.
        """
        if isinstance(jobs, Job):
            raise TypeError("jobs must be an iterable of jobs, not a Job: pass a list, [job]")
        return Lazy(self._send(iterator_of("jobs", jobs)), "BulkSender.send()")

    def send_from(self, inbox: Inbox) -> Generator[Delivery, None, None]:
        """Send what another thread puts into an inbox(), and yield a result for each recipient as
        it comes, as send() does; but while there is no job, results are yielded all the same.

        The other thread must not wait for results before it ends the inbox.
        """
        return self._send(inbox)

    def inbox(self, on_room: Callable[[], object], *, size: int) -> Inbox:
        """Return an inbox for send_from(). on_room: called, in the thread of the run, when there is
        room for more jobs. size: how many jobs may wait in it."""
        return Inbox(self._connections.wake, on_room, size=size)

    def _send(self, jobs: Iterable[object] | Inbox) -> Generator[Delivery, None, None]:
        mark, stop = object(), self._stop
        try:
            # A single step: two threads can't both do it, and `finally` sees whether it was done,
            # wherever an interrupt comes.
            if self.__dict__.setdefault("_run", mark) is not mark:
                raise RuntimeError("send() is already running: use another BulkSender")
            self.status = Status()
            recorder = self._recorder()
            run = self._new_run(recorder)
            driver = Driver(run, self._connections, recorder, stop, jobs)
            deliveries = recorder.deliveries
            with driver:
                while driver.turn():
                    while deliveries:
                        yield deliveries.popleft()
                driver.finish()
            while deliveries:
                yield deliveries.popleft()
            if run.error is not None:
                raise run.error
        finally:
            # Signal handlers run after calls. There is no call here, so all of it is done.
            if self._run is mark:
                stop.reason = None
                stop.at_once = False
                del self._run

    def _recorder(self) -> Recorder:
        if self._journal is None:
            return NullRecorder()
        return JournalRecorder(self._journal, self._connections.wake)

    def _new_run(self, recorder: Recorder) -> Run:
        return Run(
            self.settings,
            self.status,
            self._stop,
            self._pool,
            self._throttle,
            self._connections,
            recorder,
            now=time.monotonic(),
        )

    @property
    def server(self) -> Server:
        """The server that messages are sent to."""
        return self.settings.server

    @property
    def learned(self) -> list[str]:
        """The server's limits as learned so far, in words."""
        return self._pool.learned

    def waits(self) -> list[Waiting]:
        """Return what the run is waiting for: sessions to be opened, replies to messages, a server
        that is away. Other threads may call this."""
        found = self._connections.waits()
        away = self._pool.away_since
        if away is not None and self._pool.has_opened:
            found.append(Waiting(f"{self.server} to be back", away, OUTAGE_SECONDS))
        return found

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """Stop the current run, or the next one if none is active; messages in progress finish, the
        rest stays queued.

        reason: the text of the deliveries that were not sent. at_once: abort messages in progress
        within a moment, and close their connections. A message is in doubt if its last byte may
        have left, else it stays queued. Signal handlers and other threads may call this, even a
        second time, to abort the messages that a first call lets finish. Raises TypeError for a
        reason that is not a str.
        """
        check_kind("reason", reason, str, "a str")
        self._stop.make(reason, at_once=at_once)
        self._connections.wake()


def _journal_of(journal: object) -> Journal | None:
    """Return a journal that may be given as a path. Raises JournalError if it can't be opened, and
    TypeError for anything else."""
    if journal is None:
        return None
    from .journal import Journal

    if isinstance(journal, (str, os.PathLike)):
        return Journal(journal)
    if not isinstance(journal, Journal):
        refuse_type("journal", journal, 'a Journal, or the path of one, such as "may.journal"')
    return journal
