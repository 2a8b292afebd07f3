"""What is to be sent: taken from the caller as it is needed, or come back for another try."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..protocol.outcome import State
from .backlog import Backlog
from .delivery import Delivery, Job, job
from .ledger import QUEUED
from .task import Task, recipients_of

if TYPE_CHECKING:
    from .ledger import Ledger
    from .sender import BulkSender

# A message that takes longer to be made is sent before the next one is asked for.
_GATHER_SECONDS = 0.001

# What is taken up in advance lasts so long, at the rate at which messages leave.
_AHEAD_SECONDS = 0.03


class Intake:
    """The messages of a run up to the ledger, which arms them.

    more: whether the caller may have more. error: what asking for them has raised."""

    def __init__(self, sender: BulkSender, ledger: Ledger, jobs: Iterable[object]) -> None:
        self.more = True
        self.error: BaseException | None = None
        self._sender = sender
        self._ledger = ledger
        self._jobs = iter(jobs)
        self._number = 0
        self._later = Backlog()  # for the next try
        self._paced = Backlog()  # for what their domain's rate allows, by the clock below
        # It stands still while nothing can leave, or all of that time's messages would leave
        # together behind it.
        self._clock = self._ticked = time.monotonic()
        self._is_stalled = False
        self._ready: deque[Task] = deque()
        # Nothing that a message could wait for but a connection.
        self._is_plain = sender.throttle.is_off and not ledger.has_history and not sender.suppress
        self._ask_at = -math.inf
        self._ahead = 1
        self._left_before = 0
        self._measured = time.monotonic()
        self._at = time.time()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send, now or later."""
        return not (self.more or self._ready or self._later or self._paced)

    @property
    def waiting(self) -> int:
        """Tasks that wait for a connection."""
        return len(self._ready) + len(self._ledger.armed)

    def due_in(self, now: float) -> float:
        """Seconds until there is something to take up."""
        asked = self._ask_at - now if self._is_short() else None
        paced = None if self._is_stalled else self._paced.due_in(self._clock)
        waits = (asked, self._later.due_in(now), paced)
        return max(0.0, min([each for each in waits if each is not None], default=math.inf))

    def _is_short(self) -> bool:
        """Whether more is to be asked for. Where little is missing, that can wait until it is worth
        a group in the journal."""
        held = self.waiting + self._ledger.arming
        return self.more and held <= self._ahead // 2 and self.room() > 0

    def room(self) -> int:
        """How many more are to be taken up: what leaves soon, and no more than may be in doubt."""
        ledger, sender = self._ledger, self._sender
        return min(
            self._ahead - self.waiting - ledger.arming,
            sender.max_open - ledger.open,
            sender.max_waiting - len(self._later) - len(self._paced),
        )

    def take(self, now: float, left: int, lanes: int) -> None:
        """Takes up what is due, and as much as there is room for. left: how many messages have left
        so far, over so many connections."""
        self._tick(now, lanes)
        for task in self._later.due(now):
            self.schedule(task, now, 0.0)
        if not self._is_stalled:
            self._ready += self._paced.due(self._clock)
        if now - self._measured >= _AHEAD_SECONDS:
            self._ahead = left - self._left_before
            self._left_before = left
            self._measured = now
        self._ahead = max(self._ahead, 2 * lanes, 1)
        self._at = time.time()
        self._arm()
        is_idle = not (self.waiting or self._ledger.open)
        if self._is_short() and (is_idle or now >= self._ask_at):
            self._take_more(now)
        self._arm()

    def _tick(self, now: float, lanes: int) -> None:
        """Has the clock of the rates go on, unless nothing can leave."""
        if not self._is_stalled:
            self._clock += max(now - self._ticked, 0.0)
        self._ticked = now
        held = self.waiting + self._ledger.arming
        is_full = held > 0 and (not lanes or held >= self._ahead)
        self._is_stalled = is_full or self._sender.pool.resumes_in(now) > 0

    def _take_more(self, now: float) -> None:
        before = now
        for _ in range(self.room()):
            try:
                item = next(self._jobs)
            except StopIteration:
                self.more = False
                return
            except BaseException as error:
                # What was taken before is still to be told.
                self.more = False
                self.error = error
                return
            self._take_up(item, now)
            after = time.monotonic()
            if after - before > _GATHER_SECONDS:
                # The next may be as long in coming: meanwhile this one is sent.
                self._ask_at = after + (after - before)
                return
            before = after

    def _arm(self) -> None:
        ledger, ready = self._ledger, self._ready
        while ready and ledger.open < self._sender.max_open:
            ledger.arm(ready.popleft())

    def _take_up(self, item: object, now: float) -> None:
        self._number += 1
        status, suppress = self._sender.status, self._sender.suppress
        try:
            work = job(item, self._number)
            recipients = recipients_of(work.mail)
            if suppress:
                kept = [each for each in recipients if each.lower() not in suppress]
                status.suppressed += len(recipients) - len(kept)
                recipients = kept
        except (TypeError, ValueError, AttributeError) as error:
            # The other messages have nothing to do with it.
            self._refuse(item, str(error))
            return
        task = Task(work, recipients, now=self._at)
        if self._is_plain:
            status.taken += len(recipients)
            self._ledger.arm(task)
            return
        for part, delay in self._left(task):
            status.taken += len(part.recipients)
            if part.attempts > 1:
                status.waiting += len(part.recipients)
            self.schedule(part, now, delay)

    def _refuse(self, item: object, fault: str) -> None:
        """Tells of an item that is no message."""
        key = item.key if isinstance(item, Job) else self._number
        delivery = Delivery(key, "", State.REJECTED, None, fault, 0, None, self._at)
        self._ledger.told.append(delivery)
        self._sender.status.taken += 1
        self._sender.count_rejected()

    def _left(self, task: Task) -> Iterator[tuple[Task, float]]:
        """What a former run has left of a task, and in how many seconds each part is due."""
        entries = {each.recipient: each for each in self._ledger.entries(task.key)}
        if not entries:
            if task.recipients:
                yield task, 0.0
            return
        new = []
        for place, recipient in enumerate(task.recipients):
            entry = entries.get(recipient)
            if entry is None:
                new.append(place)
                continue
            is_again = entry.state == State.DEFERRED.value or (
                entry.state == State.IN_DOUBT.value and self._sender.resend
            )
            if not is_again and entry.state != QUEUED:
                self._sender.status.settled_before += 1
                continue
            part = task.part([place])
            part.ids = [entry.id]
            part.attempts = entry.attempts + is_again
            part.first = entry.first or task.first
            yield part, max(0.0, (entry.due or 0.0) - self._at)
        if new:
            yield task.part(new), 0.0

    def schedule(self, task: Task, now: float, delay: float) -> None:
        """Has a task leave, not before `delay` seconds and when its domain's rate allows."""
        if delay > 0:
            self._later.add(now + delay, task)
            return
        if task.attempts > 1:
            self._sender.status.waiting -= len(task.recipients)
        throttle = self._sender.throttle
        pause = 0.0 if throttle.is_off else throttle.reserve(task.recipients, self._clock)
        if pause > 0:
            self._paced.add(self._clock + pause, task)
        else:
            self._ready.append(task)

    def again(self, task: Task) -> None:
        """Has a task leave as soon as it can."""
        self._ready.append(task)

    def clear(self) -> list[Task]:
        """Takes out all that is not armed."""
        tasks = [*self._ready, *self._paced.clear(), *self._later.clear()]
        self._ready.clear()
        return tasks
