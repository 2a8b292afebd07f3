"""No argument, whatever its type, crashes the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import csmtplib
from csmtplib import kernel
from csmtplib.drive import transactions

from .wrong_types import __name__ as program


def test_entry_points_called_with_wrong_types() -> None:
    """T26: _fd.run_together([None]), Pipeline.push() and envelope_lines() crashed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", program],
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert lines[-1:] == ["alive"], f"the last call was {lines[-1:]}\n{done.stderr}"
    assert done.returncode == 0


@pytest.mark.skipif(not transactions.HAS_FD_LOOP, reason="needs the loop in C")
def test_none_as_a_connection() -> None:
    """T26"""
    from csmtplib.drive import _fd

    with pytest.raises(TypeError, match="expected Connection, not NoneType"):
        _fd.run_together([None], [0], 0, 100, 0.0)  # type: ignore[list-item]


@pytest.mark.skipif(csmtplib.implementation != "c", reason="C's own checks")
def test_none_as_a_command() -> None:
    """T26"""
    pipeline = kernel.Pipeline(kernel.ReplyBuffer(100, 100), 1, False, True, False, 1000)
    with pytest.raises(TypeError, match="expected bytes for a command, not None"):
        pipeline.push(None, [None, None], kernel.Content([b"x"], True))  # type: ignore[list-item]
