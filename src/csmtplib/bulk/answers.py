"""What comes of a server's answers: results, other tries, and signs that it is too much."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..kernel.errors import SessionClosed
from ..protocol import switches
from ..protocol.outcome import Outcome, Reply, State
from .delivery import Delivery

if TYPE_CHECKING:
    from ..protocol.submission import Result
    from .fleet import Lane
    from .intake import Intake
    from .ledger import Ledger
    from .sender import BulkSender
    from .task import Task

# How often a connection may be lost with the same message first on it before that counts as an
# answer.
_CUT_OFFS = 3

# Replies that say that it is too much. To RCPT, 450 and 451 may be about this recipient alone, as
# greylisting has it.
_THROTTLES = frozenset((421, 432, 450, 451, 452, 454))
_OF_ONE_RECIPIENT = frozenset((450, 451))


class Answers:
    """Takes what has come of messages, and hands it to the ledger, or back to the intake.

    settled: messages so far. under_way: recipients of messages that have left or are about to.
    """

    def __init__(self, sender: BulkSender, ledger: Ledger, intake: Intake) -> None:
        self.settled = 0
        self.under_way = 0
        self._sender = sender
        self._status = sender.status
        self._pool = sender.pool
        self._ledger = ledger
        self._intake = intake
        self._host = str(sender.server)
        self._at = self._now = 0.0

    def collect(self, lane: Lane) -> None:
        """Takes the answers that have come over a connection; one that is lost is given up."""
        tasks, failure = lane.tasks, lane.pipeline.failure
        if failure is None and len(tasks) == len(lane.pipeline):
            # Nothing has come of any of them.
            return
        self._at, self._now = time.time(), time.monotonic()
        was_accepted = was_cut_off = False
        count = answered = 0
        for result in lane.submission.results():
            task = tasks.popleft()
            count += 1
            answered += 1
            self.under_way -= len(task.recipients)
            if failure is None and result.accepted:
                was_accepted = True
                reply = result.only_reply
                if reply is not None:
                    # Most are that.
                    self._status.accepted += 1
                    recipient = task.recipients[0]
                    delivery = self._delivery(task, recipient, State.ACCEPTED, reply, None)
                    self._ledger.settle(task, 0, delivery)
                    continue
            is_cut_off = self._settle(
                task, result, is_first=failure is not None and not was_cut_off
            )
            was_cut_off = was_cut_off or is_cut_off
            answered -= is_cut_off
        self.settled += count
        if answered:
            lane.slot.answer(self._now, answered)
        if was_accepted:
            self._pool.accepted()
        if failure is None:
            lane.widen()
        else:
            self._lose(lane, failure)

    def _lose(self, lane: Lane, failure: Exception) -> None:
        switches.learn(self._sender.server.host, lane.gear, lane.pipeline)
        self._sender.fleet.dismiss(lane)
        with_421 = isinstance(failure, SessionClosed)
        self._pool.closed(lane.slot, self._now, by_server=True, with_421=with_421)

    def _settle(self, task: Task, result: Result, *, is_first: bool) -> bool:
        """Takes the outcomes of a message; whether it was cut off, so that nothing is known of it
        and nothing has come of it. is_first: no other was so before it on the connection."""
        outcomes = result.outcomes
        if not outcomes:
            fault = str(result.error)
            outcomes = tuple(Outcome(each, State.REJECTED, fault=fault) for each in task.recipients)
        again: list[int] = []
        later: list[int] = []
        for place, outcome in enumerate(outcomes):
            if outcome.state is State.DEFERRED:
                if outcome.reply is None or outcome.reply.code == 421:
                    again.append(place)
                else:
                    later.append(place)
                    self._heed(outcome.reply.code, to_rcpt=outcome.to_rcpt)
            elif outcome.state is State.IN_DOUBT and self._sender.resend:
                later.append(place)
            else:
                self._tell(task, place, outcome)
        was_cut_off = bool(again)
        if again and is_first:
            task.cut_offs += 1
            if task.cut_offs >= _CUT_OFFS:
                later, again = again + later, []
        if again:
            self._send_again(task, again, outcomes)
        if later:
            self._send_later(task, later, outcomes)
        return was_cut_off

    def _heed(self, code: int, *, to_rcpt: bool) -> None:
        """Takes a refusal for now as what it may say about the session."""
        if code in _THROTTLES:
            is_of_session = not (to_rcpt and code in _OF_ONE_RECIPIENT)
            self._pool.throttled(self._now, pause=is_of_session)

    def _send_again(self, task: Task, places: list[int], outcomes: tuple[Outcome, ...]) -> None:
        """They have not been sent, and are so at once."""
        for place in places:
            self._ledger.put_back(task, place, None, self._of(task, outcomes[place]))
        self._intake.again(task.part(places))

    def _send_later(self, task: Task, places: list[int], outcomes: tuple[Outcome, ...]) -> None:
        """They were refused for now: they are tried again, if it is not too late for that."""
        due = self._sender.retry.next(task.attempts, task.first, self._at, task.key)
        for place in places:
            outcome = outcomes[place]
            if due is None:
                self._tell(task, place, _given_up(outcome, task.attempts))
            else:
                self._ledger.put_back(task, place, due, self._of(task, outcome))
        if due is not None:
            part = task.part(places)
            part.attempts += 1
            part.cut_offs = 0
            self._status.waiting += len(places)
            self._intake.schedule(part, self._now, due - self._at)

    def _tell(self, task: Task, place: int, outcome: Outcome) -> None:
        """A recipient has its result."""
        self._ledger.settle(task, place, self._of(task, outcome))
        status, state = self._status, outcome.state
        if state is State.ACCEPTED:
            status.accepted += 1
        elif state is State.IN_DOUBT:
            status.in_doubt += 1
        else:
            self._sender.count_rejected()

    def give_back(self, reason: str) -> None:
        """Tells of what was taken up and is not sent any more."""
        self._at = time.time()
        # What is armed is known only then.
        self._ledger.flush()
        for task in self._intake.clear():
            self._tell_left(task, reason, is_armed=False)
        armed = self._ledger.armed
        while armed:
            self._tell_left(armed.popleft(), reason, is_armed=True)

    def _tell_left(self, task: Task, reason: str, *, is_armed: bool) -> None:
        for place, recipient in enumerate(task.recipients):
            delivery = self._delivery(task, recipient, State.DEFERRED, None, reason)
            if is_armed:
                self._ledger.put_back(task, place, None, delivery)
            self._ledger.told.append(delivery)

    def _of(self, task: Task, outcome: Outcome) -> Delivery:
        return self._delivery(task, outcome.recipient, outcome.state, outcome.reply, outcome.fault)

    def _delivery(
        self, task: Task, recipient: str, state: State, reply: Reply | None, fault: str | None
    ) -> Delivery:
        return Delivery(
            task.key, recipient, state, reply, fault, task.attempts, self._host, self._at
        )


def _given_up(outcome: Outcome, attempts: int) -> Outcome:
    fault = f"given up after {attempts} attempts"
    state = State.REJECTED if outcome.state is State.DEFERRED else outcome.state
    fault = f"{outcome.fault}; {fault}" if outcome.fault else fault
    return Outcome(outcome.recipient, state, outcome.reply, fault)
