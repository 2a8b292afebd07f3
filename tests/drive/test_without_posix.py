"""The package on a system with neither poll() nor unix sockets, as Windows is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import csmtplib

from .talking import HAS_POLL

ROOT = Path(__file__).parents[2]
SECONDS = 300


@pytest.mark.long
@pytest.mark.skipif(not HAS_POLL, reason="there is no poll() to do without")
@pytest.mark.parametrize("tests", ["tests/drive", "tests/bulk/test_sender.py"])
def test_the_package_does_without(tests: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "4", "-p", "tests.without_posix", tests],
        cwd=ROOT,
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout
