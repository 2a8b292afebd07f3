"""Campaigns through kill -9 (case 67): nothing is lost, and doubled only where that is allowed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..c.building import preloadable
from ..requirements import needs_fork

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.long,
    needs_fork,
]


def kills(*options: str, **environment: str) -> list[dict[str, int]]:
    """Runs kills.py, which fails where an account is not right; the accounts."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bulk.kills", *options],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [
        {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)}
        for line in done.stdout.splitlines()
    ]


@pytest.mark.parametrize(
    "mode", ["--chunking", "", "--sequential"], ids=["chunking", "data", "sequential"]
)
@pytest.mark.parametrize("policy", ["hold", "resend"])
def test_a_campaign_that_is_killed_again_and_again(policy: str, mode: str) -> None:
    size = ["--recipients", "2500", "--kills", "25"]
    (account,) = kills(*size, "--in-doubt", policy, *filter(None, [mode]))
    assert account["kills"] >= 20
    assert account["accepted"] + account["in_doubt"] == 2500
    assert account["in_doubt"] == 0 or policy == "hold"


@pytest.mark.parametrize("policy", ["hold", "resend"])
def test_a_campaign_that_is_killed_at_any_step(policy: str, tmp_path: Path) -> None:
    library = preloadable(Path(__file__).with_name("killed_at_a_call.c"), tmp_path)
    accounts = kills("--calls", "--in-doubt", policy, LD_PRELOAD=str(library))
    assert len(accounts) > 30
    assert [each["kills"] for each in accounts] == [1] * (len(accounts) - 1) + [0]
    # Some were killed before the first message, and some behind the last one.
    assert {each["accepted"] for each in accounts} >= {4}
    if policy == "hold":
        assert any(each["in_doubt"] for each in accounts)
    else:
        assert any(each["doubled"] for each in accounts)
