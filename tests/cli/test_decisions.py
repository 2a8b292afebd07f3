"""An operator's decisions about a campaign: what is in doubt (T14), and what was refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from csmtplib.bulk.journal import Journal

from ..bulk.servers.throttling import ThrottlingServer
from .campaigns import addresses, write
from .conftest import Command
from .test_metrics import samples

RESEND = "csmtplib: to send them again: csmtplib resume --in-doubt resend j"
ACCEPT = "csmtplib: to count them as accepted: csmtplib resume --in-doubt accept j"


def doubtful(cli: Command, server: ThrottlingServer, directory: Path, count: int) -> None:
    """A campaign "j" to nine, of which so many are in doubt and the others accepted."""
    arguments = write(directory, addresses(9))
    assert cli("bulk", "--server", server.url, "--journal", "j", *arguments).code == 0
    with Journal("j") as journal:
        # As they were when a run was killed before their replies came.
        journal.write(new=[], again=[(at, 1) for at in range(1, count + 1)], completed=[])
    server.log.accepted.clear()


def test_in_doubt_is_reported_until_it_is_decided(cli: Command, tmp_path: Path) -> None:
    """T14: resume said "0 in doubt, 9 completed before ... to send the rest", and 75, for ever."""
    with ThrottlingServer() as server:
        doubtful(cli, server, tmp_path, 3)
        for run in range(2):
            done = cli("resume", "j")
            assert done.code == 76
            lines = done.err.splitlines()
            if run == 0:
                assert (
                    lines.pop(0) == "csmtplib: 3 were in progress when a run was killed: in doubt"
                )
            assert lines[0].startswith("csmtplib: 0 of 9 recipients to ")
            assert lines[1:] == [
                "csmtplib: 0 accepted, 0 rejected, 0 deferred, 3 in doubt, 6 completed before",
                "csmtplib: 3 in doubt: the server may or may not have accepted them; to list "
                "them: csmtplib report --state in-doubt j",
                RESEND,
                ACCEPT,
                "csmtplib: all results: csmtplib report j",
            ]
        report = cli("report", "j").out
        assert RESEND.removeprefix("csmtplib: ") in report
        assert "to send the rest" not in report
        assert not server.log.accepted
        assert cli("report", "--state", "in-doubt", "j").out.count("\n") == 3
        assert cli("resume", "--quiet", "j").err == ""


def test_it_is_sent_again(cli: Command, tmp_path: Path) -> None:
    with ThrottlingServer() as server:
        doubtful(cli, server, tmp_path, 3)
        done = cli("resume", "--in-doubt", "resend", "j")
        assert done.code == 0
        assert len(server.log.accepted) == 3
        assert "3 accepted, 0 rejected, 0 deferred, 0 in doubt, 6 completed before" in done.err
        assert RESEND not in done.err


def test_or_taken_as_accepted(cli: Command, tmp_path: Path) -> None:
    with ThrottlingServer() as server:
        doubtful(cli, server, tmp_path, 3)
        done = cli("resume", "--in-doubt", "accept", "j")
        assert done.code == 0
        assert "csmtplib: 3 in doubt are counted as accepted\n" in done.err
        assert "0 in doubt, 9 completed before" in done.err
        assert not server.log.accepted
        assert cli("resume", "j").code == 0
    assert "accepted           9  100.0 %" in cli("report", "j").out
    assert "was in doubt, and is taken as" in cli("report", "--by", "code", "j").out
    # What a new campaign leaves in doubt is for a look first.
    assert cli("bulk", "--in-doubt", "accept", "table.csv", "--template", "letter.txt").code == 64


def test_what_is_in_doubt_and_what_is_left(cli: Command, tmp_path: Path) -> None:
    with ThrottlingServer(greylist_seconds=60) as server:
        arguments = write(tmp_path, addresses(4))
        options = ["--retry-for", "0", "--journal", "j"]
        assert cli("bulk", "--server", server.url, *options, *arguments).code == 75
        with Journal("j") as journal:
            journal.write(new=[], again=[(1, 1)], completed=[])
        done = cli("resume", "j", "--retry-for", "0")
    # What can still be sent comes first.
    assert done.code == 75
    assert "3 deferred, 1 in doubt" in done.err
    assert "to send the rest: csmtplib resume j\n" in done.err
    assert RESEND in done.err
    report = cli("report", "j").out
    assert "unless a run is in progress, to send the rest: csmtplib resume j\n" in report


def test_names_are_shown_as_a_shell_wants_them(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(1))
    with ThrottlingServer(greylist_seconds=60) as server:
        options = ["--retry-for", "0", "--journal", "my journal"]
        done = cli("bulk", "--server", server.url, *options, *arguments)
    assert "csmtplib resume 'my journal'\n" in done.err


# Refused ones again


@pytest.mark.parametrize(
    ("option", "again", "said"),
    [
        (["--retry-rejected"], {1, 2, 3}, "3 that were rejected are retried"),
        (["--retry-rejected=5xx"], {1, 2, 3}, "3 that were rejected with 5xx are retried"),
        (["--retry-rejected", "550"], {1, 2}, "2 that were rejected with 550 are retried"),
        (["--retry-rejected", "5.7.1"], {2}, "1 that were rejected with 5.7.1 are retried"),
        (["--retry-rejected", "5.7.x"], {2, 3}, "2 that were rejected with 5.7.x are retried"),
        (["--retry-rejected", "521"], set(), "0 that were rejected with 521 are retried"),
    ],
    ids=str,
)
def test_refused_recipients_are_tried_again(
    cli: Command, tmp_path: Path, option: list[str], again: set[int], said: str
) -> None:
    refusals = {
        "r1@y.test": "550 5.1.1 nobody",
        "r2@y.test": "550 5.7.1 no",
        "r3@y.test": "554 5.7.26 no DMARC",
    }
    with ThrottlingServer(refuse=refusals.get) as server:
        arguments = write(tmp_path, addresses(5))
        assert cli("bulk", "--server", server.url, "--journal", "j", *arguments).code == 1
        server.refuse = None
        server.log.accepted.clear()
        assert cli("resume", "j").code == 1
        assert not server.log.accepted
        # The journal is no code, on whichever side it stands.
        done = cli("resume", *option, "j")
        assert f"csmtplib: {said}\n" in done.err
        assert done.code == (0 if len(again) == 3 else 1)
        assert server.log.deliveries() == Counter(f"r{number}@y.test" for number in again)
        cli("resume", "j", *option)
    assert cli("report", "--state", "accepted", "j").out.count("\n") == 5 - 3 + len(again)


def test_their_patience_begins_anew(cli: Command, tmp_path: Path) -> None:
    """Who was refused long ago is not given up for being greylisted now."""
    with ThrottlingServer(refuse=lambda who: "550 no") as server:
        arguments = write(tmp_path, addresses(1))
        assert cli("bulk", "--server", server.url, "--journal", "j", *arguments).code == 1
        with Journal("j") as journal:
            journal._connection.execute("UPDATE recipient SET first = 1, time = 1")
        server.refuse = lambda who: "451 4.7.1 later"
        done = cli("resume", "--retry-rejected", "--retry-for", "0", "j")
        assert done.code == 75
        assert "1 deferred" in done.err


@pytest.mark.parametrize("option", ["--retry-rejected=no", "--retry-rejected=3.1.1"])
def test_what_is_no_code(cli: Command, tmp_path: Path, option: str) -> None:
    done = cli("resume", option, "j")
    assert done.code == 64
    assert "a code such as 550, 5xx, 5.7.1 or 5.7.x" in done.err


def test_nothing_is_decided_where_nothing_can_be_sent(cli: Command, tmp_path: Path) -> None:
    with ThrottlingServer(refuse=lambda who: "550 no") as server:
        arguments = write(tmp_path, addresses(1))
        assert cli("bulk", "--server", server.url, "--journal", "j", *arguments).code == 1
    assert cli("resume", "--retry-rejected", "--server", "ftp://x", "j").code == 78
    assert cli("report", "--state", "rejected", "j").out.count("\n") == 1


# The metrics of a campaign that is resumed


def test_resume_keeps_the_metrics_up_to_date(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the first run stayed as the first run had left it."""
    pytest.importorskip("prometheus_client")
    with ThrottlingServer() as server:
        doubtful(cli, server, tmp_path, 3)
        (tmp_path / "j").unlink()
        arguments = ["--metrics", "m.prom", *write(tmp_path, addresses(9))]
        server.refuse = lambda who: "451 later" if who == "r9@y.test" else None
        options = ["--journal", "j", "--retry-for", "0"]
        assert cli("bulk", "--server", server.url, *options, *arguments).code == 75
        values = samples(tmp_path / "m.prom")
        assert values["csmtplib_recipients_total", "accepted"] == 8
        assert values["csmtplib_waiting_recipients", None] == 1
        # No connection is open when it has ended.
        assert values["csmtplib_connections", None] == 0
        with Journal("j") as journal:
            journal.write(new=[], again=[(1, 1)], completed=[])
            journal._connection.execute("UPDATE recipient SET due = NULL")
        server.refuse = None
        monkeypatch.chdir(tmp_path.parent)
        assert cli("resume", str(tmp_path / "j")).code == 76
        values = samples(tmp_path / "m.prom")
        assert values["csmtplib_recipients_total", "accepted"] == 1
        assert values["csmtplib_recipients_total", "in doubt"] == 1
        assert values["csmtplib_recipients_total", "completed before"] == 7
        assert values["csmtplib_waiting_recipients", None] == 0
        # Another file takes its place.
        before = (tmp_path / "m.prom").read_text()
        cli("resume", str(tmp_path / "j"), "--metrics", str(tmp_path / "other.prom"))
        assert (tmp_path / "m.prom").read_text() == before
        assert (tmp_path / "other.prom").exists()


