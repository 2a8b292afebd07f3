"""drive/hostname.py: the name by which this host introduces itself."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

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
    ],
)
def test_local_hostname(full_name: str, address: str | None, name: str) -> None:
    """RFC 5321 section 4.1.4: a full name, else an address literal."""
    assert local_hostname(sockets(full_name, address)) == name


def test_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "this.host.test")
    assert local_hostname() == "this.host.test"
