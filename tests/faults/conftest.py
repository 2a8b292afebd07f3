"""The faces of the package as fixtures."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from csmtplib.protocol import stream

from .faces import (
    Async,
    AsyncStream,
    Certificates,
    DropIn,
    Face,
    Stream,
    Strict,
    Transport,
    issue_certificates,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes long and tells nothing: where replies are split, asyncio's TLS hands
    over records as sockets hand over segments."""
    items[:] = [each for each in items if not _is_left_out(each)]


def _is_left_out(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    if call is None or item.path.parent != Path(__file__).parent:
        return False
    name, _, transport = str(call.params.get("face")).partition(" ")
    is_aio_tls = transport == "tls" and name in ("aio", "aio-stream")
    is_aio_tls = is_aio_tls or call.params.get("aio") == "tls"
    return is_aio_tls and item.get_closest_marker("long") is not None


@pytest.fixture(autouse=True)
def messages_that_come_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, send_many() takes what there is for one flight: else it depends
    on the clock how many messages it has taken when the server hangs up."""
    monkeypatch.setattr(stream, "_GATHER", float("inf"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(
    params=[
        "drop-in clear",
        "drop-in-debug clear",
        "drop-in tls",
        "strict clear",
        "strict tls",
        "aio clear",
        "aio tls",
    ]
)
def face(request: pytest.FixtureRequest, certificates: Certificates) -> Face:
    """Each face over its transports; a test may name others by indirect parameters."""
    name, transport = request.param.split()
    if transport == "unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("this system has no unix sockets")
    if name == "strict":
        return Strict(certificates, Transport(transport))
    if name == "stream":
        return Stream(certificates, Transport(transport))
    if name == "aio":
        return Async(certificates, Transport(transport))
    if name in ("aio-stream", "aio-source"):
        by_async_source = name == "aio-source"
        return AsyncStream(certificates, Transport(transport), by_async_source=by_async_source)
    return DropIn(certificates, Transport(transport), debug=name == "drop-in-debug")


@pytest.fixture(params=["clear", "tls"])
def drop_in(request: pytest.FixtureRequest, certificates: Certificates) -> DropIn:
    return DropIn(certificates, Transport(request.param))


@pytest.fixture(params=["clear", "tls"])
def strict(request: pytest.FixtureRequest, certificates: Certificates) -> Strict:
    return Strict(certificates, Transport(request.param))


@pytest.fixture(params=["clear", "tls"])
def aio(request: pytest.FixtureRequest, certificates: Certificates) -> Async:
    return Async(certificates, Transport(request.param))
