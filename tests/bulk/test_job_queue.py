"""bulk/job_queue.py: what is taken from the caller and when, what a former run has left, and when a
message may leave."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from csmtplib.bulk.delivery import Job
from csmtplib.bulk.driver import take_jobs
from csmtplib.bulk.job_queue import JobQueue
from csmtplib.bulk.journal import Journal
from csmtplib.bulk.pool import Pool
from csmtplib.bulk.recorder import JournalRecorder, NullRecorder, Recorder
from csmtplib.bulk.settings import Settings
from csmtplib.bulk.status import Rejections, Status
from csmtplib.bulk.task import Task
from csmtplib.bulk.throttle import Rate, Throttle
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import State
from csmtplib.protocol.server_url import Server

TIME = 1_764_000_000.0
LONG = 1_000_000


class Clock:
    """Both clocks, which stand still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return TIME + self.now - 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("csmtplib.bulk.driver.time", made)
    return made


def job(number: int, *recipients: str) -> Job:
    to_addrs = recipients or (f"b{number}@y.test",)
    return Job(number, MailObject("a@x.test", to_addrs, b"x"))


def task(of: Job, recipients: list[str]) -> Task:
    return Task(of.key, of.mail, recipients, TIME)


class Source:
    """Jobs, and how many were asked for."""

    def __init__(self, clock: Clock, *, seconds: float = 0.0, count: int = LONG) -> None:
        self.taken = 0
        self._clock = clock
        self.seconds = seconds
        self._count = count

    def __iter__(self) -> Iterator[Job]:
        for number in range(self._count):
            self.taken += 1
            self._clock.now += self.seconds
            yield job(number)


class Asked:
    """A Source as an intake sees it, by a clock that stands still."""

    def __init__(self, clock: Clock, jobs: Iterable[object]) -> None:
        self.is_slow = False
        self.at = clock.now
        self._clock = clock
        self._jobs = iter(jobs)

    def take(self) -> object:
        before = self._clock.now
        try:
            return next(self._jobs)
        finally:
            self.at = self._clock.now
            self.is_slow = self.at - before > 0.001

    def close(self) -> None:
        pass


class Stand:
    """A queue between a source and a recorder whose recorded messages are sent when the test says
    so."""

    def __init__(
        self,
        clock: Clock,
        jobs: Iterable[object],
        *,
        recorder: Recorder | None = None,
        **options: Any,
    ) -> None:
        self.clock = clock
        self.settings = Settings(server=Server("127.0.0.1", 1), **options)
        self.status = Status()
        self.pool = Pool(10, max_per_connection=None, max_connection_seconds=None, idle_seconds=30)
        self.recorder = NullRecorder() if recorder is None else recorder
        self.asked: Any = Asked(clock, jobs)
        self.queue = JobQueue(
            self.settings,
            self.status,
            Rejections(self.status, None, lambda _: None),
            Throttle(self.settings.rate, self.settings.domain_rates),
            self.recorder,
            now=clock.now,
        )
        self.left = 0

    def take(self, connections: int = 1, *, after: float = 0.0, places: float = math.inf) -> None:
        clock, queue = self.clock, self.queue
        clock.now += after
        is_paused = self.pool.resumes_in(clock.now) > 0
        queue.prepare(clock.now, clock.time(), self.left, connections, is_paused=is_paused)
        queue.record(places)
        take_jobs(self.asked, queue, queue.wanted(), clock.time())
        queue.record(places)

    def send(self, count: int = LONG) -> list[Task]:
        """Lets recorded messages leave, and be completed."""
        sent: list[Task] = []
        while self.recorder.recorded and len(sent) < count:
            sent.append(self.recorder.recorded.popleft())
            self.recorder.open -= len(sent[-1].recipients)
        self.left += len(sent)
        return sent

    def due_in(self) -> float:
        return self.queue.due_in(self.clock.now)


@pytest.fixture
def stand(clock: Clock) -> Callable[..., Stand]:
    def make(jobs: Iterable[object] = (), **options: Any) -> Stand:
        return Stand(clock, jobs, **options)

    return make


Make = Callable[..., Stand]


def keys(tasks: Iterable[Task]) -> list[object]:
    return [each.key for each in tasks]


