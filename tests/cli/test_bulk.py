"""`csmtplib bulk`: letters to many, what is told of them, and the exit codes."""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

import csmtplib
from csmtplib.bulk.journal import Journal, JournalError
from csmtplib.cli import bulk
from csmtplib.cli.display import Display
from csmtplib.cli.jobs import Messages

from ..bulk.servers.throttling import ThrottlingServer
from ..faults.server import Peer, ScriptedServer
from ..requirements import needs_full_device, needs_named_pipes
from .campaigns import DATA, LETTER, addresses, parsed, write
from .conftest import Command, filed, message, refusal, url, write_maildir, write_mbox

REAL = ["--template", str(DATA / "letter.txt"), "--html", str(DATA / "letter.html")]
FEW = str(DATA / "few.csv")


def refusing(*refused: str) -> ThrottlingServer:
    return ThrottlingServer(refuse=lambda who: "550 5.1.1 nobody" if who in refused else None)


def test_letters_to_a_dozen(cli: Command, tmp_path: Path) -> None:
    done = cli(
        *("bulk", *REAL, "--server", "sink:arrived", FEW),
        *("--list-unsubscribe", "https://x.test/u/{{ token }}, mailto:off@x.test"),
    )
    assert (done.code, done.out) == (0, "")
    first, second = done.err.splitlines()
    assert first.startswith("csmtplib: 12 recipients into the Maildir arrived, and no further, in ")
    assert second == "csmtplib: 12 accepted, 0 rejected, 0 deferred, 0 in doubt"
    with open(FEW, encoding="utf-8") as file:
        rows = {row["email"]: row for row in csv.DictReader(file)}
    arrived = [parsed(octets) for octets in filed(tmp_path / "arrived")]
    assert Counter(each["To"].addresses[0].addr_spec for each in arrived) == Counter(list(rows))
    for each in arrived:
        row = rows[each["To"].addresses[0].addr_spec]
        assert each["To"].addresses[0].display_name == row["name"]
        assert each["Subject"] == f"{row['name'].split()[0]}, what is new in {row['city']}" + (
            " this month"
        )
        assert each["List-Unsubscribe"] == (
            f"<https://x.test/u/{row['token']}>, <mailto:off@x.test>"
        )
        assert each["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        text, html = (each.get_body((kind,)) for kind in ("plain", "html"))
        assert text is not None
        assert html is not None
        assert f"Dear {row['name']},\n" in text.get_content()
        assert f"<p>Dear {row['name']},</p>" in html.get_content()


def test_the_table_of_the_readme() -> None:
    table = DATA / "recipients.csv"
    assert table.stat().st_size < 150_000
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["email"] for row in rows}) == 3000
    assert set(rows[0]) == {"email", "name", "city", "plan", "token"}


@pytest.mark.parametrize("table", ["t.jsonl", "t.ndjson", "t.tsv"])
def test_other_tables(cli: Command, tmp_path: Path, table: str) -> None:
    arguments = write(tmp_path, [], table=table)
    text = "mail\tname\nb1@y.test\tBea\n"
    if table != "t.tsv":
        text = '{"mail": "b1@y.test", "name": "Bea"}\n'
    (tmp_path / table).write_text(text)
    letter = LETTER.replace("email", "mail")
    (tmp_path / "letter.txt").write_text(letter)
    assert cli("bulk", "--server", "sink:arrived", *arguments).code == 0
    (octets,) = filed(tmp_path / "arrived")
    assert parsed(octets)["Subject"] == "Hello Bea"


def test_the_address_may_stand_in_another_column(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, ["b1@y.test"])
    (tmp_path / "table.csv").write_text("email,name,work\nb1@y.test,Bea,bea@y.test\n")
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "--address-column", "work", *arguments)
    assert done.code == 0
    assert server.log.deliveries() == Counter(["bea@y.test"])


def test_envelopes(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, ["b1@y.test"])
    with ThrottlingServer() as server:
        for options in ([], ["--from", "bounce@x.test"], ["--from", "<>"]):
            assert cli("bulk", "--server", server.url, *options, *arguments).code == 0
        options = ["--verp", "--from", "Bounces <bounce@x.test>"]
        assert cli("bulk", "--server", server.url, *options, *arguments).code == 0
    assert [each.sender for each in server.log.accepted] == [
        "ann@x.test",
        "bounce@x.test",
        "",
        "bounce+b1=y.test@x.test",
    ]


