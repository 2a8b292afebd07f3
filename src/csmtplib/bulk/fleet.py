"""The connections of a sender: opened and closed in threads, run together in one."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING

from ..drive import transactions
from ..drive.sock import Connection, connect
from ..kernel.transaction import CHUNKED
from ..protocol import limits
from ..protocol.flows import farewell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..protocol.server_url import Server
    from .pool import Slot
    from .task import Task

# Messages that a connection holds where it can't send them all at once: the one that is on its way,
# and what follows before anybody has the time to bring more. The others wait for the connection
# that is free first.
_AT_HAND = 6
# How many have been answered when more are brought. More would take so long that the server has
# nothing left to do meanwhile.
_ANSWERED = 3
# Where all leave at once, there are this many at first, and twice as many while that goes well.
_FIRST_WINDOW = 8


class Lane:
    """A connection, and the tasks on it in their order."""

    def __init__(self, connection: Connection, slot: Slot, *, fleet: Fleet) -> None:
        self.connection = connection
        self.slot = slot
        self.tasks: deque[Task] = deque()
        self.submission = connection.open_submission(
            fleet.max_in_flight, proved=fleet.proved, chunking=fleet.chunking
        )
        self.pipeline = self.submission.pipeline
        self.line = connection.line(self.submission)
        self.gear = self.submission.gear
        at_first = _FIRST_WINDOW if self.gear == CHUNKED else _AT_HAND
        self.window = min(at_first, fleet.max_in_flight)
        self._widest = fleet.max_in_flight

    def give(self, task: Task, now: float) -> None:
        """Has a task sent."""
        self.tasks.append(task)
        self.slot.give(now)
        self.submission.add(task.to_send())

    def aim(self, *, more: bool) -> None:
        """Has the next run come back when more can be brought, or when all is done."""
        target = 0
        if more and self.pipeline.proved:
            answered = max(self.window // 2, 1) if self.gear == CHUNKED else _ANSWERED
            target = max(len(self.pipeline) - answered, 0)
        self.line.target = target

    def widen(self) -> None:
        """Allows for more messages at once, after so many that the server has taken."""
        if self.gear == CHUNKED and self.window < self._widest:
            self.window = min(2 * self.window, self._widest)


class Fleet:
    """The connections to a server. A change in another thread makes `wake` readable."""

    def __init__(self, server: Server, *, max_in_flight: int, chunking: bool) -> None:
        self.lanes: list[Lane] = []
        self.max_in_flight = max_in_flight
        self.chunking = chunking
        self.proved = False
        self._server = server
        self._arrived: deque[Connection | Exception] = deque()
        self._leaving: list[threading.Thread] = []
        self._closed = self._woken = False
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)

    def open(self) -> None:
        """Begins to open a connection; arrivals() tells what has come of it."""
        _in_thread(self._open)

    def _open(self) -> None:
        try:
            self._arrived.append(connect(self._server))
        except Exception as error:
            self._arrived.append(error)
        if self._closed:
            self._turn_away()
        self.wake()

    def _turn_away(self) -> None:
        for each in self.arrivals():
            if isinstance(each, Connection):
                each.close()

    def arrivals(self) -> Iterable[Connection | Exception]:
        """Connections that have been opened since, and why others could not be."""
        with contextlib.suppress(IndexError):
            while True:
                yield self._arrived.popleft()

    def add(self, connection: Connection, slot: Slot) -> Lane:
        """Takes a connection in."""
        lane = Lane(connection, slot, fleet=self)
        self.lanes.append(lane)
        return lane

    def dismiss(self, lane: Lane) -> None:
        """Closes a connection, by QUIT where it is sound; nothing is under way on it."""
        self.lanes.remove(lane)
        if lane.pipeline.failure is not None:
            lane.connection.close()
            return
        thread = _in_thread(_quit, lane.connection)
        self._leaving = [each for each in self._leaving if each.is_alive()] + [thread]

    def wake(self) -> None:
        """Ends a run or a sleep, from any thread."""
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")
        # Not before: who looks by then would find nothing to take out, and never look again.
        self._woken = True

    def run(self, lanes: Sequence[Lane], seconds: float) -> None:
        """Runs these lanes, whose aims are set. Raises what a signal handler raises."""
        transactions.run_together([lane.line for lane in lanes], seconds, self._wake)
        if self._woken:
            self.sleep(0)

    def sleep(self, seconds: float) -> None:
        """Waits until something has happened in another thread."""
        self._woken = False
        self._wake.settimeout(seconds)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            self._wake.recv(limits.RECEIVE_OCTETS)

    def close(self) -> None:
        """Closes all connections, and waits for their QUITs a little."""
        for lane in list(self.lanes):
            self.dismiss(lane)
        for thread in self._leaving:
            thread.join(limits.QUIT_SECONDS)
        self._leaving = []
        self._closed = True
        self._turn_away()
        self._wake.close()
        self._waker.close()


def _quit(connection: Connection) -> None:
    with contextlib.suppress(Exception):
        connection.run(farewell())
    connection.close()


def _in_thread(function: Callable[..., object], *arguments: object) -> threading.Thread:
    """Starts a thread that does this, and that a process at its end does not wait for."""
    try:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
    except RuntimeError:
        # A subinterpreter has no such threads.
        thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread
