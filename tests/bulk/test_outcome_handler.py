"""bulk/outcome_handler.py: which outcomes are results, which are other tries, and which are
signs of overload."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from csmtplib import kernel
from csmtplib.bulk.connections import PooledConnection, ThreadedConnections
from csmtplib.bulk.delivery import Delivery
from csmtplib.bulk.job_queue import JobQueue
from csmtplib.bulk.journal import Journal
from csmtplib.bulk.journal_view import JournalView
from csmtplib.bulk.outcome_handler import OutcomeHandler
from csmtplib.bulk.pool import FIRST_PAUSE, Pool
from csmtplib.bulk.recorder import JournalRecorder, NullRecorder, Recorder
from csmtplib.bulk.retry import Retry
from csmtplib.bulk.settings import Settings
from csmtplib.bulk.status import Rejections, Status, StopRequest
from csmtplib.bulk.task import Task
from csmtplib.bulk.throttle import Throttle
from csmtplib.kernel.transaction import Mode, Want
from csmtplib.protocol.features import Features
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import Reply, State
from csmtplib.protocol.server_url import Server
from csmtplib.protocol.submission import Submission

from ..protocol.serving import Host, known_host

TIME = 1_764_000_000.0
NOW = 1000.0
RETRY = Retry(first=60, longest=600, give_up=1000, jitter=0)
OPEN = 8


class Clock:
    """Both clocks, which stand still."""

    def __init__(self) -> None:
        self.now = NOW

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return TIME + self.now - NOW


class Link:
    """A connection without its socket."""

    def __init__(self) -> None:
        self.is_open = True
        self.replies = kernel.ReplyBuffer(8192, 65536)

    def open_submission(self, max_in_flight: int, *, chunking: bool) -> Submission:
        return Submission(
            self.replies,
            Features(),
            Mode.PIPELINING,
            lmtp=False,
            host=known_host(Mode.PIPELINING),
            max_in_flight=max_in_flight,
        )

    def peek_first(self, submission: Submission) -> None:
        raise AssertionError("there is nothing to be read")

    def close(self) -> None:
        self.is_open = False


class Wire(PooledConnection):
    """A connection over no socket: its messages are answered by a host in this process."""

    link: Link

    def __init__(self, desk: Desk) -> None:
        desk.pool.begun()
        super().__init__(
            Link(),
            desk.pool.opened(desk.clock.now),
            max_in_flight=100,
            chunking=False,
            has_journal=False,
        )
        self.widened = 0
        self.adapts = True
        self._desk = desk
        desk.connections.pooled.append(self)

    def widen_window(self, answered: int, now: float) -> None:
        self.widened += 1

    def give_all(self, *tasks: Task) -> None:
        for task in tasks:
            if task in self._desk.recorder.recorded:
                self._desk.recorder.recorded.remove(task)
        self.give(deque(tasks), len(tasks), self._desk.clock.now)

    def talk(self, host: Host, *, most: int = 1 << 20) -> None:
        """Let the host answer to all, or so many bytes of it; it hangs up where it wants to."""
        pipeline = self.pipeline
        while most > 0 and pipeline.failure is None and pipeline.want() & Want.WRITE:
            written = pipeline.pull(most)
            most -= len(written)
            pipeline.wrote(len(written))
            self.link.replies.feed(host.take(bytes(written)))
            pipeline.receive()
            if host.hung_up and pipeline.failure is None:
                pipeline.end_of_stream()

    def lose(self) -> None:
        self.pipeline.lose(ConnectionResetError("reset"))

    def collect(self) -> None:
        self._desk.handler.collect(self, self._desk.clock.now, self._desk.clock.time())


class Desk:
    """An outcome handler, between wires and the real recorder and queue."""

    def __init__(self, clock: Clock, recorder: Recorder | None = None, **options: Any) -> None:
        self.clock = clock
        options.setdefault("retry", RETRY)
        server = Server("mx.test", 25)
        settings = Settings(server=server, connections=OPEN, **options)
        self.status = Status()
        self.stop = StopRequest()
        self.pool = Pool(
            OPEN, max_per_connection=None, max_connection_seconds=None, idle_seconds=30.0
        )
        self.connections = ThreadedConnections(
            server, max_in_flight=100, chunking=True, has_journal=recorder is not None
        )
        self.recorder = NullRecorder() if recorder is None else recorder
        rejections = Rejections(self.status, settings.max_failed, self.stop.make)
        self.queue = JobQueue(
            settings, self.status, rejections, Throttle(), self.recorder, now=clock.now
        )
        # All that there is, is made by tasks().
        self.queue.has_more = False
        self.handler = OutcomeHandler(
            settings,
            self.status,
            rejections,
            self.pool,
            self.connections,
            self.recorder,
            self.queue,
        )

    @property
    def in_progress(self) -> int:
        """Recipients of messages that connections have."""
        tasks = [task for each in self.connections.pooled for task in each.tasks]
        return sum(len(each.recipients) for each in tasks)

    def give_back(self, reason: str) -> None:
        self.handler.give_back(reason, self.clock.time())

    def close(self) -> None:
        self.connections.pooled.clear()
        self.connections.close()

    @property
    def told(self) -> list[tuple[str, State, int | None]]:
        return [(each.recipient, each.state, each.code) for each in self.recorder.deliveries]

    def tasks(self, count: int = 1, *recipients: str, sender: str = "a@x.test") -> list[Task]:
        """Tasks that are recorded as sending."""
        made = []
        for number in range(count):
            names = list(recipients or (f"b{number}@y.test",))
            mail = MailObject(sender, names, b"text\r\n")
            task = Task(number, mail, names, self.clock.time())
            self.status.taken += len(names)
            self.recorder.record([task])
            made.append(task)
        return made

    def wire(self, tasks: Iterable[Task] = ()) -> Wire:
        wire = Wire(self)
        wire.give_all(*tasks)
        return wire

    def send(self, host: Host, *recipients: str, count: int = 1, sender: str = "a@x.test") -> Wire:
        """Messages over a connection, up to the answers."""
        return self.send_more(self.wire(), host, *recipients, count=count, sender=sender)

    def send_more(
        self,
        wire: Wire,
        host: Host,
        *recipients: str,
        count: int = 1,
        sender: str = "a@x.test",
    ) -> Wire:
        """Messages over this connection, up to the answers."""
        wire.give_all(*self.tasks(count, *recipients, sender=sender))
        wire.talk(host)
        wire.collect()
        return wire

    def judge(self, wire: Wire) -> None:
        """As a run does where there is nothing on a connection but what it holds."""
        if wire.held:
            self.handler.holding.judge(wire, self.clock.now)
        self.handler.holding.conclude(self.clock.now)

    def queued_again(self) -> list[object]:
        """The keys of those that are to be sent at once, and by their first attempt."""
        tasks = self.again()
        assert [each.attempts for each in tasks] == [1] * len(tasks)
        return [each.key for each in tasks]

    def again(self) -> list[Task]:
        """The tasks to be sent at once."""
        tasks = self.queue.clear() if self.queue.waiting > len(self.recorder.recorded) else []
        assert all(each.recipients for each in tasks)
        return tasks

    def later(self) -> tuple[float, list[Task]]:
        """The tasks to be sent later, and in how many seconds."""
        due = self.queue.due_in(self.clock.now)
        return due, self.queue.clear()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def build(**options: Any) -> Desk:
        made.append(Desk(clock, **options))
        # All that there may be are open, so that a limit can be seen to fall.
        for _ in range(OPEN - 1):
            made[-1].pool.begun()
            made[-1].pool.opened(clock.now)
        return made[-1]

    yield build
    for each in made:
        each.close()


@pytest.fixture
def desk(make: Callable[..., Desk]) -> Desk:
    return make()


Make = Callable[..., Desk]


def host(verb: str, answer: str) -> Host:
    """Who says this to these commands, or to the message."""
    answers: dict[str, Any] = {verb: answer}
    return Host(**answers)


# Results


def test_nothing_has_come(desk: Desk) -> None:
    wire = desk.wire(desk.tasks(2))
    wire.collect()
    assert desk.told == []
    assert (len(wire.tasks), desk.in_progress, desk.handler.completed) == (2, 2, 0)
    assert wire.widened == 0


def test_messages_that_are_accepted(desk: Desk) -> None:
    wire = desk.send(Host(message="250 2.0.0 queued"), count=3)
    assert desk.told == [(f"b{number}@y.test", State.ACCEPTED, 250) for number in range(3)]
    first = desk.recorder.deliveries[0]
    assert (first.key, first.attempts, first.host, first.time) == (0, 1, "mx.test:25", TIME)
    assert (first.enhanced, first.fault) == ("2.0.0", None)
    assert (desk.status.accepted, desk.in_progress, desk.handler.completed) == (3, 0, 3)
    assert (wire.statistics.given, wire.statistics.answered, wire.statistics.used) == (3, 3, NOW)
    assert (len(wire.tasks), wire.widened, desk.recorder.open) == (0, 1, 0)


def test_answers_come_one_after_the_other(desk: Desk, clock: Clock) -> None:
    wire = desk.wire(desk.tasks(3))
    host = Host()
    seen = []
    while wire.tasks:
        clock.now += 1
        wire.talk(host, most=1)
        wire.collect()
        seen.append(len(desk.told))
    assert seen == sorted(seen)
    assert set(seen) == {0, 1, 2, 3}
    assert desk.handler.completed == 3


@pytest.mark.parametrize("verb", ["rcpt", "data", "message"])
def test_a_message_that_is_rejected(verb: str, desk: Desk) -> None:
    desk.send(host(verb, "550 5.7.1 no"))
    assert desk.told == [("b0@y.test", State.REJECTED, 550)]
    assert (desk.status.rejected, desk.status.queued, desk.recorder.open) == (1, 0, 0)
    assert desk.queue.is_empty or not desk.again()


def test_each_recipient_has_its_answer(desk: Desk) -> None:
    names = ("b@y.test", "c@y.test", "d@y.test", "e@y.test")
    desk.send(Host(rcpt=["250 ok", "550 no", "450 4.2.0 later", "250 ok"]), *names)
    assert desk.told == [
        ("b@y.test", State.ACCEPTED, 250),
        ("c@y.test", State.REJECTED, 550),
        ("e@y.test", State.ACCEPTED, 250),
    ]
    due, (later,) = desk.later()
    assert (later.recipients, later.attempts, due) == (["d@y.test"], 2, 60.0)
    assert (desk.status.waiting, desk.status.queued) == (1, 0)
    assert (desk.in_progress, desk.handler.completed, desk.recorder.open) == (0, 1, 0)


def test_what_can_not_be_sent(desk: Desk) -> None:
    nul, good = desk.tasks(2)
    nul.mail = nul.mail._replace(msg=b"\0")
    wire = desk.wire([nul, good])
    wire.talk(Host())
    wire.collect()
    assert desk.told == [("b0@y.test", State.REJECTED, None), ("b1@y.test", State.ACCEPTED, 250)]
    assert "NUL" in desk.recorder.deliveries[0].text
    assert wire.statistics.answered == 2


# Refused for now


@pytest.mark.parametrize("verb", ["mail", "rcpt", "data", "message"])
def test_a_message_that_is_deferred_is_sent_later(verb: str, desk: Desk) -> None:
    desk.send(host(verb, "451 4.7.1 later"))
    assert desk.told == []
    assert (desk.status.waiting, desk.status.queued, desk.recorder.open) == (1, 0, 0)
    due, (later,) = desk.later()
    assert (due, later.attempts, later.first, later.cut_offs) == (60.0, 2, TIME, 0)


def test_a_later_try_has_a_longer_wait(desk: Desk, clock: Clock) -> None:
    (task,) = desk.tasks()
    task.attempts = 3
    clock.now += 200
    wire = desk.wire([task])
    wire.talk(Host(rcpt="451 later"))
    wire.collect()
    due, (later,) = desk.later()
    assert (due, later.attempts, later.first) == (240.0, 4, TIME)


def test_the_last_try(desk: Desk, clock: Clock) -> None:
    (task,) = desk.tasks()
    task.attempts = 5
    clock.now += 1000
    wire = desk.wire([task])
    wire.talk(Host(rcpt="451 4.7.1 later"))
    wire.collect()
    assert desk.told == [("b0@y.test", State.REJECTED, 451)]
    assert desk.recorder.deliveries[0].text == "4.7.1 later; given up after 5 attempts"
    assert desk.later() == (float("inf"), [])
    assert (desk.status.waiting, desk.status.rejected) == (0, 1)


# What was not sent


def test_what_was_lost_before_its_end_is_sent_again(desk: Desk) -> None:
    wire = desk.wire(desk.tasks(3))
    wire.talk(Host(), most=30)
    wire.lose()
    wire.collect()
    assert desk.told == []
    tasks = desk.again()
    assert [(each.key, each.attempts, each.cut_offs) for each in tasks] == [
        (0, 1, 1),
        (1, 1, 0),
        (2, 1, 0),
    ]
    assert (desk.status.waiting, desk.status.queued, desk.in_progress) == (0, 3, 0)
    assert desk.recorder.open == 0
    assert wire.statistics.answered == 0


def test_a_lost_connection_is_given_up(desk: Desk) -> None:
    wire = desk.wire(desk.tasks())
    wire.lose()
    wire.collect()
    assert wire not in desk.connections.pooled
    assert not wire.link.is_open
    assert wire.statistics not in desk.pool.open
    assert len(desk.pool.open) == OPEN - 1


def test_what_was_accepted_before_the_loss_is_told(desk: Desk) -> None:
    wire = desk.wire(desk.tasks(2))
    wire.talk(Host(mail=["250 ok", None]))
    wire.collect()
    assert desk.told == [("b0@y.test", State.ACCEPTED, 250)]
    (again,) = desk.again()
    assert (again.key, again.cut_offs) == (1, 1)
    assert desk.handler.completed == 2


def cut_off(desk: Desk, task: Task, host: Host | None = None) -> list[Task]:
    """Let the server close when this is the first message on its way; return what is sent again."""
    wire = desk.wire([task])
    wire.talk(host or Host(mail=None))
    wire.collect()
    tasks = desk.again()
    for each in tasks:
        desk.recorder.open += len(each.recipients)
    return tasks


def test_a_message_that_has_the_server_close_is_sent_later(desk: Desk) -> None:
    (task,) = desk.tasks()
    for number in range(1, 3):
        (task,) = cut_off(desk, task)
        assert task.cut_offs == number
    assert cut_off(desk, task) == []
    assert desk.told == []
    due, (later,) = desk.later()
    assert (due, later.attempts, later.cut_offs) == (60.0, 2, 0)
    assert desk.status.waiting == 1


def test_a_message_that_has_the_server_close_on_the_last_try(make: Make) -> None:
    desk = make(retry=Retry(give_up=0))
    (task,) = desk.tasks()
    for _ in range(2):
        (task,) = cut_off(desk, task)
    assert cut_off(desk, task) == []
    assert desk.told == [("b0@y.test", State.REJECTED, None)]
    assert desk.recorder.deliveries[0].text.endswith("; given up after 1 attempts")


@pytest.mark.parametrize("times", [1, 2, 3])
def test_only_the_first_one_is_to_blame(times: int, desk: Desk) -> None:
    tasks = desk.tasks(2)
    for _ in range(times):
        wire = desk.wire(tasks)
        wire.talk(Host(mail=None))
        wire.collect()
        tasks = desk.again()
        desk.recorder.open += len(tasks)
    (second,) = [each for each in tasks if each.key == 1]
    assert second.cut_offs == 0


def test_421_is_no_answer_to_a_message(desk: Desk) -> None:
    wire = desk.wire(desk.tasks(3))
    wire.talk(Host(mail=["250 ok", "421 4.3.2 bye"]))
    wire.collect()
    assert desk.told == [("b0@y.test", State.ACCEPTED, 250)]
    assert [each.attempts for each in desk.again()] == [1, 1]
    assert wire.statistics.answered == 1
    assert not wire.link.is_open


# In doubt


def test_what_is_in_doubt_is_told(desk: Desk) -> None:
    wire = desk.wire(desk.tasks(2))
    wire.talk(Host(message=None))
    wire.collect()
    assert desk.told == [("b0@y.test", State.IN_DOUBT, None)]
    assert (desk.status.in_doubt, desk.recorder.open) == (1, 0)
    (again,) = desk.again()
    assert again.key == 1


def test_what_is_in_doubt_is_sent_again_where_that_is_wanted(make: Make) -> None:
    desk = make(in_doubt="resend")
    desk.send(Host(message=None))
    assert desk.told == []
    due, (later,) = desk.later()
    assert (due, later.attempts) == (60.0, 2)
    assert desk.status.waiting == 1


def test_what_is_in_doubt_to_the_end_is_so(make: Make) -> None:
    """It is not known to be rejected."""
    desk = make(in_doubt="resend", retry=Retry(give_up=0))
    desk.send(Host(message=None))
    assert desk.told == [("b0@y.test", State.IN_DOUBT, None)]
    assert "given up after 1 attempts" in desk.recorder.deliveries[0].text
    assert (desk.status.in_doubt, desk.status.rejected) == (1, 0)


# Signs that it is too much


@pytest.mark.parametrize("code", [432, 450, 451, 452, 454])
@pytest.mark.parametrize("verb", ["mail", "rcpt", "data", "message"])
def test_a_throttle_is_heeded(code: int, verb: str, desk: Desk) -> None:
    """450 and 451 to RCPT may be about this recipient alone, as greylisting is."""
    desk.send(host(verb, f"{code} later"))
    assert desk.pool.limit == OPEN // 2
    is_paused = not (verb == "rcpt" and code in (450, 451))
    assert desk.pool.resumes_in(NOW) == (FIRST_PAUSE if is_paused else 0.0)


@pytest.mark.parametrize("reply", ["455 no", "550 no", "552 too large", "250 ok"])
def test_other_answers_are_no_signs(reply: str, desk: Desk) -> None:
    desk.send(Host(message=reply))
    assert (desk.pool.limit, desk.pool.resumes_in(NOW)) == (OPEN, 0.0)


def test_many_of_them_are_one_sign(desk: Desk) -> None:
    desk.send(Host(mail="451 4.7.1 slow down"), count=50)
    assert desk.pool.limit == OPEN // 2
    assert desk.pool.resumes_in(NOW) == FIRST_PAUSE
    _, tasks = desk.later()
    assert len(tasks) == 50


def test_what_is_accepted_takes_a_pause_back(desk: Desk, clock: Clock) -> None:
    desk.send(Host(mail="451 4.7.1 slow down"))
    for _ in range(2):
        clock.now += 100
        desk.send(Host())
        desk.send(Host(mail="451 4.7.1 slow down"))
        assert desk.pool.resumes_in(clock.now) == FIRST_PAUSE
    clock.now += 100
    desk.send(Host(mail="451 4.7.1 slow down"))
    assert desk.pool.resumes_in(clock.now) == 2 * FIRST_PAUSE


def test_421_instead_of_any_answer_makes_a_pause(desk: Desk) -> None:
    desk.send(Host(mail="421 4.7.0 too many"))
    assert desk.pool.limit == (OPEN - 1) // 2
    assert desk.pool.resumes_in(NOW) == FIRST_PAUSE


def test_the_number_after_which_the_server_closes_is_learnt(desk: Desk) -> None:
    for _ in range(2):
        wire = desk.wire(desk.tasks(5))
        wire.talk(Host(mail=["250 ok"] * 3 + ["421 4.4.2 enough"]))
        wire.collect()
    assert desk.pool.max_per_connection == 3
    assert desk.pool.resumes_in(NOW) == 0.0


def test_421_to_a_connection_that_was_idle_says_how_long_it_may_be(
    desk: Desk, clock: Clock
) -> None:
    """And neither that it is too much, nor after how many messages."""
    for _ in range(2):
        wire = desk.send(Host(), count=3)
        clock.now += 8.0
        wire.give_all(*desk.tasks(2))
        wire.talk(Host(mail="421 4.4.2 timeout"))
        wire.collect()
    assert desk.pool.idle_seconds == 4.0
    assert desk.pool.max_per_connection == float("inf")
    assert desk.pool.limit == OPEN
    assert desk.pool.resumes_in(clock.now) == 0.0


# A session that is spent


def full(desk: Desk, messages: int, *, after: str = "452 4.5.3 Too many messages sent") -> Wire:
    """A connection that has brought so many messages, where two more have heard that."""
    wire = desk.send(Host(mail=["250 ok"] * messages + [after]), count=messages + 2)
    desk.judge(wire)
    return wire


@pytest.mark.parametrize("reply", ["452 4.5.3 enough", "451 4.7.0 enough", "450 no", "454 no"])
def test_a_spent_session_is_replaced_at_once(reply: str, desk: Desk) -> None:
    """T8: 4yz to MAIL on a connection that has brought messages is about the connection: it is
    replaced, with no fewer connections and no pause, and recipients bear no mark of it."""
    wire = full(desk, 3, after=reply)
    assert wire not in desk.connections.pooled
    assert wire.statistics not in desk.pool.open
    assert (desk.pool.limit, desk.pool.resumes_in(NOW)) == (OPEN, 0.0)
    assert desk.pool.to_open(NOW, 100) == 1
    assert [state for _, state, _ in desk.told] == [State.ACCEPTED] * 3
    assert (desk.status.waiting, desk.status.queued) == (0, 2)
    assert (desk.recorder.open, desk.in_progress) == (0, 0)
    assert desk.queued_again() == [3, 4]


def test_a_spent_session_tells_the_servers_number(desk: Desk) -> None:
    """T8: later connections are replaced before they meet it."""
    full(desk, 3)
    assert desk.pool.max_per_connection == float("inf")
    full(desk, 3)
    assert desk.pool.max_per_connection == 3
    assert desk.pool.learned == ["it takes 3 messages per connection"]
    wire = desk.send(Host(), count=3)
    assert desk.handler.holding.room(wire) == 0
    assert desk.pool.is_spent(wire.statistics, NOW)


def test_a_server_that_counts_what_it_accepts(desk: Desk) -> None:
    """T8: OpenSMTPD does not count messages whose recipients it refuses."""
    for refused in (0, 2, 5):
        count = 4 + refused
        rcpt = ["550 5.1.1 who?"] * refused + ["250 ok"]
        mail = ["250 ok"] * count + ["452 4.5.3 enough"]
        wire = desk.send(Host(rcpt=rcpt, mail=mail), count=count + 2)
        desk.judge(wire)
    wire = desk.send(Host(rcpt=["550 5.1.1 who?", "250 ok"]), count=3)
    assert (wire.statistics.begun, wire.statistics.accepted) == (3, 2)
    assert desk.handler.holding.room(wire) == 2


def test_421_and_452_tell_the_same_number(desk: Desk) -> None:
    full(desk, 3)
    wire = desk.wire(desk.tasks(5))
    wire.talk(Host(mail=["250 ok"] * 3 + ["421 4.7.0 enough"]))
    wire.collect()
    assert desk.pool.max_per_connection == 3
    assert desk.pool.limit == OPEN


def test_a_fresh_connection_that_is_refused_is_throttled(desk: Desk) -> None:
    """And then what the one before has shown was no number."""
    full(desk, 3)
    desk.again()
    desk.send(Host(mail="452 4.3.1 full"), count=2)
    assert (desk.pool.limit, desk.pool.resumes_in(NOW)) == (OPEN // 2, FIRST_PAUSE)
    _, tasks = desk.later()
    assert [each.attempts for each in tasks] == [2, 2]
    full(desk, 3)
    assert desk.pool.max_per_connection == float("inf")


def test_a_message_that_is_deferred_for_itself(desk: Desk) -> None:
    """Another one passes behind it."""
    wire = desk.send(Host(mail=["250 ok", "452 4.3.4 too large for now", "250 ok"]), count=3)
    assert [(name, state) for name, state, _ in desk.told] == [
        ("b0@y.test", State.ACCEPTED),
        ("b2@y.test", State.ACCEPTED),
    ]
    assert wire.held == []
    assert (wire.statistics.given, wire.statistics.answered) == (3, 3)
    _, (later,) = desk.later()
    assert (later.key, later.attempts) == (1, 2)
    assert (desk.status.waiting, desk.status.queued, desk.recorder.open) == (1, 0, 0)


def test_the_next_message_shows_what_a_refusal_is_about(desk: Desk) -> None:
    """Only that one is sent until it has shown."""
    wire = desk.send(Host(mail=["250 ok", "452 4.3.4 later"]), count=2)
    holding = desk.handler.holding
    waiting = desk.tasks(1)
    desk.judge(wire)
    assert len(wire.held) == 1
    assert holding.room(wire) == 1
    wire.give_all(*waiting)
    assert holding.room(wire) == 0
    wire.talk(Host(mail="452 4.3.4 later"))
    wire.collect()
    assert holding.room(wire) == 0
    desk.judge(wire)
    assert wire not in desk.connections.pooled


def test_a_spent_session_that_was_idle(desk: Desk, clock: Clock) -> None:
    """It was not for the number of messages."""
    for _ in range(2):
        wire = desk.send(Host(), count=3)
        clock.now += 8.0
        desk.send_more(wire, Host(mail="451 4.4.2 timeout"), count=2)
        desk.judge(wire)
        assert wire not in desk.connections.pooled
    assert (desk.pool.idle_seconds, desk.pool.max_per_connection) == (4.0, float("inf"))


def test_a_spent_session_that_is_lost(desk: Desk) -> None:
    wire = desk.send(Host(mail=["250 ok", "452 4.5.3 enough"]), count=2)
    desk.send_more(wire, Host(mail=None))
    assert wire not in desk.connections.pooled
    assert sorted(map(str, desk.queued_again())) == ["0", "1"]
    assert desk.pool.resumes_in(NOW) == 0.0


# Refusals that every message would meet


@pytest.mark.parametrize("verb", ["mail", "rcpt"])
@pytest.mark.parametrize("count", [1, 20])
def test_a_login_that_was_forgotten(count: int, verb: str, desk: Desk) -> None:
    """T10: it is no verdict on recipients, and none is rejected."""
    wire = desk.send(host(verb, "530 5.7.0 Authentication required"), count=count)
    refused = desk.handler.refused
    assert refused is not None
    assert (refused.needs_login, refused.smtp_code) == (True, 530)
    assert desk.told == []
    assert (desk.status.rejected, desk.status.queued) == (0, count)
    assert (desk.recorder.open, wire.statistics.begun) == (0, 0)
    desk.give_back(str(refused))
    assert [state for _, state, _ in desk.told] == [State.DEFERRED] * count
    assert {each.attempts for each in desk.recorder.deliveries} == {0}
    assert wire.held == []


@pytest.mark.parametrize(
    "reply", ["503 5.5.1 EHLO first", "521 no mail here", "554 5.3.2 not now", "500 what?"]
)
def test_a_session_without_mail(reply: str, desk: Desk) -> None:
    """T10's kind: no message can be to blame for that."""
    desk.send(Host(mail=reply))
    assert desk.handler.refused is not None
    assert not desk.handler.refused.needs_login
    assert desk.told == []


