"""smtp-sink, Postfix's server that accepts every message and throws it away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .process import HOST, free_port, open_directory, program, running, wait_for_greeting

BACKLOG = 128


@dataclass(frozen=True)
class SmtpSink:
    """A running smtp-sink, on `port` of 127.0.0.1."""

    port: int


@contextmanager
def running_smtp_sink(*options: str) -> Iterator[SmtpSink]:
    """Run smtp-sink with these options (smtp-sink(1)) while the block lasts.

    Raises ServerUnavailable where it is not installed.
    """
    command = program("smtp-sink", "postfix")
    port = free_port()
    with open_directory("smtp-sink") as directory:
        log = directory / "log"
        arguments = [command, *options, f"{HOST}:{port}", str(BACKLOG)]
        with running(arguments, log, unprivileged=True) as process:
            wait_for_greeting(process, port, log)
            yield SmtpSink(port)
