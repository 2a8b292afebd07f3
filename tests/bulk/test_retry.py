"""bulk/retry.py: longer and longer waits, an end, and no herd (RFC 5321 section 4.5.4.1)."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csmtplib.bulk.retry import Retry

EVEN = Retry(jitter=0.0)
# Times of a clock that has just started, and of one that counts from 1970.
STARTS = st.sampled_from([0.0, 1.8e9])


def waits(retry: Retry, start: float = 0.0, token: str | int = "a") -> list[float]:
    """The times between the tries of a recipient that is always refused at once."""
    times = [start]
    while True:
        following = retry.next(len(times), start, times[-1], token)
        if following is None:
            break
        times.append(following)
    return [after - before for before, after in pairwise(times)]


def test_waits_grow_up_to_the_longest() -> None:
    assert waits(EVEN)[:8] == [300, 600, 1200, 2400, 4800, 9600, 14400, 14400]


def test_the_last_try_is_made_when_it_is_given_up() -> None:
    assert sum(waits(EVEN)) == 4 * 86400
    assert EVEN.next(30, 0.0, 4 * 86400.0 - 1, "a") == 4 * 86400
    assert EVEN.next(30, 0.0, 4 * 86400.0, "a") is None
    assert EVEN.next(1, 0.0, 5 * 86400.0, "a") is None


def test_no_other_try_than_the_first() -> None:
    assert Retry(give_up=0.0).next(1, 1000.0, 1000.0, "a") is None


def test_equal_waits() -> None:
    retry = Retry(first=60, factor=1, longest=60, give_up=300, jitter=0)
    assert waits(retry) == [60] * 5


def test_a_wait_begins_when_the_answer_is_there() -> None:
    assert EVEN.next(2, 0.0, 1000.0, "a") == 1600


def test_a_number_of_attempts_that_no_float_holds() -> None:
    assert EVEN.next(100_000, 0.0, 0.0, "a") == 4 * 3600


@given(
    retry=st.builds(
        Retry,
        first=st.floats(1, 600),
        factor=st.floats(1, 10),
        longest=st.floats(600, 86400),
        give_up=st.floats(0, 3 * 86400),
        jitter=st.floats(0, 1),
    ),
    attempts=st.integers(1, 2000),
    start=STARTS,
    age=st.floats(0, 4 * 86400),
    token=st.text() | st.integers(),
)
def test_each_wait_is_within_its_bounds(
    retry: Retry, attempts: int, start: float, age: float, token: str | int
) -> None:
    now = start + age
    following = retry.next(attempts, start, now, token)
    last = start + retry.give_up
    if now >= last:
        assert following is None
        return
    assert following is not None
    assert now < following <= last
    assert following - now <= retry.longest * (1 + retry.jitter) + 1e-6
    assert following == last or following - now >= retry.first - 1e-6


@given(st.text() | st.integers(), st.integers(1, 50))
def test_the_same_recipient_waits_the_same_time(token: str | int, attempts: int) -> None:
    retry = Retry()
    assert retry.next(attempts, 0.0, 5.0, token) == retry.next(attempts, 0.0, 5.0, token)


def test_in_another_process_too() -> None:
    code = "from csmtplib.bulk.retry import Retry; print(Retry().next(3, 0.0, 5.0, 'job 7'))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {str(Retry().next(3, 0.0, 5.0, "job 7"))}


@pytest.mark.parametrize("names", [range(10_000), [f"user{i}@x.test" for i in range(10_000)]])
@pytest.mark.parametrize("attempts", [1, 2, 9])
def test_those_refused_together_do_not_come_back_together(
    names: list[str] | range, attempts: int
) -> None:
    retry = Retry(first=1000, factor=1, longest=1000, jitter=0.1)
    tenths = [0] * 10
    for name in names:
        following = retry.next(attempts, 0.0, 0.0, name)
        assert following is not None
        assert 1000 <= following <= 1100
        tenths[min(9, int((following - 1000) / 10))] += 1
    assert min(tenths) > 500
    assert max(tenths) < 2000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 0.0}, "first is 0 seconds; it must be more than 0"),
        ({"first": -1.0}, "first is -1 seconds"),
        ({"first": math.nan}, "first is nan seconds"),
        ({"factor": 0.5}, "factor is 0.5; waits that shrink are no backoff"),
        ({"factor": math.inf}, "factor is inf"),
        ({"longest": 299.0}, "longest is 299 seconds; the first wait is 300 already"),
        ({"longest": math.inf}, "longest is inf seconds"),
        ({"give_up": -1.0}, "give_up is -1 seconds; it must be 0 or more"),
        ({"give_up": math.nan}, "give_up is nan seconds"),
        ({"jitter": -0.1}, "jitter is -0.1; it must be a fraction from 0 to 1"),
        ({"jitter": 1.1}, "jitter is 1.1"),
    ],
)
def test_arguments_out_of_bounds(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retry(**arguments)


@pytest.mark.parametrize("name", ["first", "factor", "longest", "give_up", "jitter"])
@pytest.mark.parametrize("value", ["5m", None, True, [1], Decimal(1)])
def test_arguments_of_another_kind(name: str, value: Any) -> None:
    """T26"""
    with pytest.raises(TypeError, match=f"{name} must be a number, not "):
        Retry(**{name: value})


def test_what_was_never_tried() -> None:
    with pytest.raises(ValueError, match="it must be 1 or more"):
        Retry().next(0, 0.0, 0.0, "a")
