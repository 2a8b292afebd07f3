"""Builds and runs the C tests of the kernels: plain, under ASan and UBSan, and in Valgrind."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ..requirements import needs_posix, unavailable
from . import building

pytestmark = needs_posix

SECONDS = 300

# Those that keep memory from one call to the next; the others would take minutes in Valgrind.
ALLOCATING = ("fdloop", "pipeline", "receive")
# Their allocations go through tests/c/denial.h.
DENYING = ("-Wl,--wrap=malloc,--wrap=realloc",)
MEMCHECK = (
    "valgrind",
    "--quiet",
    "--error-exitcode=9",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite,possible",
)


@pytest.fixture
def compiler() -> list[str]:
    """The C compiler as the environment variable CC names it, with its options; else cc."""
    command = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(command[0]) is None:
        unavailable(f"no C compiler {command[0]}: install one, or name another in CC")
    return command


def check(
    kernel: str,
    compiler: Sequence[str],
    flags: Sequence[str],
    directory: Path,
    wrapper: Sequence[str] = (),
) -> None:
    """Build the test of a kernel and run it, in a wrapper where one is given."""
    program = directory / f"test_{kernel}"
    source = Path(__file__).parent / f"test_{kernel}.c"
    denying = DENYING if kernel in ALLOCATING else ()
    if denying and not building.builds(compiler, denying, directory):
        unavailable(f"the linker of {compiler[0]} has no --wrap")
    building.build(compiler, [*flags, *denying], source, program)
    done = subprocess.run([*wrapper, str(program)], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" passed, 0 failed\n")


@pytest.mark.parametrize("flags", [(), building.SANITIZED], ids=["plain", "sanitized"])
@pytest.mark.parametrize("kernel", building.KERNELS)
def test_kernel(kernel: str, flags: tuple[str, ...], compiler: list[str], tmp_path: Path) -> None:
    if flags and not building.runs(compiler, flags, tmp_path):
        unavailable(f"{compiler[0]} can't build with {shlex.join(flags)} here")
    check(kernel, compiler, flags, tmp_path)


def test_the_loop_where_sending_waits_as_on_macos(compiler: list[str], tmp_path: Path) -> None:
    check("fdloop", compiler, ("-DCSMTP_SEND_BY_MODE", "-Wl,--wrap=sendmsg"), tmp_path)


@pytest.mark.parametrize("kernel", ALLOCATING)
def test_kernel_in_valgrind(kernel: str, compiler: list[str], tmp_path: Path) -> None:
    if shutil.which(MEMCHECK[0]) is None:
        unavailable("no valgrind: install it")
    check(kernel, compiler, (), tmp_path, MEMCHECK)
