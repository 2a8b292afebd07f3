"""Handles the outcomes of messages: results, other tries, and signs of overload."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from ..kernel.errors import SessionClosed
from ..protocol.outcome import Outcome, Reply, State
from .delivery import Delivery
from .holding import Holding
from .refusals import FirstResults, Held, RunRefused, all_alike, may_concern_all

if TYPE_CHECKING:
    from ..protocol.result import Result
    from .connections import Connections, PooledConnection
    from .job_queue import JobQueue
    from .pool import Pool
    from .recorder import Recorder
    from .settings import Settings
    from .status import Rejections, Status
    from .task import Task

# How often a connection may be lost while the same message is the first on it, before the message
# waits like a deferred one.
_CUT_OFFS = 3

# Replies that signal overload. To RCPT, 450 and 451 may be about this recipient alone, as with
# greylisting.
_THROTTLES = frozenset((421, 432, 450, 451, 452, 454))
_OF_ONE_RECIPIENT = frozenset((450, 451))


class _Came(Enum):
    """The kind of outcome that a message has."""

    ANSWER = 1
    CUT_OFF = 2  # no reply for some recipients, or 421
    HELD = 3  # a refusal that may concern more than this message


class OutcomeHandler:
    """Takes the outcomes of messages, and gives results to the recorder, and tasks to be sent again
    to the queue.

    completed: messages so far. holding: refusals that may concern more than their message.
    """

    def __init__(
        self,
        settings: Settings,
        status: Status,
        rejections: Rejections,
        pool: Pool,
        connections: Connections,
        recorder: Recorder,
        queue: JobQueue,
    ) -> None:
        self.completed = 0
        self.holding = Holding(settings.server, pool, connections, queue, self._let_stand)
        self._first = FirstResults(is_on=settings.max_failed is None)
        self._server = settings.server
        self._host = str(settings.server)
        self._retry = settings.retry
        self._resends = settings.resends
        self._status = status
        self._rejections = rejections
        self._pool = pool
        self._connections = connections
        self._recorder = recorder
        self._queue = queue
        self._unix = self._now = 0.0

    @property
    def refused(self) -> RunRefused | None:
        """Why the server refuses the whole run, if it does."""
        return self.holding.refused

    def collect(self, connection: PooledConnection, now: float, unix: float) -> None:
        """Take the outcomes that are known on a connection, and remove it if it is lost. unix: the
        current Unix time."""
        self._now, self._unix = now, unix
        failure = connection.pipeline.failure
        tasks, statistics = connection.tasks, connection.statistics
        holding, recorder, host = self.holding, self._recorder, self._host
        was_accepted = was_cut_off = False
        count = answered = 0
        for result in connection.submission.results():
            # The first task is the result's, unless an interrupt came between the steps of give().
            # A task without a result stays recorded as sending, and is in doubt.
            while tasks:
                task = tasks.popleft()
                if task.result is result:
                    break
            else:
                continue
            task.result = None
            count += 1
            reply = result.accepted_reply
            if reply is not None or result.accepted:
                was_accepted = failure is None
                statistics.accepted += 1
                if reply is not None and was_accepted:
                    # Most messages end here.
                    answered += 1
                    if task.mail.from_addr is holding.noted_sender and not connection.held:
                        statistics.begun += 1
                    else:
                        holding.note_begun(connection, task)
                    self._status.accepted += 1
                    delivery = Delivery(
                        task.key,
                        task.recipients[0],
                        State.ACCEPTED,
                        reply,
                        None,
                        task.attempts,
                        host,
                        unix,
                    )
                    recorder.complete(task, 0, delivery)
                    continue
            may_be_to_blame = failure is not None and not connection.submission.is_step_to_blame
            is_first = may_be_to_blame and not was_cut_off
            came = self._take_outcomes(connection, task, result, is_first=is_first)
            was_cut_off = was_cut_off or came is _Came.CUT_OFF
            answered += came is _Came.ANSWER
        self.completed += count
        if answered:
            statistics.answer(now, answered)
        if was_accepted:
            if self._pool.pause:
                self._pool.accepted()
            self._first.is_on = False
        if failure is not None:
            self._lose(connection, failure)
        elif count and connection.adapts:
            connection.widen_window(count, now)

    def look(self, connection: PooledConnection, now: float, unix: float) -> None:
        """Remove a connection if the server has ended it while no message was in progress."""
        connection.link.peek_first(connection.submission)
        failure = connection.pipeline.failure
        if failure is not None:
            self._now, self._unix = now, unix
            self._lose(connection, failure)

    def _lose(self, connection: PooledConnection, failure: Exception) -> None:
        is_step_to_blame = connection.submission.is_step_to_blame
        if connection.held:
            self.holding.decide(connection, is_verdict=not is_step_to_blame)
        self._connections.remove(connection)
        if is_step_to_blame:
            # The server closed it because of something that we tried, and will not try again.
            self._pool.closed(connection.statistics, self._now, by_server=False)
            return
        with_421 = isinstance(failure, SessionClosed)
        self._pool.closed(connection.statistics, self._now, by_server=True, with_421=with_421)

    def _take_outcomes(
        self, connection: PooledConnection, task: Task, result: Result, *, is_first: bool
    ) -> _Came:
        """Take the outcomes of a message. is_first: no other message was cut off before it on the
        connection."""
        outcomes = result.outcomes
        if result.error is not None:
            fault = outcomes[0].fault
            outcomes = tuple(Outcome(each, State.REJECTED, fault=fault) for each in task.recipients)
        self.holding.note_outcomes(connection, task, outcomes)
        again: list[int] = []
        later: list[int] = []
        held: list[int] = []
        for place, outcome in enumerate(outcomes):
            if self.holding.concerns(connection, task, outcome):
                held.append(place)
            elif outcome.state is State.DEFERRED:
                if outcome.reply is None or outcome.reply.code == 421:
                    again.append(place)
                else:
                    later.append(place)
                    self._note_deferral(connection, outcome)
            elif outcome.state is State.IN_DOUBT and self._resends:
                later.append(place)
            else:
                self._complete(task, place, outcome)
        was_cut_off = bool(again)
        if again and is_first:
            task.cut_offs += 1
            if task.cut_offs >= _CUT_OFFS:
                later, again = again + later, []
        if again:
            self._send_again(task, again, outcomes)
        if later:
            self._send_later(task, later, outcomes)
        if held:
            self._hold(connection, task, held, outcomes)
        if was_cut_off:
            return _Came.CUT_OFF
        return _Came.HELD if len(held) == len(outcomes) else _Came.ANSWER

    def _note_deferral(self, connection: PooledConnection, outcome: Outcome) -> None:
        """Note what a 4yz reply may say about the session."""
        assert outcome.reply is not None
        code = outcome.reply.code
        if outcome.to_mail and not connection.statistics.begun:
            self._pool.refused_fresh(self._now)
        if code in _THROTTLES:
            is_of_session = not (outcome.to_rcpt and code in _OF_ONE_RECIPIENT)
            self._pool.throttled(self._now, pause=is_of_session)

    def _hold(
        self,
        connection: PooledConnection,
        task: Task,
        places: list[int],
        outcomes: tuple[Outcome, ...],
    ) -> None:
        """Hold a refusal that may concern more than the message. Meanwhile its recipients count as
        not sent to."""
        for place in places:
            self._recorder.put_back(task, place, None, self._of(task, outcomes[place]))
        theirs = tuple(outcomes[place] for place in places)
        about = may_concern_all(theirs[0], is_fresh=not connection.statistics.begun)
        assert about is not None
        is_whole = len(places) == len(outcomes)
        held = Held(task.part(places), theirs, about, self._now, is_whole)
        self.holding.hold(connection, held)

    def _let_stand(self, connection: PooledConnection, held: Held) -> None:
        """Let a refusal stand: it concerns only its own message, as another one passed."""
        self._first.is_on = False
        task, outcomes = held.task, held.outcomes
        # The recipients are open again until this, too, is on disk.
        self._recorder.open += len(outcomes)
        later = []
        for place, outcome in enumerate(outcomes):
            if outcome.state is State.DEFERRED:
                later.append(place)
                self._note_deferral(connection, outcome)
            else:
                self._complete(task, place, outcome)
        if later:
            self._send_later(task, later, outcomes)
        if held.is_whole:
            connection.statistics.answer(self._now, 1)

    def _send_again(self, task: Task, places: list[int], outcomes: tuple[Outcome, ...]) -> None:
        """Queue recipients that nothing was sent to, for another attempt at once."""
        for place in places:
            self._recorder.put_back(task, place, None, self._of(task, outcomes[place]))
        self._queue.requeue(task.part(places))

    def _send_later(self, task: Task, places: list[int], outcomes: tuple[Outcome, ...]) -> None:
        """Schedule another attempt for recipients without a final result, unless it is too late."""
        due = self._retry.next(task.attempts, task.first, self._unix, task.key)
        for place in places:
            outcome = outcomes[place]
            if due is None:
                self._complete(task, place, _given_up(outcome, task.attempts))
            else:
                self._recorder.put_back(task, place, due, self._of(task, outcome))
        if due is not None:
            part = task.part(places)
            part.attempts += 1
            part.cut_offs = 0
            part.refusals = [outcomes[place].reply for place in places]
            self._status.waiting += len(places)
            self._queue.schedule(part, self._now, due - self._unix)

    def _complete(self, task: Task, place: int, outcome: Outcome) -> None:
        """Record the result of a recipient."""
        self._recorder.complete(task, place, self._of(task, outcome))
        if self._first.are_alike(outcome):
            self.holding.refused = self.refused or all_alike(outcome, self._server)
        status, state = self._status, outcome.state
        if state is State.ACCEPTED:
            status.accepted += 1
        elif state is State.IN_DOUBT:
            status.in_doubt += 1
        else:
            self._rejections.count()

    def take_back_aside(self, unix: float) -> None:
        """Put recorded tasks back into the queue if the messages of their senders are set aside."""
        self._unix = unix
        recorder, queue = self._recorder, self._queue
        recorded = recorder.recorded
        for _ in range(len(recorded)):
            task = recorded.popleft()
            if not queue.is_aside(task.mail.from_addr):
                recorded.append(task)
                continue
            for place in range(len(task.recipients)):
                recorder.put_back(task, place, None, self._untried(task, place, None))
            queue.requeue(task)

    def give_back(self, reason: str, unix: float) -> None:
        """Report all remaining recipients as deferred."""
        self._unix = unix
        recorder = self._recorder
        # Only after that is it known what is recorded as sending.
        recorder.flush()
        # Held refusals were put back already.
        held = [each.task for each in self.holding.clear()]
        for task in [*self._queue.clear(), *held]:
            self._give_back(task, reason, is_recorded=False)
        while recorder.recorded:
            self._give_back(recorder.recorded.popleft(), reason, is_recorded=True)

    def _give_back(self, task: Task, reason: str, *, is_recorded: bool) -> None:
        for place in range(len(task.recipients)):
            delivery = self._untried(task, place, reason)
            if is_recorded:
                self._recorder.put_back(task, place, None, delivery)
            self._recorder.deliveries.append(delivery)

    def _untried(self, task: Task, place: int, reason: str | None) -> Delivery:
        reply = task.refusals[place] if task.refusals else None
        delivery = self._delivery(task, task.recipients[place], State.DEFERRED, reply, reason)
        # The try that `attempts` counts in advance was not made.
        delivery.attempts -= 1
        return delivery

    def _of(self, task: Task, outcome: Outcome) -> Delivery:
        return self._delivery(task, outcome.recipient, outcome.state, outcome.reply, outcome.fault)

    def _delivery(
        self, task: Task, recipient: str, state: State, reply: Reply | None, fault: str | None
    ) -> Delivery:
        return Delivery(
            task.key, recipient, state, reply, fault, task.attempts, self._host, self._unix
        )


def _given_up(outcome: Outcome, attempts: int) -> Outcome:
    fault = f"given up after {attempts} attempts"
    state = State.REJECTED if outcome.state is State.DEFERRED else outcome.state
    fault = f"{outcome.fault}; {fault}" if outcome.fault else fault
    return Outcome(outcome.recipient, state, outcome.reply, fault)
