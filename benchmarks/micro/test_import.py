"""The time of an import, in a process that imports nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

IMPLEMENTATIONS = {
    "stdlib": ("smtplib", ""),
    "python": ("csmtplib", "python"),
    "c": ("csmtplib", "c"),
}


@pytest.mark.parametrize("side", IMPLEMENTATIONS)
def test_import(benchmark: Any, side: str) -> None:
    benchmark.group = "import, in a process of its own"
    module, implementation = IMPLEMENTATIONS[side]
    environment = os.environ | {"CSMTPLIB_IMPL": implementation, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", f"import {module}"]

    def start() -> None:
        subprocess.run(command, env=environment, check=True)

    start()  # once for the bytecode
    benchmark.pedantic(start, rounds=30)
