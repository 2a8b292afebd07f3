"""One run of a sender: decides what to do next, without I/O and without a clock of its own.

A driver gives it jobs and the time, and sends and receives:

    while run.goes_on():
        wanted = run.prepare(now, unix)
        ...  # run.queue.add(job, now, unix) for `wanted` jobs, run.queue.end() after the last
        run.record(now, unix)
        work = run.assign(now)
        ...  # send and receive on work.connections, or wait, for work.seconds at most
        run.collect(now, unix)
        ...  # report what is in recorder.deliveries
    run.give_back(unix)

now is a reading of a monotonic clock, unix is the Unix time at that moment.
"""

from __future__ import annotations

import math
from smtplib import SMTPConnectError
from typing import TYPE_CHECKING, NamedTuple

from ..kernel.transaction import SEQUENTIAL
from .job_queue import JobQueue
from .outcome_handler import OutcomeHandler
from .status import Rejections

if TYPE_CHECKING:
    from .connections import Connections, PooledConnection
    from .pool import Pool
    from .recorder import Recorder
    from .settings import Settings
    from .status import Status, StopRequest
    from .throttle import Throttle

# The longest that one turn waits.
TURN_SECONDS = 0.05

# The same if nothing is to be done for any message.
_IDLE_SECONDS = 0.5


class Work(NamedTuple):
    """The work to do before collect(): run these connections up to their targets, or wait if there
    are none, for at most `seconds`."""

    connections: list[PooledConnection]
    seconds: float


