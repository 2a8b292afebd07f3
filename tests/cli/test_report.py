"""`csmtplib report`: what a journal says, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import csmtplib
from csmtplib.bulk.journal import Journal

from ..bulk.servers.throttling import ThrottlingServer
from ..requirements import needs_signals, needs_terminals
from .campaigns import addresses, write
from .conftest import Command
from .terminal import Terminal

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
                "run": "{}",
            }
        )
        *ids, last = journal.new_ids(len(OUTCOMES) + 1)
        rows = [(ids[at], f"t:{at + 2}", row[0]) for at, row in enumerate(OUTCOMES)]
        journal.write(new=[*rows, (last, "t:9", "r9@c.test")], again=[], completed=[])
        journal.write(
            new=[],
            again=[],
            completed=[
                (state, due, code, enhanced, text, "mx.test:25", time, at)
                for at, (_, state, due, code, enhanced, text, time) in enumerate(OUTCOMES, 1)
            ],
        )
        journal.commit()
        yield journal


def test_to_be_read(cli: Command, journal: Journal) -> None:
    done = cli("report", "j")
    assert (done.code, done.err) == (0, "")
    head, states, domains, codes, advice = done.out.split("\n\n")
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
        "sending             1  14.3 %",
        "no result           1  14.3 %",
    ]
    assert domains.splitlines() == [
        "domain  recipients  accepted  rejected  deferred  in doubt  sending",
        "a.test           2         2         0         0         0        0",
        "b.test           2         0         1         1         0        0",
        "c.test           2         0         0         0         1        1",
    ]
    assert codes.splitlines()[1:] == [
        "250    2.0.0  accepted           2  2.0.0 Ok: 4F2",
        "none          in doubt           1  the server was lost",
        "451           deferred           1  later, =1+1",
        "550    5.1.1  rejected           1  5.1.1 nobody",
    ]
    # T14: what there is to do about those without a result.
    assert advice.splitlines() == [
        "1 sending: in progress in the current run; if that was killed, they are in doubt",
        "unless a run is in progress, to send the rest: csmtplib resume j",
        "1 in doubt: the server may or may not have accepted them; to list them: csmtplib report "
        "--state in-doubt j",
        "to send them again: csmtplib resume --in-doubt resend j",
        "to count them as accepted: csmtplib resume --in-doubt accept j",
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
    assert rows[5]["state"] == "sending"
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
        assert table[1].split() == ["a.test", "2", "2", "0", "0", "0", "0"]
    else:
        assert rows[1] == ["250", "2.0.0", "accepted", "2", "2.0.0 Ok: 4F2"]
        assert table[1].startswith("250    2.0.0  accepted           2  2.0.0 Ok: 4F2")


def test_a_server_can_not_write_to_the_terminal(cli: Command, tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write(new=[(1, 1, "a\x1b@x.test")], again=[], completed=[])
        completed = ("rejected", None, 550, None, "\x1b[2J", "mx:25", START, 1)
        journal.write(new=[], again=[], completed=[completed])
    done = cli("report", "j")
    assert done.code == 0
    assert "\x1b" not in done.out


def test_a_journal_of_a_program(cli: Command, tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write(new=[(1, 1, "r1@x.test")], again=[], completed=[])
    done = cli("report", "j")
    assert done.code == 0
    assert done.out.splitlines()[:2] == [
        "state    recipients  share",
        "sending           1  100.0 %",
    ]
    assert "csmtplib resume" not in done.out.partition("sending: ")[0]


@pytest.mark.parametrize("kind", ["no byte", "no recipient"])
@pytest.mark.parametrize("by", [[], ["--by", "code"], ["--state", "accepted"]], ids=str)
def test_a_campaign_that_has_not_begun(
    cli: Command, tmp_path: Path, kind: str, by: list[str]
) -> None:
    """T4: while its rows are checked, or where it was killed before its first message."""
    if kind == "no byte":
        (tmp_path / "j").touch()
    else:
        with Journal(tmp_path / "j"):
            pass
    done = cli("report", *by, "j")
    assert (done.code, done.err) == (0, "")
    assert done.out == "nothing has been sent: the campaign has not begun\n"
    assert cli("report", *by, "--format", "jsonl", "j").out == ""
    assert cli("report", *by, "--format", "csv", "j").out.count("\n") == 1


@pytest.mark.parametrize("state", ["accepted", "in-doubt", "queued"])
def test_recipients_in_a_state(cli: Command, journal: Journal, state: str) -> None:
    addresses = [row[0] for row in OUTCOMES if row[1] == state.replace("-", " ")]
    table = cli("report", "--state", state, "j").out.splitlines()
    assert [line.split("  ")[1] for line in table] == addresses
    rows = csv.DictReader(io.StringIO(cli("report", "--state", state, "--format", "csv", "j").out))
    assert [row["address"] for row in rows] == addresses
    lines = cli("report", "--state", state, "--format", "jsonl", "j").out.splitlines()
    assert [json.loads(line)["address"] for line in lines] == addresses
    if state == "in-doubt":
        assert table == ["in doubt  r5@c.test  the server was lost  t:6"]
    assert cli("report", "--state", state, "--by", "code", "j").code == 64


def test_who_is_queued_has_not_had_that_try(cli: Command, journal: Journal) -> None:
    """T23: the journal counts it when it is recorded as sending, and a report does not."""
    given_back = ("queued", None, None, None, "interrupted", "mx.test:25", START, 6)
    journal.write(new=[], again=[], completed=[given_back])
    journal.commit()
    done = cli("report", "--state", "queued", "--format", "csv", "j")
    assert [row["attempts"] for row in csv.DictReader(io.StringIO(done.out))] == ["0"]


def test_tables_add_up_where_they_are_cut(cli: Command, tmp_path: Path) -> None:
    """The rows have all recipients between them, however many domains and replies there are."""
    with Journal(tmp_path / "j") as journal:
        new = [(at, at, f"r{at}@{chr(96 + at)}.test") for at in range(1, 21)]
        journal.write(new=new, again=[], completed=[])
        completed = [
            ("rejected", None, 500 + at, None, "no " * 30, "mx:25", START, at)
            for at in range(1, 20)
        ]
        journal.write(new=[], again=[], completed=completed)
    _, _, domains, codes, *_ = cli("report", "j").out.split("\n\n")
    lines = domains.splitlines()
    assert lines[0].split() == [
        *("domain", "recipients", "accepted", "rejected", "deferred", "in", "doubt", "sending")
    ]
    assert lines[-1].split() == ["10", "others", "10", "0", "9", "0", "0", "1"]
    for line in lines[1:]:
        count, *states = map(int, line.replace("10 others", "others").split()[1:])
        assert count == sum(states)
    lines = codes.splitlines()
    assert lines[-1].split() == ["9", "others", "9"]
    # An example ends with a word.
    assert lines[1].endswith("  no no no no no no no no no no no no...")
    assert cli("report", "--by", "domain", "j").out.count("\n") == 21


@needs_terminals
@pytest.mark.parametrize("columns", [100, 59, 45, 30])
def test_lines_fit_the_terminal(
    cli: Command, journal: Journal, tmp_path: Path, columns: int
) -> None:
    """A terminal breaks what is too long in mid-word, and 60 columns are too few for a table."""
    words = set(re.split(r"[\s:,]+", cli("report", "j").out))
    with Terminal("report", "j", cwd=tmp_path, with_stdout=True, columns=columns) as terminal:
        assert terminal.end() == 0
    shown = terminal.screen()
    assert max(map(len, shown)) <= columns
    assert set(re.split(r"[\s:,]+", "\n".join(shown))) <= words | {"recipient"}
    assert not re.search(r"\b1\s+recipients", "\n".join(shown))
    for each in ("a.test", "b.test", "c.test", "550", "resend"):
        assert each in " ".join(shown)


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
    data = (tmp_path / f"rate.{suffix}").read_bytes()
    assert data.startswith(b"<?xml" if suffix == "svg" else b"\x89PNG")


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
    assert "matplotlib: pip install 'csmtplib[plot]'" in done.err


def test_what_is_no_journal(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n" * 1000)
    for name in ("text", "."):
        done = cli("report", name)
        assert done.code == 74
        assert done.err.count("\n") == 1
    for command in ("report", "resume"):
        done = cli(command, "none")
        assert (done.code, done.err) == (66, "csmtplib: none: there is no such journal\n")
    assert not (tmp_path / "none").exists()
    assert cli("report").code == 64


@needs_signals
def test_a_reader_who_has_seen_enough(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        new = [(at, at, f"recipient-with-a-long-name-{at}@x.test") for at in range(1, 5001)]
        journal.write(new=new, again=[], completed=[])
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
