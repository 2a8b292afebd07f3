"""Replacements that programs make in the module that is their smtplib, and in its classes."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import pytest

import csmtplib
from csmtplib import SMTPDataError, SMTPException, SMTPResponseException

from .memory import MemoryServer, connected

# Names of the module


def client(server: MemoryServer) -> Any:
    return connected(csmtplib.SMTP(local_hostname="client.test"), server)


def test_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryServer()
    stand_in = SimpleNamespace(
        create_connection=lambda *arguments: server, getfqdn=lambda: "stand.in.test"
    )
    monkeypatch.setattr(csmtplib, "socket", stand_in)
    csmtplib.SMTP("mx.test").ehlo()
    assert server.commands == ["ehlo stand.in.test"]


def test_fix_eols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csmtplib, "_fix_eols", lambda text: f"fixed {text}")
    server = MemoryServer()
    smtp = client(server)
    smtp.data("text")
    smtp.sendmail("a@x", "b@x", "text")
    assert server.sent.count(b"\r\nfixed text\r\n.\r\n") == 2


def test_quote_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csmtplib, "_quote_periods", lambda data: b"quoted " + data)
    server = MemoryServer()
    client(server).sendmail("a@x", "b@x", b"data")
    assert server.sent.endswith(b"\r\nquoted data\r\n.\r\n")


def test_quoteaddr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csmtplib, "quoteaddr", lambda address: f"<quoted-{address}>")
    server = MemoryServer()
    client(server).sendmail("a@x", "b@x", "")
    assert [line.partition(":")[2] for line in server.commands[1:3]] == [
        "<quoted-a@x>",
        "<quoted-b@x>",
    ]


def test_addr_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csmtplib, "_addr_only", lambda address: "only")
    server = MemoryServer()
    smtp = client(server)
    smtp.verify("a@x")
    smtp.expn("a@x")
    assert server.commands == ["vrfy only", "expn only"]


def test_encode_base64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csmtplib, "encode_base64", lambda data, eol: f"encoded-{data.decode()}")
    server = MemoryServer(auth="334 ", **{"encoded-answer": "235 in"})
    client(server).auth("X", lambda challenge=None: "answer")
    assert server.commands == ["AUTH X encoded-answer", "encoded-answer"]


def test_hmac(monkeypatch: pytest.MonkeyPatch) -> None:
    class HMAC:
        def __init__(self, key: bytes, message: bytes, hash_name: str) -> None:
            self.shown = f"{key.decode()}-{message.decode()}-{hash_name}"

        def hexdigest(self) -> str:
            return self.shown

    monkeypatch.setattr(csmtplib, "hmac", SimpleNamespace(HMAC=HMAC))
    smtp = csmtplib.SMTP()
    smtp.user, smtp.password = "tim", "pencil"
    assert smtp.auth_cram_md5(b"challenge") == "tim pencil-challenge-md5"


def test_have_cram_md5_support(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csmtplib, "_have_cram_md5_support", False)
    server = MemoryServer(ehlo="250-mx.test\r\n250 AUTH CRAM-MD5 PLAIN", auth="235 in")
    smtp = client(server)
    smtp.login("tim", "pencil")
    assert server.commands[1].startswith("AUTH PLAIN ")
    with pytest.raises(SMTPException, match="CRAM-MD5 is not supported"):
        smtp.auth_cram_md5(b"challenge")
    smtp.esmtp_features["auth"] = "CRAM-MD5"
    with pytest.raises(SMTPException, match="No suitable authentication method"):
        smtp.login("tim", "pencil")


def test_maxline(monkeypatch: pytest.MonkeyPatch, server_class: type[MemoryServer]) -> None:
    monkeypatch.setattr(csmtplib, "_MAXLINE", 20)
    smtp = client(server_class(noop=["250 " + "a" * 14, "250 " + "a" * 15]))
    smtp.noop()
    with pytest.raises(SMTPResponseException) as caught:
        smtp.noop()
    assert caught.value.smtp_code == 500


def test_maxchallenge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csmtplib, "_MAXCHALLENGE", 2)
    answer = base64.b64encode(b"a").decode()
    server = MemoryServer(auth="334 ", **{answer.lower(): "334 "})
    with pytest.raises(SMTPException, match="infinite loop"):
        client(server).auth("X", lambda challenge: "a", initial_response_ok=False)
    assert server.commands == ["AUTH X", *[answer] * 3]


class WrappingContext:
    """A stand-in for ssl.SSLContext that notes what it wraps."""

    def __init__(self) -> None:
        self.wrapped: list[tuple[Any, Any]] = []

    def wrap_socket(self, sock: Any, server_hostname: str | None) -> Any:
        self.wrapped.append((sock, server_hostname))
        return sock


def test_create_stdlib_context(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    context = WrappingContext()

    def create(**named: Any) -> WrappingContext:
        calls.append(named)
        return context

    monkeypatch.setattr(csmtplib, "ssl", SimpleNamespace(_create_stdlib_context=create))
    server = MemoryServer(ehlo="250-mx.test\r\n250 STARTTLS", starttls="220 go")
    client(server).starttls("key", "cert")
    csmtplib.SMTP_SSL()
    assert calls == [
        {"keyfile": "key", "certfile": "cert"},
        {"keyfile": None, "certfile": None},
    ]
    assert context.wrapped == [(server, "mx.test")]


def test_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(csmtplib.sys, "stderr", printed)
    smtp = client(MemoryServer())
    smtp.set_debuglevel(1)
    smtp.noop()
    assert "send: 'noop\\r\\n'" in printed.getvalue()


# Methods

METHODS = [
    "_get_socket",
    "_print_debug",
    "_rset",
    "close",
    "connect",
    "data",
    "docmd",
    "ehlo",
    "ehlo_or_helo_if_needed",
    "getreply",
    "helo",
    "mail",
    "putcmd",
    "rcpt",
    "rset",
    "send",
    "sendmail",
]


def session(smtp: Any) -> None:
    """Calls every one of METHODS, most of them through another one."""
    smtp.debuglevel = 1
    smtp.connect("mx.test")
    with pytest.raises(SMTPDataError):
        smtp.send_message(csmtplib.email.message_from_string("From: a@x\nTo: b@x\n\nhello\n"))
    smtp.quit()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> MemoryServer:
    """Where the session leads: it refuses EHLO, then the message."""
    server = MemoryServer(ehlo="502 what?", message="554 no")
    monkeypatch.setattr(
        csmtplib, "socket", SimpleNamespace(create_connection=lambda *arguments: server)
    )
    monkeypatch.setattr(csmtplib.sys, "stderr", io.StringIO())
    return server


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("place", ["object", "class", "subclass"])
def test_method(
    name: str, place: str, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(csmtplib.SMTP, name)
    calls = []

    def replacement(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(name)
        return original(self, *arguments, **named)

    smtp_class: Any = csmtplib.SMTP
    if place == "class":
        monkeypatch.setattr(csmtplib.SMTP, name, replacement)
    if place == "subclass":
        smtp_class = type("Subclass", (csmtplib.SMTP,), {name: replacement})
    smtp = smtp_class(local_hostname="client.test")
    if place == "object":
        setattr(smtp, name, replacement.__get__(smtp))
    session(smtp)
    assert calls
    assert server.closed
    assert server.verbs[:5] == ["ehlo", "helo", "mail", "rcpt", "data"]
    assert server.verbs[-2:] == ["rset", "quit"]


def test_has_extn() -> None:
    """Asked for SIZE and 8BITMIME, where the server does ESMTP."""
    asked: list[str] = []

    class Subclass(csmtplib.SMTP):
        def has_extn(self, opt: str) -> bool:
            asked.append(opt)
            return True

    server = MemoryServer()
    connected(Subclass(local_hostname="client.test"), server).sendmail("a@x", "b@x", "")
    assert "size" in asked
    assert server.commands[1].endswith(" size=0")


def test_every_byte_passes_through_send(server: MemoryServer) -> None:
    sent: list[Any] = []

    class Subclass(csmtplib.SMTP):
        def send(self, s: Any) -> None:
            sent.append(s.encode() if isinstance(s, str) else s)
            super().send(s)

    session(Subclass(local_hostname="client.test"))
    assert b"".join(sent) == server.sent


def test_every_reply_passes_through_getreply(server: MemoryServer) -> None:
    """One that does not read: what it returns counts."""

    class Subclass(csmtplib.SMTP):
        def getreply(self) -> tuple[int, bytes]:
            return 354 if server.verbs[-1:] == ["data"] else 250, b"made up"

    smtp = Subclass(local_hostname="client.test")
    assert smtp.connect("mx.test") == (250, b"made up")
    assert smtp.sendmail("a@x", "b@x", "") == {}
    assert smtp.noop() == (250, b"made up")
