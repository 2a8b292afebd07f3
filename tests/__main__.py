"""Runs the tests once for each implementation: `python -m tests [pytest options]`.

The compiled kernels are left out only where they were not built, which is said, and fails with CI
set. CSMTPLIB_IMPL chooses one of the two.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path


def implementations() -> list[str]:
    """The implementations to test."""
    if wanted := os.environ.get("CSMTPLIB_IMPL"):
        return [wanted]
    if importlib.util.find_spec("csmtplib.kernel._c") or os.environ.get("CI"):
        return ["c", "python"]
    print("The compiled kernels were not built here: testing the pure Python ones alone.")
    return ["python"]


def main() -> int:
    failed = []
    for each in implementations():
        status = subprocess.run(
            [sys.executable, "-m", "pytest", *sys.argv[1:]],
            cwd=Path(__file__).parent.parent,
            env=os.environ | {"CSMTPLIB_IMPL": each},
        ).returncode
        if status:
            failed.append(each)
    if failed:
        print(f"Failed: the tests of {' and '.join(failed)}")
    return 1 if failed else 0


sys.exit(main())
