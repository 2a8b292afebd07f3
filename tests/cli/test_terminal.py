"""`csmtplib send` in a process of its own: Ctrl-C, a terminal, a pipe that closes."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import csmtplib

from ..faults.server import DEADLINE, Peer, Script, ScriptedServer
from ..requirements import needs_signals
from .conftest import message, url, write_mbox

pytestmark = needs_signals

# A process that is started in the background may have to be told to mind SIGINT.
PROGRAM = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from csmtplib.cli.main import main
sys.exit(main())
"""


def start(*arguments: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """`csmtplib send` as a process; its standard output and standard error are pipes."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "send", *arguments],
        cwd=cwd,
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        text=True,
        **streams,
    )


Started: TypeAlias = "Future[subprocess.Popen[str]]"


def interrupted(process: subprocess.Popen[str]) -> str:
    """Interrupts a run; what it says to that."""
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    return process.stderr.readline()


def run(script: Callable[[Peer, Started], None], box: str, cwd: Path) -> tuple[int, str, str]:
    """Sends a box to a server whose script is given the process; its exit code, and the output that
    the script has not read."""
    started: Started = Future()
    with ScriptedServer(lambda peer: script(peer, started)) as server:
        process = start("-v", "--server", url(server), box, cwd=cwd)
        started.set_result(process)
        process.wait(DEADLINE)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        return process.returncode, process.stdout.read(), process.stderr.read()


def take_message(peer: Peer) -> None:
    """Reads a message, without an answer to its end."""
    for command in ("MAIL", "RCPT"):
        peer.expect(command)
        peer.say("250 ok")
    peer.expect("DATA")
    peer.say("354 go on")
    peer.read_body()


def test_an_interrupt_waits_for_the_message_in_flight(tmp_path: Path) -> None:
    def script(peer: Peer, started: Started) -> None:
        peer.greet()
        take_message(peer)
        assert "stopping after this message" in interrupted(started.result(DEADLINE))
        peer.say("250 ok")

    box = write_mbox(tmp_path / "box", message(1), message(2))
    code, out, err = run(script, box, tmp_path)
    assert (code, out) == (130, f"accepted  b1@y.test  250 ok  {box}#1\n")
    stopped, summary = err.splitlines()
    assert stopped == f"csmtplib: stopped before {box}#2: interrupted"
    assert "1 accepted" in summary


def test_a_second_interrupt_does_not(tmp_path: Path) -> None:
    """T1: acted on between two turns of the loop, so that it is known how much has left."""

    def script(peer: Peer, started: Started) -> None:
        peer.greet()
        take_message(peer)
        interrupted(started.result(DEADLINE))
        started.result().send_signal(signal.SIGINT)
        peer.expect_close()

    box = write_mbox(tmp_path / "box", message(1), message(2))
    code, out, err = run(script, box, tmp_path)
    assert (code, out) == (130, f"in doubt  b1@y.test  interrupted  {box}#1\n")
    stopped, summary, advice = err.splitlines()
    assert stopped == f"csmtplib: stopped before {box}#2: interrupted"
    assert "1 in doubt" in summary
    assert "check its log" in advice


def test_a_second_interrupt_before_the_end_of_the_message_has_left(tmp_path: Path) -> None:
    """T1: nobody has to doubt what becomes of such a message."""

    def script(peer: Peer, started: Started) -> None:
        peer.greet()
        peer.expect("MAIL")
        interrupted(started.result(DEADLINE))
        started.result().send_signal(signal.SIGINT)
        peer.drain()

    box = write_mbox(tmp_path / "box", message(1), message(2))
    code, out, err = run(script, box, tmp_path)
    assert (code, out) == (130, f"deferred  b1@y.test  interrupted  {box}#1\n")
    assert err.startswith(f"csmtplib: stopped before {box}#2: interrupted\n")


def test_an_interrupt_before_the_session(tmp_path: Path) -> None:
    def script(peer: Peer, started: Started) -> None:
        interrupted(started.result(DEADLINE))
        started.result().send_signal(signal.SIGINT)
        peer.expect_close()

    box = write_mbox(tmp_path / "box", message(1), message(2))
    code, out, err = run(script, box, tmp_path)
    assert (code, out) == (130, "")
    stopped, summary = err.splitlines()
    assert stopped == f"csmtplib: stopped before {box}#1: interrupted"
    assert summary.startswith("csmtplib: 0 messages ")


def test_a_pipe_that_closes_stops_it(tmp_path: Path) -> None:
    box = write_mbox(tmp_path / "box", *map(message, range(5)))
    process = start("-v", box, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(DEADLINE) == 75
    stopped, summary = err.splitlines()
    assert stopped == f"csmtplib: stopped after {box}#1: standard output: Broken pipe"
    assert summary.startswith("csmtplib: 1 message into ")


def test_letters_that_the_terminal_lacks(tmp_path: Path) -> None:
    mail = tmp_path / "mail.eml"
    mail.write_bytes("From: a@x.test\nTo: žluť@y.test\n\n".encode())
    env = os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "csmtplib", "send", "-v", str(mail)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    assert "\\u017elu\\u0165@y.test" in done.stdout


def refusing(count: int) -> Script:
    """A server that refuses so many messages."""

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in range(count):
            peer.expect("MAIL")
            peer.say("550 no")
            peer.expect("RSET")
            peer.say("250 ok")

    return script


def on_terminal(*arguments: str, cwd: Path, with_stdout: bool = False) -> str:
    """Return what `csmtplib send` writes to a terminal that is its standard error, and its standard
    output, too, if that is asked for."""
    import fcntl
    import pty
    import termios

    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    streams = {"stderr": its} | ({"stdout": its} if with_stdout else {})
    process = start(*arguments, cwd=cwd, **streams)
    os.close(its)
    written = b""
    try:
        while data := os.read(ours, 65536):
            written += data
    except OSError:
        # Linux says EIO where the other side has closed.
        pass
    os.close(ours)
    process.communicate(timeout=DEADLINE)
    return written.decode()


@pytest.mark.parametrize("options", [[], ["-v"]], ids=["", "-v > file"])
def test_progress(tmp_path: Path, options: list[str]) -> None:
    box = write_mbox(tmp_path / "box", message(1, b"\0\n"), *map(message, range(2, 300)))
    with ScriptedServer(refusing(298)) as server:
        written = on_terminal(*options, "--server", url(server), box, cwd=tmp_path)
    assert "| 0/299 [" in written
    # A line of its own, and no bar left at the end.
    assert f"\rcsmtplib: {box}#1: the message contains a NUL" in written
    assert written.split("\r")[-2].startswith("csmtplib: 298 messages to ")


@pytest.mark.parametrize(
    ("options", "count"), [(["--quiet"], 300), (["-v"], 300), ([], 3)], ids=str
)
def test_no_progress(tmp_path: Path, options: list[str], count: int) -> None:
    box = write_mbox(tmp_path / "box", *map(message, range(count)))
    with ScriptedServer(refusing(count)) as server:
        written = on_terminal(
            *options, "--server", url(server), box, cwd=tmp_path, with_stdout=True
        )
    assert f"/{count} [" not in written
    assert f"csmtplib: {count} messages to " in written or options == ["--quiet"]
