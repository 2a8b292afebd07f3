"""Refusals that may concern more than their message, held until it is clear what they concern.

The next messages on the same connection show that: one passes, or none does. If none does, a fresh
connection shows whether only the session was exhausted. If it was not, and all refused messages are
from a few senders, a message from another sender shows whether the refusals are about those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .refusals import (
    MANY_SENDERS,
    Held,
    RunRefused,
    Senders,
    Subject,
    in_a_row,
    is_begun,
    may_concern_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol.outcome import Outcome
    from ..protocol.server_url import Server
    from .connections import Connections, PooledConnection
    from .job_queue import JobQueue
    from .pool import Pool
    from .task import Task

# How long to hold a refusal while there is no next message.
_SECONDS = 1.0

# How long to look for a message from another sender.
_SEARCH_SECONDS = 5.0


class Holding:
    """Holds refusals, and decides what they concern.

    refused: why the server refuses the whole run, if it does. is_searching: whether messages of
    some senders are set aside until a message of another sender shows what their refusals concern.
    noted_sender: another message begun from this sender shows nothing new. Recipients of held
    refusals count as not sent to: the caller of hold() has put them back.
    """

    def __init__(
        self,
        server: Server,
        pool: Pool,
        connections: Connections,
        queue: JobQueue,
        let_stand: Callable[[PooledConnection, Held], object],
    ) -> None:
        """let_stand: takes the outcomes of a refusal that concerns its own message only."""
        self.refused: RunRefused | None = None
        self.is_searching = False
        self.noted_sender: str | None = None
        self._of_run: list[Held] = []
        # Refusals for which a message of another sender will decide, and until when such a message
        # is looked for.
        self._doubted: list[tuple[PooledConnection, Held]] = []
        self._search_ends = 0.0
        self._server = server
        self._pool = pool
        self._connections = connections
        self._queue = queue
        self._let_stand = let_stand
        self._senders = Senders()

    @property
    def is_empty(self) -> bool:
        """Whether no refusal is held."""
        return not self._doubted and not any(each.held for each in self._connections.pooled)

    def concerns(self, connection: PooledConnection, task: Task, outcome: Outcome) -> bool:
        """Return whether an outcome has to be held."""
        about = may_concern_all(outcome, is_fresh=not connection.statistics.begun)
        if about is Subject.UNCLEAR:
            return not self._senders.is_refused(task.mail.from_addr)
        return about is not None

    def note_begun(self, connection: PooledConnection, task: Task) -> None:
        """Note that the server has begun a message: the refusals before it on that connection
        concern only their own messages."""
        connection.statistics.begun += 1
        sender = task.mail.from_addr
        if sender is not self.noted_sender:
            self._senders.note_taken(sender)
        if connection.held:
            self._release(connection)
        if self._doubted:
            self._end_search(sender)
        self.noted_sender = sender

    def note_outcomes(
        self, connection: PooledConnection, task: Task, outcomes: tuple[Outcome, ...]
    ) -> None:
        """Note the outcomes of a message."""
        if any(map(is_begun, outcomes)):
            self.note_begun(connection, task)

    def hold(self, connection: PooledConnection, held: Held) -> None:
        """Hold a refusal."""
        if self._is_doubted(connection, held):
            self._doubted.append((connection, held))
            return
        connection.held.append(held)
        if held.subject in (Subject.LOGIN, Subject.SESSION) and not connection.statistics.begun:
            self._refuse_run(connection)

    def room(self, connection: PooledConnection) -> float:
        """Return how many more messages the connection may be given."""
        room = self._pool.room(connection.statistics)
        held = connection.held
        if held:
            room = min(room, in_a_row(held) - len(held) - len(connection.tasks))
        return room

    def judge(self, connection: PooledConnection, now: float) -> None:
        """Decide what the refusals held on an idle connection concern, as soon as that is
        possible."""
        held, queue = connection.held, self._queue
        is_over = len(held) >= in_a_row(held) or not self._takes_more(connection)
        if not is_over and not queue.is_dry:
            return
        is_fresh = not connection.statistics.begun
        if not is_over and is_fresh and queue.has_more and now < held[-1].since + _SECONDS:
            return
        if self._doubts(connection):
            self._doubt(connection, now)
            return
        self.decide(connection)
        if not is_fresh:
            self._connections.remove(connection)
            self._pool.replaced(connection.statistics, now)

    def _doubts(self, connection: PooledConnection) -> bool:
        """Return whether the refusals held on a connection may be about their senders, who are
        few."""
        held = connection.held
        are_enough = len(held) >= in_a_row(held) or not self._takes_more(connection)
        if connection.statistics.begun or not are_enough or self._senders.are_to_blame(held):
            return False
        doubted = (each for _, each in self._doubted)
        return len({each.task.mail.from_addr for each in (*held, *doubted)}) < MANY_SENDERS

    def _doubt(self, connection: PooledConnection, now: float) -> None:
        """Send messages of other senders first."""
        self.is_searching = True
        self.noted_sender = None
        if not self._doubted:
            self._search_ends = now + _SEARCH_SECONDS
        self._queue.set_aside({each.task.mail.from_addr for each in connection.held})
        for other in self._connections.pooled:
            held, other.held = other.held, []
            for each in held:
                if other is connection or self._is_doubted(other, each):
                    self._doubted.append((other, each))
                else:
                    other.held.append(each)

    def _is_doubted(self, connection: PooledConnection, held: Held) -> bool:
        is_fresh_and_unclear = not connection.statistics.begun and held.subject is Subject.UNCLEAR
        return is_fresh_and_unclear and self._queue.is_aside(held.task.mail.from_addr)

    def _end_search(self, passed: str) -> None:
        """End the search: the server has begun a message of this sender."""
        self.is_searching = False
        doubted, self._doubted = self._doubted, []
        self._senders.blame(self._queue.bring_back() - {passed})
        for connection, each in doubted:
            if each.task.mail.from_addr == passed:
                self._queue.requeue(each.task)
            else:
                self._let_stand(connection, each)

    def conclude(self, now: float) -> None:
        """Stop the run if refusals wait for a message of another sender, and there is none."""
        queue = self._queue
        if not self._doubted or not queue.is_dry:
            return
        if any(each.tasks or each.held for each in self._connections.pooled):
            return
        if queue.wanted() and now < self._search_ends:
            return
        self._of_run += self._clear_doubted()
        self._stop()

    def _takes_more(self, connection: PooledConnection) -> bool:
        return connection.submission.has_room() and self._pool.room(connection.statistics) > 0

    def decide(self, connection: PooledConnection, *, is_verdict: bool = True) -> None:
        """Decide what the refusals held on a connection concern; no other message will pass there.
        is_verdict: whether they can be about what was sent, and not about how."""
        held, senders = connection.held, self._senders
        if connection.statistics.begun or not is_verdict:
            connection.held = []
            for each in held:
                self._queue.requeue(each.task)
        elif senders.are_to_blame(held) or (len(held) < in_a_row(held) and senders.are_named(held)):
            self._release(connection)
        else:
            self._refuse_run(connection)

    def clear(self) -> list[Held]:
        """Remove and return all refusals that are held."""
        for connection in self._connections.pooled:
            self._of_run += connection.held
            connection.held = []
        held, self._of_run = self._of_run, []
        return held + self._clear_doubted()

    def _clear_doubted(self) -> list[Held]:
        self.is_searching = False
        doubted, self._doubted = self._doubted, []
        return [each for _, each in doubted]

    def _release(self, connection: PooledConnection) -> None:
        held, connection.held = connection.held, []
        for each in held:
            self._let_stand(connection, each)

    def _refuse_run(self, connection: PooledConnection) -> None:
        held, connection.held = connection.held, []
        self._of_run += held
        self._stop()

    def _stop(self) -> None:
        if self.refused is None:
            self.refused = self._of_run[-1].refusal(self._server)
