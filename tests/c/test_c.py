"""Builds and runs the C tests of the kernels, plain and under ASan and UBSan."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from . import building

SECONDS = 300


@pytest.fixture
def compiler() -> list[str]:
    """The C compiler as the environment variable CC names it, with its options; else cc."""
    command = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(command[0]) is None:
        building.unavailable(f"no C compiler {command[0]}: install one, or name another in CC")
    return command


@pytest.mark.parametrize("flags", [(), building.SANITIZED], ids=["plain", "sanitized"])
@pytest.mark.parametrize("kernel", building.KERNELS)
def test_kernel(kernel: str, flags: tuple[str, ...], compiler: list[str], tmp_path: Path) -> None:
    if flags and not building.runs_sanitized(compiler, flags, tmp_path):
        building.unavailable(f"{compiler[0]} can't build with {shlex.join(flags)} here")
    program = tmp_path / f"test_{kernel}"
    source = Path(__file__).parent / f"test_{kernel}.c"
    building.build(compiler, flags, source, kernel, program)
    done = subprocess.run([program], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" passed, 0 failed\n")
