"""The faces of the package as fixtures."""

from __future__ import annotations

import socket

import pytest

from csmtplib.protocol import stream

from .faces import Certificates, DropIn, Face, Stream, Strict, Transport, issue_certificates


@pytest.fixture(autouse=True)
def messages_that_come_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, send_many() takes what there is for one flight: else it depends
    on the clock how many messages it has taken when the server hangs up."""
    monkeypatch.setattr(stream, "_GATHER", float("inf"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(
    params=["drop-in clear", "drop-in-debug clear", "drop-in tls", "strict clear", "strict tls"]
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
    return DropIn(certificates, Transport(transport), debug=name == "drop-in-debug")


@pytest.fixture(params=["clear", "tls"])
def drop_in(request: pytest.FixtureRequest, certificates: Certificates) -> DropIn:
    return DropIn(certificates, Transport(request.param))


@pytest.fixture(params=["clear", "tls"])
def strict(request: pytest.FixtureRequest, certificates: Certificates) -> Strict:
    return Strict(certificates, Transport(request.param))
