"""The descriptor that event loops watch in place of the transport, once there was a message. With
the pure kernels there is none, and the same holds."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from pathlib import Path

import pytest

from csmtplib import aio
from csmtplib.drive.descriptor import descriptor_of
from csmtplib.drive.event_loop import LoopConnection
from csmtplib.drive.transactions import HAS_FD_LOOP

from ..servers.certificates import issue
from . import scripted
from .running import run
from .scripted import offer

pytestmark = pytest.mark.usefixtures("each_loop")


class Refusing:
    """An event loop that watches no descriptor."""

    def add_reader(self, *arguments: object) -> None:
        raise NotImplementedError


def no_more_descriptors(fd: int) -> int:
    raise OSError(errno.EMFILE, "too many open files")


async def connected(server: scripted.Server) -> aio.SMTP:
    client = aio.SMTP(hostname="127.0.0.1", port=server.port, start_tls=False)
    await client.connect()
    return client


async def send(client: aio.SMTP, subject: str) -> None:
    await client.sendmail("me@example.org", "you@example.net", f"Subject: {subject}\r\n\r\n")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what grows each time that a connection is told that its descriptor is ready."""
    turns: list[int] = []
    on_ready = LoopConnection._on_ready

    def count(connection: LoopConnection) -> None:
        turns.append(1)
        on_ready(connection)

    monkeypatch.setattr(LoopConnection, "_on_ready", count)
    return turns


def test_messages_go_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = counted(monkeypatch)

    async def main() -> None:
        client = await connected(server)
        await send(client, "1")
        await client.noop()
        await send(client, "2")
        await client.quit()

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    assert len(server.deliveries) == 2
    assert bool(turns) == HAS_FD_LOOP


def test_tls_begins_after_a_message(tmp_path: Path) -> None:
    certificates = issue(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain, certificates.key)

    async def main() -> None:
        client = await connected(server)
        await send(client, "1")
        await client.starttls(validate_certs=False)
        await send(client, "2")
        assert client.get_transport_info("sslcontext") is not None
        await client.quit()

    with scripted.Server(offer("PIPELINING", "STARTTLS"), context=context) as server:
        run(main())
    assert [each.text for each in server.deliveries] == [
        b"Subject: 1\r\n\r\n",
        b"Subject: 2\r\n\r\n",
    ]


def test_a_server_that_closes_between_messages() -> None:
    async def main() -> None:
        client = await connected(server)
        await send(client, "1")
        assert client.is_connected
        server.hang_up()
        await asyncio.sleep(0.1)
        assert not client.is_connected

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


def test_a_server_that_speaks_between_messages() -> None:
    async def main() -> None:
        client = await connected(server)
        await send(client, "1")
        server.say("421 shutting down")
        await asyncio.sleep(0.1)
        with pytest.raises(aio.SMTPServerDisconnected):
            await send(client, "2")

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    assert len(server.deliveries) == 1


def test_the_loop_rests_while_results_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads what the server has said by then, and does not find it ready again and again."""
    turns = counted(monkeypatch)
    messages = [("me@example.org", f"{number}@example.net", b"") for number in range(40)]

    async def main() -> None:
        client = await connected(server)
        found = 0
        async for _ in client.send_many(messages):
            found += 1
            if found in (1, 10):
                await asyncio.sleep(0.2)
        assert found == 40
        await client.quit()

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    # A few for each message.
    assert len(turns) < 400


def test_the_loop_rests_when_a_message_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = counted(monkeypatch)

    async def main() -> None:
        client = await connected(server)
        with pytest.raises(aio.SMTPServerDisconnected):
            await send(client, "1")
        await asyncio.sleep(0.2)
        assert not client.is_connected

    with scripted.Server(offer("PIPELINING", data=scripted.Cut(b"354 g"))) as server:
        run(main())
    assert len(turns) < 20


def test_a_process_without_a_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = counted(monkeypatch)
    monkeypatch.setattr(os, "dup", no_more_descriptors)

    async def main() -> None:
        client = await connected(server)
        await send(client, "1")
        await send(client, "2")
        await client.quit()

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    assert len(server.deliveries) == 2
    assert not turns


def test_a_loop_that_can_not_watch_descriptors() -> None:
    """As Windows' Proactor."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        here, there = socket.socketpair()
        here.setblocking(False)
        with there:
            transport, connection = await loop.create_connection(
                lambda: LoopConnection(loop), sock=here
            )
            assert descriptor_of(Refusing(), transport, print) is None  # type: ignore[arg-type]
            assert transport.is_reading()
            connection.abort()
            await asyncio.sleep(0.01)

    run(main())