def test_a_login_that_has_run_out(desk: Desk) -> None:
    """Another connection logs in again."""
    wire = desk.send(Host(mail=["250 ok", "530 5.7.57 who are you?"]), count=3)
    assert desk.handler.refused is None
    desk.judge(wire)
    assert desk.queued_again() == [1, 2]
    assert wire not in desk.connections.pooled


@pytest.mark.parametrize("reply", ["550 5.7.1 not you", "554 no", "553 5.1.8 unknown domain"])
def test_refused_messages_of_one_sender(reply: str, desk: Desk) -> None:
    """T10: nothing has shown that others would pass, be it ten or one."""
    wire = desk.send(Host(mail=reply), count=9)
    waiting = desk.tasks(1)
    desk.judge(wire)
    assert desk.handler.refused is None
    wire.give_all(*waiting)
    wire.talk(Host(mail=reply))
    wire.collect()
    desk.judge(wire)
    assert desk.handler.refused is not None
    assert desk.told == []
    assert desk.status.rejected == desk.recorder.open == 0


def test_the_only_message_is_refused(desk: Desk, clock: Clock) -> None:
    wire = desk.send(Host(mail="550 5.7.1 not you"))
    # The next one may come soon, and pass.
    desk.queue.has_more = True
    desk.judge(wire)
    assert desk.handler.refused is None
    clock.now += 2
    desk.judge(wire)
    assert desk.handler.refused is not None
    assert (desk.told, desk.status.rejected) == ([], 0)