# What is set aside


def mail(number: int, sender: str) -> Job:
    return Job(number, MailObject(sender, f"b{number}@y.test", b"x"))


def test_messages_of_some_senders_are_set_aside(stand: Make) -> None:
    """Others overtake them, and they come back before others that wait."""
    by = ["a", "b", "a", "c", "b", "d"]
    each = stand(mail(number, f"{sender}@x.test") for number, sender in enumerate(by))
    each.queue.set_aside({"a@x.test"})
    each.queue.set_aside({"b@x.test"})
    assert each.queue.is_aside("a@x.test")
    assert not each.queue.is_aside("c@x.test")
    found: list[object] = []
    while each.queue.has_more:
        each.take()
        found += keys(each.send())
    assert found == [3, 5]
    assert not each.queue.is_empty
    assert each.queue.is_dry
    assert each.queue.bring_back() == {"a@x.test", "b@x.test"}
    assert not each.queue.is_aside("a@x.test")
    each.take()
    assert keys(each.send()) == [0, 1, 2, 4]
    assert each.queue.is_empty


def test_no_more_are_set_aside_than_are_kept(clock: Clock, stand: Make) -> None:
    source = Source(clock)
    each = stand(source, max_waiting=50)
    each.queue.set_aside({"a@x.test"})
    for _ in range(100):
        each.take(connections=4)
    assert source.taken == 50
    assert each.queue.wanted() == 0
    assert len(each.queue.clear()) == 50
    assert each.queue.is_dry


# How much is taken, and when


def test_one_message_is_taken_before_there_is_a_connection(clock: Clock, stand: Make) -> None:
    source = Source(clock)
    one = stand(source)
    for _ in range(10):
        one.take(0, after=0.05)
    assert source.taken == one.queue.waiting == 1
    assert one.due_in() == math.inf


def test_two_for_each_connection_are_taken_at_first(clock: Clock, stand: Make) -> None:
    source = Source(clock)
    one = stand(source)
    for _ in range(3):
        one.take(4)
        assert source.taken == one.queue.waiting == 8
        assert one.due_in() == math.inf


def test_as_much_is_taken_as_leaves(clock: Clock, stand: Make) -> None:
    """In the time that passes between two measurements."""
    source = Source(clock)
    one = stand(source, max_in_flight=100)
    one.take(4)
    for _ in range(20):
        one.send()
        one.take(4)
    assert one.queue.waiting == 8
    before = one.left
    one.send()
    one.take(4, after=0.04)
    assert one.queue.waiting == before + 8
    # Nothing leaves any more.
    one.take(4, after=0.04)
    one.send()
    one.take(4, after=0.001)
    assert one.queue.waiting == 8


def test_little_is_not_worth_it(clock: Clock, stand: Make) -> None:
    source = Source(clock)
    one = stand(source)
    one.take(4)
    one.send(3)
    one.take(4)
    assert source.taken == 8
    assert not one.queue.wanted()
    one.send(1)
    assert one.queue.wanted()
    one.take(4)
    assert source.taken == 12


def test_no_more_is_taken_than_may_be_in_doubt(clock: Clock, stand: Make) -> None:
    source = Source(clock)
    one = stand(source, connections=2, max_in_flight=3)
    assert one.settings.max_open == 6
    for _ in range(10):
        one.take(2)
        # They have left, and nothing was said of them.
        one.left += len(one.recorder.recorded)
        one.recorder.recorded.clear()
        one.clock.now += 0.04
    assert source.taken == one.recorder.open == 6
    one.recorder.open = 4
    one.take(2)
    assert source.taken == 8


def test_no_more_is_taken_than_may_wait(clock: Clock, stand: Make) -> None:
    source = Source(clock)
    one = stand(source, max_waiting=3)
    for number in range(3):
        one.queue.schedule(task(job(-number), ["b@y.test"]), clock.now, 60.0)
    one.take()
    assert source.taken == 0
    assert one.due_in() == 60.0
    one.take(after=60.0)
    assert keys(one.send()) == [0, -1, -2]
    one.take()
    assert source.taken == 2


