"""bulk/answers.py: which answers are results, which are other tries, and which are signs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from csmtplib import kernel
from csmtplib.bulk.answers import Answers
from csmtplib.bulk.delivery import Delivery, Job
from csmtplib.bulk.fleet import Lane
from csmtplib.bulk.intake import Intake
from csmtplib.bulk.journal import Journal
from csmtplib.bulk.journal_view import JournalView
from csmtplib.bulk.ledger import Ledger, Recorded, Unrecorded
from csmtplib.bulk.pool import FIRST_PAUSE
from csmtplib.bulk.retry import Retry
from csmtplib.bulk.sender import BulkSender
from csmtplib.bulk.task import Task
from csmtplib.kernel.transaction import Gear, Want
from csmtplib.protocol.features import Features
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import State
from csmtplib.protocol.submission import Submission

from ..protocol.serving import Host

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
    """What is left of a connection without a socket."""

    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class Wire:
    """A lane over no socket: its messages are answered by a host in this process."""

    def __init__(self, desk: Desk) -> None:
        sender = desk.sender
        sender.pool.begun()
        self.slot = sender.pool.opened(desk.clock.now)
        self.connection = Link()
        self.tasks: deque[Task] = deque()
        self.gear = Gear.PIPELINED
        self.widened = 0
        self._replies = kernel.ReplyBuffer(8192, 65536)
        self.submission = Submission(
            self._replies, Features(), self.gear, lmtp=False, proved=True, max_in_flight=100
        )
        self.pipeline = self.submission.pipeline
        self._desk = desk
        sender.fleet.lanes.append(cast("Lane", self))

    def widen(self) -> None:
        self.widened += 1

    def give(self, *tasks: Task) -> None:
        for task in tasks:
            self.tasks.append(task)
            self.slot.give(self._desk.clock.now)
            self._desk.answers.under_way += len(task.recipients)
            self.submission.add(task.to_send())

    def talk(self, host: Host, *, octets: int = 1 << 20) -> None:
        """Has the host answer to all, or so many octets of it; it hangs up where it wants to."""
        pipeline = self.pipeline
        while octets > 0 and pipeline.failure is None and pipeline.want() & Want.WRITE:
            written = pipeline.pull(octets)
            octets -= len(written)
            pipeline.wrote(len(written))
            self._replies.feed(host.take(bytes(written)))
            pipeline.receive()
            if host.hung_up and pipeline.failure is None:
                pipeline.end_of_stream()

    def lose(self) -> None:
        self.pipeline.lose(ConnectionResetError("reset"))

    def collect(self) -> None:
        self._desk.answers.collect(cast("Lane", self))


class Desk:
    """Answers, between wires and the real ledger and intake."""

    def __init__(self, clock: Clock, ledger: Ledger | None = None, **options: Any) -> None:
        self.clock = clock
        options.setdefault("retry", RETRY)
        self.sender = BulkSender("smtp://mx.test:25", connections=OPEN, **options)
        self.ledger = Unrecorded() if ledger is None else ledger
        self.intake = Intake(self.sender, self.ledger, ())
        self.answers = Answers(self.sender, self.ledger, self.intake)

    @property
    def pool(self) -> Any:
        return self.sender.pool

    @property
    def status(self) -> Any:
        return self.sender.status

    @property
    def told(self) -> list[tuple[str, State, int | None]]:
        return [(each.recipient, each.state, each.code) for each in self.ledger.told]

    def tasks(self, count: int = 1, *recipients: str) -> list[Task]:
        """Tasks that are armed."""
        made = []
        for number in range(count):
            names = list(recipients or (f"b{number}@y.test",))
            task = Task(
                Job(number, MailObject("a@x.test", names, b"text\r\n")),
                names,
                now=self.clock.time(),
            )
            self.status.taken += len(names)
            self.ledger.arm(task)
            made.append(task)
        return made

    def wire(self, tasks: Iterable[Task] = ()) -> Wire:
        wire = Wire(self)
        wire.give(*tasks)
        return wire

    def send(self, host: Host, *recipients: str, count: int = 1) -> Wire:
        """Messages over a connection, up to the answers."""
        wire = self.wire(self.tasks(count, *recipients))
        wire.talk(host)
        wire.collect()
        return wire

    def again(self) -> list[Task]:
        """What is to be sent at once."""
        tasks = self.intake.clear() if self.intake.waiting > len(self.ledger.armed) else []
        assert all(each.recipients for each in tasks)
        return tasks

    def later(self) -> tuple[float, list[Task]]:
        """What is to be sent later, and in how many seconds."""
        due = self.intake.due_in(self.clock.now)
        return due, self.intake.clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("csmtplib.bulk.answers.time", made)
    monkeypatch.setattr("csmtplib.bulk.intake.time", made)
    return made


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
        each.sender.fleet.lanes.clear()
        each.sender.close()


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
    assert (len(wire.tasks), desk.answers.under_way, desk.answers.settled) == (2, 2, 0)
    assert wire.widened == 0


def test_messages_that_are_accepted(desk: Desk) -> None:
    wire = desk.send(Host(message="250 2.0.0 queued"), count=3)
    assert desk.told == [(f"b{number}@y.test", State.ACCEPTED, 250) for number in range(3)]
    first = desk.ledger.told[0]
    assert (first.key, first.attempts, first.host, first.time) == (0, 1, "mx.test:25", TIME)
    assert (first.enhanced, first.fault) == ("2.0.0", None)
    assert (desk.status.accepted, desk.answers.under_way, desk.answers.settled) == (3, 0, 3)
    assert (wire.slot.given, wire.slot.answered, wire.slot.used) == (3, 3, NOW)
    assert (len(wire.tasks), wire.widened, desk.ledger.open) == (0, 1, 0)


def test_answers_come_one_after_the_other(desk: Desk, clock: Clock) -> None:
    wire = desk.wire(desk.tasks(3))
    host = Host()
    seen = []
    while wire.tasks:
        clock.now += 1
        wire.talk(host, octets=1)
        wire.collect()
        seen.append(len(desk.told))
    assert seen == sorted(seen)
    assert set(seen) == {0, 1, 2, 3}
    assert desk.answers.settled == 3


@pytest.mark.parametrize("verb", ["mail", "rcpt", "data", "message"])
def test_a_message_that_is_rejected(verb: str, desk: Desk) -> None:
    desk.send(host(verb, "550 5.7.1 no"))
    assert desk.told == [("b0@y.test", State.REJECTED, 550)]
    assert (desk.status.rejected, desk.status.queued, desk.ledger.open) == (1, 0, 0)
    assert desk.intake.is_empty or not desk.again()


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
    assert (desk.answers.under_way, desk.answers.settled, desk.ledger.open) == (0, 1, 0)


def test_what_can_not_be_sent(desk: Desk) -> None:
    nul, good = desk.tasks(2)
    nul.mail = nul.mail._replace(msg=b"\0")
    wire = desk.wire([nul, good])
    wire.talk(Host())
    wire.collect()
    assert desk.told == [("b0@y.test", State.REJECTED, None), ("b1@y.test", State.ACCEPTED, 250)]
    assert "NUL" in desk.ledger.told[0].text
    assert wire.slot.answered == 2


# Refused for now


@pytest.mark.parametrize("verb", ["mail", "rcpt", "data", "message"])
def test_a_message_that_is_deferred_is_sent_later(verb: str, desk: Desk) -> None:
    desk.send(host(verb, "451 4.7.1 later"))
    assert desk.told == []
    assert (desk.status.waiting, desk.status.queued, desk.ledger.open) == (1, 0, 0)
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
    assert desk.ledger.told[0].text == "4.7.1 later; given up after 5 attempts"
    assert desk.later() == (float("inf"), [])
    assert (desk.status.waiting, desk.status.rejected) == (0, 1)


# What was not sent


def test_what_was_lost_before_its_end_is_sent_again(desk: Desk) -> None:
    wire = desk.wire(desk.tasks(3))
    wire.talk(Host(), octets=30)
    wire.lose()
    wire.collect()
    assert desk.told == []
    tasks = desk.again()
    assert [(each.key, each.attempts, each.cut_offs) for each in tasks] == [
        (0, 1, 1),
        (1, 1, 0),
        (2, 1, 0),
    ]
    assert (desk.status.waiting, desk.status.queued, desk.answers.under_way) == (0, 3, 0)
    assert desk.ledger.open == 0
    assert wire.slot.answered == 0


def test_a_lost_connection_is_given_up(desk: Desk) -> None:
    wire = desk.wire(desk.tasks())
    wire.lose()
    wire.collect()
    assert cast("Lane", wire) not in desk.sender.fleet.lanes
    assert not wire.connection.is_open
    assert wire.slot not in desk.pool.slots
    assert len(desk.pool.slots) == OPEN - 1


def test_what_was_accepted_before_the_loss_is_told(desk: Desk) -> None:
    wire = desk.wire(desk.tasks(2))
    wire.talk(Host(mail=["250 ok", None]))
    wire.collect()
    assert desk.told == [("b0@y.test", State.ACCEPTED, 250)]
    (again,) = desk.again()
    assert (again.key, again.cut_offs) == (1, 1)
    assert desk.answers.settled == 2


def cut_off(desk: Desk, task: Task, host: Host | None = None) -> list[Task]:
    """Has the server close when this is the first message on its way; what is sent again."""
    wire = desk.wire([task])
    wire.talk(host or Host(mail=None))
    wire.collect()
    tasks = desk.again()
    for each in tasks:
        desk.ledger.open += len(each.recipients)
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
    assert desk.ledger.told[0].text.endswith("; given up after 1 attempts")


@pytest.mark.parametrize("times", [1, 2, 3])
def test_only_the_first_one_is_to_blame(times: int, desk: Desk) -> None:
    tasks = desk.tasks(2)
    for _ in range(times):
        wire = desk.wire(tasks)
        wire.talk(Host(mail=None))
        wire.collect()
        tasks = desk.again()
        desk.ledger.open += len(tasks)
    (second,) = [each for each in tasks if each.key == 1]
    assert second.cut_offs == 0


def test_421_is_no_answer_to_a_message(desk: Desk) -> None:
    wire = desk.wire(desk.tasks(3))
    wire.talk(Host(mail=["250 ok", "421 4.3.2 bye"]))
    wire.collect()
    assert desk.told == [("b0@y.test", State.ACCEPTED, 250)]
    assert [each.attempts for each in desk.again()] == [1, 1]
    assert wire.slot.answered == 1
    assert not wire.connection.is_open


# In doubt


def test_what_is_in_doubt_is_told(desk: Desk) -> None:
    wire = desk.wire(desk.tasks(2))
    wire.talk(Host(message=None))
    wire.collect()
    assert desk.told == [("b0@y.test", State.IN_DOUBT, None)]
    assert (desk.status.in_doubt, desk.ledger.open) == (1, 0)
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
    assert "given up after 1 attempts" in desk.ledger.told[0].text
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
        wire.give(*desk.tasks(2))
        wire.talk(Host(mail="421 4.4.2 timeout"))
        wire.collect()
    assert desk.pool.idle_seconds == 4.0
    assert desk.pool.max_per_connection == float("inf")
    assert desk.pool.limit == OPEN
    assert desk.pool.resumes_in(clock.now) == 0.0


# Too many failures


def test_so_many_failures_end_a_run(make: Make) -> None:
    desk = make(max_failed=3)
    desk.send(Host(rcpt="550 no"), count=2)
    assert desk.sender.stopping is None
    desk.send(Host(rcpt="550 no"), count=2)
    assert desk.sender.stopping == "3 recipients were rejected"


def test_a_share_of_failures_ends_a_run_when_there_are_enough(make: Make) -> None:
    desk = make(max_failed=0.1)
    desk.send(Host(rcpt="550 no"), count=9)
    desk.send(Host(), count=90)
    assert desk.sender.stopping is None
    desk.send(Host(rcpt="550 no"))
    assert desk.sender.stopping == "10 recipients were rejected"


def test_less_than_the_share_does_not(make: Make) -> None:
    desk = make(max_failed=0.1)
    desk.send(Host(), count=91)
    desk.send(Host(rcpt="550 no"), count=9)
    desk.send(Host(rcpt="451 later"), count=50)
    assert desk.sender.stopping is None


# What is given back


def test_what_is_given_back(desk: Desk) -> None:
    armed = desk.tasks(2)
    waiting = Task(Job("w", armed[0].mail), ["w@y.test"], now=TIME)
    waiting.attempts = 2
    desk.intake.schedule(waiting, NOW, 60.0)
    desk.intake.again(Task(Job("r", armed[0].mail), ["r@y.test"], now=TIME))
    desk.answers.give_back("enough")
    assert sorted(desk.told) == [
        (f"{name}@y.test", State.DEFERRED, None) for name in ("b0", "b1", "r", "w")
    ]
    assert {each.text for each in desk.ledger.told} == {"enough"}
    assert {each.recipient: each.attempts for each in desk.ledger.told}["w@y.test"] == 2
    assert not desk.ledger.armed
    assert desk.ledger.open == 0
    desk.answers.give_back("enough")
    assert len(desk.told) == 4


def test_what_is_in_the_journal_of_it_all(clock: Clock, tmp_path: Path) -> None:
    names = ("b@y.test", "c@y.test", "d@y.test")
    path = tmp_path / "j"
    with Journal(path) as journal:
        ledger = Recorded(journal, lambda: None)
        desk = Desk(clock, ledger)

        def armed(count: int, *recipients: str) -> list[Task]:
            tasks = desk.tasks(count, *recipients)
            ledger.flush()
            assert list(ledger.armed) == tasks
            ledger.armed.clear()
            return tasks

        wire = desk.wire(armed(1, *names))
        wire.talk(Host(rcpt=["250 ok", "550 5.1.1 no", "450 4.2.0 later"]))
        wire.collect()
        wire = desk.wire(armed(1, "e@y.test"))
        wire.lose()
        wire.collect()
        wire = desk.wire(armed(1, "f@y.test"))
        wire.talk(Host(message=None))
        wire.collect()
        armed_at_the_end = desk.tasks(1, "g@y.test")
        desk.answers.give_back("enough")
        assert armed_at_the_end[0].ids is not None
        ledger.close()
        told: dict[str, Delivery] = {each.recipient: each for each in ledger.told}
        desk.sender.fleet.lanes.clear()
        desk.sender.close()
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
