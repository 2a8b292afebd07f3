"""How much of csrc/ the C tests run, which may not become less."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from ..requirements import needs_posix, unavailable
from . import building
from .test_c import BRIEF, TESTED, check

pytestmark = needs_posix

FLAGS = ("--coverage",)
# What is left is mostly memory that cannot be had, where no test denies it (denial.h).
FLOORS = {"lines": 0.975, "branches": 0.92}


@pytest.mark.long
def test_as_much_is_covered_as_before(tmp_path: Path) -> None:
    if shutil.which("gcc") is None or shutil.which("gcov") is None:
        unavailable("no gcc with gcov: install gcc")
    for kernel in TESTED:
        check(kernel, ["gcc"], FLAGS, tmp_path, own=BRIEF)
    covered = branches_and_lines(Path(building._kernels(("gcc",), FLAGS).name))
    found = {
        kind: sum(count > 0 for count in counts) / len(counts) for kind, counts in covered.items()
    }
    print(", ".join(f"{kind}: {share:.2%}" for kind, share in found.items()))
    assert all(found[kind] >= floor for kind, floor in FLOORS.items()), found


def branches_and_lines(objects: Path) -> dict[str, list[int]]:
    """Return how often each line and each branch of csrc/ was run."""
    counts: dict[str, list[int]] = {"lines": [], "branches": []}
    done = subprocess.run(
        ["gcov", "--branch-probabilities", "--json-format", "--stdout", *objects.glob("*.gcda")],
        cwd=objects,
        stdout=subprocess.PIPE,
        check=True,
    )
    for report in done.stdout.splitlines():
        for file in json.loads(report)["files"]:
            if Path(file["file"]).parent != building.CSRC:
                continue
            for line in file["lines"]:
                counts["lines"].append(line["count"])
                counts["branches"] += [branch["count"] for branch in line["branches"]]
    return counts
