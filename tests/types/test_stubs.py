"""The stubs of the compiled modules agree with what these have at run time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..requirements import unavailable

pytestmark = pytest.mark.long
ALLOWED = Path(__file__).with_name("stubtest_allowlist.txt")
MODULES = ["csmtplib.kernel._c", "csmtplib.kernel._c_pipeline", "csmtplib.drive._fd"]


@pytest.mark.parametrize("module", MODULES)
def test_a_stub_agrees_with_its_module(module: str) -> None:
    try:
        __import__(module)
    except ImportError:
        unavailable(f"{module} was not built: install with CSMTPLIB_BUILD=require")
    options = ["--concise", "--allowlist", str(ALLOWED), "--ignore-unused-allowlist"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", *options, module],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
