"""The command as a fixture, and what it sends."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from csmtplib.cli.main import main

from ..faults.faces import Certificates, issue_certificates
from ..faults.server import ScriptedServer


@dataclass(frozen=True)
class Done:
    """The result of a command: its exit code, and its output."""

    code: int
    out: str
    err: str


class Command(Protocol):
    """The command csmtplib, run in this process and in a directory of the test's own."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Done: ...


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code: object = main(arguments)
        except SystemExit as end:
            code = end.code
        assert isinstance(code, int)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


@pytest.fixture(autouse=True)
def no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on stand-ins for a terminal: what is written is compared as it is."""
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue_certificates(tmp_path_factory.mktemp("certificates"))


def url(server: ScriptedServer, scheme: str = "smtp", login: str = "", **options: str) -> str:
    """The URL of a scripted server; its options are written with "_" for "-"."""
    query = "&".join(f"{name.replace('_', '-')}={value}" for name, value in options.items())
    return (
        f"{scheme}://{login}{server.host}:{server.port}?name=client.test&timeout=10&{query}".rstrip(
            "&"
        )
    )


def refusal(call: Callable[..., object], *arguments: object) -> str:
    """Return the text of this system's error for a call that it does not carry out."""
    try:
        call(*arguments)
    except OSError as error:
        return error.strerror or str(error)
    pytest.fail("it has carried it out")


def message(number: int = 1, body: bytes = b"hello\n") -> bytes:
    """A message from a@x.test to b<number>@y.test."""
    return b"From: a@x.test\nTo: b%d@y.test\nSubject: %d\n\n%s" % (number, number, body)


def write_mbox(path: Path, *messages: bytes) -> str:
    """Writes an mbox file; its path as an argument."""
    line = b"From a@x.test Mon Nov 23 09:00:00 2026\n"
    path.write_bytes(b"".join(line + each + b"\n" for each in messages))
    return str(path)


def write_maildir(path: Path, *messages: bytes) -> str:
    """Makes a Maildir with new messages, named in their order; its path as an argument."""
    for folder in ("tmp", "new", "cur"):
        (path / folder).mkdir(parents=True)
    for number, each in enumerate(messages):
        (path / "new" / f"{number:06}.host").write_bytes(each)
    return str(path)


def filed(path: Path) -> list[bytes]:
    """The messages in a Maildir that a sink has filled, in the order of their arrival."""
    return [file.read_bytes() for file in sorted((path / "new").iterdir())]
