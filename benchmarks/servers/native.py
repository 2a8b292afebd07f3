"""Our own servers, sink.c and proxy.c: compiled when they are started."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import (
    ServerFailed,
    free_port,
    open_directory,
    program,
    running,
    wait_for_greeting,
)

HERE = Path(__file__).parent
FLAGS = ("-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2")
COMPILING_SECONDS = 60


def compile_server(name: str, directory: Path) -> Path:
    """Compile `name`.c into `directory` and return the program.

    Raises ServerUnavailable where there is no compiler, ServerFailed where it finds fault.
    """
    binary = directory / name
    command = [program("cc", "gcc"), *FLAGS, str(HERE / f"{name}.c"), "-o", str(binary)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILING_SECONDS)
    if done.returncode != 0:
        raise ServerFailed(done.stderr)
    return binary


@contextmanager
def running_native(name: str, *arguments: str) -> Iterator[int]:
    """Run a server, which greets as SMTP servers do, while the block lasts; yield its port."""
    port = free_port()
    with open_directory(name) as directory:
        log = directory / "log"
        command = [str(compile_server(name, directory)), str(port), *arguments]
        with running(command, log, unprivileged=True) as process:
            wait_for_greeting(process, port, log)
            yield port


@contextmanager
def running_sink() -> Iterator[int]:
    """Run the SMTP server that offers CHUNKING and throws all mail away; yield its port."""
    with running_native("sink") as port:
        yield port


@contextmanager
def running_proxy(server: int, delay: float) -> Iterator[int]:
    """Run a proxy before the SMTP server on port `server`, with `delay` seconds each way; yield
    its port.
    """
    with running_native("proxy", str(server), str(round(delay * 1e6))) as port:
        yield port
