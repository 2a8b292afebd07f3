"""Runs the tests once for each implementation, side by side: `python -m tests [pytest options]`.

The compiled kernels are left out only where they were not built, which is said, and fails with CI
set. CSMTPLIB_IMPL chooses one of the two.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from subprocess import STDOUT, Popen
from tempfile import TemporaryFile
from typing import IO

# What is about C sources alone, and so the same for both.
WITHOUT_PYTHON = ["--ignore=tests/c", "--ignore=tests/fuzz", "--ignore=tests/benchmarks"]


def implementations() -> list[str]:
    """The implementations to test."""
    if wanted := os.environ.get("CSMTPLIB_IMPL"):
        return [wanted]
    if importlib.util.find_spec("csmtplib.kernel._c") or os.environ.get("CI"):
        return ["c", "python"]
    print("The compiled kernels were not built here: testing the pure Python ones alone.")
    return ["python"]


def start(implementation: str, options: list[str], output: IO[bytes] | None) -> Popen[bytes]:
    """The tests of one implementation, in a process of their own."""
    return Popen(
        [sys.executable, "-m", "pytest", *options],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"CSMTPLIB_IMPL": implementation},
        stdout=output,
        stderr=STDOUT if output else None,
    )


def main() -> int:
    options = sys.argv[1:]
    first, *others = implementations()
    with TemporaryFile() as output:
        # The first is seen as it runs, the other when both are done.
        runs = {first: start(first, options, None)}
        runs |= {each: start(each, [*options, *WITHOUT_PYTHON], output) for each in others}
        failed = [each for each, process in runs.items() if process.wait()]
        output.seek(0)
        print(output.read().decode(errors="replace"), flush=True)
    if failed:
        print(f"Failed: the tests of {' and '.join(failed)}")
    return 1 if failed else 0


sys.exit(main())
