"""Drives a run over sockets: in the caller's thread, and in another one while the caller's iterable
waits."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from ..drive.background import Source, Wake
from .inbox import Inbox, NothingYet
from .run import TURN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .connections import PooledConnection, ThreadedConnections
    from .job_queue import JobQueue
    from .recorder import Recorder
    from .run import Run
    from .status import StopRequest

# How long to take jobs from the caller before those already taken are sent.
_ASK_SECONDS = 0.02

# How long messages in progress may take after the loop over the results was left.
_DRAIN_SECONDS = 30.0


class Driver:
    """Drives a run, within a `with` statement: call turn() until it returns False, then finish().

    After an exception, wherever it comes, messages in progress finish first if they can. At the
    end, everything recorded is written to disk, which may raise JournalError.
    """

    def __init__(
        self,
        run: Run,
        connections: ThreadedConnections,
        recorder: Recorder,
        stop: StopRequest,
        jobs: Iterable[object] | Inbox,
    ) -> None:
        self._run = run
        self._connections = connections
        self._recorder = recorder
        self._stop = stop
        self._inbox = jobs if isinstance(jobs, Inbox) else None
        iterable = () if isinstance(jobs, Inbox) else jobs
        self._source = Source(iterable, self._turn_elsewhere, connections.waker)
        self._is_sending = False  # whether connections are being used
        self._is_elsewhere = False  # whether a turn is done in another thread, which yields nothing
        # What the other thread has raised.
        self._raised: BaseException | None = None

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if error is not None:
                self._drain(error)
        finally:
            self._recorder.close()

    def turn(self) -> bool:
        """Ask for jobs, send and receive. Return False, and do nothing, if the run is over."""
        run = self._run
        if self._inbox is not None and self._inbox.stop_request is not None:
            reason, at_once = self._inbox.stop_request
            self._stop.make(reason, at_once=at_once)
        if not run.goes_on():
            return False
        now, unix = time.monotonic(), time.time()
        wanted = run.prepare(now, unix)
        if wanted:
            if self._inbox is None:
                take_jobs(self._source, run.queue, wanted, unix)
            else:
                empty_inbox(self._inbox, run.queue, wanted, unix)
            if self._raised is not None:
                raise self._raised from run.queue.error
            now, unix = time.monotonic(), time.time()
        self._perform(now, unix, is_asking=self._inbox is not None and self._inbox.is_waiting)
        return True

    def _turn_elsewhere(self, wake: Wake) -> bool:
        """Do a turn in another thread while the caller's iterable makes its next job. The results
        are yielded after that."""
        try:
            now, unix = time.monotonic(), time.time()
            self._run.prepare(now, unix)
            self._is_elsewhere = True
            self._perform(now, unix, is_asking=True)
        except BaseException as error:
            self._raised = error
        finally:
            self._is_elsewhere = False
        return self._raised is None

    def _perform(self, now: float, unix: float, *, is_asking: bool = False) -> None:
        run = self._run
        run.record(now, unix)
        self._is_sending = True
        work = run.assign(now, is_asking=is_asking)
        if work.connections:
            self._connections.run(work.connections, work.seconds)
        elif work.seconds > 0 and (self._is_elsewhere or not self._recorder.deliveries):
            self._connections.sleep(work.seconds)
        run.collect(time.monotonic(), time.time())
        self._is_sending = False

    def finish(self) -> None:
        """Report the messages that remain unsent."""
        self._source.close()
        self._run.give_back(time.time())

    def _drain(self, error: BaseException) -> None:
        """Give messages in progress some time to finish, unless the run is to end at once. Then
        abort the others: in doubt if their last byte may have left, else queued."""
        run = self._run
        run.leave("the loop over the results was left")
        # Whatever happens here, the caller gets the original error.
        with contextlib.suppress(BaseException):
            self._source.close()
        # A signal handler may have raised the error while a connection was being used, which then
        # must not be used again.
        is_at_once = self._is_sending or isinstance(error, KeyboardInterrupt)
        end = time.monotonic() + (0.0 if is_at_once else _DRAIN_SECONDS)
        with contextlib.suppress(BaseException):
            while run.is_busy and (now := time.monotonic()) < end:
                if self._stop.at_once:
                    break
                self._run_or_sleep(run.assign(now).connections)
                run.collect(time.monotonic(), time.time())
        run.give_up("interrupted", time.monotonic(), time.time())
        with contextlib.suppress(Exception):
            run.give_back(time.time())

    def _run_or_sleep(self, connections: list[PooledConnection]) -> None:
        if connections:
            self._connections.run(connections, TURN_SECONDS)
        else:
            self._connections.sleep(TURN_SECONDS)


def empty_inbox(inbox: Inbox, queue: JobQueue, wanted: int, unix: float) -> None:
    """Take up to `wanted` jobs that another thread has handed over, without waiting."""
    now = time.monotonic()
    for _ in range(wanted):
        try:
            item = inbox.take()
        except NothingYet:
            break
        except StopIteration:
            queue.end()
            break
        except BaseException as error:
            # Raised later: the jobs already taken come first.
            queue.end(error)
            break
        queue.add(item, now, unix)


def take_jobs(source: Source, queue: JobQueue, wanted: int, unix: float) -> None:
    """Take up to `wanted` jobs from the caller; from a slow source only one, so that the jobs
    already taken are sent first."""
    source.at = time.monotonic()
    end = source.at + _ASK_SECONDS
    for _ in range(wanted):
        try:
            item = source.take()
        except StopIteration:
            queue.end()
            break
        except BaseException as error:
            # Raised later: the jobs already taken come first.
            queue.end(error)
            source.close()
            break
        if source.is_slow:
            queue.add(item, time.monotonic(), time.time())
            break
        queue.add(item, source.at, unix)
        if source.at > end:
            break
