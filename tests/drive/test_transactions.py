"""drive/transactions.py: which driver runs a pipeline over which socket."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from csmtplib.drive import transactions
from csmtplib.kernel.transaction import Stage
from csmtplib.protocol import limits

from ..protocol.serving import Host
from .talking import HAS_FD_LOOP, PATIENT, Client, in_thread, serve, socket_pair

ROOT = Path(__file__).parent.parent.parent


class Subclass(socket.socket):
    """As PySocks and eventlet have them."""

    @classmethod
    def from_socket(cls, sock: socket.socket) -> Subclass:
        """Takes a socket over."""
        timeout = sock.gettimeout()
        made = cls(sock.family, sock.type, sock.proto, sock.detach())
        made.settimeout(timeout)
        return made


def test_original_sockets() -> None:
    assert {socket.socket, ssl.SSLSocket} == transactions.ORIGINAL


class Drivers:
    """Notes which one runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[Any] = []
        pump: Any = transactions.pump  # type: ignore[attr-defined]

        def note_pump(*arguments: Any, can_poll: bool, **named: Any) -> None:
            self.ran.append("poll" if can_poll else "short wait")
            pump(*arguments, can_poll=can_poll, **named)

        monkeypatch.setattr(transactions, "pump", note_pump)

    def chosen_for(self, sock: Any) -> Any:
        client = Client()
        client.push(0)
        transactions.run(client.pipeline, client.replies, sock, 0, PATIENT, seconds=0)
        assert client.pipeline.failure is None
        return self.ran.pop() if self.ran else "descriptor"


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> Drivers:
    return Drivers(monkeypatch)


def test_plain_socket(drivers: Drivers) -> None:
    with socket_pair() as (sock, _):
        assert drivers.chosen_for(sock) == ("descriptor" if HAS_FD_LOOP else "poll")


def test_socket_of_another_class(drivers: Drivers) -> None:
    with socket_pair() as (sock, _), Subclass(fileno=sock.detach()) as other:
        assert drivers.chosen_for(other) == "short wait"


def test_tls_socket(drivers: Drivers) -> None:
    with socket_pair() as (sock, _):
        context = ssl.create_default_context()
        tls = context.wrap_socket(sock, server_hostname="x", do_handshake_on_connect=False)
        tls.settimeout(5.0)
        # The handshake is begun by the first write, and goes no further here.
        assert drivers.chosen_for(tls) == "poll"
        tls.close()


@pytest.mark.parametrize("timeout", [None, 5.0, 0.0])
def test_blocking_or_not(timeout: float | None) -> None:
    client = Client()
    client.push(0)
    host = Host()
    with socket_pair() as (sock, other), in_thread(lambda: serve(host, other)):
        sock.settimeout(timeout)
        transactions.run(client.pipeline, client.replies, sock, 0, PATIENT)
        assert sock.gettimeout() == timeout
        sock.close()
    assert len(host.deliveries) == 1


def test_limits_reach_the_driver() -> None:
    client = Client()
    client.push(0)
    with socket_pair() as (sock, _):
        transactions.run(client.pipeline, client.replies, sock, 0, limits.at_most(0.01))
    assert isinstance(client.pipeline.failure, TimeoutError)


def test_prepare() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as sock,
    ):
        transactions.prepare(sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()
        transactions.prepare(sock)


def test_prepare_what_has_no_such_option() -> None:
    with socket_pair() as (sock, _):
        transactions.prepare(sock)
    transactions.prepare(object())


@pytest.mark.parametrize(
    "patch",
    [
        "import gevent.monkey; gevent.monkey.patch_all()",
        "import eventlet; eventlet.monkey_patch()",
    ],
    ids=["gevent", "eventlet"],
)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_green_threads(patch: str, before: bool) -> None:
    """Their sockets are none of the standard library's, whenever that was patched."""
    pytest.importorskip(patch.split()[1].split(".")[0].rstrip(";"))
    code = """
import socket
one, other = socket.socketpair()
print(type(one) in transactions.ORIGINAL)
"""
    imports = "from csmtplib.drive import transactions"
    first, second = (patch, imports) if before else (imports, patch)
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\n{second}\n{code}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout == "False\n"


def test_held_content_is_released() -> None:
    """After the caller was told, who may still stop it."""
    told: list[list[str]] = []
    for wrap in (lambda sock: sock, Subclass.from_socket):
        client = Client(strict=False)
        host = Host()
        client.push(0)
        with socket_pair() as (sock, other), in_thread(lambda: serve(host, other)):  # noqa: B023
            ours = wrap(sock)
            transactions.run(
                client.pipeline,
                client.replies,
                ours,
                0,
                PATIENT,
                before_content=lambda: told.append(host.verbs),  # noqa: B023
            )
            ours.close()
        assert client.told() == [(0, Stage.CONTENT)]
    assert [verbs[-1] for verbs in told] == ["data", "data"]


def test_who_stops_held_content() -> None:
    client = Client(strict=False)
    host = Host()
    client.push(0)

    def stop() -> None:
        raise PermissionError("an audit hook's")

    with socket_pair() as (sock, other), in_thread(lambda: serve(host, other)):
        with pytest.raises(PermissionError):
            transactions.run(client.pipeline, client.replies, sock, 0, PATIENT, before_content=stop)
        sock.close()
    assert host.deliveries == []
