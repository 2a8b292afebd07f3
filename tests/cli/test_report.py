"""`csmtplib report`: what a journal says, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import csmtplib
from csmtplib.bulk.journal import Journal

from ..bulk.servers.throttling import ThrottlingServer
from ..requirements import needs_signals
from .campaigns import addresses, write
from .conftest import Command

START = 1_800_000_000.0

# State, due, code, enhanced code, text, host and time, as Journal.write() takes them.
OUTCOMES = [
    ("r1@a.test", "accepted", None, 250, "2.0.0", "2.0.0 Ok: 4F1", START),
    ("r2@a.test", "accepted", None, 250, "2.0.0", "2.0.0 Ok: 4F2", START + 1),
    ("r3@B.test", "rejected", None, 550, "5.1.1", "5.1.1 nobody", START + 1),
    ("r4@b.test", "deferred", START + 300, 451, None, "later, =1+1", START + 2),
    ("r5@c.test", "in doubt", None, None, None, "the server was lost", START + 4),
]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal "j", still open, of a campaign to seven."""
    with Journal(tmp_path / "j") as journal:
        journal.set_parameters(
            {
                "id": "ab12",
                "date": "2026-11-25T04:22:26+00:00",
                "template": "letter.txt",
                "sources": '["table.csv"]',
                "server": "smtp://mx.test",
                "total": "7",
            }
        )
        rows = [(journal.new_id(), f"t:{at}", row[0]) for at, row in enumerate(OUTCOMES, 2)]
        journal.write(new=[*rows, (journal.new_id(), "t:9", "r9@c.test")], again=[], settled=[])
        journal.write(
            new=[],
            again=[],
            settled=[
                (state, due, code, enhanced, text, "mx.test:25", time, at)
                for at, (_, state, due, code, enhanced, text, time) in enumerate(OUTCOMES, 1)
            ],
        )
        journal.commit()
        yield journal


def test_to_be_read(cli: Command, journal: Journal) -> None:
    done = cli("report", "j")
    assert (done.code, done.err) == (0, "")
    head, states, domains, codes = done.out.split("\n\n")
    assert "campaign  ab12\n" in head
    assert "letter    letter.txt\n" in head
    assert "from      table.csv\n" in head
    assert "(4.0 s, 1/s)" in head
    assert states.splitlines() == [
        "state      recipients  share",
        "accepted            2  28.6 %",
        "rejected            1  14.3 %",
        "deferred            1  14.3 %",
        "in doubt            1  14.3 %",
        "armed               1  14.3 %",
        "no result           1  14.3 %",
    ]
    assert domains.splitlines() == [
        "domain  recipients  accepted  rejected  deferred  in doubt",
        "a.test           2         2         0         0         0",
        "b.test           2         0         1         1         0",
        "c.test           2         0         0         0         1",
    ]
    assert codes.splitlines()[1:] == [
        "250    2.0.0  accepted           2  2.0.0 Ok: 4F2",
        "none          in doubt           1  the server was lost",
        "451           deferred           1  later, =1+1",
        "550    5.1.1  rejected           1  5.1.1 nobody",
    ]


def test_csv(cli: Command, journal: Journal) -> None:
    done = cli("report", "--format", "csv", "j")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["address"] for row in rows] == [*(row[0] for row in OUTCOMES), "r9@c.test"]
    assert rows[2] == {
        "key": "t:4",
        "address": "r3@B.test",
        "state": "rejected",
        "code": "550",
        "enhanced": "5.1.1",
        "text": "5.1.1 nobody",
        "attempts": "1",
        "host": "mx.test:25",
        "time": "2027-01-15T08:00:01.000+00:00",
    }
    assert rows[5]["state"] == "armed"
    assert rows[5]["time"] == ""


