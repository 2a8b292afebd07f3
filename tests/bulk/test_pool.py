"""bulk/pool.py: how many connections there are, which come, which go, and how soon, at exact
times."""

from __future__ import annotations

import math

import pytest

from csmtplib.bulk.pool import (
    EASE_SECONDS,
    FIRST_DELAY,
    FIRST_PAUSE,
    LEAST_IDLE_SECONDS,
    LONGEST_DELAY,
    LONGEST_PAUSE,
    OUTAGE_SECONDS,
    SIGN_SECONDS,
    ConnectionStatistics,
    Pool,
)

MANY = 1000


def pool(
    connections: int = 8,
    *,
    max_per_connection: int | None = None,
    max_connection_seconds: float | None = None,
    idle_seconds: float = 30.0,
) -> Pool:
    return Pool(
        connections,
        max_per_connection=max_per_connection,
        max_connection_seconds=max_connection_seconds,
        idle_seconds=idle_seconds,
    )


def open_all(the: Pool, now: float, count: int) -> list[ConnectionStatistics]:
    """Open so many connections."""
    connections = []
    for _ in range(count):
        the.begun()
        connections.append(the.opened(now))
    return connections


def opens_in(the: Pool, now: float) -> float:
    """Seconds in which no connection is opened."""
    return max(0.0, the._opens - now, the.resumes_in(now))


def fail(the: Pool, now: float, *, is_busy: bool = False) -> None:
    """Let an opening fail."""
    the.begun()
    the.failed(now, is_busy=is_busy)


def sent(connection: ConnectionStatistics, count: int, now: float) -> None:
    """Messages that a connection was given, and that were answered."""
    for _ in range(count):
        connection.give(now, 1)
    connection.begun += count
    connection.accepted += count
    connection.answer(now, count)


# How many to open


def test_the_first_connection_is_opened_alone() -> None:
    the = pool()
    assert the.to_open(0.0, MANY) == 1
    the.begun()
    assert the.to_open(0.1, MANY) == 0
    the.opened(0.2)
    assert the.to_open(0.2, MANY) == 7


def test_the_first_of_a_later_run_is_none() -> None:
    """Once the server is known, it is so for good."""
    the = pool()
    (connection,) = open_all(the, 0.0, 1)
    the.closed(connection, 1.0, by_server=False)
    assert the.to_open(1.0, MANY) == 8


def test_no_connection_is_opened_for_no_message() -> None:
    the = pool()
    assert the.to_open(0.0, 0) == 0
    open_all(the, 0.0, 1)
    assert the.to_open(0.0, 0) == the.to_open(0.0, 1) == 0
    assert the.to_open(0.0, 3) == 2


def test_those_that_are_being_opened_count() -> None:
    the = pool()
    open_all(the, 0.0, 1)
    for _ in range(5):
        the.begun()
    assert the.to_open(0.0, MANY) == 2
    assert the.to_open(0.0, 6) == 0


def test_all_are_open() -> None:
    the = pool()
    open_all(the, 0.0, 8)
    assert the.to_open(0.0, MANY) == 0


# Signs that it is too much


def test_a_sign_halves_the_limit() -> None:
    the = pool()
    open_all(the, 0.0, 8)
    the.throttled(10.0, pause=False)
    assert the.limit == 4
    assert the.to_open(10.0, MANY) == 0


def test_it_is_half_of_those_that_are_open() -> None:
    the = pool()
    open_all(the, 0.0, 4)
    the.throttled(10.0, pause=False)
    assert the.limit == 2


def test_one_connection_is_always_left() -> None:
    the = pool()
    (connection,) = open_all(the, 0.0, 1)
    for number in range(3):
        the.throttled(10.0 * number, pause=False)
        assert the.limit == 1
    the.closed(connection, 40.0, by_server=True, with_421=True)
    assert the.limit == 1
    assert the.to_open(40.0 + LONGEST_PAUSE, MANY) >= 1


def test_what_comes_together_is_one_sign() -> None:
    the = pool()
    open_all(the, 0.0, 8)
    for late in (0.0, 0.1, SIGN_SECONDS - 0.1):
        the.throttled(10.0 + late, pause=False)
        assert the.limit == 4
    the.throttled(10.0 + SIGN_SECONDS, pause=False)
    assert the.limit == 2


def test_the_limit_eases_by_one_at_a_time() -> None:
    the = pool()
    open_all(the, 0.0, 8)
    the.throttled(10.0, pause=False)
    assert the.to_open(10.0 + EASE_SECONDS - 0.1, MANY) == 0
    assert the.limit == 4
    for number in range(1, 5):
        now = 10.0 + number * EASE_SECONDS
        for _ in range(3):
            the.to_open(now, MANY)
        assert the.limit == 4 + number
    the.to_open(10.0 + 10 * EASE_SECONDS, MANY)
    assert the.limit == 8


def test_it_does_not_ease_while_there_are_signs() -> None:
    the = pool()
    open_all(the, 0.0, 8)
    the.throttled(10.0, pause=False)
    for number in range(20):
        # Too soon for another sign, and yet one that it is still too much.
        the.throttled(10.0 + number * SIGN_SECONDS / 2, pause=False)
        the.to_open(10.0 + number * SIGN_SECONDS / 2, MANY)
    assert the.limit <= 4


def test_connections_over_the_limit_are_closed() -> None:
    the = pool()
    connections = open_all(the, 0.0, 8)
    the.throttled(1.0, pause=False)
    closed = 0
    for connection in connections:
        if the.is_spent(connection, 1.0):
            the.closed(connection, 1.0, by_server=False)
            closed += 1
    assert closed == 4
    assert len(the.open) == 4


# Pauses


def test_a_pause_stops_all() -> None:
    the = pool()
    fail(the, 0.0)
    the.throttled(10.0, pause=True)
    assert the.resumes_in(10.0) == FIRST_PAUSE
    assert opens_in(the, 10.0) == FIRST_PAUSE
    assert the.to_open(10.0 + FIRST_PAUSE / 2, MANY) == 0
    assert the.resumes_in(10.0 + FIRST_PAUSE / 2) == FIRST_PAUSE / 2
    assert the.resumes_in(10.0 + FIRST_PAUSE) == 0.0
    assert the.to_open(10.0 + FIRST_PAUSE, MANY) == 1


def test_a_sign_without_a_pause_stops_nothing() -> None:
    the = pool()
    the.throttled(10.0, pause=False)
    assert the.resumes_in(10.0) == opens_in(the, 10.0) == 0.0


def pauses(the: Pool, now: float, count: int) -> list[float]:
    """The pauses for signs that come each at the end of the pause before."""
    found = []
    for _ in range(count):
        the.throttled(now, pause=True)
        found.append(the.resumes_in(now))
        now += found[-1]
    return found


def test_pauses_are_doubled_up_to_the_longest() -> None:
    found = pauses(pool(), 64.0, 10)
    assert found == [0.5, 1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]


def test_signs_within_a_pause_do_not_make_it_longer() -> None:
    """They are of what had left before it."""
    the = pool()
    the.throttled(10.0, pause=True)
    the.throttled(10.25, pause=True)
    assert the.resumes_in(10.25) == 0.25
    the.throttled(10.5, pause=True)
    assert the.resumes_in(10.5) == 2 * FIRST_PAUSE


def test_what_is_accepted_takes_pauses_back() -> None:
    the = pool()
    assert pauses(the, 64.0, 3) == [0.5, 1.0, 2.0]
    the.accepted()
    assert pauses(the, 128.0, 1) == [2.0]
    for _ in range(3):
        the.accepted()
    assert pauses(the, 256.0, 1) == [FIRST_PAUSE]


def test_what_is_accepted_does_not_end_a_pause() -> None:
    """It had left before."""
    the = pool()
    the.throttled(10.0, pause=True)
    the.accepted()
    assert the.resumes_in(10.0) == FIRST_PAUSE


# Connections that can't be opened


def test_the_wait_for_the_next_try_is_doubled_up_to_the_longest() -> None:
    the = pool()
    open_all(the, 0.0, 1)
    now, waits = 64.0, []
    for _ in range(10):
        fail(the, now)
        waits.append(opens_in(the, now))
        assert the.to_open(now + waits[-1] / 2, MANY) == 0
        now += waits[-1]
        assert the.to_open(now, MANY) > 0
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]


def test_the_wait_is_bounded_after_any_number_of_failures() -> None:
    the = pool()
    for number in range(5000):
        fail(the, 100.0 * number)
    assert opens_in(the, 100.0 * 4999) == LONGEST_DELAY


def test_one_that_can_be_opened_ends_the_row() -> None:
    the = pool()
    for _ in range(5):
        fail(the, 10.0)
    open_all(the, 100.0, 1)
    fail(the, 100.0)
    assert opens_in(the, 100.0) == FIRST_DELAY


def test_what_is_sent_goes_on_meanwhile() -> None:
    the = pool()
    open_all(the, 0.0, 1)
    fail(the, 10.0)
    assert the.resumes_in(10.0) == 0.0


def test_a_server_that_is_busy_has_as_many_as_it_takes() -> None:
    the = pool()
    open_all(the, 0.0, 3)
    fail(the, 10.0, is_busy=True)
    assert the.limit == 3
    assert the.to_open(10.0 + EASE_SECONDS - 0.1, MANY) == 0
    # It may have room for one more by now.
    assert the.to_open(10.0 + EASE_SECONDS, MANY) == 1