def test_ready_messages(cli: Command, tmp_path: Path) -> None:
    write_mbox(tmp_path / "box", message(1), message(2))
    write_maildir(tmp_path / "Maildir", message(3))
    (tmp_path / "letter.eml").write_bytes(
        b"From: a@x.test\nTo: b4@y.test\nBcc: b5@y.test\nSubject: 4\n\nhello\n"
    )
    with ThrottlingServer() as server:
        done = cli("bulk", "-v", "--server", server.url, "box", "Maildir", "letter.eml")
    assert done.code == 0
    assert server.log.deliveries() == Counter([f"b{number}@y.test" for number in range(1, 6)])
    assert not any(b"Bcc" in each.message for each in server.log.accepted)
    assert sorted(line.split("  ")[-1] for line in done.out.splitlines()) == sorted(
        ["box#1", "box#2", os.path.join("Maildir", "000000.host"), "letter.eml", "letter.eml"]
    )


def test_only_the_first(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(9))
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "--limit", "2", *arguments)
    assert done.code == 0
    assert server.log.deliveries() == Counter(addresses(2))


def test_a_suppression_list(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(4))
    (tmp_path / "not").write_text("\nR2@Y.test\n r3@y.test \n")
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "--suppress", "not", *arguments)
    assert done.code == 0
    assert server.log.deliveries() == Counter(["r1@y.test", "r4@y.test"])
    assert "2 suppressed" in done.err


def test_a_suppression_list_with_something_else_in_it(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(4))
    (tmp_path / "not").write_text("r2@y.test\nname;r3@y.test\n")
    done = cli("bulk", "--suppress", "not", *arguments)
    assert done.code == 65
    assert done.err.startswith("csmtplib: not:2: ")
    assert not (tmp_path / "csmtplib-sink" / "new").exists() or not filed(
        tmp_path / "csmtplib-sink"
    )


def test_a_dry_run(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(5), letter=LETTER.replace("Hello", "Grüße\x1b"))
    for options, count in (([], 3), (["--limit", "4"], 4)):
        letter = LETTER.replace("Hello", "Grüße")
        (tmp_path / "letter.txt").write_text(letter, encoding="utf-8")
        done = cli("bulk", "--dry-run", *options, *arguments)
        assert (done.code, done.err) == (0, "")
        subjects = [line for line in done.out.splitlines() if line.startswith("Subject")]
        assert subjects == [f"Subject: Grüße r{number}" for number in range(1, count + 1)]
        assert "table.csv:2  from <ann@x.test> to <r1@y.test>\n" in done.out
        assert "\nDear r1,\nthis is for you.\n" in done.out
    assert not (tmp_path / "csmtplib-sink").exists()


def test_a_dry_run_tells_faults(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, ["nobody", "b@y.test"])
    done = cli("bulk", "--dry-run", *arguments)
    assert done.code == 65
    assert "csmtplib: table.csv:2: " in done.err
    assert "Subject: Hello b\n" in done.out


def test_a_dry_run_of_ready_messages(cli: Command, tmp_path: Path) -> None:
    mail = b"From: a@x.test\nTo: b@y.test\nContent-Type: text/plain; charset=odd\n\n\x1b[2J\tx\n"
    (tmp_path / "odd.eml").write_bytes(mail)
    picture = b"From: a@x.test\nTo: b@y.test\nContent-Type: image/png\n\nxxx\n"
    (tmp_path / "picture.eml").write_bytes(picture)
    done = cli("bulk", "--dry-run", "odd.eml", "picture.eml")
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "-- image/png ---" in done.out
    assert "(4 octets)" in done.out


FAULTY = "email,name\nb1@y.test,Bea\nnobody,No\nb3@y.test\nb4@y.test,Bob\n"


def test_faults_are_found_before_anything_is_sent(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, [])
    (tmp_path / "table.csv").write_text(FAULTY)
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, *arguments)
    assert done.code == 65
    third, fourth, last = done.err.splitlines()
    assert third.startswith("csmtplib: table.csv:3: ")
    assert fourth.startswith("csmtplib: table.csv:4: ")
    assert last == "csmtplib: nothing was sent, as 2 are faulty; --errors aside leaves them out"
    assert not server.log.connections