class Run:
    """The state of a run between its turns. Only stop requests come from other threads.

    queue: takes the jobs. is_busy: whether connections have messages.
    """

    def __init__(
        self,
        settings: Settings,
        status: Status,
        stop: StopRequest,
        pool: Pool,
        throttle: Throttle,
        connections: Connections,
        recorder: Recorder,
        *,
        now: float,
    ) -> None:
        self._status = status
        self._stop = stop
        self._pool = pool
        self._throttle = throttle
        self._connections = connections
        self._recorder = recorder
        rejections = Rejections(status, settings.max_failed, stop.make)
        self.queue = JobQueue(settings, status, rejections, throttle, recorder, now=now)
        self._handler = OutcomeHandler(
            settings, status, rejections, pool, connections, recorder, self.queue
        )
        self.is_busy = False
        self._error: BaseException | None = None
        self._next_write: float | None = None
        self._is_paused = False

    @property
    def error(self) -> BaseException | None:
        """The error that ends the run, or None."""
        return self._error or self.queue.error

    def _is_stopping(self) -> bool:
        """Return whether no more messages are begun."""
        status = self._status
        if status.stopped is None:
            status.stopped = self._stop.reason
        return status.stopped is not None or self._error is not None or self.queue.error is not None

    def goes_on(self) -> bool:
        """Return whether there is more to do."""
        is_stopping = self._is_stopping()
        if self.is_busy:
            return True
        if is_stopping:
            return False
        return (
            not self.queue.is_empty or self._recorder.open > 0 or not self._handler.holding.is_empty
        )

    def leave(self, reason: str) -> None:
        """Begin no more messages."""
        self._status.stopped = reason

    def prepare(self, now: float, unix: float) -> int:
        """Open and close connections, and take what is due. Return how many jobs are wanted."""
        is_stopping = self._is_stopping()
        if self._stop.at_once:
            self.give_up(self._status.stopped or "stopped", now, unix)
        if is_stopping:
            return 0
        queue = self.queue
        self._open_and_close_connections(now, unix)
        connections = len(self._connections.pooled)
        queue.prepare(now, unix, self._handler.completed, connections, is_paused=self._is_paused)
        queue.record(self._places(now))
        return queue.wanted()

    def record(self, now: float, unix: float) -> None:
        """Record new messages, and write to the journal what is due. Raises JournalError."""
        queue = self.queue
        if queue.has_new and not self._is_stopping():
            # Much may have changed while the caller was asked for jobs.
            self._open_and_close_connections(now, unix)
            queue.record(self._places(now))
        is_last = not (queue.has_more or self.is_busy)
        self._next_write = self._recorder.turn(now, last=is_last)
        if self._handler.holding.is_searching and not self._is_stopping():
            self._handler.take_back_aside(unix)

    def assign(self, now: float, *, is_asking: bool = False) -> Work:
        """Give tasks to connections. Return what to do next. is_asking: the caller is being asked
        for jobs meanwhile."""
        queue = self.queue
        is_stopping = self._is_stopping()
        delay = 0.0 if is_stopping else self._give_tasks(now)
        has_more = not is_stopping and (queue.has_more or queue.waiting > 0)
        connections = []
        for each in self._connections.pooled:
            if each.tasks:
                connections.append(each)
                each.target = 0
                if has_more:
                    # With fewer, the server would run out of work before it gets more.
                    each.target = max(len(each.pipeline) - (each.window // 2 or 1), 0)
        self.is_busy = bool(connections)
        if not is_asking and not is_stopping and queue.wanted():
            return Work(connections, 0.0)
        is_idle = is_asking and not (self._recorder.open or queue.waiting)
        wait = min(_IDLE_SECONDS if is_idle else TURN_SECONDS, queue.due_in(now))
        if self._next_write is not None:
            wait = min(wait, self._next_write)
        if delay:
            wait = min(wait, delay)
        return Work(connections, wait)

    def collect(self, now: float, unix: float) -> None:
        """Handle the server's replies."""
        handler, holding = self._handler, self._handler.holding
        is_busy = False
        for each in list(self._connections.pooled):
            tasks = each.tasks
            # Skip connections on which nothing has arrived.
            if tasks and (len(tasks) != len(each.pipeline) or each.pipeline.failure is not None):
                handler.collect(each, now, unix)
            if tasks:
                is_busy = True
            elif each.held:
                holding.judge(each, now)
        self.is_busy = is_busy
        if holding.is_searching:
            holding.conclude(now)
        refused = holding.refused
        if refused is None or self._error is not None:
            return
        if self._has_unfinished() or not refused.rejected:
            self._error = refused
            self._status.stopped = self._status.stopped or str(refused)

    def _has_unfinished(self) -> bool:
        """Return whether some messages have no result yet."""
        count = self.queue.waiting + self._recorder.recording
        return self.is_busy or count > 0 or not self.queue.is_empty

    def _places(self, now: float) -> float:
        """Return how many messages may be recorded as sending before they have a connection: those
        that can leave next. If the process is killed, a journal has them in doubt."""
        if not self._recorder.has_journal:
            return math.inf
        if self._is_paused:
            return 0
        places = ahead = 0.0
        for each in self._connections.pooled:
            room: float = each.window - len(each.tasks)
            if each.held or not self._pool.has_no_quota:
                room = min(room, self._handler.holding.room(each))
            places += max(room, 0)
            if each.mode != SEQUENTIAL:
                # It needs something to do until the next group is on disk.
                ahead = self.queue.pace
        places += ahead
        if not self._throttle.is_off:
            places = min(places, max(self._throttle.total_within(now, TURN_SECONDS), 1.0))
        return places

    def _open_and_close_connections(self, now: float, unix: float) -> None:
        connections, pool = self._connections, self._pool
        for arrival in connections.arrivals():
            if isinstance(arrival, Exception):
                self._note_failure(arrival, now)
            else:
                connections.add(arrival, pool.opened(now))
        pooled = connections.pooled
        waiting = self.queue.waiting
        in_progress = 0
        idle = []
        for each in pooled:
            if each.tasks:
                in_progress += len(each.tasks)
            else:
                idle.append(each)
        for each in idle:
            submission = each.submission
            is_over = submission.is_over or submission.is_outdated
            if not each.held and (is_over or pool.is_spent(each.statistics, now)):
                connections.remove(each)
                pool.closed(each.statistics, now, by_server=False)
            elif waiting and now - each.statistics.used > TURN_SECONDS:
                # Otherwise a message would go from one closed connection to the next.
                self._handler.look(each, now, unix)
        self._is_paused = pool.resumes_in(now) > 0
        for _ in range(pool.to_open(now, waiting + in_progress)):
            pool.begun()
            connections.open()
        self._status.connections = len(pooled)

    def _note_failure(self, error: Exception, now: float) -> None:
        """Note that a connection could not be opened."""
        is_busy = isinstance(error, SMTPConnectError) and 400 <= error.smtp_code <= 499
        is_passing = is_busy or (self._pool.has_opened and _may_pass(error))
        self._pool.failed(now, is_busy=is_busy)
        if not is_passing or self._pool.is_away(now):
            self._error = self._error or error

    def _give_tasks(self, now: float) -> float:
        """Give recorded tasks to connections. Return the seconds until the rate allows more, 0.0 if
        none wait for the rate."""
        recorded, pooled = self._recorder.recorded, self._connections.pooled
        if not recorded or not pooled or self._is_paused:
            return 0.0
        throttle, pool = self._throttle, self._pool
        is_limited = not throttle.is_off
        share = -(-len(recorded) // len(pooled))
        for connection in pooled:
            room: float = min(connection.window - len(connection.tasks), share)
            if room <= 0:
                continue
            if connection.held or not pool.has_no_quota:
                room = min(room, self._handler.holding.room(connection))
            if not is_limited:
                connection.give(recorded, room, now)
                continue
            while room > 0 and recorded and connection.submission.has_room():
                count = len(recorded[0].recipients)
                delay = throttle.total_delay(count, now)
                if delay > 0:
                    return delay
                throttle.take_total(count, now)
                connection.give(recorded, 1, now)
                room -= 1
        return 0.0

    def give_up(self, reason: str, now: float, unix: float) -> None:
        """Abort the messages in progress: in doubt if their last byte may have left, else not
        sent."""
        for each in self._connections.pooled:
            if each.tasks:
                each.submission.give_up(InterruptedError(reason))
        self.collect(now, unix)

    def give_back(self, unix: float) -> None:
        """Report all remaining messages as deferred."""
        self._handler.give_back(self._status.stopped or str(self.error), unix)


def _may_pass(error: Exception) -> bool:
    """Return whether the reason why a connection can't be opened may go away."""
    if not isinstance(error, OSError):
        return False
    code = getattr(error, "smtp_code", None)
    return code is None or 400 <= code <= 499
