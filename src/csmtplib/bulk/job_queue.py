"""The messages of a run that are not recorded as sending yet: new ones, and those to be tried
again."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from typing import TYPE_CHECKING

from ..protocol.mail_object import mail_object
from ..protocol.outcome import Reply, State
from .delivery import Delivery, Job, keyed_mail
from .keys import KeySet
from .recorder import QUEUED
from .task import Task, recipients_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .recorder import Recorder
    from .settings import Settings
    from .status import Rejections, Status
    from .throttle import Throttle

# Jobs taken in advance last this long, at the rate at which messages leave.
_AHEAD_SECONDS = 0.03


class Backlog:
    """Tasks by the time when they are due, on a monotonic clock.

    heap: the tasks, as heapq has them. Those that are due at the same time keep the order in which
    they were added.
    """

    __slots__ = ("_numbers", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()

    def add(self, due: float, task: Task) -> None:
        """Add a task that is due at this time."""
        heapq.heappush(self.heap, (due, next(self._numbers), task))

    def due(self, now: float) -> Iterator[Task]:
        """Remove and yield the tasks that are due."""
        while self.heap and self.heap[0][0] <= now:
            yield heapq.heappop(self.heap)[2]

    def due_in(self, now: float) -> float | None:
        """Return the seconds until a task is due, or None if there is none."""
        return max(0.0, self.heap[0][0] - now) if self.heap else None

    def clear(self) -> list[Task]:
        """Remove and return all tasks."""
        tasks = [task for _, _, task in sorted(self.heap)]
        self.heap.clear()
        return tasks


class JobQueue:
    """The messages of a run until the recorder has them.

    The driver calls add() for as many jobs as wanted() says, and end() after the last one.
    has_more: whether the caller may have more. error: what the caller's iterable raised. has_new:
    whether jobs were added since record(). pace: recent completions per _AHEAD_SECONDS.
    """

    def __init__(
        self,
        settings: Settings,
        status: Status,
        rejections: Rejections,
        throttle: Throttle,
        recorder: Recorder,
        *,
        now: float,
    ) -> None:
        """now: as in prepare()."""
        self.has_more = True
        self.has_new = False
        self.error: BaseException | None = None
        self.pace = 0.0
        self._status = status
        self._rejections = rejections
        self._throttle = throttle
        self._recorder = recorder
        self._suppress = settings.suppress
        self._resends = settings.resends
        self._max_open = settings.max_open
        self._max_waiting = settings.max_waiting
        self._number = 0
        self._keys = KeySet()
        self._unnamed = 0  # messages before the first with a key of its own: 1, 2, ...
        self._later = Backlog()  # for the next try
        self._paced = Backlog()  # for the rate of their domain, by the clock below
        # The clock stands still while nothing can leave, or all messages of that time would leave
        # in a burst.
        self._clock = self._ticked = now
        self._is_stalled = False
        self._ready: deque[Task] = deque()
        self._aside: deque[Task] = deque()
        self._senders_aside: set[str] = set()
        # Whether messages wait for nothing but a connection.
        self._is_plain = throttle.is_off and not recorder.has_history and not self._suppress
        self._ahead = 1
        self._left_before = 0
        self._measured = now

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send, now or later."""
        return not (
            self.has_more or self._ready or self._later.heap or self._paced.heap or self._aside
        )

    @property
    def is_dry(self) -> bool:
        """Whether there is no message that could be sent as soon as a connection has room."""
        return not (self.waiting or self._recorder.recording or self._paced.heap)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a connection."""
        return len(self._ready) + len(self._recorder.recorded)

    def due_in(self, now: float) -> float:
        """Return the seconds until a task that waits for its time is due; infinity for none."""
        due = math.inf
        if self._later.heap:
            due = self._later.due_in(now) or 0.0
        if self._paced.heap and not self._is_stalled:
            due = min(due, self._paced.due_in(self._clock) or 0.0)
        return due

    def wanted(self) -> int:
        """Return how many more jobs to take: as many as leave soon, but no more than may be in
        doubt. If only a few are missing, return 0 until they are worth a group in the journal."""
        if not self.has_more:
            return 0
        recorder = self._recorder
        held = len(self._ready) + len(recorder.recorded) + recorder.recording
        if held > self._ahead // 2:
            return 0
        room = min(
            self._ahead - held,
            self._max_open - recorder.open,
            self._max_waiting - len(self._later.heap) - len(self._paced.heap) - len(self._aside),
        )
        return max(room, 0)

    def prepare(
        self, now: float, unix: float, left: int, connections: int, *, is_paused: bool
    ) -> None:
        """Queue the tasks that are due.

        unix: the current Unix time. left: how many messages were completed so far. connections: how
        many are open. is_paused: whether nothing is to be sent now.
        """
        # Advance the clock of the rates, unless nothing can leave.
        if not self._is_stalled:
            self._clock += max(now - self._ticked, 0.0)
        self._ticked = now
        recorder = self._recorder
        held = len(self._ready) + len(recorder.recorded) + recorder.recording
        is_full = held > 0 and (not connections or held >= self._ahead)
        self._is_stalled = is_full or is_paused
        if self._later.heap:
            for task in self._later.due(now):
                self.schedule(task, now, 0.0)
        if self._paced.heap and not self._is_stalled:
            self._ready += self._paced.due(self._clock)
        if now - self._measured >= _AHEAD_SECONDS:
            self._ahead = left - self._left_before
            self.pace = self._ahead * _AHEAD_SECONDS / (now - self._measured)
            self._left_before = left
            self._measured = now
        self._ahead = max(self._ahead, 2 * connections, 1)

    def record(self, places: float) -> None:
        """Give the recorder what is ready. places: how many messages may be recorded as sending
        before they have a connection."""
        self.has_new = False
        recorder, ready = self._recorder, self._ready
        if self._senders_aside:
            self._sort_out()
        if not ready:
            return
        places -= len(recorder.recorded) + recorder.recording
        room = self._max_open - recorder.open
        tasks = []
        while ready and places >= 1 and room > 0:
            task = ready.popleft()
            tasks.append(task)
            places -= 1
            room -= len(task.recipients)
        recorder.record(tasks)

    def end(self, error: BaseException | None = None) -> None:
        """Note that there are no more jobs. error: what asking for one raised."""
        self.has_more = False
        self.error = error

    def add(self, item: object, now: float, unix: float) -> None:
        """Add a job. unix: the current Unix time."""
        self.has_new = True
        self._number = number = self._number + 1
        try:
            # Most items are a message without a key, for one recipient.
            key: str | int = number
            if type(item) is Job:
                key, mail = keyed_mail(item)
            else:
                mail = mail_object(item)
            to_addrs = mail.to_addrs
            if type(to_addrs) is list and len(to_addrs) == 1 and type(to_addrs[0]) is str:
                recipients = list(to_addrs)
            else:
                recipients = recipients_of(mail)
            if self._suppress:
                kept = [each for each in recipients if each.lower() not in self._suppress]
                self._status.suppressed += len(recipients) - len(kept)
                recipients = kept
        except (TypeError, ValueError, AttributeError) as error:
            # It concerns this message only.
            if not isinstance(item, Job):
                self._is_new(number)
            self._refuse(item, str(error), unix)
            return
        if key is number and self._unnamed == number - 1:
            self._unnamed = number
        elif not self._is_new(key):
            fault = f"the key {key!r} is that of a message before: give each a key of its own"
            self._refuse(item, fault, unix, recipients)
            return
        task = Task(key, mail, recipients, unix)
        if self._is_plain:
            self._status.taken += len(recipients)
            self._ready.append(task)
            return
        for part, delay in self._left(task, unix):
            self._status.taken += len(part.recipients)
            if part.attempts > 1:
                self._status.waiting += len(part.recipients)
            self.schedule(part, now, delay)

    def _is_new(self, key: str | int) -> bool:
        """Return whether no message of this run had the key. The numbers of consecutive messages
        without a key are not stored one by one."""
        if key == self._unnamed + 1 == self._number:
            self._unnamed += 1
            return True
        is_a_number = isinstance(key, int) and 1 <= key <= self._unnamed
        return not is_a_number and self._keys.add(key)

    def _refuse(
        self, item: object, fault: str, unix: float, recipients: Sequence[str] = ("",)
    ) -> None:
        """Report an item as rejected: it is not a message, or must not be sent."""
        key = item.key if isinstance(item, Job) else self._number
        for each in recipients:
            delivery = Delivery(key, each, State.REJECTED, None, fault, 0, None, unix)
            self._recorder.deliveries.append(delivery)
            self._status.taken += 1
            self._rejections.count()

    def _left(self, task: Task, unix: float) -> Iterator[tuple[Task, float]]:
        """Yield the parts of a task that former runs left, and the seconds until each is due."""
        entries = {each.recipient: each for each in self._recorder.entries(task.key)}
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
                entry.state == State.IN_DOUBT.value and self._resends
            )
            if not is_again and entry.state != QUEUED:
                if entry.state == State.IN_DOUBT.value:
                    self._status.in_doubt_before += 1
                else:
                    self._status.completed_before += 1
                continue
            part = task.part([place])
            part.ids = [entry.id]
            part.attempts = entry.attempts + is_again
            part.first = entry.first or task.first
            if entry.code is not None:
                part.refusals = [Reply(entry.code, (entry.text or "").encode())]
            yield part, max(0.0, (entry.due or 0.0) - unix)
        if new:
            yield task.part(new), 0.0

    def schedule(self, task: Task, now: float, delay: float) -> None:
        """Schedule a task: it leaves after `delay` seconds, and when the rate of its domain
        allows."""
        if delay > 0:
            self._later.add(now + delay, task)
            return
        if task.attempts > 1:
            self._status.waiting -= len(task.recipients)
        throttle = self._throttle
        pause = 0.0 if throttle.is_off else throttle.reserve(task.recipients, self._clock)
        if pause > 0:
            self._paced.add(self._clock + pause, task)
        else:
            self._ready.append(task)

    def requeue(self, task: Task) -> None:
        """Put a task back; it leaves as soon as it can."""
        self._ready.append(task)

    def set_aside(self, senders: set[str]) -> None:
        """Let messages of these senders wait until bring_back()."""
        self._senders_aside |= senders

    def is_aside(self, sender: str) -> bool:
        """Return whether messages of this sender wait until bring_back()."""
        return sender in self._senders_aside

    def _sort_out(self) -> None:
        for _ in range(len(self._ready)):
            task = self._ready.popleft()
            (self._aside if self.is_aside(task.mail.from_addr) else self._ready).append(task)

    def bring_back(self) -> set[str]:
        """Put the messages that were set aside at the head of the queue. Return their senders."""
        senders, self._senders_aside = self._senders_aside, set()
        self._ready.extendleft(reversed(self._aside))
        self._aside.clear()
        return senders

    def clear(self) -> list[Task]:
        """Remove and return all tasks."""
        tasks = [*self._aside, *self._ready, *self._paced.clear(), *self._later.clear()]
        self._aside.clear()
        self._ready.clear()
        return tasks
