"""What is on disk before it happens, and what is told when it is on disk."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..protocol.outcome import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from .delivery import Delivery
    from .journal import Entry, Journal
    from .task import Task

# State, due, code, enhanced code, text, host, time and id, as Journal.write() takes them.
_Settled: TypeAlias = (
    "tuple[str, float | None, int | None, str | None, str | None, str | None, float, int]"
)

QUEUED = "queued"
_TEXTS = {state: state.value for state in State}


class Ledger(Protocol):
    """Between a run and its journal.

    armed: tasks that may be sent. arming: tasks that will be armed. told: results that may be
    told. open: recipients that are in doubt if the process is killed now. has_history: whether
    there was a former run.
    """

    armed: deque[Task]
    told: deque[Delivery]
    open: int
    has_history: bool

    @property
    def arming(self) -> int: ...

    def entries(self, key: str | int) -> list[Entry]:
        """What a former run has left of a job."""

    def arm(self, task: Task) -> None:
        """Has a task come to `armed`, when that is on disk."""

    def settle(self, task: Task, place: int, delivery: Delivery) -> None:
        """Has a result come to `told`, when it is on disk."""

    def put_back(self, task: Task, place: int, due: float | None, delivery: Delivery) -> None:
        """A recipient of an armed task is to be sent later: due is the Unix time, None where it has
        not been sent at all."""

    def turn(self, now: float, *, last: bool = False) -> float | None:
        """Does what is due; in how many seconds something is again, None for nothing. last: there
        is nothing more to come. Raises JournalError."""

    def flush(self) -> None:
        """Has everything on disk. Raises JournalError."""

    def close(self) -> None:
        """Flushes for the last time. Raises JournalError."""


class Unrecorded:
    """No journal: a run that is killed is forgotten."""

    def __init__(self) -> None:
        self.armed: deque[Task] = deque()
        self.told: deque[Delivery] = deque()
        self.open = 0
        self.has_history = False
        self.arming = 0

    def entries(self, key: str | int) -> list[Entry]:
        return []

    def arm(self, task: Task) -> None:
        self.open += len(task.recipients)
        self.armed.append(task)

    def settle(self, task: Task, place: int, delivery: Delivery) -> None:
        self.open -= 1
        self.told.append(delivery)

    def put_back(self, task: Task, place: int, due: float | None, delivery: Delivery) -> None:
        self.open -= 1

    def turn(self, now: float, *, last: bool = False) -> float | None:
        return None

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class Recorded:
    """A journal, which is written by groups: a thread waits for the disk while the next one is
    gathered."""

    def __init__(self, journal: Journal, wake: Callable[[], object]) -> None:
        """wake: is called, in another thread, when a group is on disk."""
        self.armed: deque[Task] = deque()
        self.told: deque[Delivery] = deque()
        self.open = 0
        self.has_history = journal.has_history
        self._journal = journal
        self._wake = wake
        self._executor = ThreadPoolExecutor(1, "csmtplib-journal")
        self._committing: Future[None] | None = None
        self._on_the_way: tuple[list[Task], list[Delivery], int] = ([], [], 0)
        self._begin_group()

    def _begin_group(self) -> None:
        self._tasks: list[Task] = []
        self._new: list[tuple[int, str | int, str]] = []
        self._again: list[tuple[int, int]] = []
        self._deliveries: list[Delivery] = []
        self._settled: list[_Settled] = []
        self._oldest: float | None = None

    @property
    def arming(self) -> int:
        return len(self._tasks) + len(self._on_the_way[0])

    def entries(self, key: str | int) -> list[Entry]:
        return self._journal.entries(key)

    def arm(self, task: Task) -> None:
        self.open += len(task.recipients)
        self._tasks.append(task)
        if task.ids is None:
            task.ids = []
            for each in task.recipients:
                at = self._journal.new_id()
                task.ids.append(at)
                self._new.append((at, task.key, each))
        else:
            self._again += [(at, task.attempts) for at in task.ids]

    def settle(self, task: Task, place: int, delivery: Delivery) -> None:
        self._deliveries.append(delivery)
        self._write(task, place, _TEXTS[delivery.state], None, delivery)

    def put_back(self, task: Task, place: int, due: float | None, delivery: Delivery) -> None:
        state = QUEUED if due is None else State.DEFERRED.value
        self._write(task, place, state, due, delivery)

    def _write(
        self, task: Task, place: int, state: str, due: float | None, delivery: Delivery
    ) -> None:
        assert task.ids is not None
        reply = delivery.reply
        code, enhanced = (None, None) if reply is None else (reply.code, reply.enhanced)
        self._settled.append(
            (
                state,
                due,
                code,
                enhanced,
                delivery.text,
                delivery.host,
                delivery.time,
                task.ids[place],
            )
        )

    def turn(self, now: float, *, last: bool = False) -> float | None:
        if self._committing is not None:
            if not self._committing.done():
                return None
            self._arrive()
        if not self._tasks and not self._settled:
            return None
        if self._oldest is None:
            self._oldest = now
        wait = 0.0
        if not last and (self.armed or not self._tasks):
            rows = len(self._tasks) + len(self._settled)
            wait = self._journal.due_in(now, rows, self._oldest)
        if wait > 0:
            return wait
        self._journal.write(new=self._new, again=self._again, settled=self._settled)
        self._on_the_way = (self._tasks, self._deliveries, len(self._settled))
        self._begin_group()
        self._committing = self._executor.submit(self._journal.commit)
        self._committing.add_done_callback(lambda _: self._wake())
        return None

    def _arrive(self) -> None:
        """A group is on disk, or could not be brought there."""
        committing, self._committing = self._committing, None
        assert committing is not None
        committing.result()
        tasks, deliveries, settled = self._on_the_way
        self.armed.extend(tasks)
        self.told.extend(deliveries)
        self.open -= settled
        self._on_the_way = ([], [], 0)

    def flush(self) -> None:
        while self._committing is not None or self._tasks or self._settled:
            if self._committing is not None:
                self._committing.exception()
            self.turn(time.monotonic(), last=True)

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._executor.shutdown()