def test_no_more_is_recorded_than_has_a_place(clock: Clock, stand: Make) -> None:
    """T13: what is taken in advance waits unrecorded."""
    one = stand(Source(clock))
    one.take(4, places=3)
    assert (one.recorder.open, len(one.recorder.recorded), one.queue.waiting) == (3, 3, 8)
    one.take(4, places=3)
    assert one.recorder.open == 3
    one.recorder.recorded.popleft()
    one.take(4, places=3)
    assert (one.recorder.open, len(one.recorder.recorded)) == (4, 3)
    one.take(4, places=0)
    assert one.recorder.open == 4
    one.take(4, places=0.9)
    assert one.recorder.open == 4
    one.take(4, places=4)
    assert keys(one.send()) == [1, 2, 3, 4]


def test_what_is_due_comes_before_what_is_new(clock: Clock, stand: Make) -> None:
    one = stand(Source(clock))
    one.queue.schedule(task(job(-1), ["b@y.test"]), clock.now, 1.0)
    one.take(0, after=1.0)
    assert keys(one.send()) == [-1]


def test_a_slow_source_is_asked_for_one_at_a_time(clock: Clock, stand: Make) -> None:
    """A job that was taken is sent before the next one is asked for; and that is not put off, or
    what comes meanwhile would wait (T11)."""
    source = Source(clock, seconds=0.5)
    one = stand(source)
    for number in range(1, 4):
        one.take(4)
        assert source.taken == number


def test_messages_that_each_take_almost_too_long(clock: Clock, stand: Make) -> None:
    """T11: none of them is slow by itself, and all that there was room for were gathered before the
    first of them could leave."""
    source = Source(clock)
    one = stand(source, connections=1, max_in_flight=10_000)
    for _ in range(10):
        # Where each comes at once, many leave in a while, and there is room for many.
        one.take(1, after=0.04)
        one.left += 500
        one.send()
    source.seconds = 0.0009
    began, taken = clock.now, source.taken
    one.take(1)
    assert clock.now - began < 0.03
    assert source.taken - taken > 10


def test_a_source_that_ends(clock: Clock, stand: Make) -> None:
    one = stand(Source(clock, count=3))
    assert one.queue.has_more
    one.take(4)
    assert not one.queue.has_more
    assert one.queue.is_empty
    assert one.queue.error is None
    assert one.queue.waiting == 3
    assert one.due_in() == math.inf
    one.take(4)


@pytest.mark.parametrize("error", [LookupError("no more"), KeyboardInterrupt()])
def test_a_source_that_raises(error: BaseException, stand: Make) -> None:
    """Jobs that were taken before are still to be sent."""

    def items() -> Iterator[Job]:
        yield job(0)
        raise error

    one = stand(items())
    one.take(4)
    assert one.queue.error is error
    assert not one.queue.has_more
    assert keys(one.send()) == [0]


def test_it_is_empty_when_nothing_waits_either(clock: Clock, stand: Make) -> None:
    one = stand()
    one.take()
    assert one.queue.is_empty
    one.queue.schedule(task(job(0), ["b@y.test"]), clock.now, 5.0)
    assert not one.queue.is_empty
    one.take(after=5.0)
    assert one.queue.is_empty
    one.queue.requeue(one.send()[0])
    assert not one.queue.is_empty


# What is taken up


def test_what_is_no_message_is_told_and_the_others_are_sent(stand: Make) -> None:
    bad = Job("nobody", MailObject("a@x.test", [], b"x"))
    one = stand([job(0), 42, bad, job(1)])
    one.take(4)
    told = [
        (each.key, each.recipient, each.state, each.attempts) for each in one.recorder.deliveries
    ]
    assert told == [(2, "", State.REJECTED, 0), ("nobody", "", State.REJECTED, 0)]
    assert one.recorder.deliveries[1].text == "the message has no recipients"
    assert (one.status.taken, one.status.rejected, one.status.queued) == (4, 2, 2)
    assert keys(one.send()) == [0, 1]


