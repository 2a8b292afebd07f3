"""client/smtp_ssl.py: SMTP inside TLS."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any, cast

import pytest

import csmtplib

from ..faults.server import Peer, ScriptedServer
from .conftest import MutualTLS
from .memory import MemoryServer

TIMEOUT = 5.0


def noop(peer: Peer) -> None:
    peer.say("220 mx.test")
    peer.expect("NOOP")
    peer.say("250 ok")


def connect(mutual_tls: MutualTLS, *arguments: Any, **named: Any) -> None:
    """Connects to a server that asks for a certificate, and says NOOP.

    arguments: what stands behind local_hostname.
    """
    with (
        ScriptedServer(noop, tls=mutual_tls.server) as server,
        csmtplib.SMTP_SSL(
            server.host, server.port, "client.test", *arguments, **{"timeout": TIMEOUT, **named}
        ) as smtp,
    ):
        assert smtp.noop() == (250, b"ok")


def test_keyfile_and_certfile(mutual_tls: MutualTLS) -> None:
    connect(mutual_tls, mutual_tls.keyfile, mutual_tls.certfile)
    connect(mutual_tls, keyfile=mutual_tls.keyfile, certfile=mutual_tls.certfile)


def test_keyfile_and_certfile_are_kept() -> None:
    context = ssl.create_default_context()
    assert csmtplib.SMTP_SSL(context=context).context is context
    smtp = csmtplib.SMTP_SSL()
    assert (smtp.keyfile, smtp.certfile) == (None, None)
    assert smtp.default_port == csmtplib.SMTP_SSL_PORT == 465


def test_context(mutual_tls: MutualTLS) -> None:
    connect(mutual_tls, context=mutual_tls.client(with_certificate=True))


@pytest.mark.parametrize("with_context", [False, True])
def test_without_the_certificate_that_is_asked_for(
    mutual_tls: MutualTLS, with_context: bool
) -> None:
    context = mutual_tls.client(with_certificate=False) if with_context else None
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        connect(mutual_tls, context=context)


@pytest.mark.parametrize("named", [{"keyfile": "key"}, {"certfile": "cert"}], ids=str)
def test_context_beside_keyfile_or_certfile(named: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="load them into it"):
        csmtplib.SMTP_SSL(context=ssl.create_default_context(), **named)


def test_failed_handshake_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    class FailingContext:
        def wrap_socket(self, sock: object, server_hostname: str) -> None:
            raise ssl.SSLError("no cipher in common")

    server = MemoryServer()
    monkeypatch.setattr(
        csmtplib, "socket", SimpleNamespace(create_connection=lambda *arguments: server)
    )
    with pytest.raises(ssl.SSLError):
        csmtplib.SMTP_SSL("mx.test", context=cast(Any, FailingContext()))
    assert server.closed


def test_connect_without_a_host_at_construction(mutual_tls: MutualTLS) -> None:
    """The name that the certificate must have is the one that is connected to."""
    with ScriptedServer(noop, tls=mutual_tls.server) as server:
        smtp = csmtplib.SMTP_SSL(timeout=TIMEOUT, context=mutual_tls.client(with_certificate=True))
        smtp.connect(f"{server.host}:{server.port}")
        smtp.noop()
        smtp.quit()


def test_object_without_init(mutual_tls: MutualTLS) -> None:
    """Made by __new__ around a socket of the program's own."""
    with ScriptedServer(noop, tls=mutual_tls.server) as server:
        context = mutual_tls.client(with_certificate=True)
        smtp = csmtplib.SMTP_SSL.__new__(csmtplib.SMTP_SSL)
        smtp.command_encoding = "ascii"
        smtp.sock = context.wrap_socket(
            csmtplib.socket.create_connection((server.host, server.port), TIMEOUT),
            server_hostname=server.host,
        )
        smtp.file = smtp.sock.makefile("rb")
        smtp._host = server.host
        assert smtp.getreply() == (220, b"mx.test")
        assert smtp.noop() == (250, b"ok")
        smtp.quit()
