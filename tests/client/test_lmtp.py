"""client/lmtp.py: an answer for each recipient."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

import csmtplib
from csmtplib import SMTPDataError, SMTPServerDisconnected

from ..faults.server import Peer, ScriptedServer
from .conftest import MutualTLS
from .memory import MemoryServer, connected

TIMEOUT = 5.0

needs_unix_sockets = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="this system has no unix sockets"
)


def client(server: MemoryServer) -> Any:
    return connected(csmtplib.LMTP(local_hostname="client.test"), server)


def test_lhlo_and_no_ehlo(server_class: type[MemoryServer]) -> None:
    server = server_class()
    client(server).ehlo()
    assert server.commands == ["lhlo client.test"]


def test_default_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []

    def get_socket(self: object, host: str, port: int, timeout: object) -> MemoryServer:
        ports.append(port)
        return MemoryServer()

    monkeypatch.setattr(csmtplib.LMTP, "_get_socket", get_socket)
    csmtplib.LMTP("mx.test")
    # As in the stdlib, whose class has the port in its constructor only.
    csmtplib.LMTP().connect("mx.test")
    assert ports == [csmtplib.LMTP_PORT, 25] == [2003, 25]


def test_one_answer_for_each_recipient(server_class: type[MemoryServer]) -> None:
    """CPython issue 76984: the stdlib takes the second for the answer to its next command."""
    server = server_class(message="250 b\r\n250 c\r\n250 d", quit="221 bye")
    smtp = client(server)
    assert smtp.sendmail("a@x", ["b@x", "c@x", "d@x"], "") == {}
    assert smtp.recipient_replies == {
        "b@x": (250, b"b"),
        "c@x": (250, b"c"),
        "d@x": (250, b"d"),
    }
    assert smtp.quit() == (221, b"bye")


def test_no_answer_for_recipients_refused_before(server_class: type[MemoryServer]) -> None:
    server = server_class(rcpt=["250 ok", "550 no", "251 ok"], message="250 b\r\n452 quota")
    smtp = client(server)
    assert smtp.sendmail("a@x", ["b@x", "c@x", "d@x"], "") == {
        "c@x": (550, b"no"),
        "d@x": (452, b"quota"),
    }
    assert smtp.recipient_replies == {"b@x": (250, b"b"), "d@x": (452, b"quota")}
    assert smtp.noop() == (250, b"ok")


def test_first_recipient_refused_after_the_message() -> None:
    smtp = client(MemoryServer(message="552 quota\r\n250 c"))
    assert smtp.sendmail("a@x", ["b@x", "c@x"], "") == {"b@x": (552, b"quota")}


def test_all_recipients_refused_after_the_message() -> None:
    server = MemoryServer(message="552 first\r\n452 last")
    smtp = client(server)
    with pytest.raises(SMTPDataError) as caught:
        smtp.sendmail("a@x", ["b@x", "c@x"], "")
    assert caught.value.args == (552, b"first")
    assert smtp.recipient_replies == {"b@x": (552, b"first"), "c@x": (452, b"last")}
    assert server.verbs[-1] == "rset"


def test_replies_of_the_last_message_only() -> None:
    smtp = client(MemoryServer(message=["250 b\r\n250 c", "250 d"]))
    smtp.sendmail("a@x", ["b@x", "c@x"], "")
    smtp.sendmail("a@x", ["d@x"], "")
    assert smtp.recipient_replies == {"d@x": (250, b"d")}


def test_connection_lost_between_the_answers() -> None:
    """Case 61: what was answered is known."""
    smtp = client(MemoryServer(message="250 b"))
    with pytest.raises(SMTPServerDisconnected):
        smtp.sendmail("a@x", ["b@x", "c@x"], "")
    assert smtp.recipient_replies == {"b@x": (250, b"b")}


def test_recipient_named_twice() -> None:
    smtp = client(MemoryServer(message="250 one\r\n250 two"))
    assert smtp.sendmail("a@x", ["b@x", "b@x"], "") == {}
    assert smtp.noop() == (250, b"ok")


def test_data_by_hand() -> None:
    smtp = client(MemoryServer(message="250 b\r\n550 c"))
    smtp.mail("a@x")
    smtp.rcpt("b@x")
    smtp.rcpt("c@x")
    # Somebody has the message.
    assert smtp.data("") == (250, b"b")
    assert smtp.noop() == (250, b"ok")


def test_data_after_commands_that_the_class_does_not_know_of() -> None:
    smtp = client(MemoryServer())
    smtp.docmd("MAIL FROM:<a@x>")
    smtp.docmd("RCPT TO:<b@x>")
    assert smtp.data("") == (250, b"queued")


# Unix sockets


@needs_unix_sockets
def test_unix_socket() -> None:
    def script(peer: Peer) -> None:
        peer.greet("8BITMIME")
        peer.accept_message()

    with ScriptedServer(script, unix=True) as server:
        with csmtplib.LMTP(server.host, local_hostname="client.test", timeout=TIMEOUT) as smtp:
            assert smtp.sock is not None
            assert smtp.sock.family == socket.AF_UNIX
            assert smtp.sock.gettimeout() == TIMEOUT
            assert smtp.sendmail("a@x", "b@x", "hello") == {}
        assert server.received.startswith(b"lhlo client.test\r\n")


@needs_unix_sockets
def test_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    smtp = csmtplib.LMTP()
    with pytest.raises(FileNotFoundError):
        smtp.connect(str(tmp_path / "socket"))
    assert smtp.sock is None


@needs_unix_sockets
def test_unix_socket_and_a_timeout_of_zero() -> None:
    with pytest.raises(ValueError, match="timeout=0"):
        csmtplib.LMTP("/nonexistent", timeout=0)


@needs_unix_sockets
def test_starttls_on_a_unix_socket(mutual_tls: MutualTLS) -> None:
    """In the stdlib an AttributeError; the certificate has to be for "localhost"."""

    def script(peer: Peer) -> None:
        peer.greet("STARTTLS")
        peer.expect("STARTTLS\r\n")
        peer.say("220 go")
        peer.start_tls(mutual_tls.server)
        peer.answer_hello()

    with ScriptedServer(script, unix=True) as server:
        smtp = csmtplib.LMTP(timeout=TIMEOUT, local_hostname="client.test")
        smtp.connect(server.host)
        smtp.starttls(context=mutual_tls.client(with_certificate=True))
        smtp.ehlo()
        smtp.quit()


def test_nothing_is_waited_for_behind_421(server_class: type[MemoryServer]) -> None:
    server = server_class(message="250 b\r\n421 shutting down")
    smtp = client(server)
    refused = smtp.sendmail("a@x", ["b@x", "c@x", "d@x"], "")
    assert refused == {"c@x": (421, b"shutting down"), "d@x": (421, b"shutting down")}
    assert smtp.sock is None


def test_recipient_named_twice_and_accepted_once(server_class: type[MemoryServer]) -> None:
    server = server_class(message="250 first\r\n452 second")
    smtp = client(server)
    assert smtp.sendmail("a@x", ["b@x", "b@x"], "") == {}
    assert smtp.recipient_replies == {"b@x": (250, b"first")}
