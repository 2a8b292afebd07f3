"""A whole session with csmtplib and with the stdlib's smtplib: what can be seen of it is equal."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import trustme
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, AuthResult, Envelope

from .child import environment
from .session import REFUSED

HOST = "127.0.0.1"
SESSION = Path(__file__).with_name("session.py")
TIMEOUT_SECONDS = 60


class Handler:
    """Accepts every message, and every recipient but one."""

    async def handle_RCPT(
        self, _server: SMTP, _session: object, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address == REFUSED:
            return "550 5.1.1 unknown"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, *_: object) -> str:
        return "250 2.0.0 OK"


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(HOST).configure_cert(context)
    return context


def accept_login(*_: object) -> AuthResult:
    return AuthResult(success=True)


def smtp_server() -> SMTP:
    return SMTP(
        Handler(),
        hostname="server.test",
        enable_SMTPUTF8=True,
        tls_context=server_context(),
        authenticator=accept_login,
    )


def smtps_server() -> SMTP:
    return SMTP(Handler(), hostname="server.test")


def lmtp_server() -> LMTP:
    return LMTP(Handler(), hostname="server.test")


@contextmanager
def serving(protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None) -> Iterator[int]:
    """The port of a server that runs in a thread."""
    started: SimpleQueue[tuple[int, Callable[[], object]]] = SimpleQueue()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        server = await loop.create_server(protocol, HOST, 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        started.put((port, lambda: loop.call_soon_threadsafe(stopped.set)))
        await stopped.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    port, stop = started.get(timeout=TIMEOUT_SECONDS)
    try:
        yield port
    finally:
        stop()
        thread.join()


def run_session(module: str, kind: str, debuglevel: int, port: int) -> dict[str, Any]:
    # In a process of its own: an audit hook can't be taken out again.
    process = subprocess.run(
        [sys.executable, str(SESSION), module, kind, str(debuglevel), HOST, str(port)],
        env=environment(),
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    seen: dict[str, Any] = json.loads(process.stdout)
    return seen


SERVERS: dict[str, tuple[Callable[[], asyncio.Protocol], bool]] = {
    "smtp": (smtp_server, False),
    "smtps": (smtps_server, True),
    "lmtp": (lmtp_server, False),
}


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("debuglevel", [0, 1])
def test_a_session_looks_the_same(kind: str, debuglevel: int) -> None:
    """With and without debug output, which takes another way through the code."""
    protocol, implicit_tls = SERVERS[kind]
    with serving(protocol, server_context() if implicit_tls else None) as port:
        expected = run_session("smtplib", kind, debuglevel, port)
        seen = run_session("csmtplib", kind, debuglevel, port)
    assert seen["results"] == expected["results"]
    assert seen["events"] == expected["events"]
    assert seen["debug"].splitlines() == expected["debug"].splitlines()
    # The session took place, and was printed if it should.
    assert seen["events"][-1][0] == "smtplib.send"
    assert ("354" in seen["debug"]) is (debuglevel > 0)
