"""protocol/limits.py: how long each answer may take (RFC 5321 section 4.5.3.2), in seconds."""

from __future__ import annotations

import pytest

from csmtplib.kernel.transaction import Phase
from csmtplib.protocol.dialogue import Exchange
from csmtplib.protocol.flows import open_session
from csmtplib.protocol.limits import at_least, at_most
from csmtplib.protocol.outcome import Reply
from csmtplib.protocol.server_url import Server

RFC_5321 = {Phase.COMMAND: 300, Phase.DATA: 120, Phase.BLOCK: 180, Phase.CONTENT: 600}
OURS = {Phase.PROBE: 1, Phase.EARLY: 30}


def test_phases_are_in_order() -> None:
    assert [*RFC_5321, *OURS] == list(Phase)


@pytest.mark.parametrize(
    ("timeout", "phases", "idle"),
    [
        (None, [300, 120, 180, 600, 1, 30], None),
        # As in smtplib, which waits so long for an byte, however many come.
        (5.0, [300, 120, 180, 600, 1, 30], 5.0),
        (200.0, [300, 200, 200, 600, 1, 30], 200.0),
        (1000.0, [1000, 1000, 1000, 1000, 1, 30], 1000.0),
    ],
)
def test_timeout_of_a_socket(timeout: float | None, phases: list[float], idle: object) -> None:
    limits = at_least(timeout)
    assert list(limits.phases) == phases
    assert limits.idle == idle


@pytest.mark.parametrize(
    ("timeout", "phases"),
    [
        (None, [300, 120, 180, 600, 1, 30]),
        (5.0, [5, 5, 5, 5, 1, 5]),
        (150.0, [150, 120, 150, 150, 1, 30]),
        (1000.0, [300, 120, 180, 600, 1, 30]),
    ],
)
def test_timeout_of_a_server_url(timeout: float | None, phases: list[float]) -> None:
    limits = at_most(timeout)
    assert list(limits.phases) == phases
    assert limits.idle is None


def test_time_that_each_answer_of_a_session_may_take() -> None:
    flow = open_session(Server(), "client.test")
    steps = [next(flow), flow.send(Reply(220, b""))]
    assert [step.seconds for step in steps if isinstance(step, Exchange)] == [300, 300]
