"""The connections of a sender, and the tasks on them.

Connections is the interface that a run uses. ThreadedConnections implements it: threads open and
close connections, and one thread runs all of them together.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Protocol

from ..drive import transactions
from ..drive.background import Wake, in_thread
from ..drive.performer import Wait, Waiting
from ..drive.sock import Connection, connect
from ..kernel.transaction import CHUNKING, SEQUENTIAL
from ..protocol import limits
from ..protocol.flows import farewell

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Sequence

    from ..protocol.server_url import Server
    from ..protocol.submission import Submission
    from .pool import ConnectionStatistics
    from .refusals import Held
    from .task import Task

# The most messages that a connection holds if it can't send them all at once: the one in progress,
# and enough others to keep it busy until more arrive. The rest wait for the first connection with
# room.
_AT_HAND = 6
# With a journal, all of them are in doubt if the process is killed. So a connection holds at most
# two more than the server answers in this time.
_SECONDS_AT_HAND = 0.03
# With CHUNKING, the window starts at this size, and doubles each time the server has answered.
_FIRST_WINDOW = 8


class Link(Protocol):
    """An open session with a server, as a pooled connection needs it."""

    def open_submission(self, max_in_flight: int, *, chunking: bool) -> Submission:
        """Return the state of the messages on this connection."""

    def peek_first(self, submission: Submission) -> None:
        """Read what the server has said while no message was in progress. Does not wait."""

    def close(self) -> None:
        """Close the connection without QUIT."""


class PooledConnection:
    """A connection, its statistics, and the tasks on it in order.

    held: refusals that may concern more than their message, until that is known. window: how many
    tasks it may have. adapts: whether replies change the window. target: run() returns once this
    many messages are left.
    """

    def __init__(
        self,
        link: Link,
        statistics: ConnectionStatistics,
        *,
        max_in_flight: int,
        chunking: bool,
        has_journal: bool,
    ) -> None:
        """has_journal: whether there is a journal, in which messages count as sent as soon as a
        connection has them."""
        self.link = link
        self.statistics = statistics
        self.tasks: deque[Task] = deque()
        self.held: list[Held] = []
        self.target = 0
        self.submission = link.open_submission(max_in_flight, chunking=chunking)
        self.pipeline = self.submission.pipeline
        self.mode = self.submission.mode
        self._has_journal = has_journal
        self._answered, self._since = 0, statistics.opened
        self._widest = max_in_flight
        self.window = min(self._first_window(), self._widest)
        self.adapts = self.mode == CHUNKING or (has_journal and self.mode != SEQUENTIAL)

    def _first_window(self) -> int:
        if self.mode == CHUNKING:
            return _FIRST_WINDOW
        if not self._has_journal:
            return _AT_HAND
        # In SEQUENTIAL mode, the next message can't begin before the reply to this one.
        return 1 if self.mode == SEQUENTIAL else 2

    def give(self, tasks: deque[Task], room: float, now: float) -> None:
        """Give this connection the first tasks, as many as there is room for."""
        submission, pipeline, own = self.submission, self.pipeline, self.tasks
        room = min(room, submission.room())
        given = 0
        while given < room and tasks and pipeline.byte_count < limits.IN_FLIGHT_BYTES:
            task = tasks.popleft()
            own.append(task)
            mail = task.mail
            to_addrs = mail.to_addrs
            if type(to_addrs) is not list or to_addrs != task.recipients:
                mail = task.to_send()
            task.result = submission.add(mail)
            given += 1
        if given:
            self.statistics.give(now, given)

    def widen_window(self, answered: int, now: float) -> None:
        """Adapt the window: the server has answered this many more messages."""
        if self.mode == CHUNKING:
            self.window = min(2 * self.window, self._widest)
        elif self.adapts:
            self._answered += answered
            seconds = now - self._since
            if seconds >= _SECONDS_AT_HAND:
                soon = int(self._answered * _SECONDS_AT_HAND / seconds)
                self.window = min(2 + soon, _AT_HAND, self._widest)
                self._answered, self._since = 0, now


class Connections(Protocol):
    """The connections to a server, as a run uses them.

    pooled: those that are open. open(), close() and arrivals() don't wait.
    """

    pooled: list[PooledConnection]

    def open(self) -> None:
        """Start opening a connection. arrivals() returns it, or the error."""

    def arrivals(self) -> Sequence[Link | Exception]:
        """Return the connections opened since the last call, and the errors of others."""

    def add(self, link: Link, statistics: ConnectionStatistics) -> PooledConnection:
        """Add a connection that has arrived."""

    def remove(self, connection: PooledConnection) -> None:
        """Close a connection that has no tasks, with QUIT if it still works."""


class _SocketConnection(PooledConnection):
    """A pooled connection over a socket, which transactions.run_together() takes as `runnable`."""

    runnable: transactions.Connection


class ThreadedConnections:
    """Connections over sockets: opened and closed in threads, and run together in one.

    waker: another thread sets it to end run() or sleep().
    """

    def __init__(
        self, server: Server, *, max_in_flight: int, chunking: bool, has_journal: bool
    ) -> None:
        """has_journal: whether there is a journal, in which messages count as sent as soon as a
        connection has them."""
        self.pooled: list[PooledConnection] = []
        self.waker = Wake()
        self._server = server
        self._max_in_flight = max_in_flight
        self._chunking = chunking
        self._has_journal = has_journal
        self._opening: list[Wait] = []
        self._arrived: deque[Connection | Exception] = deque()
        self._leaving: list[threading.Thread] = []
        self._closed = False

    def open(self) -> None:
        """Start opening a connection. arrivals() returns it, or the error."""
        in_thread(self._open)

    def _open(self) -> None:
        wait = Wait()
        self._opening.append(wait)
        try:
            self._arrived.append(connect(self._server, wait))
        except Exception as error:
            self._arrived.append(error)
        self._opening.remove(wait)
        if self._closed:
            self._close_arrived()
        self.wake()

    def _close_arrived(self) -> None:
        for each in self.arrivals():
            if isinstance(each, Connection):
                each.close()

    def arrivals(self) -> Sequence[Connection | Exception]:
        """Return the connections opened since the last call, and the errors of others."""
        arrived = []
        # After close(), the threads that open connections empty the deque, too.
        while self._arrived:
            with contextlib.suppress(IndexError):
                arrived.append(self._arrived.popleft())
        return arrived

    def add(self, link: Link, statistics: ConnectionStatistics) -> PooledConnection:
        """Add a connection that has arrived."""
        assert isinstance(link, Connection)
        connection = _SocketConnection(
            link,
            statistics,
            max_in_flight=self._max_in_flight,
            chunking=self._chunking,
            has_journal=self._has_journal,
        )
        connection.runnable = link.runnable(connection.submission)
        self.pooled.append(connection)
        return connection

    def remove(self, connection: PooledConnection) -> None:
        """Close a connection that has no tasks, with QUIT if it still works."""
        self.pooled.remove(connection)
        link = connection.link
        if connection.pipeline.failure is not None or not isinstance(link, Connection):
            link.close()
            return
        thread = in_thread(_quit, link)
        self._leaving = [each for each in self._leaving if each.is_alive()] + [thread]

    def waits(self) -> list[Waiting]:
        """Return what connections are waiting for. Any thread may call this."""
        found = [each.now for each in list(self._opening)]
        what = f"{self._server} to take a message"
        found += [
            Waiting(what, each.statistics.waits_since, None)
            for each in list(self.pooled)
            if each.tasks
        ]
        return [each for each in found if each is not None]

    def wake(self) -> None:
        """End run() or sleep(). Any thread may call this."""
        self.waker.set()

    def run(self, connections: Iterable[PooledConnection], seconds: float) -> None:
        """Send and receive on these connections until one reaches its target, for at most
        `seconds`. Raises whatever a signal handler raises."""
        runnables = []
        for each in connections:
            assert isinstance(each, _SocketConnection)
            runnable = each.runnable
            runnable.target = each.target
            runnables.append(runnable)
        transactions.run_together(runnables, seconds, self.waker.sock)
        self.waker.clear()

    def sleep(self, seconds: float) -> None:
        """Wait until another thread wakes this one, for at most `seconds`."""
        self.waker.wait(seconds)

    def close(self) -> None:
        """Close all connections, and wait a short time for their QUITs."""
        for each in list(self.pooled):
            self.remove(each)
        for thread in self._leaving:
            thread.join(limits.QUIT_SECONDS)
        self._leaving = []
        self._closed = True
        self._close_arrived()
        self.waker.close()


def _quit(connection: Connection) -> None:
    with contextlib.suppress(Exception):
        connection.run(farewell())
    connection.close()