def test_a_missing_variable_is_found_too(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(30), letter=LETTER + "{{ nmae }}\n")
    done = cli("bulk", *arguments)
    assert done.code == 65
    lines = done.err.splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("csmtplib: table.csv:2: ")
    assert "nmae" in lines[0]
    assert "as 30 are faulty" in lines[-1]


def test_faults_are_left_out_where_that_is_asked_for(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, [])
    (tmp_path / "table.csv").write_text(FAULTY)
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "--errors", "aside", *arguments)
    assert done.code == 65
    assert server.log.deliveries() == Counter(["b1@y.test", "b4@y.test"])
    assert "csmtplib: table.csv:3: " in done.err
    assert "csmtplib: table.csv:4: " in done.err
    assert "2 accepted, 0 rejected, 0 deferred, 0 in doubt, 2 left out" in done.err


@pytest.mark.parametrize(
    ("mail", "reason"),
    [
        (b"Subject: x\n\nhello\n", "no address in Sender or From"),
        (b"From: a@x.test\n\nhello\n", "no recipient"),
        (b"From: a@x.test\nTo: b@y.test\n\n\0\n", "NUL"),
        (b"From: a@x.test\nTo: b@y.test\n\n%b\n" % (b"x" * 999), "998"),
        (b"From: a@x.test\nTo: <b\x01@y.test>\n\nhello\n", "control"),
    ],
    ids=["sender", "recipient", "NUL", "line", "address"],
)
def test_messages_that_can_not_be_sent(
    cli: Command, tmp_path: Path, mail: bytes, reason: str
) -> None:
    (tmp_path / "good.eml").write_bytes(message())
    (tmp_path / "bad.eml").write_bytes(mail)
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "bad.eml", "good.eml")
        assert done.code == 65
        assert done.err.startswith("csmtplib: bad.eml: ")
        assert reason in done.err
        assert not server.log.accepted
        done = cli("bulk", "--server", server.url, "--errors", "aside", "bad.eml", "good.eml")
    assert done.code == 65
    assert server.log.deliveries() == Counter(["b1@y.test"])


@pytest.mark.parametrize(
    ("letter", "said"),
    [
        ("From: a@x.test\nSubject: {{ name\n\nx\n", "letter.txt, line 2: "),
        ("From: a@x.test\nBcc: b@y.test\n\nx\n", "letter.txt, line 2: "),
        ("Subject: x\n\nx\n", "letter.txt, line 1: "),
        ("From: a@x.test\n\n{% include 'none' %}\n", "letter.txt, line 3: "),
    ],
)
def test_templates_that_can_not_be_used(
    cli: Command, tmp_path: Path, letter: str, said: str
) -> None:
    done = cli("bulk", *write(tmp_path, addresses(1), letter=letter))
    assert done.code == 65
    assert said in done.err
    assert done.err.count("\n") == 1


def test_an_author_who_varies_is_no_sender(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(1), letter="From: {{ name }}@x.test\n\nx\n")
    done = cli("bulk", *arguments)
    assert done.code == 64
    assert "--from" in done.err
    assert cli("bulk", "--from", "a@x.test", *arguments).code == 0


@pytest.mark.parametrize(
    "missing", ["letter.txt", "table.csv", "letter.html", "mail.eml", "suppressed"]
)
def test_files_that_are_not_there(cli: Command, tmp_path: Path, missing: str) -> None:
    arguments = write(tmp_path, addresses(1))
    if missing == "mail.eml":
        arguments = ["mail.eml"]
    elif missing == "letter.html":
        arguments = ["--html", missing, *arguments]
    elif missing == "suppressed":
        arguments = ["--suppress", missing, *arguments]
    else:
        (tmp_path / missing).unlink()
    done = cli("bulk", *arguments)
    assert done.code == 66
    assert missing in done.err
    # Windows has two texts for that.
    call = os.stat if missing in ("table.csv", "mail.eml") else open
    assert refusal(call, missing) in done.err


