"""One run of a BulkSender: the loop between messages, connections, journal and results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from smtplib import SMTPConnectError
from typing import TYPE_CHECKING

from ..drive.sock import Connection
from .answers import Answers
from .delivery import Delivery
from .intake import Intake

if TYPE_CHECKING:
    from .ledger import Ledger
    from .sender import BulkSender

# The longest that one turn of the loop waits.
_TURN_SECONDS = 0.05

# How long what is under way may take when the loop over the results was left.
_DRAIN_SECONDS = 30.0


class Run:
    """See BulkSender.send()."""

    def __init__(self, sender: BulkSender, ledger: Ledger, jobs: Iterable[object]) -> None:
        self._sender = sender
        self._status = sender.status
        self._fleet = sender.fleet
        self._pool = sender.pool
        self._throttle = sender.throttle
        self._ledger = ledger
        self._intake = Intake(sender, ledger, jobs)
        self._answers = Answers(sender, ledger, self._intake)
        self._error: BaseException | None = None
        self._next_turn: float | None = None
        self._held = 0.0

    def deliveries(self) -> Iterator[Delivery]:
        """All results, as they come."""
        told = self._ledger.told
        try:
            while self._goes_on():
                self._turn()
                while told:
                    yield told.popleft()
            self._give_back()
        except KeyboardInterrupt:
            # Somebody wants it to end now.
            self._drain(0.0)
            raise
        except BaseException:
            self._drain(_DRAIN_SECONDS)
            raise
        finally:
            self._ledger.close()
        while told:
            yield told.popleft()
        error = self._error or self._intake.error
        if error is not None:
            raise error

    def _goes_on(self) -> bool:
        if self._status.stopped is None:
            self._status.stopped = self._sender.stopping
        if self._answers.under_way:
            return True
        return not self._is_stopping and bool(not self._intake.is_empty or self._ledger.open)

    @property
    def _is_stopping(self) -> bool:
        return (
            self._status.stopped is not None
            or self._error is not None
            or self._intake.error is not None
        )

    def _turn(self) -> None:
        now = time.monotonic()
        if not self._is_stopping:
            self._tend(now)
            self._intake.take(now, self._answers.settled, len(self._fleet.lanes))
        is_last = not (self._intake.more or self._answers.under_way)
        self._next_turn = self._ledger.turn(now, last=is_last)
        if not self._is_stopping:
            self._assign(now)
        self._work(now)
        self._collect()

    def _tend(self, now: float) -> None:
        """Opens and closes connections."""
        fleet, pool = self._fleet, self._pool
        for arrival in fleet.arrivals():
            if isinstance(arrival, Connection):
                fleet.add(arrival, pool.opened(now))
            else:
                self._refused(arrival, now)
        for lane in [each for each in fleet.lanes if not each.tasks]:
            if lane.submission.is_over or pool.is_spent(lane.slot, now):
                fleet.dismiss(lane)
                pool.closed(lane.slot, now, by_server=False)
        messages = self._intake.waiting + sum(len(lane.tasks) for lane in fleet.lanes)
        for _ in range(pool.to_open(now, messages)):
            pool.begun()
            fleet.open()
        self._status.connections = len(fleet.lanes)

    def _refused(self, error: Exception, now: float) -> None:
        """A connection could not be opened."""
        is_busy = isinstance(error, SMTPConnectError) and 400 <= error.smtp_code <= 499
        is_passing = is_busy or (self._pool.has_opened and _may_pass(error))
        self._pool.failed(now, is_busy=is_busy)
        if not is_passing or self._pool.is_away(now):
            self._error = self._error or error

    def _assign(self, now: float) -> None:
        """Gives armed tasks to connections."""
        armed, lanes = self._ledger.armed, self._fleet.lanes
        self._held = 0.0
        if not armed or not lanes or self._pool.resumes_in(now) > 0:
            return
        limited = not self._throttle.is_off
        share = -(-len(armed) // len(lanes))
        for lane in lanes:
            room = min(lane.window - len(lane.tasks), share, self._pool.room(lane.slot))
            while room > 0 and armed and lane.submission.has_room():
                count = len(armed[0].recipients)
                if limited:
                    self._held = self._throttle.total_delay(count, now)
                    if self._held > 0:
                        return
                    self._throttle.take_total(count, now)
                self._answers.under_way += count
                lane.give(armed.popleft(), now)
                room -= 1

    def _work(self, now: float) -> None:
        """Has the connections run for a while, or waits."""
        intake = self._intake
        wait = min(_TURN_SECONDS, intake.due_in(now))
        if self._next_turn is not None:
            wait = min(wait, self._next_turn)
        if self._held:
            wait = min(wait, self._held)
        lanes = [lane for lane in self._fleet.lanes if lane.tasks]
        if lanes:
            more = not self._is_stopping and bool(intake.more or intake.waiting)
            for lane in lanes:
                lane.aim(more=more)
            self._fleet.run(lanes, wait)
        elif wait > 0 and not self._ledger.told:
            self._fleet.sleep(wait)

    def _collect(self) -> None:
        """Takes what the servers have said."""
        for lane in self._fleet.lanes[:]:
            if lane.tasks:
                self._answers.collect(lane)
                if lane.pipeline.proved:
                    self._fleet.proved = True

    def _give_back(self) -> None:
        error = self._error or self._intake.error
        self._answers.give_back(self._status.stopped or str(error))

    def _drain(self, seconds: float) -> None:
        """Brings to its end what is under way, for a while; then what is left is in doubt."""
        self._status.stopped = "the loop over the results was left"
        end = time.monotonic() + seconds
        # Whatever comes of it, what has raised this is on its way to the caller.
        with contextlib.suppress(BaseException):
            while self._answers.under_way and time.monotonic() < end:
                self._work(time.monotonic())
                self._collect()
        for lane in self._fleet.lanes:
            if lane.tasks:
                lane.pipeline.lose(InterruptedError("interrupted"))
        self._collect()
        with contextlib.suppress(Exception):
            self._give_back()


def _may_pass(error: Exception) -> bool:
    """Whether what keeps a connection from being opened may be over in a while."""
    if not isinstance(error, OSError):
        return False
    code = getattr(error, "smtp_code", None)
    return code is None or 400 <= code <= 499