def test_nothing_is_waited_for_at_the_end(desk: Desk) -> None:
    wire = desk.send(Host(mail="550 5.7.1 not you"))
    desk.judge(wire)
    assert desk.handler.refused is not None


@pytest.mark.parametrize("before", [0, 1])
def test_a_message_passes_behind_a_refused_one(before: int, desk: Desk) -> None:
    """So it was refused for itself, or for its sender."""
    mail = ["250 ok"] * before + ["550 5.7.1 not you"] * 3 + ["250 ok"]
    wire = desk.send(Host(mail=mail), count=before + 4)
    assert desk.handler.refused is None
    assert Counter(state for _, state, _ in desk.told) == {
        State.ACCEPTED: before + 1,
        State.REJECTED: 3,
    }
    assert (desk.status.rejected, desk.status.queued, desk.recorder.open) == (3, 0, 0)
    assert (wire.statistics.given, wire.statistics.answered, wire.statistics.begun) == (
        before + 4,
    ) * 2 + (before + 1,)


def refuse_ten(desk: Desk, *, sender: str) -> Wire:
    wire = desk.send(Host(mail="550 5.7.1 no"), count=10, sender=sender)
    desk.judge(wire)
    return wire


def test_a_sender_whose_messages_are_refused_while_others_pass(desk: Desk) -> None:
    desk.send(Host())
    wire = refuse_ten(desk, sender="z@bad.test")
    assert desk.handler.refused is None
    assert desk.status.rejected == 10
    # From now on it is known.
    desk.send_more(wire, Host(mail="550 5.7.1 no"), sender="y@bad.test")
    assert (desk.status.rejected, wire.held) == (11, [])


