"""One contender sends once, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from .clients.worker import HOST, READY, Job, Report
from .contenders import Contender
from .messages import HEADER, SENDER

ROOT = Path(__file__).parents[1]


class ContenderFailed(Exception):
    """It did not send all of its messages; the message carries what it said."""


def measure(contender: Contender, job: Job, limit: float) -> Report:
    """Have the contender do the job and return its report.

    Raises ContenderFailed where it fails or has not ended after `limit` seconds.
    """
    run = run_worker if contender.is_worker else run_smtp_source
    with TemporaryFile() as errors:
        try:
            return run(contender, job, limit, errors)
        except (ValueError, OSError) as reason:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()
            raise ContenderFailed(said or str(reason) or repr(reason)) from reason


@contextmanager
def ended_after(process: subprocess.Popen[bytes], limit: float) -> Iterator[None]:
    """Kill the process at the end of the block, and when it lasts longer than `limit` seconds."""
    timer = threading.Timer(limit, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def run_worker(contender: Contender, job: Job, limit: float, errors: IO[bytes]) -> Report:
    """Drive a worker as clients/worker.py tells."""
    process = subprocess.Popen(
        [*contender.command, json.dumps(asdict(job)), *contender.behind],
        cwd=ROOT,
        env=os.environ | contender.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
    )
    assert process.stdout is not None
    with process, ended_after(process, limit):
        if process.stdout.readline().decode().strip() != READY:
            raise ValueError(f"did not get ready, for which it had {limit:g} s")
        output, _ = process.communicate(b"go\n")
        if not output:
            raise ValueError(f"did not come to the end, for which it had {limit:g} s")
        report: Report = json.loads(output)
    return report


def run_smtp_source(contender: Contender, job: Job, limit: float, errors: IO[bytes]) -> Report:
    """Run smtp-source: connecting is part of what is measured. It makes its messages itself and
    ends at the first one that is refused.
    """
    size = str(max(1, job.size - len(HEADER)))
    sessions = ["-s", str(job.connections), "-d", "-M", "client.example"]
    mail = ["-m", str(job.count), "-l", size, "-f", SENDER, "-t", SENDER]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*contender.command, *sessions, *mail, f"{HOST}:{job.port}"],
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
    )
    with ended_after(process, limit):
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise ValueError(f"ended with {process.returncode}; it had {limit:g} s")
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu": cpu, "accepted": job.count}
