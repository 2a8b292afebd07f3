"""Compiles the kernels of csrc/ together with C tests, outside the tree."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
KERNELS = sorted(path.stem for path in CSRC.glob("*.c"))
HEADERS = Path(__file__).parent

STRICT = ("-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2", "-g")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMPILING_SECONDS = 120


def unavailable(reason: str) -> NoReturn:
    """Skip the test for want of a program; with CI set in the environment fail it instead."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def build(compiler: Sequence[str], flags: Sequence[str], source: Path, program: Path) -> None:
    """Compile `source` together with all kernels into `program`; a warning fails the test."""
    command = [
        *compiler,
        *STRICT,
        *flags,
        f"-I{CSRC}",
        f"-I{HEADERS}",
        str(source),
        # All, as some need others, and a second compiles them.
        *(str(CSRC / f"{kernel}.c") for kernel in KERNELS),
        "-o",
        str(program),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILING_SECONDS)
    if done.returncode != 0:
        pytest.fail(f"{shlex.join(command)}\n{done.stderr}")


def preloadable(source: Path, directory: Path) -> Path:
    """Compile a library to be preloaded; return where it is. The test is skipped where that can't
    be, and fails with CI set."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not sys.platform.startswith("linux") or compiler is None:
        unavailable(f"a C compiler and a Linux system are needed to preload {source.name}")
    library = directory / f"{source.stem}.so"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    command = [compiler, *flags, str(source), "-o", str(library), "-ldl"]
    subprocess.run(command, timeout=COMPILING_SECONDS, check=True)
    return library


def runs_sanitized(compiler: Sequence[str], flags: Sequence[str], directory: Path) -> bool:
    """Whether the compiler builds programs with these sanitizers, and the system runs them."""
    source = directory / "empty.c"
    program = directory / "empty"
    source.write_text("int main(void) { return 0; }\n")
    built = subprocess.run(
        [*compiler, *flags, str(source), "-o", str(program)],
        capture_output=True,
        timeout=COMPILING_SECONDS,
    )
    return built.returncode == 0 and subprocess.run([program], timeout=60).returncode == 0