def test_metrics_tell_of_a_run_without_a_session(cli: Command, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    with ThrottlingServer() as server:
        gone = server.url
    arguments = write(tmp_path, addresses(2))
    (tmp_path / "m.prom").write_text("old")
    assert cli("bulk", "--server", gone, "--metrics", "m.prom", *arguments).code == 69
    assert samples(tmp_path / "m.prom")["csmtplib_connections", None] == 0


def test_a_campaign_without_a_message_is_begun_anew(cli: Command, tmp_path: Path) -> None:
    """T4: where it was killed before its first one, `bulk` may be given again, also with other
    options."""
    with ThrottlingServer() as server:
        gone = server.url
    arguments = write(tmp_path, addresses(5))
    assert cli("bulk", "--server", gone, "--journal", "j", "--limit", "1", *arguments).code == 69
    with Journal("j") as journal:
        journal._connection.execute("DELETE FROM recipient")
    with ThrottlingServer() as server:
        assert cli("bulk", "--server", server.url, "--journal", "j", *arguments).code == 0
        assert server.log.deliveries() == Counter(addresses(5))
        with Journal("j") as journal:
            assert "limit" not in journal.parameters()
        # But not what a program keeps there.
        with Journal("mine") as journal:
            journal.set_parameters({"mine": "1"})
        done = cli("bulk", "--server", server.url, "--journal", "mine", *arguments)
    assert done.code == 64
    assert "mine already contains a campaign (of a program)" in done.err
