"""T4: a campaign that is killed at any step, its first ones too, goes on or is begun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import csmtplib

from ..c.building import preloadable
from ..requirements import needs_fork
from .begun_and_killed import RECIPIENTS

ROOT = Path(__file__).parents[2]
KILLER = ROOT / "tests" / "bulk" / "killed_at_a_call.c"


@needs_fork
@pytest.mark.long
@pytest.mark.parametrize("in_doubt", ["hold", "resend"])
def test_a_campaign_that_is_killed_at_any_step(tmp_path: Path, in_doubt: str) -> None:
    library = preloadable(KILLER, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.begun_and_killed", tmp_path, in_doubt],
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": str(library), "CSMTPLIB_IMPL": csmtplib.implementation},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["killed"] for each in found] == [True] * (len(found) - 1) + [False]
    assert all(each["report"] == 0 for each in found)
    # Before there was a journal, before it had the campaign, and after that.
    ways = [each["steps"][0] for each in found if each["killed"]]
    assert {code for _, code in ways} >= {66, 65, 0}
    for each in found:
        if in_doubt == "resend":
            assert (each["code"], each["accepted"]) == (0, RECIPIENTS)
        elif each["code"] == 0:
            assert (each["accepted"], each["doubled"]) == (RECIPIENTS, 0)
        else:
            assert (each["code"], each["doubled"]) == (76, 0)
