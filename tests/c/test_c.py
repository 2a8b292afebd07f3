"""Build and run the C tests of the kernels: plain, with ASan and UBSan, and in Valgrind."""

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

# Where each step takes many times as long, there are fewer of them.
BRIEF = ("-DBRIEF",)

# test_pipeline.c covers the files that the pipeline is made of.
PARTS_OF_PIPELINE = {"message", "pipeline_answer", "pipeline_send", "ring", "steps"}
TESTED = [kernel for kernel in building.KERNELS if kernel not in PARTS_OF_PIPELINE]

# The kernels that allocate memory. The tests of the others would take minutes in Valgrind.
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
    """Return the C compiler and its options from the environment variable CC, by default cc."""
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
    *,
    own: Sequence[str] = (),
) -> None:
    """Build the test of a kernel, with flags of its `own`, and run it, in the wrapper if any."""
    program = directory / f"test_{kernel}"
    source = Path(__file__).parent / f"test_{kernel}.c"
    denying = DENYING if kernel in ALLOCATING else ()
    if denying and not building.builds(compiler, denying, directory):
        unavailable(f"the linker of {compiler[0]} has no --wrap")
    building.build(compiler, flags, source, program, own=[*own, *denying])
    done = subprocess.run([*wrapper, str(program)], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" passed, 0 failed\n")


@pytest.mark.parametrize("flags", [(), building.SANITIZED], ids=["plain", "sanitized"])
@pytest.mark.parametrize("kernel", TESTED)
def test_kernel(kernel: str, flags: tuple[str, ...], compiler: list[str], tmp_path: Path) -> None:
    if flags and not building.runs(compiler, flags, tmp_path):
        unavailable(f"{compiler[0]} can't build with {shlex.join(flags)} here")
    check(kernel, compiler, flags, tmp_path, own=BRIEF if flags else ())


def test_the_loop_if_sendmsg_waits_as_on_macos(compiler: list[str], tmp_path: Path) -> None:
    check("fdloop", compiler, ("-DCSMTP_SEND_BY_MODE", "-Wl,--wrap=sendmsg"), tmp_path)


@pytest.mark.parametrize("kernel", ALLOCATING)
def test_kernel_in_valgrind(kernel: str, compiler: list[str], tmp_path: Path) -> None:
    if shutil.which(MEMCHECK[0]) is None:
        unavailable("no valgrind: install it")
    check(kernel, compiler, (), tmp_path, MEMCHECK, own=BRIEF)
