"""Build the fuzz targets of the kernels with libFuzzer, and run each for a short time.

CSMTPLIB_FUZZ_SECONDS sets the number of seconds, by default 2.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ..c import building
from ..requirements import needs_posix, unavailable

FUZZER = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
# By kernel. The receive buffer is part of the pipeline's target, and the loop around both has no
# input but a socket. A body must be long enough to fill the counters of its growth; for the others,
# short inputs are enough.
MAX_LENGTHS = {"body": 6000, "command": 64, "pipeline": 400, "reply": 600}
SECONDS = int(os.environ.get("CSMTPLIB_FUZZ_SECONDS") or 2)


pytestmark = needs_posix


@pytest.mark.parametrize("kernel", MAX_LENGTHS)
def test_fuzz(kernel: str, tmp_path: Path) -> None:
    clang = [building.clang()]
    if not building.runs(clang, ["-fsanitize=address,undefined"], tmp_path):
        unavailable(f"{clang[0]} can't build with sanitizers here")
    program = tmp_path / f"fuzz_{kernel}"
    source = Path(__file__).parent / f"fuzz_{kernel}.c"
    building.build(clang, FUZZER, source, program)
    command = [
        str(program),
        f"-max_total_time={SECONDS}",
        f"-max_len={MAX_LENGTHS[kernel]}",
        # Long inputs within the first second; by default they come only after minutes.
        "-len_control=5",
        "-print_final_stats=1",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 120)
    assert done.returncode == 0, f"{done.stderr}\nThe input is kept in {tmp_path}."
    executed = next(line for line in done.stderr.splitlines() if "number_of_executed_units" in line)
    assert int(executed.split()[-1]) > 0
    print(executed)