@pytest.mark.parametrize("table", ["", "\n", "name\nBea\n", "email,email\nx,y\n", "email\n\xff"])
def test_tables_that_are_none(cli: Command, tmp_path: Path, table: str) -> None:
    arguments = write(tmp_path, [])
    (tmp_path / "table.csv").write_text(table, encoding="latin-1")
    done = cli("bulk", *arguments)
    assert done.code == 65
    assert "table.csv:" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["table.csv"],
        ["--template", "letter.txt", "mail.eml"],
        ["--template", "letter.txt", "table.csv", "table.csv"],
        ["-"],
        ["--html", "letter.html", "mail.eml"],
        ["--verp", "mail.eml"],
        ["--from", "a@x.test,b@x.test", "mail.eml"],
        ["--limit", "0", "mail.eml"],
        ["--rate", "fast", "mail.eml"],
        ["--rate", "0", "mail.eml"],
        ["--domain-rate", "x.test=", "mail.eml"],
        ["--domain-rate", "1/s", "--domain-rate", "2/s", "mail.eml"],
        ["--connections", "0", "mail.eml"],
        ["--connections", "1000000", "mail.eml"],
        ["--max-failed", "100%", "mail.eml"],
        ["--max-failed", "x%", "mail.eml"],
        ["--retry-for", "-1s", "mail.eml"],
        ["--retry-for", "soon", "mail.eml"],
        ["--retry-first", "0", "mail.eml"],
        ["--in-doubt", "forget", "mail.eml"],
        ["--errors", "ignore", "mail.eml"],
        ["-v", "--log-json", "-", "mail.eml"],
    ],
    ids=" ".join,
)
def test_wrong_usage(cli: Command, tmp_path: Path, arguments: list[str]) -> None:
    write(tmp_path, addresses(1))
    (tmp_path / "mail.eml").write_bytes(message())
    done = cli("bulk", *arguments)
    assert done.code == 64, done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "csmtplib-sink" / "new").exists() or not filed(
        tmp_path / "csmtplib-sink"
    )


