"""Campaigns in a process of their own: what is to be seen, Ctrl-C, SIGTERM, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest

import csmtplib

from ..bulk.servers.throttling import ThrottlingServer
from ..faults.server import DEADLINE, Peer, ScriptedServer
from ..requirements import needs_terminals
from .campaigns import addresses, write
from .conftest import url
from .terminal import COLUMNS, PROGRAM, Terminal
from .test_bulk import NO_JOURNAL

pytestmark = needs_terminals


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """`csmtplib bulk` as a process, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "bulk", *arguments],
        cwd=cwd,
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_campaign_is_watched_stopped_resumed_and_reported(tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(2000))
    with ThrottlingServer() as server:
        with Terminal(
            *("bulk", "--server", server.url, "--journal", "j", "--rate", "500/s", *arguments),
            cwd=tmp_path,
        ) as terminal:
            terminal.until("%|")
            terminal.until(" accepted")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.end() == 75
            # The bar is gone, and the last line ended.
            assert terminal.longest() < COLUMNS
            assert not [line for line in terminal.screen() if "|" in line]
            lines = [line for line in terminal.screen() if "stopping after" not in line]
            assert lines[0] == "csmtplib: stopped: interrupted"
            assert lines[1].startswith("csmtplib: ")
            assert " not sent" in lines[2]
            assert lines[3:] == [
                "csmtplib: to send the rest: csmtplib resume j",
                "csmtplib: all results: csmtplib report j",
                "",
            ]
        sent = server.log.deliveries()
        assert 0 < len(sent) < 2000
        with Terminal("resume", "j", "--rate", "50000/s", cwd=tmp_path) as terminal:
            assert terminal.end() == 0
            assert f"{len(sent)} completed before" in "\n".join(terminal.screen())
    assert server.log.deliveries() == Counter(addresses(2000))
    with Terminal("report", "j", cwd=tmp_path, with_stdout=True) as terminal:
        assert terminal.end() == 0
        assert "accepted        2000  100.0 %" in terminal.screen()
        assert max(map(len, terminal.screen())) <= COLUMNS


def test_lines_are_printed_above_the_bar(tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(200))
    server = ThrottlingServer(refuse=lambda who: "550 5.1.1 nobody" if "r150@" in who else None)
    with (
        server,
        Terminal(
            "bulk", "--server", server.url, "--rate", "400/s", *arguments, cwd=tmp_path
        ) as terminal,
    ):
        assert terminal.end() == 1
    notice, reported, first, second, last = terminal.screen()
    assert notice == NO_JOURNAL
    assert reported == "csmtplib: rejected  r150@y.test  550 5.1.1 nobody  table.csv:151"
    assert first.startswith("csmtplib: 200 recipients to ")
    assert second == "csmtplib: 199 accepted, 1 rejected, 0 deferred, 0 in doubt"
    assert last == ""


def test_no_bar_with_lines_on_the_same_terminal(tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(20))
    with (
        ThrottlingServer() as server,
        Terminal(
            *("bulk", "-v", "--server", server.url, *arguments), cwd=tmp_path, with_stdout=True
        ) as terminal,
    ):
        assert terminal.end() == 0
    assert "%|" not in terminal.written
    assert len([line for line in terminal.screen() if line.startswith("accepted  ")]) == 20


@pytest.mark.parametrize("with_journal", [False, True], ids=["", "journal"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_messages_in_progress_finish(
    tmp_path: Path, number: signal.Signals, with_journal: bool
) -> None:
    arguments = write(tmp_path, addresses(50))
    started: Future[subprocess.Popen[str]] = Future()
    noticed = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        while peer.expect() != b"QUIT\r\n":
            peer.say("250 ok")
            peer.expect("RCPT")
            peer.say("250 ok")
            peer.expect("DATA")
            peer.say("354 go on")
            peer.read_body()
            if not noticed.is_set():
                started.result(DEADLINE).send_signal(number)
                assert noticed.wait(DEADLINE)
            peer.say("250 ok")
        peer.say("221 bye")

    options = ["--journal", "j"] if with_journal else []
    with ScriptedServer(script) as server:
        options += ["--connections", "1", "--max-in-flight", "2", "--log-json", "-"]
        process = start("--server", url(server), *options, *arguments, cwd=tmp_path)
        with process:
            started.set_result(process)
            assert process.stderr is not None
            if not with_journal:
                assert process.stderr.readline() == f"{NO_JOURNAL}\n"
            assert process.stderr.readline() == (
                "csmtplib: stopping after the messages in progress; press Ctrl-C again to abort "
                "them\n"
            )
            noticed.set()
            out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == (75 if with_journal else 130)
    states = Counter(json.loads(line)["state"] for line in out.splitlines())
    assert states["accepted"] in (1, 2)
    assert set(states) <= {"accepted", "queued"}
    unsent = 50 - states["accepted"]
    assert f"0 rejected, 0 deferred, 0 in doubt, {unsent} not sent" in err


def test_a_second_interrupt_leaves_them_in_doubt(tmp_path: Path) -> None:
    """T1: acted on between two turns of the loop, and each result is recorded."""
    arguments = write(tmp_path, addresses(3))
    started: Future[subprocess.Popen[str]] = Future()

    def script(peer: Peer) -> None:
        peer.greet()
        for command in ("MAIL", "RCPT"):
            peer.expect(command)
            peer.say("250 ok")
        peer.expect("DATA")
        peer.say("354 go on")
        peer.read_body()
        started.result(DEADLINE).send_signal(signal.SIGINT)
        peer.expect_close()

    with ScriptedServer(script) as server:
        options = ["--connections", "1", "--journal", "j"]
        process = start("--server", url(server), *options, *arguments, cwd=tmp_path)
        with process:
            started.set_result(process)
            assert process.stderr is not None
            assert "Ctrl-C again" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 75
    assert "csmtplib: stopped: interrupted\n" in err
    assert " 1 in doubt" in err
    assert "in doubt  r1@y.test  interrupted  " in err
    assert "Traceback" not in err


def test_a_pipe_that_closes_stops_it(tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(2000))
    with ThrottlingServer() as server:
        options = ["--rate", "1000/s", "--log-json", "-"]
        process = start("--server", server.url, *options, *arguments, cwd=tmp_path)
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr is not None
            err = process.stderr.read()
    assert process.returncode == 75
    assert err.startswith(f"{NO_JOURNAL}\ncsmtplib: stopped: standard output: Broken pipe\n")
    assert "Traceback" not in err
    assert len(server.log.accepted) < 2000
