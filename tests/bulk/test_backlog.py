"""Backlog of bulk/job_queue.py: tasks that wait for their time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from csmtplib.bulk.job_queue import Backlog
from csmtplib.bulk.task import Task
from csmtplib.protocol.mail_object import MailObject


def task(key: int) -> Task:
    return Task(key, MailObject("a@x.test", "b@y.test", b"x"), ["b@y.test"], 0.0)


def keys(tasks: object) -> list[object]:
    return [each.key for each in tasks]  # type: ignore[attr-defined]


def test_an_empty_one() -> None:
    backlog = Backlog()
    assert len(backlog.heap) == 0
    assert not backlog.heap
    assert backlog.due_in(5.0) is None
    assert list(backlog.due(5.0)) == backlog.clear() == []


def test_tasks_come_when_they_are_due() -> None:
    backlog = Backlog()
    for number, due in enumerate((30.0, 10.0, 20.0)):
        backlog.add(due, task(number))
    assert backlog.due_in(4.0) == 6.0
    assert keys(backlog.due(9.9)) == []
    assert keys(backlog.due(10.0)) == [1]
    assert len(backlog.heap) == 2
    assert keys(backlog.due(100.0)) == [2, 0]
    assert not backlog.heap


def test_what_is_late_is_due_now() -> None:
    backlog = Backlog()
    backlog.add(10.0, task(0))
    assert backlog.due_in(100.0) == 0.0


def test_those_of_the_same_time_come_in_their_order() -> None:
    """Tasks can't be compared, and need not be."""
    backlog = Backlog()
    for number in range(50):
        backlog.add(10.0, task(number))
    assert keys(backlog.due(10.0)) == list(range(50))


def test_taking_one_at_a_time() -> None:
    backlog = Backlog()
    for number in range(3):
        backlog.add(10.0 + number, task(number))
    assert next(backlog.due(100.0)).key == 0
    assert len(backlog.heap) == 2
    assert backlog.due_in(0.0) == 11.0


def test_what_is_added_while_tasks_are_taken_comes_too() -> None:
    backlog = Backlog()
    backlog.add(10.0, task(0))
    seen = []
    for each in backlog.due(20.0):
        seen.append(each.key)
        if len(seen) < 3:
            backlog.add(15.0, task(len(seen)))
    assert seen == [0, 1, 2]


def test_clearing() -> None:
    backlog = Backlog()
    for number, due in enumerate((30.0, 10.0, 20.0, 10.0)):
        backlog.add(due, task(number))
    assert keys(backlog.clear()) == [1, 3, 2, 0]
    assert not backlog.heap
    assert backlog.due_in(0.0) is None


@given(dues=st.lists(st.floats(0, 1000), max_size=50), now=st.floats(0, 1000))
def test_none_comes_before_its_time_and_none_is_lost(dues: list[float], now: float) -> None:
    backlog = Backlog()
    for number, due in enumerate(dues):
        backlog.add(due, task(number))
    taken = keys(backlog.due(now))
    assert taken == sorted(
        (number for number, due in enumerate(dues) if due <= now), key=lambda at: dues[at]
    )
    left = [due for due in dues if due > now]
    assert len(backlog.heap) == len(left)
    assert backlog.due_in(0.0) == (min(left) if left else None)
    assert sorted(map(str, [*taken, *keys(backlog.clear())])) == sorted(map(str, range(len(dues))))
