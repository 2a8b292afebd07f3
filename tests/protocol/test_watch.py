"""protocol/watch.py: how long a driver may wait, by a clock of the test's."""

from __future__ import annotations

from typing import Any

import pytest

from csmtplib.kernel.transaction import Phase
from csmtplib.protocol.limits import Limits
from csmtplib.protocol.watch import Watch

# One for each phase, in their order.
PHASES = (300.0, 120.0, 180.0, 600.0, 1.0, 30.0)


class Pipeline:
    """As much of a pipeline as a watch looks at."""

    def __init__(self, phase: Phase = Phase.COMMAND) -> None:
        self.now_in = phase
        self.booked = 0

    def phase(self) -> int:
        return self.now_in


def watch(pipeline: Any, idle: float | None = None) -> Watch:
    return Watch(pipeline, Limits(PHASES, idle), 0.0)


@pytest.mark.parametrize("phase", [Phase.COMMAND, Phase.DATA, Phase.BLOCK, Phase.CONTENT])
def test_each_phase_has_its_limit(phase: Phase) -> None:
    one = watch(Pipeline(phase))
    assert one.note(10.0, False, False) == PHASES[phase] - 10
    assert one.allowed_seconds == PHASES[phase]


def test_a_phase_begins_when_the_one_before_ends() -> None:
    pipeline = Pipeline()
    one = watch(pipeline)
    assert one.note(100.0, False, False) == 200
    pipeline.now_in = Phase.DATA
    assert one.note(110.0, False, True) == 120
    assert one.note(120.0, False, False) == 110


def test_each_reply_begins_the_phase_again() -> None:
    """A command has a limit, and a flight has many commands."""
    pipeline = Pipeline()
    one = watch(pipeline)
    assert one.note(100.0, False, False) == 200
    pipeline.booked += 1
    assert one.note(100.0, False, True) == 300


def test_each_block_that_leaves_begins_the_phase_again() -> None:
    one = watch(Pipeline(Phase.BLOCK))
    assert one.note(100.0, False, False) == 80
    assert one.note(100.0, True, False) == 180
    # What is written of anything else does not make an answer due later.
    one = watch(Pipeline(Phase.CONTENT))
    assert one.note(100.0, True, False) == 500


def test_bytes_without_a_reply_do_not_extend_a_phase() -> None:
    one = watch(Pipeline())
    assert one.note(100.0, False, True) == 200
    assert one.note(200.0, False, True) == 100


def test_the_limit_of_silence() -> None:
    pipeline = Pipeline()
    one = watch(pipeline, idle=5.0)
    assert one.note(1.0, False, False) == 4
    assert one.allowed_seconds == 5
    assert one.note(2.0, False, True) == 5
    assert one.note(3.0, True, False) == 5
    # That of the phase counts if it comes first.
    assert one.note(298.0, False, True) == 2
    assert one.allowed_seconds == 300


def test_time_between_two_runs_is_left_out() -> None:
    one = watch(Pipeline(), idle=50.0)
    one.note(10.0, False, True)
    one.shift(1000.0)
    assert one.note(1010.0, False, False) == 50
    assert one.note(1020.0, False, True) == 50
    # Nor does it count as a wait between two replies.
    assert one.gap == 10


def test_the_longest_wait_between_replies_to_one_flight() -> None:
    one = watch(Pipeline())
    one.note(1.0, True, False)
    one.note(2.0, False, True)
    assert one.gap == 0
    one.note(2.5, False, True)
    one.note(2.75, False, True)
    assert one.gap == 0.5
    # What comes after something was written is the answer to that.
    one.note(3.0, True, False)
    one.note(9.0, False, True)
    assert one.gap == 0.5


def test_what_was_sent_early_may_take_ten_round_trips_more() -> None:
    pipeline = Pipeline()
    one = watch(pipeline)
    pipeline.booked += 1
    one.note(2.0, False, True)
    pipeline.booked += 1
    one.note(2.5, False, True)
    pipeline.now_in = Phase.PROBE
    assert one.note(3.0, True, False) == 1 + 10 * 2
    pipeline.now_in = Phase.EARLY
    assert one.note(4.0, True, False) == 30 + 10 * 2
    # But never longer than any command.
    pipeline.now_in = Phase.COMMAND
    one.note(5.0, True, False)
    pipeline.booked += 1
    one.note(104.0, False, True)
    pipeline.now_in = Phase.EARLY
    assert one.note(105.0, True, False) == 300
