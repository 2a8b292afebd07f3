"""T1 and T3: Ctrl-C at any moment. What the server has is never told or recorded as deferred or
queued, and nothing is sent twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..requirements import needs_signals
from .interrupts import Account, Face, Way, interrupt

RUNS = 20

pytestmark = needs_signals

every_face = pytest.mark.parametrize("face", ["bulk", "send_many"])
plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def account(
    directory: Path, face: Face, way: Way, *, tls: bool, chunking: bool = False, every: int = 1
) -> Account:
    found = interrupt(directory, face, RUNS, way, chunking=chunking, tls=tls, every=every)
    assert found.is_right, found
    # And not between two runs, most of the time.
    assert found.interrupted >= RUNS // 2
    if face == "bulk":
        assert not found.untold
    return found


@every_face
@plain_and_tls
def test_a_signal_at_any_time(face: Face, tls: bool, tmp_path: Path) -> None:
    account(tmp_path, face, "signals", tls=tls)


@every_face
def test_a_signal_at_any_time_in_a_stream(face: Face, tmp_path: Path) -> None:
    account(tmp_path, face, "signals", tls=True, chunking=True)


@every_face
@plain_and_tls
def test_wherever_python_looks_for_signals(face: Face, tls: bool, tmp_path: Path) -> None:
    account(tmp_path, face, "steps", tls=tls)


@pytest.mark.parametrize(
    ("face", "tls"),
    [
        ("send_many", False),
        ("send_many", True),
        pytest.param("bulk", False, marks=pytest.mark.long),
        pytest.param("bulk", True, marks=pytest.mark.long),
    ],
)
def test_before_and_behind_every_call(face: Face, tls: bool, tmp_path: Path) -> None:
    # All calls of a bulk run take a minute, so it is any third of them:
    # `python -m tests.bulk.interrupts --calls` makes all.
    found = account(tmp_path, face, "calls", tls=tls, every=3 if face == "bulk" else 1)
    assert found.runs > RUNS // 2