def test_senders_of_their_own_that_are_refused_from_some_message_on(desk: Desk) -> None:
    """T10 with VERP: as when a quota of the account is used up."""
    for number in range(3):
        desk.send(Host(), sender=f"news+{number}@x.test")
    refuse_ten(desk, sender="news+4@x.test")
    assert desk.handler.refused is not None
    assert desk.status.rejected == 0


@pytest.fixture
def searching(desk: Desk) -> tuple[Desk, Wire]:
    """A desk that looks for messages of others than z@x.test, and the connection that refused
    these."""
    desk.queue.has_more = True
    wire = refuse_ten(desk, sender="z@x.test")
    assert desk.handler.holding.is_searching
    assert desk.handler.refused is None
    assert (desk.told, wire.held) == ([], [])
    return desk, wire


def test_a_message_of_another_sender_shows_whom_refusals_are_about(
    searching: tuple[Desk, Wire],
) -> None:
    """T10: a sender's messages that are refused are no reason not to send those of others."""
    desk, wire = searching
    desk.tasks(2, sender="z@x.test")
    desk.handler.take_back_aside(desk.clock.time())
    desk.queue.record(math.inf)
    assert (len(desk.recorder.recorded), desk.recorder.open, desk.queue.is_empty) == (0, 0, False)
    desk.send(Host(), sender="a@x.test")
    assert not desk.handler.holding.is_searching
    assert (desk.status.accepted, desk.status.rejected) == (1, 10)
    desk.queue.record(math.inf)
    assert len(desk.recorder.recorded) == 2
    # From now on it is known.
    desk.send_more(wire, Host(mail="550 5.7.1 no"), sender="z@x.test")
    assert (desk.status.rejected, wire.held) == (11, [])


