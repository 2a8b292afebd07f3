"""BulkSender: many messages over many connections to one server."""

from __future__ import annotations

import os
import time
from collections.abc import Container, Generator, Iterable, Mapping
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

    # The mark of the current run, which the instance has while it lasts.
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
        is closed, and another one opened for it. rate: recipients per time, such as "100/s",
        "5000/h" or Rate(100). domain_rates: the same for each domain: one rate for every domain, or
        a mapping of domains to rates, "*" for all others. retry: when deferred recipients are tried
        again (default: Retry()). max_failed: stop the run when so many recipients were rejected; a
        value below 1 is a fraction, applied once 100 recipients have a result. Without it, the run
        stops when the first 50 results are the same refusal. suppress: addresses, in lower case,
        that nothing is sent to. journal: a Journal, or the path of one, which close() closes; a run
        that was ended resumes from it. in_doubt: "hold" leaves recipients in doubt alone until
        somebody decides (at most once), "resend" sends to them again (at least once). max_waiting:
        messages that are kept in memory for later; no more are taken until some are completed.
        chunking: whether BDAT is used if the server offers it.

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
        waits for something itself, a thread of csmtplib sends the messages already taken, within 50
        ms if a connection is free, and records their results; these are yielded when `jobs` yields
        its next item, or ends. A recipient whose Delivery is DEFERRED was not tried to the end,
        because the run was stopped; one that was tried to the end is REJECTED. Results of former
        runs are not reported again.

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

    def _send(self, jobs: Iterable[object]) -> Generator[Delivery, None, None]:
        mark, stop = object(), self._stop
        try:
            # One step, which two threads can't share, and of which `finally` sees whether it was
            # done, wherever an interrupt comes.
            if self.__dict__.setdefault("_run", mark) is not mark:
                raise RuntimeError("one send() at a time: make another BulkSender")
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
            # Signal handlers run after calls; there is none here, so that all of it is done.
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
        """The limits that the server has shown, in words."""
        return self._pool.learned

    def waits(self) -> list[Waiting]:
        """Return what the run waits for at this moment: sessions to be opened, replies to messages,
        a server that is away. For other threads."""
        found = self._connections.waits()
        away = self._pool.away_since
        if away is not None and self._pool.has_opened:
            found.append(Waiting(f"{self.server} to be back", away, OUTAGE_SECONDS))
        return found

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """Stop the current run, or the next one if none is active; messages in progress finish, the
        rest stays queued.

        reason: the text of the deliveries that were not sent. at_once: messages in progress are
        given up within a moment, and their connections closed. A message is in doubt if its end may
        have left, else it stays queued. Signal handlers and other threads may call this, also a
        second time to give up the messages that a first call lets finish. Raises TypeError for a
        reason that is no str.
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
