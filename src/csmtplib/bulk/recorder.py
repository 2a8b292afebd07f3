"""Records messages on disk before they are sent, and results before they are reported."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ..drive.background import Signal, in_thread
from ..protocol.outcome import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .delivery import Delivery
    from .journal import Completed, Entry, Journal
    from .task import Task

QUEUED = "queued"
_TEXTS = {state: state.value for state in State}


class Recorder(Protocol):
    """A record of the messages of a run.

    recorded: tasks that are recorded as sending, so that they may be sent. recording: how many
    tasks are about to be recorded. deliveries: results that may be reported. open: recipients that
    are in doubt if the process is killed now. has_history: whether there was a former run.
    has_journal: whether anything is kept beyond the process.
    """

    recorded: deque[Task]
    recording: int
    deliveries: deque[Delivery]
    open: int
    has_history: bool
    has_journal: bool

    def entries(self, key: str | int) -> list[Entry]:
        """Return what a former run has recorded of a job."""

    def record(self, tasks: Iterable[Task]) -> None:
        """Record tasks as sending. They are added to `recorded` once that is on disk."""

    def complete(self, task: Task, place: int, delivery: Delivery) -> None:
        """Record the result of a recipient. It is added to `deliveries` once that is on disk."""

    def put_back(self, task: Task, place: int, due: float | None, delivery: Delivery) -> None:
        """Record that a recipient of a recorded task is to be sent to later: due is the Unix time,
        or None if it has not been sent to at all."""

    def turn(self, now: float, *, last: bool = False) -> float | None:
        """Write what is due. Return the seconds until more will be due, or None if nothing is
        waiting. last: nothing more is to come. Raises JournalError."""

    def flush(self) -> None:
        """Write everything to disk. Raises JournalError."""

    def close(self) -> None:
        """Flush for the last time. Raises JournalError."""


class NullRecorder:
    """A recorder without a journal: a run that is killed is forgotten."""

    def __init__(self) -> None:
        self.recorded: deque[Task] = deque()
        self.deliveries: deque[Delivery] = deque()
        self.open = 0
        self.has_history = self.has_journal = False
        self.recording = 0

    def entries(self, key: str | int) -> list[Entry]:
        return []

    def record(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self.open += len(task.recipients)
            self.recorded.append(task)

    def complete(self, task: Task, place: int, delivery: Delivery) -> None:
        self.open -= 1
        self.deliveries.append(delivery)

    def put_back(self, task: Task, place: int, due: float | None, delivery: Delivery) -> None:
        self.open -= 1

    def turn(self, now: float, *, last: bool = False) -> float | None:
        return None

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Group:
    """A group of records that is written to disk together.

    new, again: tasks to record as sending; the journal already has those in `again`. completed:
    rows for the journal. deliveries: to be reported once this is on disk. before: the previous
    group, written but not known to be on disk. committing: the call that commits this group.
    """

    __slots__ = ("again", "before", "committing", "completed", "deliveries", "new", "oldest")

    def __init__(self, before: _Group | None) -> None:
        self.before = before
        self.new: list[Task] = []
        self.again: list[Task] = []
        self.completed: list[Completed] = []
        self.deliveries: list[Delivery] = []
        self.oldest: float | None = None
        self.committing: Call | None = None


class JournalRecorder:
    """A recorder with a journal, which is written in groups: a thread waits for the disk while the
    next group is gathered.

    An exception such as KeyboardInterrupt may come at any bytecode here. Nothing is sent after it;
    what is reported and recorded stays true, and flush() and close() continue from there, at worst
    repeating a step. So each step ends with one assignment that marks it as done.
    """

    def __init__(self, journal: Journal, wake: Callable[[], object]) -> None:
        """wake: is called, in another thread, when a group is on disk."""
        self.recorded: deque[Task] = deque()
        self.recording = 0
        self.deliveries: deque[Delivery] = deque()
        self.open = 0
        self.has_history = journal.has_history
        self.has_journal = True
        self._journal = journal
        self._disk = Worker(journal.commit, wake)
        self._group = _Group(None)

    def entries(self, key: str | int) -> list[Entry]:
        return self._journal.entries(key)

    def record(self, tasks: Iterable[Task]) -> None:
        group = self._group
        for task in tasks:
            self.open += len(task.recipients)
            self.recording += 1
            if task.ids is None:
                task.ids = self._journal.new_ids(len(task.recipients))
                group.new.append(task)
            else:
                group.again.append(task)

    def complete(self, task: Task, place: int, delivery: Delivery) -> None:
        group = self._group
        group.completed.append(_row(task, place, _TEXTS[delivery.state], None, delivery))
        group.deliveries.append(delivery)

    def put_back(self, task: Task, place: int, due: float | None, delivery: Delivery) -> None:
        state = QUEUED if due is None else State.DEFERRED.value
        self._group.completed.append(_row(task, place, state, due, delivery))

    def turn(self, now: float, *, last: bool = False) -> float | None:
        group = self._group
        if group.before is not None:
            committing = self._commit(group.before)
            if not committing.is_done:
                return None
            error = committing.error
            if error is None:
                self._arrive(group.before)
            group.before = None
            if error is not None:
                raise error
        tasks, completed = len(group.new) + len(group.again), len(group.completed)
        if not tasks and not completed:
            return None
        if group.oldest is None:
            group.oldest = now
        wait = 0.0
        if not last and (self.recorded or not tasks):
            wait = self._journal.due_in(now, tasks + completed, group.oldest)
        if wait > 0:
            return wait
        self._journal.write(
            new=_rows(group.new),
            again=[(at, each.attempts) for each in group.again for at in each.ids or ()],
            completed=group.completed,
        )
        self._group = _Group(group)
        self._commit(group)
        return None

    def _commit(self, group: _Group) -> Call:
        """Commit a group that is written. Return the call that does it."""
        if group.committing is None:
            # If an interrupt prevents the assignment, the next commit() has nothing to do.
            group.committing = self._disk.call()
        return group.committing

    def _arrive(self, group: _Group) -> None:
        """Release what had to wait for a group that is on disk now."""
        self.recorded.extend(group.new)
        self.recorded.extend(group.again)
        self.recording -= len(group.new) + len(group.again)
        self.deliveries.extend(group.deliveries)
        self.open -= len(group.completed)

    def flush(self) -> None:
        while True:
            group = self._group
            if group.before is not None:
                self._commit(group.before).wait()
            elif not (group.new or group.again or group.completed):
                return
            self.turn(time.monotonic(), last=True)

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._disk.close()


def _row(task: Task, place: int, state: str, due: float | None, delivery: Delivery) -> Completed:
    """Return an outcome as Journal.write() takes it."""
    assert task.ids is not None
    reply, fault = delivery.reply, delivery.fault
    code = enhanced = None
    text = fault or ""
    if reply is not None:
        code, enhanced = reply.code, reply.enhanced
        text = reply.shown if fault is None else delivery.text
    return state, due, code, enhanced, text, delivery.host, delivery.time, task.ids[place]


def _rows(tasks: Sequence[Task]) -> list[tuple[int, str | int, str]]:
    """Return the recipients of tasks as Journal.write() takes new ones."""
    return [
        (at, task.key, recipient)
        for task in tasks
        for at, recipient in zip(task.ids or (), task.recipients, strict=True)
    ]


class Call:
    """A call in progress. is_done: whether it has ended. error: what it has raised."""

    __slots__ = ("ended", "error", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self.error: BaseException | None = None
        self.ended = Signal()

    def wait(self) -> None:
        """Wait until it has ended. Only one thread may wait."""
        # If an interrupt came after the signal, the next wait() finds it done.
        if not self.is_done:
            self.ended.wait()


class Worker:
    """A thread that calls a function, one call after another.

    An exception such as KeyboardInterrupt may come at any bytecode of the thread that uses it; see
    Signal. If it prevents close(), the thread ends once nobody refers to the worker.
    """

    def __init__(self, function: Callable[[], object], wake: Callable[[], object]) -> None:
        """wake: is called, in the thread, after each call."""
        # The thread refers to these, and not to the worker. None in place of a call ends it.
        self._calls: deque[Call | None] = deque()
        self._some = Signal()
        self._run = partial(_make_calls, self._calls, self._some, function, wake)
        self._thread: threading.Thread | None = None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # an interrupt left __init__ unfinished
            self._ask_to_end()

    def call(self) -> Call:
        """Call the function in the thread, perhaps even if an exception interrupts this."""
        if self._thread is None:
            # If an interrupt prevents the assignment, there are two threads, which does no harm.
            self._thread = in_thread(self._run)
        call = Call()
        self._calls.append(call)
        self._some.set()
        return call

    def close(self) -> None:
        """End the thread, after the calls that it has."""
        self._ask_to_end()
        if self._thread is not None:
            self._thread.join()

    def _ask_to_end(self) -> None:
        self._calls.append(None)
        self._some.set()


def _make_calls(
    calls: deque[Call | None],
    some: Signal,
    function: Callable[[], object],
    wake: Callable[[], object],
) -> None:
    """Make the calls of a worker in this thread, until None comes in place of one."""
    while True:
        some.wait()
        with contextlib.suppress(IndexError):
            while (call := calls.popleft()) is not None:
                try:
                    function()
                except BaseException as error:
                    call.error = error
                call.is_done = True
                call.ended.set()
                wake()
            # So that a second thread ends, too.
            calls.append(None)
            some.set()
            return
