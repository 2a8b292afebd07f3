"""`sink:DIRECTORY`: a mail server for the time of one run, which files messages in a Maildir."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from ..protocol.server_url import TLS, Server

_HOST = "127.0.0.1"
_NAME = "localhost"


class _Filing:
    """An aiosmtpd handler that files each message once, however many recipients it has.

    Line ends become LF, as usual in a Maildir; nothing else changes.
    """

    def __init__(self, directory: Path) -> None:
        for folder in ("tmp", "new", "cur"):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._run = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        try:
            name = self._file(envelope.content.replace(b"\r\n", b"\n"))
        except OSError as error:
            return f"452 4.3.1 {error.strerror}"
        return f"250 2.0.0 Ok: filed as {name}"

    def _file(self, message: bytes) -> str:
        # Sorted by name, messages are in order of arrival.
        name = f"{int(time.time())}.R{self._run}Q{next(self._numbers):06}.{_NAME}"
        written = self._directory / "tmp" / name
        # No fsync, unlike mailbox.Maildir: it would take most of the time, and this is only a copy.
        written.write_bytes(message)
        written.rename(self._directory / "new" / name)
        return name


@contextmanager
def running(directory: Path) -> Iterator[Server]:
    """Run a server on a free loopback port while the context lasts. Raises OSError if the directory
    can't be created or there is no port."""
    handler = _Filing(directory)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def protocol() -> SMTP:
            return SMTP(
                handler, data_size_limit=None, enable_SMTPUTF8=True, hostname=_NAME, loop=loop
            )

        server = await loop.create_server(protocol, _HOST, 0)
        started.set_result((loop, stop, server.sockets[0].getsockname()[1]))
        await stop.wait()
        server.close()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="sink", daemon=True)
    thread.start()
    loop, stop, port = started.result()
    try:
        yield Server(host=_HOST, port=port, tls=TLS.NEVER, name=_NAME)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