def test_what_other_connections_hold_of_the_same_sender_waits_too(
    searching: tuple[Desk, Wire],
) -> None:
    desk, _ = searching
    other = desk.send(Host(mail="550 5.7.1 no"), count=3, sender="z@x.test")
    third = desk.send(Host(mail="550 5.7.1 no"), count=2, sender="y@x.test")
    assert (len(other.held), len(third.held)) == (0, 2)
    desk.send(Host(), sender="a@x.test")
    assert desk.status.rejected == 13
    assert len(third.held) == 2


def test_a_sender_that_passed_before_is_not_blamed_for_good(desk: Desk) -> None:
    desk.queue.has_more = True
    desk.send(Host(), sender="z@x.test")
    wire = refuse_ten(desk, sender="z@x.test")
    desk.send(Host(), sender="a@x.test")
    assert (desk.status.accepted, desk.status.rejected) == (2, 10)
    desk.send_more(wire, Host(mail="550 5.7.1 no"), sender="z@x.test")
    assert (desk.status.rejected, len(wire.held)) == (10, 1)


def test_the_sender_itself_passes(searching: tuple[Desk, Wire]) -> None:
    """Nobody knows what the refusals were about; they are tried again."""
    desk, _ = searching
    desk.send(Host(), sender="z@x.test")
    assert (desk.status.accepted, desk.status.rejected) == (1, 0)
    assert desk.queued_again() == list(range(10))


