"""CPython's own tests of smtplib, unmodified, with csmtplib in its place."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..requirements import unavailable
from .child import environment

# There are 83 on Python 3.10 and 86 on 3.15. Fewer, and somebody has lost what is to be shown.
PLAUSIBLE_NUMBER_OF_TESTS = 80
SUITE = Path(__file__).with_name("suite.py")
TIMEOUT_SECONDS = 120

Outcomes = dict[str, str]


class SuiteDidNotRun(Exception):
    """The process ended without outcomes; the message is what it printed."""


@pytest.fixture(scope="module", autouse=True)
def shipped_suite() -> None:
    """Distributions, and slim images of CPython, leave the tests out. That some of the package
    `test` is there says nothing: Debian's python3 has it, without the tests."""
    package = importlib.util.find_spec("test")
    if package is None or importlib.util.find_spec("test.test_smtplib") is None:
        unavailable(
            "this Python comes without test.test_smtplib: install its test suite (Debian: "
            f"libpython{sys.version_info.major}.{sys.version_info.minor}-testsuite)"
        )


def run_suite(module: str, patching: str, directory: Path) -> Outcomes:
    """The outcome of each test with `module` as smtplib. Shows what the process printed; pytest
    passes that on for a test that fails."""
    outcomes = directory / f"{module}-{patching}.json"
    process = subprocess.run(
        [sys.executable, str(SUITE), module, patching, str(outcomes)],
        env=environment(),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    print(f"{module} as smtplib, patched by {patching}:\n{process.stdout}")
    if not outcomes.exists():
        raise SuiteDidNotRun(process.stdout)
    found: Outcomes = json.loads(outcomes.read_text("utf-8"))
    return found


def passed(outcomes: Outcomes) -> list[str]:
    return [test for test, outcome in outcomes.items() if outcome == "passed"]


def test_the_suite_passes(tmp_path: Path) -> None:
    outcomes = run_suite("csmtplib", "none", tmp_path)
    assert [test for test, outcome in outcomes.items() if outcome == "failed"] == []
    assert len(passed(outcomes)) >= PLAUSIBLE_NUMBER_OF_TESTS


@pytest.mark.parametrize("patching", ["gevent", "eventlet"])
def test_the_suite_passes_with_a_patched_standard_library(patching: str, tmp_path: Path) -> None:
    """As far as it does with the stdlib's own module, which tells csmtplib's faults from those of
    the patching."""
    try:
        importlib.metadata.version(patching)
    except importlib.metadata.PackageNotFoundError:
        unavailable(f"{patching} is not installed: pip install {patching}")
    try:
        expected = run_suite("smtplib", patching, tmp_path)
    except SuiteDidNotRun as error:
        # Installed, and no use here: which Pythons they serve is theirs to choose, also in CI.
        reason = str(error).strip().rpartition("\n")[2]
        pytest.skip(f"the stdlib's own module can't be tested under {patching}: {reason}")
    outcomes = run_suite("csmtplib", patching, tmp_path)
    lost = [test for test in passed(expected) if test not in passed(outcomes)]
    assert lost == []
    assert len(outcomes) >= PLAUSIBLE_NUMBER_OF_TESTS