def test_a_server_that_is_busy_for_the_first_one() -> None:
    the = pool()
    fail(the, 10.0, is_busy=True)
    assert the.limit == 1
    assert the.to_open(10.0 + FIRST_DELAY, MANY) == 1


def test_a_failure_that_says_nothing_of_the_number() -> None:
    the = pool()
    open_all(the, 0.0, 3)
    fail(the, 10.0)
    assert the.limit == 8


def test_openings_that_fail_together_are_one_failure() -> None:
    """All connections were lost at once, and are opened at once."""
    the = pool()
    open_all(the, 0.0, 1)
    for _ in range(8):
        the.begun()
    for _ in range(8):
        the.failed(10.0, is_busy=False)
    assert opens_in(the, 10.0) <= 2 * FIRST_DELAY


def test_one_that_can_be_opened_ends_the_wait() -> None:
    """Of several that were begun, one came through behind those that failed."""
    the = pool()
    open_all(the, 0.0, 1)
    the.begun()
    for _ in range(7):
        fail(the, 10.0)
    the.opened(10.1)
    assert opens_in(the, 10.1) <= FIRST_DELAY


# A server that is away


def test_a_server_may_be_away_for_a_while() -> None:
    the = pool()
    (connection,) = open_all(the, 0.0, 1)
    the.closed(connection, 9.0, by_server=True)
    assert not the.is_away(9.0)
    fail(the, 10.0)
    assert not the.is_away(10.0 + OUTAGE_SECONDS - 1)
    fail(the, 10.0 + OUTAGE_SECONDS)
    assert the.is_away(10.0 + OUTAGE_SECONDS)


def test_a_server_that_comes_back_is_not_away() -> None:
    the = pool()
    fail(the, 10.0)
    (connection,) = open_all(the, 500.0, 1)
    the.closed(connection, 550.0, by_server=True)
    fail(the, 650.0)
    assert not the.is_away(650.0)
    assert the.is_away(650.0 + OUTAGE_SECONDS)


def test_a_server_with_an_open_connection_is_not_away() -> None:
    the = pool()
    open_all(the, 0.0, 1)
    fail(the, 10.0)
    assert not the.is_away(10.0 + 2 * OUTAGE_SECONDS)


def test_the_outage_begins_when_the_last_connection_is_gone() -> None:
    """A server that takes one connection has refused others all the time."""
    the = pool()
    (connection,) = open_all(the, 0.0, 1)
    fail(the, 1.0, is_busy=True)
    the.closed(connection, 2 * OUTAGE_SECONDS, by_server=True)
    fail(the, 2 * OUTAGE_SECONDS + 1, is_busy=True)
    assert not the.is_away(2 * OUTAGE_SECONDS + 1)


# The end of a connection


def test_a_connection_takes_so_many_messages() -> None:
    the = pool(max_per_connection=10)
    (connection,) = open_all(the, 0.0, 1)
    assert the.room(connection) == 10
    sent(connection, 9, 1.0)
    assert (the.room(connection), the.is_spent(connection, 1.0)) == (1, False)
    sent(connection, 1, 1.0)
    assert (the.room(connection), the.is_spent(connection, 1.0)) == (0, True)


def test_a_connection_takes_any_number_of_messages() -> None:
    the = pool()
    (connection,) = open_all(the, 0.0, 1)
    sent(connection, 1_000_000, 1.0)
    assert (the.room(connection), the.is_spent(connection, 1.0)) == (math.inf, False)


def test_a_connection_has_an_age() -> None:
    the = pool(max_connection_seconds=60.0)
    (connection,) = open_all(the, 10.0, 1)
    connection.used = 69.0
    assert not the.is_spent(connection, 69.5)
    assert the.is_spent(connection, 70.0)


def test_a_connection_is_idle_for_so_long() -> None:
    the = pool(idle_seconds=5.0)
    (connection,) = open_all(the, 10.0, 1)
    assert not the.is_spent(connection, 14.5)
    assert the.is_spent(connection, 15.0)
    sent(connection, 1, 14.0)
    assert not the.is_spent(connection, 18.5)
    assert the.is_spent(connection, 19.0)


def test_what_we_close_says_nothing_of_the_server() -> None:
    the = pool()
    connections = open_all(the, 0.0, 8)
    for connection in connections:
        sent(connection, 7, 1.0)
        the.closed(connection, 20.0, by_server=False)
    assert (the.limit, the.idle_seconds, the.max_per_connection) == (8, 30.0, math.inf)
    assert the.open == []


# What is learnt from how a server closes