def test_other_senders_are_refused_too(searching: tuple[Desk, Wire]) -> None:
    desk, wire = searching
    for number in range(8):
        desk.send_more(wire, Host(mail="550 5.7.1 no"), count=10, sender=f"y{number}@x.test")
        desk.judge(wire)
        assert desk.handler.refused is None
    desk.send_more(wire, Host(mail="550 5.7.1 no"), count=10, sender="y8@x.test")
    desk.judge(wire)
    assert desk.handler.refused is not None
    assert (desk.told, desk.status.rejected) == ([], 0)
    desk.give_back("refused")
    assert [state for _, state, _ in desk.told] == [State.DEFERRED] * 100


@pytest.mark.parametrize("way", ["time", "end"])
def test_no_message_of_another_sender_comes(
    way: str, searching: tuple[Desk, Wire], clock: Clock
) -> None:
    desk, _ = searching
    if way == "time":
        clock.now += 6
    else:
        desk.queue.has_more = False
    desk.handler.holding.conclude(clock.now)
    assert desk.handler.refused is not None
    assert (desk.told, desk.status.rejected) == ([], 0)


def test_a_refusal_on_a_used_connection_is_tried_on_a_fresh_one(desk: Desk) -> None:
    """Some servers tell a number of messages by 5yz."""
    wire = full(desk, 3, after="554 5.7.0 too many messages in this session")
    assert len(wire.held) == 0
    assert desk.handler.refused is None
    assert desk.queued_again() == [3, 4]
    assert wire not in desk.connections.pooled


