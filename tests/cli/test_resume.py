"""`csmtplib resume`: nobody is left out, and nobody gets a message twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import csmtplib
from csmtplib.bulk.journal import Journal

from ..bulk.servers.throttling import ThrottlingServer
from ..faults.server import DEADLINE
from .campaigns import LETTER, addresses, parsed, write
from .conftest import Command, Done, message, write_maildir, write_mbox


def stop_halfway(cli: Command, server: ThrottlingServer, *arguments: str) -> Done:
    """Runs `bulk` with the journal "j" to a server that refuses all after a while."""
    server.refuse = lambda who: "550 5.1.1 no" if who in addresses(9)[5:] else None
    return cli(
        *("bulk", "--server", server.url, "--journal", "j", "--max-failed", "1"),
        *("--connections", "1", "--max-in-flight", "3", *arguments),
    )


def test_the_rest_is_sent(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(200))
    with ThrottlingServer() as server:
        first = stop_halfway(cli, server, *arguments)
        assert first.code == 75
        before = server.log.deliveries()
        assert len(before) < 199
        server.refuse = None
        done = cli("resume", "j")
        # What was rejected in the first run stays so.
        assert done.code == 1
        assert done.err.splitlines()[-1] == "csmtplib: all results: csmtplib report j"
        assert "completed before" in done.err
        assert max(server.log.deliveries().values()) == 1
        with Journal("j") as journal:
            counts = journal.counts()
        assert counts["accepted"] == len(server.log.deliveries())
        assert sum(counts.values()) == 200
        again = cli("resume", "j")
        assert again.code == 1
        assert "0 accepted" in again.err
        assert "200 completed before" in again.err
        assert max(server.log.deliveries().values()) == 1


@pytest.mark.parametrize("duplicates", ["skip", "send"])
def test_duplicates_are_what_they_were(cli: Command, tmp_path: Path, duplicates: str) -> None:
    """T12: resume skips the same rows, or sends them, as in the first run."""
    arguments = write(tmp_path, addresses(60) * 2)
    with ThrottlingServer() as server:
        stop_halfway(cli, server, "--duplicates", duplicates, *arguments)
        server.refuse = None
        assert cli("resume", "j").code == 1
        deliveries = server.log.deliveries()
    with Journal("j") as journal:
        total = sum(journal.counts().values())
    assert total == (60 if duplicates == "skip" else 120)
    assert max(deliveries.values()) == (1 if duplicates == "skip" else 2)


def test_messages_are_the_same_as_in_the_first_run(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(9))
    with ThrottlingServer() as server:
        assert cli("bulk", "--server", server.url, *arguments).code == 0
        stop_halfway(cli, server, *arguments)
        server.refuse = None
        taken = len(server.log.accepted)
        assert cli("resume", "j").code == 1
        resumed = [parsed(each.message) for each in server.log.accepted[9:]]
        assert taken < len(server.log.accepted)
    assert len({each["Date"] for each in resumed}) == 1
    assert len({each["Message-ID"] for each in resumed}) == len(resumed)
    first = server.log.accepted[:9]
    assert {parsed(each.message)["Message-ID"] for each in first}.isdisjoint(
        each["Message-ID"] for each in resumed
    )


def test_ready_messages_are_resumed(cli: Command, tmp_path: Path) -> None:
    def mail(number: int) -> bytes:
        return message(number).replace(b"To: b", b"To: r")

    write_mbox(tmp_path / "box", *map(mail, range(1, 15)))
    write_maildir(tmp_path / "Maildir", *map(mail, range(20, 30)))
    with ThrottlingServer() as server:
        assert stop_halfway(cli, server, "Maildir", "box").code == 75
        assert len(server.log.accepted) > 0
        server.refuse = None
        # As a mail program does with what was read.
        for file in (tmp_path / "Maildir" / "new").iterdir():
            file.rename(tmp_path / "Maildir" / "cur" / f"{file.name}:2,S")
        assert cli("resume", "j").code in (0, 1)
    deliveries = server.log.deliveries()
    assert max(deliveries.values()) == 1
    assert set(deliveries) >= {f"r{number}@y.test" for number in [*range(1, 6), *range(20, 30)]}


def test_from_another_directory(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = write(tmp_path, addresses(9))
    with ThrottlingServer() as server:
        stop_halfway(cli, server, *arguments)
        server.refuse = None
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        assert cli("resume", "../j").code == 1
    assert set(server.log.deliveries()) >= set(addresses(9)[6:])


def test_the_sink_is_the_same_one(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = write(tmp_path, addresses(3))
    assert cli("bulk", "--journal", "j", "--server", "sink:arrived", *arguments).code == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    done = cli("resume", "../j")
    assert done.code == 0
    assert f"into the Maildir {tmp_path / 'arrived'}" in done.err
    assert list((tmp_path / "other").iterdir()) == []


def test_what_to_do_after_a_resumed_run_into_the_sink(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(20))
    with ThrottlingServer() as server:
        stop_halfway(cli, server, *arguments)
    done = cli("resume", "--server", "sink:arrived", "j")
    assert done.code == 1
    # Who has resumed a run need not be shown how.
    assert done.err.splitlines()[-1] == (
        "csmtplib: next: send for real: --server submission://USER@HOST"
    )


@pytest.mark.parametrize("changed", ["letter.txt", "table.csv"])
def test_files_that_have_changed(cli: Command, tmp_path: Path, changed: str) -> None:
    arguments = write(tmp_path, addresses(9))
    with ThrottlingServer() as server:
        stop_halfway(cli, server, *arguments)
        taken = len(server.log.accepted)
        with open(tmp_path / changed, "a") as file:
            file.write("r10@y.test,Zoe\n")
        done = cli("resume", "j")
        assert done.code == 65
        assert done.err.startswith(f"csmtplib: {tmp_path / changed} has changed ")
        (tmp_path / changed).unlink()
        assert cli("resume", "j").code == 66
    assert len(server.log.accepted) == taken


def test_a_suppression_list_may_change(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(9))
    (tmp_path / "not").write_text("r1@y.test\n")
    with ThrottlingServer() as server:
        stop_halfway(cli, server, "--suppress", "not", *arguments)
        (tmp_path / "not").write_text("r1@y.test\nr9@y.test\n")
        server.refuse = None
        done = cli("resume", "j")
    assert "2 suppressed" in done.err
    assert not {"r1@y.test", "r9@y.test"} & set(server.log.deliveries())


def test_options_stay_unless_others_are_given(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(60))
    with ThrottlingServer() as server:
        stop_halfway(cli, server, "--max-per-connection", "2", *arguments)
        server.refuse = None
        begun = len(server.log.connections)
        cli("resume", "j", "--max-failed", "100", "--max-in-flight", "2")
        assert max(each.messages for each in server.log.connections) <= 2
        assert len(server.log.connections) > begun + 10


def test_deferred_recipients_are_tried_again(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(3))
    with ThrottlingServer(greylist_seconds=0.05) as server:
        options = ["--retry-first", "1s", "--retry-for", "0"]
        done = cli("bulk", "--server", server.url, "--journal", "j", *options, *arguments)
        assert done.code == 75
        done = cli("resume", "j", "--retry-for", "1m")
    assert done.code == 0
    assert "3 accepted, 0 rejected, 0 deferred" in done.err
    assert server.log.deliveries() == Counter(addresses(3))


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "csmtplib", *arguments],
        cwd=cwd,
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.parametrize("results", [1, 150])
def test_after_a_kill(cli: Command, tmp_path: Path, results: int) -> None:
    arguments = write(tmp_path, addresses(600))
    with ThrottlingServer() as server:
        process = start(
            *("bulk", "--server", server.url, "--journal", "j", "--log-json", "-"),
            *("--rate", "1000/s", *arguments),
            cwd=tmp_path,
        )
        with process:
            assert process.stdout is not None
            for _ in range(results):
                result = json.loads(process.stdout.readline())
                assert result["state"] == "accepted"
            process.kill()
        process.wait(DEADLINE)
        done = cli("resume", "j", "--rate", "100000/s")
        # In doubt, and so left as they are.
        with Journal("j") as journal:
            doubtful = journal.counts().get("in doubt", 0)
        assert done.code == (76 if doubtful else 0)
        assert ("were in progress when a run was killed" in done.err) == bool(doubtful)
        deliveries = server.log.deliveries()
        assert max(deliveries.values()) == 1
        assert 600 - doubtful <= len(deliveries) <= 600
        done = cli("resume", "j", "--in-doubt", "resend")
        assert done.code == 0
        assert set(server.log.deliveries()) == set(addresses(600))
        twice = {each for each, count in server.log.deliveries().items() if count > 1}
        assert len(twice) <= doubtful
        copies: dict[str, set[bytes]] = {each: set() for each in twice}
        for each in server.log.accepted:
            if each.recipients[0] in twice:
                copies[each.recipients[0]].add(each.message)
        assert all(len(data) == 1 for data in copies.values())


def test_what_is_no_campaign(cli: Command, tmp_path: Path) -> None:
    done = cli("resume", "none")
    assert (done.code, done.err) == (66, "csmtplib: none: there is no such journal\n")
    assert not (tmp_path / "none").exists()
    with Journal(tmp_path / "mine") as journal:
        pass
    done = cli("resume", "mine")
    assert done.code == 65
    assert done.err == (
        "csmtplib: the campaign in mine never began, and nothing was sent: start it again with "
        "csmtplib bulk --journal mine ...\n"
    )
    with Journal(tmp_path / "mine") as journal:
        journal.write(new=[(1, 1, "r1@y.test")], again=[], completed=[])
    done = cli("resume", "mine")
    assert done.code == 65
    assert "mine is the journal of a program: run the program again" in done.err
    with Journal(tmp_path / "mine") as journal:
        journal.set_parameters({"version": "0.0.1", "run": "{}", "files": "{}"})
    done = cli("resume", "mine")
    assert done.code == 65
    assert "it was written by version 0.0.1" in done.err
    (tmp_path / "text").write_text(LETTER)
    assert cli("resume", "text").code == 74
    assert cli("resume").code == 64


def test_the_password_is_asked_for_again(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = write(tmp_path, addresses(3))
    with ThrottlingServer() as server:
        login = server.url.replace("smtp://", "smtp://me:s%40cret@") + "?cleartext-auth=yes"
        assert cli("bulk", "--server", login, "--journal", "j", *arguments).code == 69
        monkeypatch.delenv("CSMTPLIB_PASSWORD_FILE", raising=False)
        done = cli("resume", "j")
        assert done.code == 78
        assert "CSMTPLIB_PASSWORD_FILE" in done.err
        (tmp_path / "password").write_text("s@cret\n")
        monkeypatch.setenv("CSMTPLIB_PASSWORD_FILE", str(tmp_path / "password"))
        # It gets as far as to the server, which has no AUTH.
        assert cli("resume", "j").code == 69
        assert cli("resume", "j", "--server", server.url).code == 0


def test_a_journal_that_is_copied(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(9))
    with ThrottlingServer() as server:
        stop_halfway(cli, server, *arguments)
        shutil.copy(tmp_path / "j", tmp_path / "copy")
        server.refuse = None
        assert cli("resume", "copy").code == 1
    assert max(server.log.deliveries().values()) == 1