def test_recipients_that_are_suppressed(stand: Make) -> None:
    jobs = [job(0, "B@y.test", "c@y.test"), job(1, "b@Y.TEST"), job(2, "d@y.test", "d@y.test")]
    one = stand(jobs, suppress={"b@y.test"})
    one.take(4)
    assert (one.status.suppressed, one.status.taken) == (2, 2)
    assert [each.recipients for each in one.send()] == [["c@y.test"], ["d@y.test"]]
    assert not one.recorder.deliveries


@pytest.mark.parametrize("to_addrs", [[42], [None, "b@y.test"], 42])
def test_recipients_that_are_no_addresses(to_addrs: Any, stand: Make) -> None:
    one = stand([Job("a", MailObject("a@x.test", to_addrs, b"x"))], suppress={"c@y.test"})
    one.take()
    assert [each.state for each in one.recorder.deliveries] == [State.REJECTED]
    assert one.queue.error is None


# What a former run has left


class Former:
    """A journal in which a former run has left some recipients of the job "key"."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def leave(self, *left: tuple[str, str, float | None]) -> None:
        """Addresses, their states, and when they are due."""
        with Journal(self.path) as journal:
            ids = {address: journal.new_ids(1)[0] for address, _, _ in left}
            new = [(ids[address], "key", address) for address, _, _ in left]
            journal.write(new=new, again=[], completed=[])
            journal.write(
                new=[],
                again=[],
                completed=[
                    (state, due, 250, None, "text", "mx:25", TIME - 500, ids[address])
                    for address, state, due in left
                    if state != "sending"
                ],
            )


@pytest.fixture
def former(tmp_path: Path) -> Former:
    return Former(tmp_path / "j")


NAMES = ["new@y", "queued@y", "deferred@y", "due@y", "accepted@y", "rejected@y", "sending@y"]


def resumed(stand: Make, former: Former, **options: Any) -> tuple[Stand, dict[str, Task]]:
    """Return what of this job is to be sent, by its recipients."""
    former.leave(
        ("queued@y", "queued", None),
        ("deferred@y", "deferred", TIME + 60),
        ("due@y", "deferred", TIME - 60),
        ("accepted@y", "accepted", None),
        ("rejected@y", "rejected", None),
        ("sending@y", "sending", None),
    )
    with Journal(former.path) as journal:
        recorder = JournalRecorder(journal, lambda: None)
        mail = MailObject("a@x.test", NAMES, b"x")
        one = stand([Job("key", mail)], recorder=recorder, max_in_flight=100, **options)
        one.take(4)
        recorder.flush()
        tasks = [*recorder.recorded, *one.queue.clear()]
        recorder.close()
    return one, {name: task for task in tasks for name in task.recipients}


def test_what_is_completed_is_left_alone(stand: Make, former: Former) -> None:
    one, tasks = resumed(stand, former)
    assert tasks.keys() == {"new@y", "queued@y", "deferred@y", "due@y"}
    # T14: what is in doubt is not completed.
    assert (one.status.completed_before, one.status.in_doubt_before) == (2, 1)
    assert (one.status.taken, one.status.waiting, one.status.queued) == (4, 1, 3)


def test_what_is_in_doubt_is_sent_again_where_that_is_wanted(stand: Make, former: Former) -> None:
    one, tasks = resumed(stand, former, in_doubt="resend")
    assert tasks.keys() == {"new@y", "queued@y", "deferred@y", "due@y", "sending@y"}
    assert tasks["sending@y"].attempts == 2
    assert (one.status.completed_before, one.status.in_doubt_before) == (2, 0)


def test_what_is_left_has_its_place_in_the_journal(stand: Make, former: Former) -> None:
    _, tasks = resumed(stand, former)
    places = {name: tasks[name].ids for name in tasks}
    assert places == {"queued@y": [1], "deferred@y": [2], "due@y": [3], "new@y": [7]}


def test_attempts_go_on_where_they_were(stand: Make, former: Former) -> None:
    """Queued jobs have not been sent."""
    _, tasks = resumed(stand, former)
    found = {name: (each.attempts, each.first) for name, each in tasks.items()}
    assert found == {
        "new@y": (1, TIME),
        "queued@y": (1, TIME),
        "deferred@y": (2, TIME - 500),
        "due@y": (2, TIME - 500),
    }


def test_what_is_deferred_waits_until_it_is_due(stand: Make, former: Former) -> None:
    former.leave(("deferred@y", "deferred", TIME + 60))
    with Journal(former.path) as journal:
        recorder = JournalRecorder(journal, lambda: None)
        mail = MailObject("a@x.test", "deferred@y", b"x")
        one = stand([Job("key", mail)], recorder=recorder)
        one.take(4)
        assert one.due_in() == 60.0
        assert (recorder.recording, one.status.waiting, one.status.queued) == (0, 1, 0)
        one.take(4, after=59.0)
        assert recorder.recording == 0
        one.take(4, after=1.0)
        assert (recorder.recording, one.status.waiting, one.status.queued) == (1, 0, 1)
        recorder.close()


def test_a_job_that_the_former_run_did_not_come_to(stand: Make, former: Former) -> None:
    former.leave(("b@y.test", "accepted", None))
    with Journal(former.path) as journal:
        recorder = JournalRecorder(journal, lambda: None)
        one = stand([job(0), job(1)], recorder=recorder)
        one.take(4)
        recorder.flush()
        assert keys(recorder.recorded) == [0, 1]
        recorder.close()


def test_what_is_left_and_suppressed_meanwhile(stand: Make, former: Former) -> None:
    one, tasks = resumed(stand, former, suppress=set(NAMES))
    assert tasks == {}
    assert (one.status.suppressed, one.status.taken) == (len(NAMES), 0)


# Rates of domains

TICK = 0.05
BURST = 0.1  # seconds of its rate that a bucket holds beyond one token


def run(one: Stand, ticks: int, *, connections: int = 10, sends: int = LONG) -> list[float]:
    """Turns of a run; the times at which messages leave."""
    times = []
    for _ in range(ticks):
        one.take(connections, after=TICK)
        # Turns follow each other much faster where there is something to do.
        for _ in range(5):
            one.take(connections)
        if connections and not one.pool.resumes_in(one.clock.now):
            times += [one.clock.now] * len(one.send(sends))
    return times


def keeps(rate: float, times: list[float]) -> bool:
    """Whether no more than rate * w + burst have left in any w seconds. What was due in a turn
    leaves at its end."""
    return all(
        after - before + 1 <= rate * (times[after] - times[before] + TICK) + 1 + BURST * rate + 1e-6
        for before, after in itertools.combinations_with_replacement(range(len(times)), 2)
    )


def test_the_rate_of_a_domain_is_kept(clock: Clock, stand: Make) -> None:
    one = stand(Source(clock), domain_rates=Rate(40), max_waiting=500)
    times = run(one, 100)
    assert keeps(40, times)
    assert len(times) == pytest.approx(100 * TICK * 40, rel=0.05)


def test_what_is_paced_is_due_in_its_time(clock: Clock, stand: Make) -> None:
    one = stand(Source(clock, count=10), domain_rates=Rate(1), max_waiting=500)
    one.take(4, after=TICK)
    one.take(4, after=TICK)
    assert len(one.send()) == 1
    assert 0.5 < one.due_in() <= 1.0


def test_domains_do_not_wait_for_each_other(clock: Clock, stand: Make) -> None:
    jobs = [job(number, f"b@{'slow' if number % 2 else 'fast'}.test") for number in range(40)]
    one = stand(jobs, domain_rates={"slow.test": Rate(1)}, max_in_flight=100)
    sent: list[Task] = []
    for _ in range(20):
        one.take(4, after=TICK)
        sent += one.send()
    assert sum(each.recipients == ["b@fast.test"] for each in sent) == 20
    assert sum(each.recipients == ["b@slow.test"] for each in sent) == 2


@pytest.mark.parametrize("stall", ["no connection", "pause"])
def test_a_stall_is_not_made_up_for(stall: str, clock: Clock, stand: Make) -> None:
    one = stand(Source(clock), domain_rates=Rate(40), max_waiting=500)
    times = run(one, 40)
    assert times
    begun = clock.now
    if stall == "no connection":
        assert run(one, 600, connections=0) == []
    else:
        while clock.now < begun + 30.0:
            one.pool.throttled(clock.now, pause=True)
            assert run(one, 1) == []
            clock.now += one.pool.resumes_in(clock.now)
    more = run(one, 100)
    assert keeps(40, times + more)
    # And nobody waits longer than that.
    assert more[0] - clock.now < -99 * TICK + 1.0
    assert len(more) == pytest.approx(100 * TICK * 40, rel=0.1)


def test_several_stalls(clock: Clock, stand: Make) -> None:
    one = stand(Source(clock), domain_rates=Rate(20), max_waiting=300)
    times: list[float] = []
    for number in range(1, 12):
        times += run(one, 3 * number)
        run(one, 40 // number, connections=0)
    assert keeps(20, times)


def test_a_stall_waits_and_does_not_spin(clock: Clock, stand: Make) -> None:
    one = stand(Source(clock), domain_rates=Rate(40), max_waiting=50)
    run(one, 20)
    one.take(0, after=30.0)
    assert one.due_in() > 0


def test_one_is_let_through_in_a_stall_for_a_connection_to_be_opened(
    clock: Clock, stand: Make
) -> None:
    one = stand(Source(clock), domain_rates=Rate(1), max_waiting=50)
    run(one, 20)
    assert one.queue.waiting == 0
    run(one, 100, connections=0)
    assert one.queue.waiting == 1


def schedule_many(one: Stand, delays: Iterable[float]) -> None:
    """Retries of one domain."""
    for number, delay in enumerate(delays):
        one_task = task(job(number, "b@y.test"), ["b@y.test"])
        one_task.attempts = 2
        one.status.waiting += 1
        one.queue.schedule(one_task, one.clock.now, delay)


def test_retries_that_are_due_together_are_paced(stand: Make) -> None:
    one = stand(domain_rates=Rate(20))
    schedule_many(one, [5.0] * 200)
    times = run(one, 400)
    assert len(times) == 200
    assert keeps(20, times)
    assert one.status.waiting == 0
    assert times[-1] - times[0] == pytest.approx(200 / 20, rel=0.05)


def test_retries_that_are_due_together_in_a_stall_are_paced(stand: Make) -> None:
    one = stand(domain_rates=Rate(20))
    schedule_many(one, [5.0] * 200)
    assert run(one, 400, connections=0) == []
    times = run(one, 400)
    assert len(times) == 200
    assert keeps(20, times)


def test_retries_that_are_due_one_by_one_in_a_stall_are_paced(stand: Make) -> None:
    one = stand(domain_rates=Rate(1))
    schedule_many(one, [2.0 * number for number in range(1, 51)])
    assert run(one, 2200, connections=0) == []
    times = run(one, 2000)
    assert len(times) == 50
    assert keeps(1, times)


def test_connections_that_are_busy_are_not_made_up_for(clock: Clock, stand: Make) -> None:
    """A server that takes its time, and then has enough of it: no more leaves together than was at
    hand for the connections."""
    one = stand(Source(clock), domain_rates=Rate(40), max_waiting=500)
    assert keeps(40, run(one, 40, connections=5))
    assert run(one, 400, connections=5, sends=0) == []
    first, *times = run(one, 40, connections=5)
    at_hand = [each for each in times if each == first]
    assert len(at_hand) < 2 * 5
    assert keeps(40, times[len(at_hand) :])


def test_nobody_waits_for_a_stall_that_began_before_it_came(stand: Make) -> None:
    one = stand(domain_rates=Rate(1))
    run(one, 1000, connections=0)
    schedule_many(one, [0.01] * 5)
    run(one, 10, connections=0)
    assert len(run(one, 200)) == 5


# The end


def test_clearing_takes_out_all_that_is_not_recorded(clock: Clock, stand: Make) -> None:
    one = stand(Source(clock), domain_rates=Rate(1), max_waiting=20)
    one.take(4, after=TICK)
    one.take(4, after=TICK)
    one.queue.schedule(task(job(-1), ["b@z.test"]), clock.now, 60.0)
    one.queue.requeue(task(job(-2), ["b@z.test"]))
    taken = one.status.taken
    cleared = keys(one.queue.clear())
    assert len(cleared) + len(one.recorder.recorded) == taken + 2
    assert {-1, -2} <= set(cleared)
    assert one.queue.clear() == []