def test_json_lines(cli: Command, journal: Journal) -> None:
    done = cli("report", "--format", "jsonl", "j")
    objects = [json.loads(line) for line in done.out.splitlines()]
    assert len(objects) == 6
    assert objects[4] == {
        "key": "t:6",
        "address": "r5@c.test",
        "state": "in doubt",
        "code": None,
        "enhanced": None,
        "text": "the server was lost",
        "attempts": 1,
        "host": "mx.test:25",
        "time": "2027-01-15T08:00:04.000+00:00",
    }


@pytest.mark.parametrize("by", ["domain", "code"])
def test_counts(cli: Command, journal: Journal, by: str) -> None:
    table = cli("report", "--by", by, "j").out.splitlines()
    rows = list(csv.reader(io.StringIO(cli("report", "--by", by, "--format", "csv", "j").out)))
    lines = cli("report", "--by", by, "--format", "jsonl", "j").out.splitlines()
    objects = [json.loads(line) for line in lines]
    assert len(table) == len(rows) == len(objects) + 1
    assert rows[0] == list(objects[0])
    if by == "domain":
        assert rows[1] == ["a.test", "2", "0", "0", "2", "0", "0", "0"]
        assert table[1].split() == ["a.test", "2", "2", "0", "0", "0"]
    else:
        assert rows[1] == ["250", "2.0.0", "accepted", "2", "2.0.0 Ok: 4F2"]
        assert table[1].startswith("250    2.0.0  accepted           2  2.0.0 Ok: 4F2")


def test_a_server_can_not_write_to_the_terminal(cli: Command, tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write(new=[(1, 1, "a\x1b@x.test")], again=[], settled=[])
        settled = ("rejected", None, 550, None, "\x1b[2J", "mx:25", START, 1)
        journal.write(new=[], again=[], settled=[settled])
    done = cli("report", "j")
    assert done.code == 0
    assert "\x1b" not in done.out


def test_a_journal_of_a_program(cli: Command, tmp_path: Path) -> None:
    with Journal(tmp_path / "j"):
        pass
    done = cli("report", "j")
    assert done.code == 0
    assert done.out.splitlines()[1] == "state  recipients  share"


def test_of_a_real_run(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(20))
    with ThrottlingServer() as server:
        assert cli("bulk", "--server", server.url, "--journal", "j", *arguments).code == 0
    done = cli("report", "j")
    assert "accepted          20  100.0 %" in done.out
    assert f"server    {server.url}\n" in done.out
    done = cli("report", "--format", "csv", "j")
    assert sorted(row["key"] for row in csv.DictReader(io.StringIO(done.out))) == sorted(
        f"table.csv:{line}" for line in range(2, 22)
    )


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_picture(cli: Command, journal: Journal, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    done = cli("report", "--plot", f"rate.{suffix}", "j")
    assert done.code == 0
    assert done.out.startswith("campaign  ab12\n")
    octets = (tmp_path / f"rate.{suffix}").read_bytes()
    assert octets.startswith(b"<?xml" if suffix == "svg" else b"\x89PNG")


def test_pictures_that_can_not_be_drawn(
    cli: Command, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("report", "--plot", "rate.pdf", "j").code == 64
    with Journal(tmp_path / "empty"):
        pass
    if pytest.importorskip("matplotlib"):
        assert cli("report", "--plot", "rate.svg", "empty").code == 65
        assert cli("report", "--plot", "none/rate.svg", "j").code == 74
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = cli("report", "--plot", "rate.svg", "j")
    assert done.code == 69
    assert "pip install matplotlib" in done.err


def test_what_is_no_journal(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n" * 1000)
    for name in ("none", "text", "."):
        done = cli("report", name)
        assert done.code == 74
        assert done.err.count("\n") == 1
    assert not (tmp_path / "none").exists()
    assert cli("report").code == 64


@needs_signals
def test_a_reader_who_has_seen_enough(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        new = [(at, at, f"recipient-with-a-long-name-{at}@x.test") for at in range(1, 5001)]
        journal.write(new=new, again=[], settled=[])
    process = subprocess.Popen(
        [sys.executable, "-m", "csmtplib", "report", "--format", "csv", "j"],
        cwd=tmp_path,
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("key,")
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 74
