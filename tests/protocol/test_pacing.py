"""protocol/pacing.py: when commands are answered sooner one by one than in a flight."""

from __future__ import annotations

from csmtplib.protocol.pacing import Pace

HELD = 0.04  # seconds, as Linux delays acknowledgements
STEP = 0.001


def hold(pace: Pace, flights: int, commands: int = 3, gap: float = HELD) -> None:
    for _ in range(flights):
        pace.learn_flight(commands, gap)


def test_replies_that_come_together() -> None:
    pace = Pace()
    hold(pace, 10, gap=0.0)
    pace.learn_sequence(3, 3 * STEP)
    assert not pace.is_sequential_due(3)


def test_the_third_transaction_is_tried_sequentially() -> None:
    """T7: where nothing makes the system acknowledge at once."""
    pace = Pace()
    assert not pace.is_sequential_due(3)
    hold(pace, 1)
    assert not pace.is_sequential_due(3)
    hold(pace, 1)
    assert pace.is_sequential_due(3)
    assert not pace.is_sequential_faster(3)
    pace.learn_sequence(3, 3 * STEP)
    assert pace.is_sequential_due(3)
    assert pace.is_sequential_faster(3)


def test_only_flights_in_a_row_count() -> None:
    pace = Pace()
    for _ in range(10):
        hold(pace, 1)
        pace.learn_flight(3, 0.001)
        assert not pace.is_sequential_due(3)


def test_many_recipients_go_in_a_flight() -> None:
    """Their round trips take longer than the server is held up."""
    pace = Pace()
    hold(pace, 2)
    pace.learn_sequence(3, 3 * STEP)
    assert pace.is_sequential_due(30)
    assert not pace.is_sequential_due(40)
    # The commands that have been the fastest count.
    pace.learn_sequence(10, 10 * STEP / 4)
    pace.learn_sequence(10, 10 * STEP * 4)
    assert pace.is_sequential_due(100)


def test_server_that_takes_long_for_a_recipient() -> None:
    """It is slow either way: the tries become rare."""
    pace = Pace()
    tries = []
    for number in range(200):
        if pace.is_sequential_due(3):
            tries.append(number)
            pace.learn_sequence(3, 0.2 + 3 * STEP)
        else:
            hold(pace, 1, gap=0.2)
    assert tries == [2, 7, 16, 33, 66, 131]


def test_a_distant_server_is_not_tried_again_at_once() -> None:
    """Where a round trip takes as long as an acknowledgement, flights are faster."""
    pace = Pace()
    hold(pace, 2)
    pace.learn_sequence(3, 3 * 0.05)
    assert not pace.is_sequential_due(3)
    hold(pace, 3)
    assert not pace.is_sequential_due(3)
    hold(pace, 1)
    assert pace.is_sequential_due(3)


def test_a_shorter_transaction_proves_nothing() -> None:
    """A server that takes long for each of many recipients is fast with one."""
    pace = Pace()
    hold(pace, 2, commands=102, gap=2.0)
    assert not pace.is_sequential_due(3)
    assert pace.is_sequential_due(102)
    pace.learn_sequence(3, 0.02)
    assert not pace.is_sequential_faster(3)
    pace.learn_sequence(102, 2.1)
    assert not pace.is_sequential_faster(3)
    assert not pace.is_sequential_due(102)