def test_a_server_that_refuses_and_closes(desk: Desk) -> None:
    """T10's kind: it would be tried for ever."""
    wire = desk.wire(desk.tasks(2))
    wire.talk(Host(mail=["554 5.7.1 go away", None]))
    wire.collect()
    assert desk.handler.refused is not None
    assert desk.status.rejected == 0
    desk.give_back("refused")
    assert [state for _, state, _ in desk.told] == [State.DEFERRED] * 2


@pytest.mark.parametrize("reply", ["552 5.3.4 too large", "552 too large", "550 5.6.1 what is it"])
def test_a_message_that_is_refused_for_itself(reply: str, desk: Desk) -> None:
    desk.send(Host(mail=reply))
    assert desk.told == [("b0@y.test", State.REJECTED, int(reply[:3]))]
    assert desk.handler.refused is None


@pytest.mark.parametrize("reply", ["550 5.7.1 not you", "530 5.7.0 Authentication required"])
def test_it_is_no_failure_of_a_recipient(reply: str, make: Make) -> None:
    """Who sets a limit is not to lose as many recipients as that."""
    desk = make(max_failed=15)
    desk.judge(desk.send(Host(mail=reply), count=20))
    assert desk.handler.refused is not None
    assert desk.status.rejected == 0


def test_recipients_of_one_message_in_two_transactions(desk: Desk) -> None:
    """The second MAIL is refused: the recipients of the first one have their results."""
    names = [f"b{number}@y.test" for number in range(4)]
    wire = desk.wire()
    wire.give_all(*desk.tasks(1, *names))
    host = Host(
        rcpt=["250 ok", "250 ok", "452 4.5.3 too many", "452 4.5.3 too many", "250 ok"],
        mail=["250 ok", "452 4.5.3 Too many messages sent"],
    )
    wire.talk(host)
    wire.collect()
    wire.talk(host)
    wire.collect()
    assert [name for name, _, _ in desk.told] == names[:2]
    assert (wire.statistics.given, wire.statistics.answered) == (1, 1)
    desk.judge(wire)
    (again,) = desk.again()
    assert (again.recipients, again.attempts) == (names[2:], 1)


