"""Compile the kernels for other systems and processors, and run their tests on such processors.

CSMTPLIB_MACHINES names the processors to emulate, as in "aarch64 s390x": each takes half a minute.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ..requirements import unavailable
from . import building
from .test_c import TESTED, check

# The loop over descriptors needs the headers of a system with poll().
KERNELS = [each for each in building.KERNELS if each != "fdloop"]

# Clang compiles for all of them, and for Windows by Microsoft's rules. As the headers of these
# systems are not available, freestanding/ declares what the kernels use of a C library.
FREESTANDING = ("-ffreestanding", f"-I{Path(__file__).parent / 'freestanding'}", "-Wvla")
TARGETS = [
    "aarch64-pc-windows-msvc",
    "i686-pc-windows-msvc",
    "i686-pc-windows-msvc -msse2",
    "x86_64-pc-windows-msvc",
    "arm64-apple-macosx11",
    "x86_64-apple-macosx10.13",
    "aarch64-linux-gnu",
    "armv7-linux-gnueabihf",
    "i386-linux-gnu",
    "powerpc64le-linux-gnu",
    "riscv64-linux-gnu",
    "s390x-linux-gnu",
]

# With Windows' own headers.
MINGW = ["x86_64-w64-mingw32-gcc", "i686-w64-mingw32-gcc"]

# Debian's names of processors.
MACHINES = os.environ.get("CSMTPLIB_MACHINES", "").split()


@pytest.mark.parametrize("target", TARGETS)
def test_the_kernels_compile_for(target: str, tmp_path: Path) -> None:
    compiler = [building.clang(), *f"--target={target}".split()]
    if not building.builds(compiler, ["-c"], tmp_path):
        unavailable(f"{compiler[0]} has no target {target}")
    building.build_objects(compiler, FREESTANDING, KERNELS, tmp_path)


@pytest.mark.parametrize("compiler", MINGW)
def test_the_kernels_compile_by(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        unavailable(f"no {compiler}: install a cross compiler of MinGW-w64")
    building.build_objects([compiler], (), KERNELS, tmp_path)


@pytest.mark.skipif(not MACHINES, reason="CSMTPLIB_MACHINES names no processor to emulate")
@pytest.mark.parametrize("kernel", TESTED)
@pytest.mark.parametrize("machine", MACHINES)
def test_the_kernels_run_on(machine: str, kernel: str, tmp_path: Path) -> None:
    emulator = f"qemu-{machine}"
    compiler = f"{machine}-linux-gnu-gcc"
    for program in (compiler, emulator):
        assert shutil.which(program), f"no {program}"
    check(kernel, [compiler], ["-static"], tmp_path, [emulator])
