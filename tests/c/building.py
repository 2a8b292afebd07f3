"""Compile the kernels of csrc/ together with C tests, outside the source tree."""

from __future__ import annotations

import functools
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ..requirements import unavailable

CSRC = Path(__file__).parents[2] / "csrc"
KERNELS = sorted(path.stem for path in CSRC.glob("*.c"))
HEADERS = Path(__file__).parent

STRICT = ("-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2", "-g")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMPILING_SECONDS = 120

# clang's own name first, then the versioned ones, the newest first.
CLANGS = ("clang", *(f"clang-{version}" for version in range(21, 13, -1)))


def clang() -> str:
    """Return the first clang that is found. Without one, skip the test, or fail it if CI is set."""
    found = next((name for name in CLANGS if shutil.which(name)), None)
    if found is None:
        unavailable("no clang: install clang 14 or newer")
    return found


def build(
    compiler: Sequence[str],
    flags: Sequence[str],
    source: Path,
    program: Path,
    *,
    own: Sequence[str] = (),
) -> None:
    """Compile `source`, with flags of its `own`, and link it with all kernels into `program`; a
    warning fails the test."""
    command = [
        *compiler,
        *STRICT,
        *flags,
        *own,
        f"-I{CSRC}",
        f"-I{HEADERS}",
        str(source),
        # All, as some need others.
        *map(str, Path(_kernels(tuple(compiler), tuple(flags)).name).glob("*.o")),
        "-o",
        str(program),
    ]
    _compile(command)


@functools.cache
def _kernels(compiler: tuple[str, ...], flags: tuple[str, ...]) -> TemporaryDirectory[str]:
    """The kernels as object files, compiled but once in a session."""
    directory = TemporaryDirectory(prefix="kernels-")
    build_objects(compiler, flags, KERNELS, Path(directory.name))
    return directory


def build_objects(
    compiler: Sequence[str], flags: Sequence[str], kernels: Sequence[str], directory: Path
) -> None:
    """Compile kernels into object files in `directory`; a warning fails the test."""
    sources = [str(CSRC / f"{kernel}.c") for kernel in kernels]
    _compile([*compiler, *STRICT, *flags, "-c", *sources], directory)


def _compile(command: list[str], directory: Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=COMPILING_SECONDS
    )
    if done.returncode != 0:
        pytest.fail(f"{shlex.join(command)}\n{done.stderr}")


def preloadable(source: Path, directory: Path) -> Path:
    """Compile a library to be preloaded, and return its path. If that is not possible, skip the
    test, or fail it if CI is set."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not sys.platform.startswith("linux") or compiler is None:
        unavailable(f"a C compiler and a Linux system are needed to preload {source.name}")
    library = directory / f"{source.stem}.so"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    command = [compiler, *flags, str(source), "-o", str(library), "-ldl"]
    subprocess.run(command, timeout=COMPILING_SECONDS, check=True)
    return library


def builds(compiler: Sequence[str], flags: Sequence[str], directory: Path) -> Path | None:
    """Return a program that does nothing, or None if the compiler does not accept these flags."""
    source, program = directory / "empty.c", directory / "empty"
    source.write_text("int main(void) { return 0; }\n")
    built = subprocess.run(
        [*compiler, *flags, str(source), "-o", str(program)],
        capture_output=True,
        timeout=COMPILING_SECONDS,
    )
    return program if built.returncode == 0 else None


def runs(compiler: Sequence[str], flags: Sequence[str], directory: Path) -> bool:
    """Return whether the compiler accepts these flags, and the system runs such programs."""
    program = builds(compiler, flags, directory)
    return program is not None and subprocess.run([program], timeout=60).returncode == 0