@needs_named_pipes
def test_a_pipe_can_not_be_read_twice(cli: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = cli("bulk", "pipe")
    assert done.code == 66
    assert "more than once" in done.err


def test_without_jinja2(cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [each for each in sys.modules if each.startswith("csmtplib.compose.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = cli("bulk", *write(tmp_path, addresses(1)))
    assert done.code == 69
    assert "jinja2" in done.err


def test_refusals_are_told(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(3))
    with refusing("r2@y.test") as server:
        done = cli("bulk", "--server", server.url, *arguments)
    assert (done.code, done.out) == (1, "")
    told, _, summary = done.err.splitlines()
    assert told == "csmtplib: rejected  r2@y.test  550 5.1.1 nobody  table.csv:3"
    assert summary == "csmtplib: 2 accepted, 1 rejected, 0 deferred, 0 in doubt"


def test_many_refusals_are_counted(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(50))
    with refusing(*addresses(50)) as server:
        done = cli("bulk", "--server", server.url, *arguments)
    assert done.code == 1
    assert done.err.count("csmtplib: rejected  ") == 20
    assert "0 accepted, 50 rejected" in done.err


def test_verbose_tells_each_result(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(2))
    with refusing("r2@y.test") as server:
        done = cli("bulk", "-v", "--server", server.url, *arguments)
    accepted, rejected = sorted(done.out.splitlines())
    assert accepted.startswith("accepted  r1@y.test  250 ")
    assert accepted.endswith("  table.csv:2")
    assert rejected == "rejected  r2@y.test  550 5.1.1 nobody  table.csv:3"
    assert "rejected  " not in done.err


def test_quiet(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(2))
    with refusing("r2@y.test") as server:
        done = cli("bulk", "--quiet", "--server", server.url, "--journal", "j", *arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err == "csmtplib: rejected  r2@y.test  550 5.1.1 nobody  table.csv:3\n"


@pytest.mark.parametrize("to_stdout", [False, True], ids=["file", "stdout"])
def test_the_json_log(cli: Command, tmp_path: Path, to_stdout: bool) -> None:
    arguments = write(tmp_path, addresses(2))
    name = "-" if to_stdout else "log.jsonl"
    if not to_stdout:
        (tmp_path / "log.jsonl").write_text('{"old": 1}\n')
    with refusing("r2@y.test") as server:
        done = cli("bulk", "--server", server.url, "--log-json", name, *arguments)
    text = done.out if to_stdout else (tmp_path / "log.jsonl").read_text()
    objects = [json.loads(line) for line in text.splitlines()]
    if not to_stdout:
        assert objects.pop(0) == {"old": 1}
    accepted, rejected = sorted(objects, key=lambda each: str(each["key"]))
    assert list(rejected) == [
        *("key", "recipient", "state", "code", "enhanced", "text", "attempts", "host", "time")
    ]
    assert rejected["key"] == "table.csv:3"
    assert rejected["recipient"] == "r2@y.test"
    assert (rejected["state"], rejected["code"]) == ("rejected", 550)
    assert (rejected["enhanced"], rejected["attempts"]) == ("5.1.1", 1)
    assert rejected["host"] == f"127.0.0.1:{server.port}"
    assert accepted["state"] == "accepted"
    assert datetime.fromisoformat(accepted["time"]).tzinfo is not None


def test_a_log_that_can_not_be_written(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(1))
    done = cli("bulk", "--log-json", "none/log", *arguments)
    assert done.code == 74
    assert done.err == "csmtplib: --log-json none/log: No such file or directory\n"


@needs_full_device
def test_a_log_that_fails_stops_it(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(500))
    with ThrottlingServer() as server:
        done = cli(
            *("bulk", "--server", server.url, "--connections", "1", "--max-in-flight", "3"),
            *("--log-json", "/dev/full", *arguments),
        )
    assert done.code == 75
    assert "stopped: --log-json or standard output: No space left on device" in done.err
    assert len(server.log.accepted) < 500


def test_deferred_recipients_are_tried_again(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(3))
    with ThrottlingServer(greylist_seconds=0.05) as server:
        done = cli("bulk", "--server", server.url, "--retry-first", "0.2s", *arguments)
    assert done.code == 0
    assert server.log.deliveries() == Counter(addresses(3))


def test_or_left_for_another_run(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(3))
    with ThrottlingServer(greylist_seconds=60) as server:
        done = cli("bulk", "--server", server.url, "--retry-for", "0", "--journal", "j", *arguments)
    assert done.code == 75
    assert "3 deferred, and not tried again in this run" in done.err
    assert "0 accepted, 0 rejected, 3 deferred, 0 in doubt\n" in done.err
    assert "csmtplib resume j" in done.err
    assert all(len(times) == 1 for times in server.log.attempts.values())


@pytest.mark.parametrize("most", ["5", "4%"])
def test_too_many_refusals_stop_it(cli: Command, tmp_path: Path, most: str) -> None:
    arguments = write(tmp_path, addresses(3000))
    with refusing(*addresses(3000)) as server:
        done = cli(
            *("bulk", "--server", server.url, "--max-failed", most, "--connections", "1"),
            *("--max-in-flight", "10", *arguments),
        )
    assert done.code == 75
    assert "stopped: " in done.err
    assert " not sent" in done.err
    assert 5 <= len(server.log.attempts) < 1500


def test_limits_of_connections(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(12))
    with ThrottlingServer() as server:
        done = cli(
            *("bulk", "--server", server.url, "--connections", "2", "--max-per-connection", "3"),
            *("--max-connection-seconds", "60", "--no-chunking", "--domain-rate", "1000/s"),
            *("--domain-rate", "z.test=5/s", "--rate", "5000/s", *arguments),
        )
    assert done.code == 0
    assert max(each.messages for each in server.log.connections) <= 3
    assert server.log.deliveries() == Counter(addresses(12))


def test_no_session(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(2))
    with ThrottlingServer() as server:
        gone = server.url
    done = cli("bulk", "--server", gone, "--journal", "j", *arguments)
    assert done.code == 69
    assert "Connection refused" in done.err
    assert "csmtplib resume j" in done.err
    assert cli("bulk", "--server", "ftp://x", *arguments).code == 78


def test_a_login_that_is_refused(cli: Command, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.expect("AUTH PLAIN")
        peer.say("535 5.7.8 no")
        peer.drain()

    arguments = write(tmp_path, addresses(2))
    with ScriptedServer(script) as server:
        done = cli(
            "bulk",
            *("--server", url(server, login="me:secret@", cleartext_auth="yes")),
            *("--connections", "1", *arguments),
        )
    assert done.code == 77
    assert "refuses the login of me: 535 5.7.8 no" in done.err
    assert "secret" not in done.err


def test_a_journal(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(3))
    with ThrottlingServer() as server:
        login = server.url.replace("smtp://", "smtp://me:s%40cret@") + "?cleartext-auth=yes"
        # The server has no AUTH; what counts is what is written down.
        assert cli("bulk", "--server", login, "--journal", "a", *arguments).code == 69
        done = cli("bulk", "--server", server.url, "--journal", "b", *arguments)
        assert done.code == 0
        assert done.err.splitlines()[-1] == "csmtplib: all results: csmtplib report b"
        again = cli("bulk", "--server", server.url, "--journal", "b", *arguments)
    assert again.code == 64
    assert again.err.endswith("resume it by: csmtplib resume b\n")
    assert server.log.deliveries() == Counter(addresses(3))
    assert b"cret" not in (tmp_path / "a").read_bytes()
    with Journal("a") as journal:
        parameters = journal.parameters()
        assert parameters["server"] == f"smtp://me@127.0.0.1:{server.port}?cleartext-auth=yes"
        assert parameters["total"] == "3"
        assert parameters["version"] == csmtplib.__version__
        assert sorted(json.loads(parameters["files"])) == [
            str(tmp_path / name) for name in ("letter.txt", "table.csv")
        ]


def test_a_journal_that_can_not_be_used(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(3))
    for name in ("none/j", "letter.txt"):
        done = cli("bulk", "--journal", name, *arguments)
        assert done.code == 74
        assert done.err.count("\n") == 1
    with Journal("mine"):
        assert cli("bulk", "--journal", "mine", *arguments).code == 74
    assert (tmp_path / "letter.txt").read_text() == LETTER


@pytest.mark.parametrize("command", ["bulk", "resume", "report"])
def test_help_imports_little(command: str) -> None:
    heavy = "asyncio,concurrent.futures,jinja2,matplotlib,prometheus_client,sqlite3,tqdm"
    code = (
        "import sys\n"
        "from csmtplib.cli.main import main\n"
        f"try: main(['{command}', '--help'])\n"
        "except SystemExit: pass\n"
        f"print(sorted(set('{heavy}'.split(',')) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "[]\n"
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_messages_that_can_not_be_read(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maildir = write_maildir(tmp_path / "Maildir", message(1), message(2))
    gone = Path(maildir, "new", "000000.host")
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == gone:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "Maildir")
        assert done.code == 66
        name = Path("Maildir", "000000.host")
        assert done.err.startswith(f"csmtplib: {name}: Permission denied\n")
        assert not server.log.accepted
        done = cli("bulk", "--server", server.url, "--errors", "aside", "Maildir")
    assert done.code == 66
    assert "1 accepted, 0 rejected, 0 deferred, 0 in doubt, 1 unreadable" in done.err
    assert server.log.deliveries() == Counter(["b2@y.test"])


@pytest.mark.parametrize("change", ["row", "table"])
def test_files_that_change_after_the_look_at_them(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    arguments = write(tmp_path, addresses(3))
    check = bulk._check

    def check_and_change(items: Messages, display: Display) -> int:
        count = check(items, display)
        if change == "row":
            with open("table.csv", "a") as file:
                file.write("nobody,No\n")
        else:
            Path("table.csv").unlink()
        return count

    monkeypatch.setattr(bulk, "_check", check_and_change)
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, *arguments)
    assert done.code == 75
    if change == "row":
        assert "csmtplib: stopped: table.csv:5 can't be sent\n" in done.err
    else:
        assert "csmtplib: stopped: table.csv: No such file or directory\n" in done.err


def test_a_journal_that_fails(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = write(tmp_path, addresses(300))
    commit = Journal.commit
    commits = itertools.count()

    def failing(journal: Journal) -> None:
        # The first one is of the campaign itself.
        if next(commits) == 3:
            raise JournalError("the disk is full")
        commit(journal)

    monkeypatch.setattr(Journal, "commit", failing)
    with ThrottlingServer() as server:
        done = cli(
            *("bulk", "--server", server.url, "--journal", "j", "--connections", "1"),
            *("--max-in-flight", "5", *arguments),
        )
    assert done.code == 74
    assert "csmtplib: stopped: the disk is full\n" in done.err
    assert len(server.log.accepted) < 300
    monkeypatch.undo()
    assert cli("report", str(tmp_path / "j")).code == 0