# The first results of a run


def test_the_first_results_are_all_the_same_refusal(desk: Desk) -> None:
    """T10's kind: relaying is denied to each recipient."""
    for _ in range(49):
        desk.send(Host(rcpt="554 5.7.1 Relay access denied"))
    assert desk.handler.refused is None
    desk.send(Host(rcpt="554 5.7.1 Relay access denied"))
    assert desk.handler.refused is not None
    assert desk.handler.refused.rejected == desk.status.rejected == 50


def test_they_are_not_where_one_was_accepted(desk: Desk) -> None:
    desk.send(Host())
    for _ in range(60):
        desk.send(Host(rcpt="550 5.1.1 who?"))
    assert desk.handler.refused is None


def test_who_says_how_many_may_fail_has_the_run_go_on(make: Make) -> None:
    desk = make(max_failed=1000)
    for _ in range(60):
        desk.send(Host(rcpt="550 5.1.1 who?"))
    assert desk.handler.refused is None


# Too many failures


def test_so_many_failures_end_a_run(make: Make) -> None:
    desk = make(max_failed=3)
    desk.send(Host(rcpt="550 no"), count=2)
    assert desk.stop.reason is None
    desk.send(Host(rcpt="550 no"), count=2)
    assert desk.stop.reason == "3 recipients were rejected"


def test_a_share_of_failures_ends_a_run_when_there_are_enough(make: Make) -> None:
    desk = make(max_failed=0.1)
    desk.send(Host(rcpt="550 no"), count=9)
    desk.send(Host(), count=90)
    assert desk.stop.reason is None
    desk.send(Host(rcpt="550 no"))
    assert desk.stop.reason == "10 recipients were rejected"


def test_less_than_the_share_does_not(make: Make) -> None:
    desk = make(max_failed=0.1)
    desk.send(Host(), count=91)
    desk.send(Host(rcpt="550 no"), count=9)
    desk.send(Host(rcpt="451 later"), count=50)
    assert desk.stop.reason is None


# What is given back


def test_what_is_given_back(desk: Desk) -> None:
    recorded = desk.tasks(2)
    waiting = Task("w", recorded[0].mail, ["w@y.test"], TIME)
    waiting.attempts = 2
    waiting.refusals = [Reply(451, b"4.7.1 greylisted")]
    desk.queue.schedule(waiting, NOW, 60.0)
    desk.queue.requeue(Task("r", recorded[0].mail, ["r@y.test"], TIME))
    desk.give_back("enough")
    assert sorted(desk.told) == [
        *((f"{name}@y.test", State.DEFERRED, None) for name in ("b0", "b1", "r")),
        ("w@y.test", State.DEFERRED, 451),
    ]
    # T23: who was tried has the reply, and who was not has no attempt.
    told = {each.recipient[0]: (each.attempts, each.text) for each in desk.recorder.deliveries}
    assert told == {
        "b": (0, "enough"),
        "r": (0, "enough"),
        "w": (1, "4.7.1 greylisted; enough"),
    }
    assert not desk.recorder.recorded
    assert desk.recorder.open == 0
    desk.give_back("enough")
    assert len(desk.told) == 4


def test_what_is_in_the_journal_of_it_all(clock: Clock, tmp_path: Path) -> None:
    names = ("b@y.test", "c@y.test", "d@y.test")
    path = tmp_path / "j"
    with Journal(path) as journal:
        recorder = JournalRecorder(journal, lambda: None)
        desk = Desk(clock, recorder)

        def recorded(count: int, *recipients: str) -> list[Task]:
            tasks = desk.tasks(count, *recipients)
            recorder.flush()
            assert list(recorder.recorded) == tasks
            recorder.recorded.clear()
            return tasks

        wire = desk.wire(recorded(1, *names))
        wire.talk(Host(rcpt=["250 ok", "550 5.1.1 no", "450 4.2.0 later"]))
        wire.collect()
        wire = desk.wire(recorded(1, "e@y.test"))
        wire.lose()
        wire.collect()
        wire = desk.wire(recorded(1, "f@y.test"))
        wire.talk(Host(message=None))
        wire.collect()
        recorded_at_the_end = desk.tasks(1, "g@y.test")
        desk.give_back("enough")
        assert recorded_at_the_end[0].ids is not None
        recorder.close()
        told: dict[str, Delivery] = {each.recipient: each for each in recorder.deliveries}
        desk.close()
    with JournalView(path) as view:
        rows = {each.address: (each.state, each.code, each.due) for each in view.rows()}
    assert rows == {
        "b@y.test": ("accepted", 250, None),
        "c@y.test": ("rejected", 550, None),
        "d@y.test": ("deferred", 450, TIME + 60),
        "e@y.test": ("queued", None, None),
        "f@y.test": ("in doubt", None, None),
        "g@y.test": ("queued", None, None),
    }
    assert {name: each.state for name, each in told.items()} == {
        "b@y.test": State.ACCEPTED,
        "c@y.test": State.REJECTED,
        "d@y.test": State.DEFERRED,
        "e@y.test": State.DEFERRED,
        "f@y.test": State.IN_DOUBT,
        "g@y.test": State.DEFERRED,
    }
