"""bulk/recorder.py: nothing may be sent before it is on disk as sending, and nothing is reported
before it is on disk as completed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from csmtplib.bulk.delivery import Delivery
from csmtplib.bulk.journal import Journal, JournalError
from csmtplib.bulk.journal_view import JournalView, Recipient
from csmtplib.bulk.recorder import JournalRecorder, NullRecorder, _Group
from csmtplib.bulk.task import Task
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import Reply, State

DEADLINE = 10.0
TIME = 1_764_000_000.25
NOW = 1000.0


def task(key: str, *recipients: str) -> Task:
    to_addrs = list(recipients or ("b@y.test",))
    return Task(key, MailObject("a@x.test", to_addrs, b"x"), to_addrs, TIME)


def delivery(the: Task, place: int = 0, state: State = State.ACCEPTED) -> Delivery:
    code = {State.ACCEPTED: 250, State.REJECTED: 550}.get(state, 451)
    reply = Reply(code, b"%d.2.3 text" % (code // 100))
    return Delivery(
        the.key, the.recipients[place], state, reply, None, the.attempts, "mx.test:25", TIME
    )


class Disk(Journal):
    """A journal whose commits take as long as the test wants, and may fail."""

    def __init__(self, path: Path, **groups: Any) -> None:
        self.free = threading.Event()
        self.free.set()
        self.committing = threading.Event()
        self.fails = False
        super().__init__(path, **groups)

    def commit(self) -> None:
        self.committing.set()
        assert self.free.wait(DEADLINE)
        if self.fails:
            raise JournalError("the disk is full")
        super().commit()


class Book:
    """A recorder, and the disk below it."""

    def __init__(self, path: Path, **groups: Any) -> None:
        self.path = path
        self.disk = Disk(path, **groups)
        self._woken = threading.Event()
        self.recorder = JournalRecorder(self.disk, self._woken.set)

    def turn(self, now: float = NOW, *, last: bool = False) -> float | None:
        # What has landed by now is taken by this turn.
        self._woken.clear()
        return self.recorder.turn(now, last=last)

    def land(self, now: float = NOW) -> None:
        """Let the group that is on its way come to disk, and be known to be there."""
        assert self._woken.wait(DEADLINE)
        self.turn(now)

    def record(self, *tasks: Task) -> None:
        """Let tasks come to `recorded`, and take them."""
        self.recorder.record(tasks)
        self.turn()
        self.land()
        for each in tasks:
            assert self.recorder.recorded.popleft() is each

    def rows(self) -> dict[str, Recipient]:
        with JournalView(self.path) as view:
            return {each.address: each for each in view.rows()}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path / "j", group_seconds=0.5, group_rows=10)
    yield made
    made.disk.free.set()
    made.disk.fails = False
    made.recorder.close()
    made.disk.close()


# Without a journal


def test_without_a_journal_all_happens_at_once() -> None:
    recorder = NullRecorder()
    one = task("one", "b@y.test", "c@y.test", "d@y.test")
    recorder.record([one])
    assert list(recorder.recorded) == [one]
    assert (recorder.open, recorder.recording, recorder.has_history) == (3, 0, False)
    recorder.complete(one, 0, delivery(one))
    assert list(recorder.deliveries) == [delivery(one)]
    recorder.put_back(one, 1, None, delivery(one, 1, State.DEFERRED))
    assert (recorder.open, len(recorder.deliveries)) == (1, 1)
    assert recorder.turn(NOW) is None
    assert recorder.turn(NOW, last=True) is None
    assert recorder.entries("one") == []
    recorder.flush()
    recorder.close()


# Before it is sent


def test_what_is_not_on_disk_is_not_recorded(book: Book) -> None:
    recorder = book.recorder
    book.disk.free.clear()
    one = task("one", "b@y.test", "c@y.test")
    recorder.record([one])
    assert (recorder.open, recorder.recording) == (2, 1)
    book.turn()
    assert book.disk.committing.wait(DEADLINE)
    for _ in range(3):
        assert book.turn() is None
    assert not recorder.recorded
    assert book.rows() == {}
    book.disk.free.set()
    book.land()
    assert list(recorder.recorded) == [one]
    assert (recorder.open, recorder.recording) == (2, 0)
    assert {each.state for each in book.rows().values()} == {"sending"}


def test_ids_and_attempts_are_written(book: Book) -> None:
    one, other = task("one", "b@y.test", "c@y.test"), task("other", "d@y.test")
    book.record(one, other)
    assert one.ids == [1, 2]
    assert other.ids == [3]
    assert [(each.key, each.attempts) for each in book.rows().values()] == [
        ("one", 1),
        ("one", 1),
        ("other", 1),
    ]


def test_what_comes_meanwhile_is_of_the_next_group(book: Book) -> None:
    recorder = book.recorder
    book.disk.free.clear()
    first, second = task("first", "b@y.test"), task("second", "c@y.test")
    recorder.record([first])
    book.turn()
    recorder.record([second])
    assert recorder.recording == 2
    book.turn()
    book.disk.free.set()
    book.land()
    # It is begun when somebody has nothing left to send, and not before.
    assert list(recorder.recorded) == [first]
    recorder.recorded.clear()
    book.turn()
    book.land()
    assert list(recorder.recorded) == [second]
    assert recorder.recording == 0


def test_messages_do_not_wait_for_a_group_where_nothing_is_recorded(book: Book) -> None:
    book.recorder.record([task("one")])
    assert book.turn() is None
    book.land()
    assert len(book.recorder.recorded) == 1


def test_where_something_is_recorded_a_group_is_gathered(book: Book) -> None:
    recorder = book.recorder
    recorder.record([task("one")])
    book.turn()
    book.land()
    recorder.record([task("other", "c@y.test")])
    assert book.turn(NOW) == 0.5
    assert book.turn(NOW + 0.4) == pytest.approx(0.1)
    assert len(recorder.recorded) == 1
    assert book.turn(NOW + 0.5) is None
    book.land()
    assert len(recorder.recorded) == 2


def test_nothing_is_due_where_there_is_nothing(book: Book) -> None:
    assert book.turn() is None
    assert book.turn(last=True) is None


# Before it is told


def test_what_is_not_on_disk_is_not_told(book: Book) -> None:
    recorder = book.recorder
    one = task("one", "b@y.test", "c@y.test")
    book.record(one)
    book.disk.free.clear()
    book.disk.committing.clear()
    recorder.complete(one, 1, delivery(one, 1, State.REJECTED))
    assert recorder.open == 2
    assert book.turn() == 0.5
    assert not recorder.deliveries
    book.turn(NOW + 0.5)
    assert book.disk.committing.wait(DEADLINE)
    book.turn(NOW + 1)
    assert not recorder.deliveries
    assert recorder.open == 2
    book.disk.free.set()
    book.land()
    assert list(recorder.deliveries) == [delivery(one, 1, State.REJECTED)]
    assert recorder.open == 1
    rows = book.rows()
    assert (rows["b@y.test"].state, rows["c@y.test"].state) == ("sending", "rejected")


def test_results_wait_for_a_group_until_it_is_full(book: Book) -> None:
    names = [f"b{number}@y.test" for number in range(10)]
    one = task("one", *names)
    book.record(one)
    for place in range(9):
        book.recorder.complete(one, place, delivery(one, place))
    assert book.turn() == 0.5
    book.recorder.complete(one, 9, delivery(one, 9))
    assert book.turn() is None
    book.land()
    assert [each.recipient for each in book.recorder.deliveries] == names
    assert book.recorder.open == 0


def test_the_last_ones_do_not_wait(book: Book) -> None:
    one = task("one")
    book.record(one)
    book.recorder.complete(one, 0, delivery(one))
    assert book.turn(last=True) is None
    book.land()
    assert len(book.recorder.deliveries) == 1


def test_what_is_written_of_a_result(book: Book) -> None:
    one = task("one", "b@y.test", "c@y.test")
    book.record(one)
    book.recorder.complete(one, 0, delivery(one, 0, State.REJECTED))
    lost = Delivery("one", "c@y.test", State.IN_DOUBT, None, "lost", 1, "mx.test:25", TIME)
    book.recorder.complete(one, 1, lost)
    book.recorder.flush()
    rows = book.rows()
    rejected, in_doubt = rows["b@y.test"], rows["c@y.test"]
    assert (rejected.state, rejected.code, rejected.enhanced) == ("rejected", 550, "5.2.3")
    assert (rejected.reply, rejected.host, rejected.time) == ("5.2.3 text", "mx.test:25", TIME)
    assert (in_doubt.state, in_doubt.code, in_doubt.reply) == ("in doubt", None, "lost")


# To be sent later


def test_what_is_put_back(book: Book) -> None:
    recorder = book.recorder
    one = task("one", "b@y.test", "c@y.test")
    book.record(one)
    recorder.put_back(one, 0, TIME + 60, delivery(one, 0, State.DEFERRED))
    recorder.put_back(one, 1, None, delivery(one, 1, State.DEFERRED))
    assert recorder.open == 2
    recorder.flush()
    assert recorder.open == 0
    assert not recorder.deliveries
    rows = book.rows()
    assert (rows["b@y.test"].state, rows["b@y.test"].due) == ("deferred", TIME + 60)
    assert (rows["c@y.test"].state, rows["c@y.test"].due) == ("queued", None)


def test_what_is_put_back_and_recorded_again_in_one_group(book: Book) -> None:
    recorder = book.recorder
    one = task("one", "b@y.test", "c@y.test")
    book.record(one)
    recorder.put_back(one, 1, None, delivery(one, 1, State.DEFERRED))
    again = one.part([1])
    recorder.record([again])
    assert recorder.open == 3
    book.turn()
    book.land()
    assert list(recorder.recorded) == [again]
    assert again.ids == [2]
    assert recorder.open == 2
    assert book.rows()["c@y.test"].state == "sending"
    assert len(book.rows()) == 2


def test_another_attempt(book: Book) -> None:
    one = task("one")
    book.record(one)
    book.recorder.put_back(one, 0, TIME + 60, delivery(one, 0, State.DEFERRED))
    book.recorder.flush()
    again = one.part([0])
    again.attempts = 2
    book.record(again)
    (row,) = book.rows().values()
    assert (row.state, row.attempts, row.due) == ("sending", 2, None)


# What a former run has left


def test_the_former_run(tmp_path: Path) -> None:
    before = Book(tmp_path / "j")
    assert not before.recorder.has_history
    before.record(task("one", "b@y.test"))
    before.recorder.close()
    before.disk.close()
    after = Book(tmp_path / "j")
    assert after.recorder.has_history
    (entry,) = after.recorder.entries("one")
    assert (entry.recipient, entry.state) == ("b@y.test", "in doubt")
    assert after.recorder.entries("two") == []
    after.recorder.close()
    after.disk.close()


# The end, and failures


def test_a_flush_waits_for_the_disk(book: Book) -> None:
    recorder = book.recorder
    one, other = task("one"), task("other", "c@y.test")
    book.record(one)
    book.disk.free.clear()
    recorder.record([other])
    book.turn()
    recorder.complete(one, 0, delivery(one))
    threading.Timer(0.1, book.disk.free.set).start()
    recorder.flush()
    assert list(recorder.recorded) == [other]
    assert len(recorder.deliveries) == 1
    assert (recorder.open, recorder.recording) == (1, 0)
    assert {each.state for each in book.rows().values()} == {"accepted", "sending"}


def test_a_close_flushes(book: Book) -> None:
    one = task("one")
    book.record(one)
    book.recorder.complete(one, 0, delivery(one))
    book.recorder.close()
    assert len(book.recorder.deliveries) == 1
    assert book.rows()["b@y.test"].state == "accepted"
    assert not [each for each in threading.enumerate() if "csmtplib-journal" in each.name]


def wait_for_the_failure(book: Book) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        book.turn()


def test_a_commit_that_fails_is_raised_and_nothing_is_recorded(book: Book) -> None:
    book.disk.fails = True
    book.recorder.record([task("one")])
    book.turn()
    with pytest.raises(JournalError, match="disk is full"):
        wait_for_the_failure(book)
    assert not book.recorder.recorded
    assert book.recorder.open == 1


def test_a_commit_that_fails_is_raised_and_nothing_is_told(book: Book) -> None:
    one = task("one")
    book.record(one)
    book.disk.fails = True
    book.recorder.complete(one, 0, delivery(one))
    book.turn(last=True)
    with pytest.raises(JournalError, match="disk is full"):
        wait_for_the_failure(book)
    assert not book.recorder.deliveries
    # Nobody knows what became of it, if this is the end.
    assert book.recorder.open == 1


@pytest.mark.parametrize("ending", ["flush", "close"])
def test_a_failure_is_raised_at_the_end(ending: str, book: Book) -> None:
    one = task("one")
    book.record(one)
    book.disk.fails = True
    book.recorder.complete(one, 0, delivery(one))
    with pytest.raises(JournalError, match="disk is full"):
        getattr(book.recorder, ending)()
    assert not book.recorder.deliveries


def test_what_can_not_be_written_is_raised_at_once(book: Book) -> None:
    """An outcome of a recipient that is not in the journal, of all that could be."""
    stranger = task("one")
    stranger.ids = [99]
    book.recorder.complete(stranger, 0, delivery(stranger))
    with pytest.raises(JournalError, match="not in it"):
        book.turn(last=True)
    assert not book.recorder.deliveries
    # It is of no use any more.
    book.recorder._group = _Group(None)
    book.recorder.record([task("other")])
    with pytest.raises(JournalError):
        book.turn()
    book.recorder._group = _Group(None)