def close_after(the: Pool, count: int, now: float, *, with_421: bool = True) -> None:
    """The server closes a connection on which more was under way."""
    (connection,) = open_all(the, now, 1)
    sent(connection, count, now)
    connection.give(now, 1)
    the.closed(connection, now, by_server=True, with_421=with_421)


def test_the_same_number_twice_is_the_servers_limit() -> None:
    the = pool()
    close_after(the, 20, 10.0)
    assert the.max_per_connection == math.inf
    close_after(the, 20, 20.0)
    assert the.max_per_connection == 20


def test_two_numbers_are_no_limit() -> None:
    the = pool()
    for number, count in enumerate((20, 30, 20, 25)):
        close_after(the, count, 10.0 * number)
    assert the.max_per_connection == math.inf


def test_connections_that_brought_nothing_are_no_limit() -> None:
    the = pool()
    for number in range(3):
        close_after(the, 0, 100.0 * number)
    assert the.max_per_connection == math.inf


def test_ends_without_421_are_no_limit() -> None:
    the = pool()
    for number in range(3):
        close_after(the, 20, 100.0 * number, with_421=False)
    assert (the.max_per_connection, the.limit) == (math.inf, 8)


def test_what_is_learnt_is_no_more_than_what_was_asked_for() -> None:
    the = pool(max_per_connection=10)
    for number in range(2):
        close_after(the, 20, 10.0 * number)
    assert the.max_per_connection == 10


def test_the_first_421_is_a_sign_and_the_second_is_none() -> None:
    """By then the limit is a known number, and it is kept to."""
    the = pool()
    open_all(the, 0.0, 7)
    close_after(the, 20, 10.0)
    assert the.limit == 3
    close_after(the, 20, 20.0)
    assert the.limit == 3


def test_421_before_any_answer_makes_a_pause() -> None:
    the = pool()
    close_after(the, 0, 10.0)
    assert the.resumes_in(10.0) == FIRST_PAUSE


def test_421_after_messages_makes_none() -> None:
    the = pool()
    close_after(the, 5, 10.0)
    assert the.resumes_in(10.0) == 0.0


def close_rested(the: Pool, seconds: float, *, with_421: bool = False) -> None:
    """The server has closed a connection that was idle, which is found when it is used again."""
    (connection,) = open_all(the, 0.0, 1)
    sent(connection, 5, 10.0)
    for _ in range(3):
        connection.give(10.0 + seconds, 1)
    the.closed(connection, 10.5 + seconds, by_server=True, with_421=with_421)


@pytest.mark.parametrize("with_421", [False, True])
@pytest.mark.parametrize(("idle", "learnt"), [(8.0, 4.0), (1.5, 1.0), (1.0, 1.0), (100.0, 30.0)])
def test_how_long_a_connection_may_be_idle_is_learnt(
    idle: float, learnt: float, with_421: bool
) -> None:
    """Half of it, so as to be there first."""
    the = pool()
    for _ in range(2):
        close_rested(the, idle, with_421=with_421)
    assert the.idle_seconds == learnt
    # It says nothing about how much it was, nor after how many messages.
    assert (the.limit, the.max_per_connection) == (8, math.inf)
    assert the.resumes_in(11.0 + idle) == 0.0


def test_the_shortest_is_kept() -> None:
    the = pool()
    for idle in (8.0, 20.0):
        close_rested(the, idle)
    assert the.idle_seconds == 4.0


def test_one_that_was_closed_soon_was_not_closed_for_being_idle() -> None:
    the = pool()
    close_rested(the, LEAST_IDLE_SECONDS / 2)
    assert the.idle_seconds == 30.0


def test_one_that_said_something_after_its_rest_was_not_closed_for_being_idle() -> None:
    the = pool()
    (connection,) = open_all(the, 0.0, 1)
    connection.give(10.0, 1)
    connection.give(10.0, 1)
    connection.answer(11.0, 1)
    the.closed(connection, 12.0, by_server=True)
    assert the.idle_seconds == 30.0


def test_one_with_something_under_way_does_not_rest() -> None:
    the = pool()
    (connection,) = open_all(the, 0.0, 1)
    connection.give(0.0, 1)
    connection.give(20.0, 1)
    the.closed(connection, 20.0, by_server=True)
    assert the.idle_seconds == 30.0


def test_since_when_a_connection_waits_for_its_server() -> None:
    connection = ConnectionStatistics(opened=100.0, used=100.0)
    connection.give(105.0, 1)
    connection.give(106.0, 1)
    assert connection.waits_since == 105.0
    connection.answer(107.0, 1)
    assert connection.waits_since == 107.0
    connection.answer(108.0, 1)
    connection.give(120.0, 1)
    assert connection.waits_since == 120.0
