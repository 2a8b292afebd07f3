"""drive/hostname.py: the name by which this host introduces itself."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

import csmtplib
from csmtplib.drive.hostname import local_hostname


def sockets(full_name: str, address: str | None) -> SimpleNamespace:
    """A socket module on a host of this name; without an address its name can't be resolved."""

    def gethostbyname(name: str) -> str:
        assert name == "short"
        if address is None:
            raise socket.gaierror("no such name")
        return address

    return SimpleNamespace(
        getfqdn=lambda: full_name,
        gethostname=lambda: "short",
        gethostbyname=gethostbyname,
        gaierror=socket.gaierror,
    )


@pytest.mark.parametrize(
    ("full_name", "address", "name"),
    [
        ("mx.test", "192.0.2.1", "mx.test"),
        ("short", "192.0.2.1", "[192.0.2.1]"),
        ("short", None, "[127.0.0.1]"),
        ("short", "", "[127.0.0.1]"),
        ("my_host.mx-1.test", "192.0.2.1", "my_host.mx-1.test"),
        ("mx.test.", "192.0.2.1", "mx.test"),
    ],
)
def test_local_hostname(full_name: str, address: str | None, name: str) -> None:
    """RFC 5321 section 4.1.4: a full name, else an address literal."""
    assert local_hostname(sockets(full_name, address)) == name


@pytest.mark.parametrize("address", ["192.0.2.1", None])
@pytest.mark.parametrize(
    "full_name",
    [
        *("höst.test", "host.tést", "名.test", "a\udcffb.test"),
        *("my host.test", "host.test\r\nMAIL", "a\0.test", "a\t.test"),
        *("", ".", "a..test", ".test", "-a.test", "a-.test", "*.test", "a@b.test"),
        *(f"{'x' * 64}.test", ".".join(["x" * 63] * 5), "192.0.2.7", "[192.0.2.7]"),
    ],
)
def test_a_name_that_is_no_domain_name(full_name: str, address: str | None) -> None:
    """T19: it was sent, or raised UnicodeEncodeError. RFC 5321 section 4.1.3 has literals."""
    assert local_hostname(sockets(full_name, address)) == f"[{address or '127.0.0.1'}]"


@pytest.mark.parametrize("function", ["getfqdn", "gethostbyname"])
def test_a_name_that_can_not_be_looked_up(function: str) -> None:
    """T19: the resolver's functions encode it as IDNA, which has no label of more than 63."""
    host = sockets("short", "192.0.2.1")

    def raise_error(name: str = "") -> str:
        return ("x" * 64).encode("idna").decode()

    setattr(host, function, raise_error)
    assert local_hostname(host) in ("[192.0.2.1]", "[127.0.0.1]")


def test_said_by_ehlo(monkeypatch: pytest.MonkeyPatch) -> None:
    """T19: in the drop-in and in the strict flows."""
    host = sockets("höst.test", "192.0.2.1")
    monkeypatch.setattr(csmtplib, "socket", host)
    assert csmtplib.SMTP().local_hostname == "[192.0.2.1]"
    for name in ("getfqdn", "gethostname", "gethostbyname"):
        monkeypatch.setattr(socket, name, getattr(host, name))
    assert local_hostname() == "[192.0.2.1]"


def test_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "this.host.test")
    assert local_hostname() == "this.host.test"
