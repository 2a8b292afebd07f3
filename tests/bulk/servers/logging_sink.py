"""A server that outlives the clients that tests kill, and knows what it has said 250 to.

    with running_logging_sink(tmp_path / "log") as sink:
        ...  # send to sink.url, and kill who sends
    assert sink.accepted() == [("b@x.test", "<1@x.test>"), ...]

It takes every message. For each recipient it appends a line to its log, with the address and the
message's X-Key, or its Message-ID where there is none, or "-"; only then it says 250. As a program:

    python -m tests.bulk.servers.logging_sink LOGFILE [--chunking] [--sequential] [--tls FILE]

It offers CHUNKING with --chunking, and PIPELINING without --sequential. With --tls it speaks TLS
from the start, by a PEM file of key and chain. The first line of its output is its port. It ends on
SIGTERM, or when its input ends: with whoever started it.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .session import UTF_8, Session

HOST = "127.0.0.1"
BACKLOG = 1000
STARTING_SECONDS = 30.0
STOPPING_SECONDS = 10.0

# The mark may stand on a line of its own: EmailMessage folds long ones.
_KEY = re.compile(rb"^X-Key:(?:[ \t]*\r\n)?[ \t]+([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(
    rb"^Message-ID:(?:[ \t]*\r\n)?[ \t]+([^\r\n]*)", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class LoggingSink:
    """A running sink, on `port` of 127.0.0.1."""

    port: int
    log: Path
    is_tls: bool = False

    @property
    def url(self) -> str:
        return f"smtp{'s' if self.is_tls else ''}://{HOST}:{self.port}"

    def accepted(self) -> list[tuple[str, str]]:
        """Each recipient and key that was taken so far, in order."""
        lines = self.log.read_bytes().splitlines()
        return [
            (address.decode(*UTF_8), key.decode(*UTF_8))
            for address, key in (x.split(b" ", 1) for x in lines)
        ]


@contextmanager
def running_logging_sink(
    log: Path,
    *,
    chunking: bool = False,
    pipelining: bool = True,
    certificate: Path | None = None,
) -> Iterator[LoggingSink]:
    """Run the program while the block lasts. Raises TimeoutError where it does not start.

    certificate: chain and key, for TLS.
    """
    options = ["--chunking"] * chunking + ["--sequential"] * (not pipelining)
    if certificate is not None:
        options += ["--tls", str(certificate)]
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(log.absolute()), *options],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the test alone
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not select.select([process.stdout], [], [], STARTING_SECONDS)[0]:
            raise TimeoutError(f"no port of the sink in {STARTING_SECONDS:g} s")
        yield LoggingSink(int(process.stdout.readline()), log, certificate is not None)
    finally:
        process.stdin.close()
        try:
            process.wait(STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class _LoggingSession(Session):
    def __init__(self, log: int, *, chunking: bool, pipelining: bool) -> None:
        super().__init__(chunking=chunking, pipelining=pipelining)
        self._log = log

    def message(self, sender: str, recipients: list[str], message: bytes) -> str | None:
        head = message.partition(b"\r\n\r\n")[0]
        found = _KEY.search(head) or _MESSAGE_ID.search(head)
        key = b"-" if found is None else found[1]
        lines = [b"%b %b\n" % (each.encode(*UTF_8), key) for each in recipients]
        # One write, so that each line is whole, and in the file before the reply.
        os.write(self._log, b"".join(lines))
        return None


async def _serve(session: Callable[[], Session], tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def read_input() -> None:
        if not os.read(0, 4096):
            stop.set()

    loop.add_reader(0, read_input)
    server = await loop.create_server(session, HOST, 0, backlog=BACKLOG, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()
    loop.remove_reader(0)


def main(arguments: list[str]) -> int:
    tls = None
    match arguments:
        case [*arguments, "--tls", certificate]:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
    flags = {"--chunking", "--sequential"} & {*arguments[1:]}
    if len(arguments) != 1 + len(flags):
        usage = "usage: logging_sink LOGFILE [--chunking] [--sequential] [--tls FILE]"
        print(usage, file=sys.stderr)
        return 64
    log = os.open(arguments[0], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    chunking, pipelining = "--chunking" in flags, "--sequential" not in flags
    try:
        session = partial(_LoggingSession, log, chunking=chunking, pipelining=pipelining)
        asyncio.run(_serve(session, tls))
    finally:
        os.close(log)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
