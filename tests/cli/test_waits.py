"""T24: a wait is reported once, after three seconds, in every phase of a session."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from csmtplib.cli import display
from csmtplib.cli.display import WaitReporter
from csmtplib.drive.performer import Waiting
from csmtplib.protocol.dialogue import Exchange, awaited
from csmtplib.protocol.server_url import Server

from ..faults.faces import Certificates
from ..faults.server import DEADLINE, Peer, ScriptedServer
from ..requirements import needs_terminals
from .campaigns import addresses, write
from .conftest import Command, message, url
from .terminal import Terminal

SOON = 0.3
SILENCE = 1.0


# What is reported, and how often


def reported(*looks: tuple[float, list[Waiting]]) -> list[str]:
    said: list[str] = []
    reporter = WaitReporter(said.append)
    for now, waits in looks:
        reporter.report(waits, now)
    return said


GREETING = Waiting("the greeting", 100.0, 300.0)


def test_a_wait_is_reported_once_after_a_while() -> None:
    assert reported((102.9, [GREETING])) == []
    assert reported(*((now, [GREETING]) for now in (101.0, 103.1, 104.0, 200.0, 399.0))) == [
        "waiting for the greeting: 3 s so far, at most 300 s"
    ]


def test_similar_waits_are_reported_together() -> None:
    later = GREETING._replace(since=101.0)
    looks = [(103.5, [later, GREETING]), (104.5, [GREETING, later]), (500, [later])]
    assert len(reported(*looks)) == 1


def test_another_wait_is_reported_and_similar_ones_not_too_often() -> None:
    def silence(since: float) -> list[Waiting]:
        return [Waiting("mx to take a message", since, None)]

    assert reported(
        (103.0, [GREETING]),
        *((at + 4.0, silence(at)) for at in range(104, 204, 4)),
    ) == [
        "waiting for the greeting: 3 s so far, at most 300 s",
        "waiting for mx to take a message: 4 s so far",
        "waiting for mx to take a message: 4 s so far",
    ]


# Every phase


def test_an_answer_in_a_login_may_be_empty() -> None:
    """As that of SCRAM to the server's last word: it is no command, and shown as none."""
    server = Server(host="mx.test")
    for data, said in (
        (b"\r\n", "AUTH"),
        (b"c2VjcmV0\r\n", "AUTH"),
        (b"AUTH PLAIN c2VjcmV0\r\n", "AUTH"),
        (b"EHLO x.test\r\n", "EHLO"),
        (b"QUIT\r\n", "QUIT"),
    ):
        assert awaited(Exchange(data), server) == f"the answer of mx.test:25 to {said}"


def pause() -> None:
    time.sleep(SILENCE)


PHASES = {
    "greeting": "the greeting of ADDRESS (if it expects TLS from the start, write smtps://ADDRESS)",
    "EHLO": "the answer of ADDRESS to EHLO",
    "STARTTLS": "the answer of ADDRESS to STARTTLS",
    "handshake": "the TLS handshake with ADDRESS",
    "AUTH": "the answer of ADDRESS to AUTH",
    "secret": "the answer of ADDRESS to AUTH",
    "content": "ADDRESS to take a message",
}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "WAIT_SECONDS", SOON)


def script_of(phase: str, certificates: Certificates) -> Any:
    """A server that is silent for a while in a phase, and then goes on."""

    def script(peer: Peer) -> None:
        def at(name: str) -> None:
            if name == phase:
                pause()

        at("greeting")
        peer.say("220 mx.test")
        if phase == "EHLO":
            peer.expect("EHLO")
            pause()
            peer.say("250-mx.test", "250-STARTTLS", "250 SIZE")
        else:
            peer.answer_hello("STARTTLS")
        peer.expect("STARTTLS")
        at("STARTTLS")
        peer.say("220 go on")
        at("handshake")
        peer.start_tls(certificates.good)
        peer.answer_hello("AUTH LOGIN")
        peer.expect("AUTH LOGIN")
        at("AUTH")
        peer.say("334 VXNlcm5hbWU6")
        peer.expect()
        peer.say("334 UGFzc3dvcmQ6")
        peer.expect()
        at("secret")
        peer.say("235 ok")
        for command in ("MAIL", "RCPT"):
            peer.expect(command)
            peer.say("250 ok")
        peer.expect("DATA")
        peer.say("354 go on")
        peer.read_body()
        at("content")
        peer.say("250 ok")

    return script


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("command", ["send", "bulk"])
def test_every_phase_is_reported_once(
    cli: Command, certificates: Certificates, tmp_path: Path, command: str, phase: str
) -> None:
    arguments = write(tmp_path, addresses(1))
    with ScriptedServer(script_of(phase, certificates)) as server:
        where = url(server, "smtp", "ann:secret@", cafile=str(certificates.cafile))
        if command == "send":
            done = cli("send", "--server", where, stdin=message())
        else:
            done = cli("bulk", "--server", where, *arguments)
    assert done.code == 0, done.err
    address = f"127.0.0.1:{server.port}"
    waits = [line for line in done.err.splitlines() if "waiting for" in line]
    assert len(waits) == 1
    expected = PHASES[phase].replace("ADDRESS", address)
    assert waits[0].startswith(f"csmtplib: waiting for {expected}: 0 s so far")
    assert "secret" not in done.err
    assert "c2VjcmV0" not in done.err


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("command", ["send", "bulk"])
def test_a_connection_that_does_not_come(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def nowhere(*arguments: object) -> socket.socket:
        pause()
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", nowhere)
    arguments = ["-"] if command == "send" else write(tmp_path, addresses(1))
    done = cli(command, "--server", "smtp://mx.test:26?timeout=9", *arguments, stdin=message())
    assert done.code == 69
    said = "csmtplib: waiting for a connection to mx.test:26: 0 s so far, at most 9 s\n"
    assert done.err.count(said) == 1


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("command", ["send", "bulk"])
def test_not_with_quiet(
    cli: Command, certificates: Certificates, tmp_path: Path, command: str
) -> None:
    arguments = ["-"] if command == "send" else write(tmp_path, addresses(1))
    with ScriptedServer(script_of("greeting", certificates)) as server:
        where = url(server, "smtp", "ann:secret@", cafile=str(certificates.cafile))
        done = cli(command, "--quiet", "--server", where, *arguments, stdin=message())
    assert (done.code, done.err) == (0, "")


@needs_terminals
@pytest.mark.parametrize("command", ["send", "bulk"])
def test_with_a_live_display(tmp_path: Path, command: str) -> None:
    """Unpatched: after three seconds, on a line of its own, while the bar is shown."""
    arguments = write(tmp_path, addresses(3))
    (tmp_path / "letter.eml").write_bytes(message())
    is_reported = threading.Event()

    def script(peer: Peer) -> None:
        assert is_reported.wait(DEADLINE)
        peer.say("554 no")

    began = time.monotonic()
    with ScriptedServer(script) as server:
        arguments = ["letter.eml"] if command == "send" else arguments
        with Terminal(command, "--server", url(server), *arguments, cwd=tmp_path) as terminal:
            terminal.until(f"waiting for the greeting of 127.0.0.1:{server.port} ")
            assert time.monotonic() - began > 2.5
            is_reported.set()
            assert terminal.end() == 69
    lines = [line for line in terminal.screen() if "waiting for" in line]
    assert len(lines) == 1
    assert lines[0].startswith("csmtplib: waiting for the greeting of ")
    assert lines[0].endswith(": 3 s so far, at most 10 s")
