"""The base of the workers: a process that gets ready, waits for the word, sends, reports.

A worker is started with its job as JSON in its first argument. It prepares the messages, opens the
connection and prints a line; it starts when it reads a line, and prints a JSON object in the end:
`seconds` and `cpu` (user and system, of all threads) that the sending took, the messages that were
`accepted`, and what else it measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

HOST = "127.0.0.1"
READY = "ready"

Method = Literal["sendmail", "send_many", "pool", "BulkSender", "BulkSender with a journal"]
Report = Mapping[str, float]


@dataclass(frozen=True)
class Job:
    """A task: what to send, where to and how. `module` and `method` tell the drop-in from what it
    replaces; `connections` is over how many, for the clients that can have several; `authority` is
    the file of the certificate authority where TLS is spoken from the start. `uvloop` has that run
    asynchronous clients.
    """

    port: int
    count: int
    size: int
    module: Literal["smtplib", "csmtplib"] = "smtplib"
    method: Method = "sendmail"
    connections: int = 1
    authority: str | None = None
    uvloop: bool = False


def job() -> Job:
    """Return the job that this process was started with."""
    return Job(**json.loads(sys.argv[1]))


def wait_for_the_word() -> None:
    """Say that all is prepared; return at the word, or end where the one to give it is gone."""
    print(READY, flush=True)
    if not sys.stdin.readline():
        sys.exit("nobody said go")


def measure(send: Callable[[], int]) -> dict[str, float]:
    """Wait for the word, call `send`, which returns how many messages were accepted; return the
    report of it.
    """
    wait_for_the_word()
    cpu = time.process_time()
    began = time.perf_counter()
    accepted = send()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "cpu": time.process_time() - cpu, "accepted": accepted}


def report(measured: Report) -> None:
    """Print what was measured, as the last line."""
    print(json.dumps(measured))
