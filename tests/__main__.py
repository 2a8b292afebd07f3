"""Runs the tests once for each implementation: `python -m tests [pytest options]`.

The compiled kernels are left out only where they were not built, which is said, and fails with CI
set. CSMTPLIB_IMPL chooses one of the two.

With CI set, what fails is run once more, with nothing beside it: many tests look at the clock, and
a machine that runs checks may do something else just then.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What does not depend on the kernels is tested with the first implementation only.
WITHOUT_KERNELS = [
    f"--ignore=tests/{each}"
    for each in (
        "benchmarks",
        "c",
        "cli",
        "compose",
        "docs",
        "drive/test_without_posix.py",
        "fuzz",
        "test_house.py",
        "types",
    )
]


def implementations() -> list[str]:
    """The implementations to test."""
    if wanted := os.environ.get("CSMTPLIB_IMPL"):
        return [wanted]
    if importlib.util.find_spec("csmtplib.kernel._c") or os.environ.get("CI"):
        return ["c", "python"]
    print("The compiled kernels were not built here: testing the pure Python ones alone.")
    return ["python"]


def in_parallel() -> list[str]:
    """The options that spread the tests over the processors."""
    # Tests wait for servers and clocks half of their time. At first neighbours stay together, which
    # share the servers that their fixtures started; who has none left takes half of another's.
    return ["-n", str(3 * (os.cpu_count() or 1)), "--dist", "worksteal"]


def main() -> int:
    failed = []
    for number, implementation in enumerate(implementations()):
        left_out = WITHOUT_KERNELS if number else []
        tests = [sys.executable, "-m", "pytest", *left_out, *sys.argv[1:]]
        environment = os.environ | {"CSMTPLIB_IMPL": implementation}
        # Containers often set it. Then each worker compiles all tests, and each program that they
        # start compiles what it imports.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        run = partial(subprocess.call, cwd=ROOT, env=environment)
        code = run([*tests, *in_parallel()])
        if code == pytest.ExitCode.TESTS_FAILED and environment.get("CI"):
            print(f"Once more: the tests of {implementation} that failed", flush=True)
            code = run([*tests, "--last-failed", "--last-failed-no-failures", "none"])
        if code:
            failed.append(implementation)
    if failed:
        print(f"Failed: the tests of {' and '.join(failed)}")
    return 1 if failed else 0


sys.exit(main())
