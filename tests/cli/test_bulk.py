"""`csmtplib bulk`: letters to many recipients, their reports, and the exit codes."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

import csmtplib
from csmtplib.bulk.journal import Journal, JournalError
from csmtplib.cli import checks
from csmtplib.cli.display import Display
from csmtplib.cli.jobs import Messages

from ..bulk.servers.throttling import ThrottlingServer
from ..faults.server import Peer, ScriptedServer
from ..requirements import needs_full_device, needs_named_pipes
from .campaigns import DATA, LETTER, addresses, parsed, write
from .conftest import Command, filed, message, refusal, url, write_maildir, write_mbox

REAL = ["--template", str(DATA / "letter.txt"), "--html", str(DATA / "letter.html")]
FEW = str(DATA / "few.csv")


NO_JOURNAL = "csmtplib: without --journal this run can't be resumed if it is stopped or killed"


def refusing(*refused: str) -> ThrottlingServer:
    return ThrottlingServer(refuse=lambda who: "550 5.1.1 nobody" if who in refused else None)


def test_letters_to_a_dozen(cli: Command, tmp_path: Path) -> None:
    done = cli(
        *("bulk", *REAL, "--server", "sink:arrived", FEW),
        *("--list-unsubscribe", "https://x.test/u/{{ token }}, mailto:off@x.test"),
    )
    assert (done.code, done.out) == (0, "")
    first, second, *advice = done.err.splitlines()
    assert first.startswith("csmtplib: 12 recipients into the Maildir arrived only, in ")
    assert second == "csmtplib: 12 accepted, 0 rejected, 0 deferred, 0 in doubt"
    assert advice == [
        "csmtplib: no mail left this machine: to read a letter, open a file in "
        + os.path.join("arrived", "new"),
        "csmtplib: next: send for real: --server submission://USER@HOST",
    ]
    with open(FEW, encoding="utf-8") as file:
        rows = {row["email"]: row for row in csv.DictReader(file)}
    arrived = [parsed(data) for data in filed(tmp_path / "arrived")]
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


def test_what_to_do_after_a_run_into_the_sink(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(2))
    with_journal = ["--server", "sink:a b", "--journal", "j", *arguments]
    advice = [
        "csmtplib: all results: csmtplib report j",
        "csmtplib: no mail left this machine: to read a letter, open a file in "
        + shlex.quote(os.path.join("a b", "new")),
        "csmtplib: next: kill a run and resume it, or send for real: "
        "--server submission://USER@HOST",
    ]
    assert cli("bulk", *with_journal).err.splitlines()[2:] == advice
    assert len(filed(tmp_path / "a b")) == 2
    # A run that has nothing left to send has filed no letter.
    assert "next:" not in cli("resume", "j").err
    assert cli("bulk", "--quiet", "--server", "sink:quiet", *arguments).err == ""
    with ThrottlingServer() as server:
        assert "next:" not in cli("bulk", "--server", server.url, *arguments).err


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
    (data,) = filed(tmp_path / "arrived")
    assert parsed(data)["Subject"] == "Hello Bea"


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
    assert "(4 bytes)" in done.out


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
    assert (
        last
        == "csmtplib: nothing was sent: 2 messages are faulty; --errors aside skips faulty ones"
    )
    assert not server.log.connections


@pytest.mark.parametrize("errors", ["stop", "aside"])
def test_an_unknown_column_is_reported_once(cli: Command, tmp_path: Path, errors: str) -> None:
    """Messages to mend: a line a row, and neither the columns nor the near match."""
    arguments = write(tmp_path, addresses(30), letter=LETTER + "{{ nmae }}\n")
    done = cli("bulk", "--errors", errors, *arguments)
    assert done.code == 65
    assert done.err == (
        f"csmtplib: {tmp_path / 'letter.txt'}, line 7: no column is named 'nmae'; "
        "columns: 'email', 'name'; did you mean 'name'?\n"
    )


def test_the_table_that_lacks_a_column_is_named(cli: Command, tmp_path: Path) -> None:
    """Messages to mend: of several tables, one may lack it."""
    arguments = write(tmp_path, addresses(1))
    (tmp_path / "more.csv").write_text("email,names\na@y.test,Ann\n")
    done = cli("bulk", *arguments, "more.csv")
    assert done.code == 65
    assert done.err.endswith("columns: 'email', 'names'; did you mean 'names'? (more.csv)\n")


def test_an_unknown_column_that_only_some_rows_need_is_reported_once(
    cli: Command, tmp_path: Path
) -> None:
    """Rows with the same fault are reported together."""
    letter = LETTER + "{% if name != 'r1' %}{{ town }}{% endif %}\n"
    arguments = write(tmp_path, addresses(30), letter=letter)
    done = cli("bulk", *arguments)
    assert done.code == 65
    assert done.err == (
        "csmtplib: table.csv:3: text part: no column is named 'town'; columns: 'email', 'name'; "
        "for a default, write {{ town | default('') }} (and 28 more like this)\n"
        "csmtplib: nothing was sent: 29 messages are faulty; --errors aside skips faulty ones\n"
    )


def test_single_braces_are_no_markup(cli: Command, tmp_path: Path) -> None:
    """Messages to mend: {name} went out as it is, without a word."""
    arguments = write(tmp_path, addresses(2), letter=LETTER.replace("{{ name }},", "{Name},"))
    done = cli("bulk", *arguments)
    assert done.code == 65
    assert done.err == (
        f"csmtplib: {tmp_path / 'letter.txt'}, line 5: "
        "{Name} would be sent as it is: write {{ name }} for the "
        "value of the column, or {{ '{Name}' }} for the braces\n"
    )
    arguments = write(tmp_path, addresses(2), letter=LETTER + "{town} {{ '{name}' }} { x: y }\n")
    done = cli("bulk", "--server", "sink:arrived", *arguments)
    assert done.code == 0
    assert done.err.count("warning") == 1
    assert "letter.txt, line 7: {town} would be sent as it is" in done.err
    assert all(b"{town} {name} { x: y }" in each for each in filed(tmp_path / "arrived"))


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_missing_header_field_is_reported(cli: Command, tmp_path: Path, dry_run: bool) -> None:
    """Messages to mend: a missing Subject or To was not mentioned."""
    for letter, lacks in (
        ("From: a@x.test\nSubject:\nTo: {{ email }}\n\nhi\n", ["Subject"]),
        ("From: a@x.test\nSubject: {{ name }}\nTo: {{ email }}\n\nhi\n", []),
        ("From: a@x.test\n\nhi\n", ["Subject", "To"]),
        ("From: a@x.test\nSubject: x\nCc: b@x.test\n\nhi\n", []),
    ):
        arguments = write(tmp_path, addresses(2), letter=letter)
        done = cli("bulk", *(["--dry-run"] if dry_run else []), *arguments)
        assert done.code == 0
        assert done.err.count("warning") == len(lacks)
        for each in lacks:
            assert f"letter.txt: the letter has no {each}" in done.err


@pytest.mark.parametrize("table", ["email,name\n", "email,name\n\n,\n"])
def test_a_table_without_rows(cli: Command, tmp_path: Path, table: str) -> None:
    """Messages to mend: it ended with 0, as if all had been sent."""
    arguments = write(tmp_path, [])
    (tmp_path / "table.csv").write_text(table)
    done = cli("bulk", *arguments)
    assert (done.code, done.err) == (65, "csmtplib: table.csv: no recipients\n")


TWICE = "email,name\nann@y.test,1\nANN@y.test,2\nann@Y.TEST,3\nbob@y.test,4\n<ann@y.test>,5\n"


@pytest.mark.parametrize("errors", ["stop", "aside"])
@pytest.mark.parametrize("with_journal", [True, False], ids=["journal", "none"])
def test_a_repeated_address_gets_one_letter(
    cli: Command, tmp_path: Path, errors: str, with_journal: bool
) -> None:
    """T12: it got two, without a word."""
    arguments = write(tmp_path, [])
    (tmp_path / "table.csv").write_text(TWICE)
    (tmp_path / "more.csv").write_text("email,name\nbob@y.test,6\n")
    options = ["--errors", errors, *(["--journal", "j"] if with_journal else [])]
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, *options, *arguments, "more.csv")
    assert done.code == 0
    assert server.log.deliveries() == Counter(["ann@y.test", "ANN@y.test", "bob@y.test"])
    assert {parsed(each.message)["Subject"] for each in server.log.accepted} == {
        f"Hello {number}" for number in (1, 2, 4)
    }
    assert done.err.splitlines()[:5] == [
        "csmtplib: table.csv:3: ANN@y.test differs from the address in table.csv:2 only in upper "
        "and lower case: both get a letter",
        "csmtplib: table.csv:4: skipped: ann@Y.TEST already has a row (table.csv:2)",
        "csmtplib: table.csv:6: skipped: ann@y.test already has a row (table.csv:2)",
        "csmtplib: more.csv:2: skipped: bob@y.test already has a row (table.csv:5)",
        "csmtplib: 3 rows are duplicates: each address gets one letter; --duplicates send sends "
        "all",
    ]
    assert "3 accepted, 0 rejected, 0 deferred, 0 in doubt\n" in done.err
    if with_journal:
        with Journal("j") as journal:
            assert journal.parameters()["total"] == "3"
            assert journal.parameters()["duplicates"] == "skip"


def test_duplicates_are_sent_where_that_is_asked_for(cli: Command, tmp_path: Path) -> None:
    """T12: that is the operator's affair, and said too."""
    arguments = write(tmp_path, ["ann@y.test", "bob@y.test", "ann@y.test"])
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "--duplicates", "send", *arguments)
    assert done.code == 0
    assert server.log.deliveries() == Counter({"ann@y.test": 2, "bob@y.test": 1})
    assert "table.csv:4: ann@y.test already has a row (table.csv:2) and gets another" in done.err
    assert "1 row is a duplicate, sent anyway" in done.err


def test_a_dry_run_reports_a_limited_number_of_duplicates(cli: Command, tmp_path: Path) -> None:
    """T12: how many, and which lines."""
    arguments = write(tmp_path, ["ann@y.test"] * 50)
    done = cli("bulk", "--dry-run", *arguments)
    assert done.code == 0
    assert done.err.count("skipped: ann@y.test already has a row (table.csv:2)") == 20
    assert "csmtplib: 29 more rows like these\n" in done.err
    assert "csmtplib: 49 rows are duplicates" in done.err
    assert done.out.count("Subject: ") == 1


def test_the_letter_goes_to_the_first_row_that_one_can_be_made_of(
    cli: Command, tmp_path: Path
) -> None:
    """T12: a row that is left out for a fault is no reason to leave out the next one."""
    letter = LETTER.replace("Hello {{ name }}", "{{ 1 // name | int }}")
    arguments = write(tmp_path, [], letter=letter)
    (tmp_path / "table.csv").write_text("email,name\nann@y.test,0\nann@y.test,1\nann@y.test,2\n")
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "--errors", "aside", *arguments)
    assert done.code == 65
    assert [parsed(each.message)["To"] for each in server.log.accepted] == ["1 <ann@y.test>"]


def test_rows_behind_the_limit_are_no_duplicates(cli: Command, tmp_path: Path) -> None:
    """T12: only what would be sent counts."""
    arguments = write(tmp_path, ["ann@y.test", "bob@y.test", "ann@y.test"])
    done = cli("bulk", "--server", "sink:arrived", "--limit", "2", *arguments)
    assert done.code == 0
    assert "ann@y.test" not in done.err
    assert len(filed(tmp_path / "arrived")) == 2


def test_a_file_that_is_named_in_two_ways(cli: Command, tmp_path: Path) -> None:
    """T12: ./box is box, and its messages would leave twice."""
    write_mbox(tmp_path / "box", message(1))
    done = cli("bulk", "box", os.path.join(".", "box"))
    assert done.code == 64
    assert "given twice" in done.err


@pytest.mark.parametrize("errors", ["stop", "aside"])
def test_a_wrong_quote_sends_nothing_to_what_is_behind_it(
    cli: Command, tmp_path: Path, errors: str
) -> None:
    """T21: a line of the broken record's text became a recipient."""
    arguments = write(tmp_path, [])
    (tmp_path / "table.csv").write_text(
        'email,name\na@y.test,Ann\nb@y.test,"She said "hi" to me\neve@y.test,Eve\nbye"\n'
        "c@y.test,C\n"
    )
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "--errors", errors, *arguments)
    assert done.code == 65
    assert not server.log.accepted
    assert "table.csv:3: not CSV: a misplaced quote" in done.err
    assert "--errors aside" not in done.err


def test_a_table_of_a_spreadsheet(cli: Command, tmp_path: Path) -> None:
    """T21: empty columns and rows refused it."""
    arguments = write(tmp_path, [])
    (tmp_path / "table.csv").write_bytes(
        b"\xef\xbb\xbfemail;name;;\r\nann@y.test;Ann;;\r\n;;;\r\n;;;\r\n"
    )
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, *arguments)
    assert done.code == 0
    assert server.log.deliveries() == Counter(["ann@y.test"])


def test_addresses_that_nobody_can_see_through(cli: Command, tmp_path: Path) -> None:
    """T20: they were sent, or their invisible characters dropped without a word."""
    arguments = write(tmp_path, ["a@y.test", "b\u2060@y.test", "c@y\u200b.test", "h@y..test"])
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, *arguments)
        assert done.code == 65
        assert "table.csv:3: email: the address 'b\\u2060@y.test' contains U+2060 (WORD" in done.err
        assert "table.csv:4: email: the address 'c@y\\u200b.test' contains U+200B (ZERO" in done.err
        assert "table.csv:5: email: 'y..test' is not a domain" in done.err
        for sender in ("a@x\u200b.test", "a@x..test"):
            arguments = write(tmp_path, addresses(1))
            assert cli("bulk", "--server", server.url, "--from", sender, *arguments).code == 64
    assert not server.log.accepted


def test_a_bcc_that_is_not_recognised(cli: Command, tmp_path: Path) -> None:
    """T17: it stayed in what everybody got."""
    header = b"From: a@x.test\nTo: b@y.test\nBcc: c@y.test\nSubject: 1\n\nhello\n"
    (tmp_path / "bom.eml").write_bytes(b"\xef\xbb\xbf" + header)
    (tmp_path / "broken.eml").write_bytes(header.replace(b"Bcc", b"broken\nBcc"))
    with ThrottlingServer() as server:
        assert cli("bulk", "--server", server.url, "broken.eml").code == 65
        assert cli("send", "--server", server.url, "broken.eml").code == 65
        options = ["--from", "a@x.test", "--to", "b@y.test"]
        done = cli("send", "--server", server.url, *options, "broken.eml")
        assert done.code == 65
        assert "has a Bcc that is no header field" in done.err
        assert not server.log.accepted
        assert cli("bulk", "--server", server.url, "bom.eml").code == 0
    (sent,) = server.log.accepted
    assert sent.message.startswith(b"From: a@x.test\r\nTo: b@y.test\r\nSubject: 1\r\n")
    assert sorted(sent.recipients) == ["b@y.test", "c@y.test"]


def test_a_suppression_list_knows_a_domain_in_all_its_letters(cli: Command, tmp_path: Path) -> None:
    """T20: a message to a domain in other letters than ASCII passed the list."""
    (tmp_path / "not").write_text("ann@xn--mller-kva.test\n", encoding="utf-8")
    mail = "From: a@x.test\nTo: Ann@MÜLLER.test, b@y.test\n\nhi\n"
    (tmp_path / "a.eml").write_text(mail, encoding="utf-8")
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "--suppress", "not", "a.eml")
    assert done.code == 0
    assert "1 suppressed" in done.err
    assert server.log.deliveries() == Counter(["b@y.test"])


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


@pytest.mark.parametrize(
    "table", ["", "\n", "name\nBea\n", "email,email\nx,y\n", "email,name\n\xff,"]
)
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
    assert "jinja2: pip install 'csmtplib[cli]'" in done.err


def test_refusals_are_reported(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(3))
    with refusing("r2@y.test") as server:
        done = cli("bulk", "--server", server.url, *arguments)
    assert (done.code, done.out) == (1, "")
    notice, reported, _, summary = done.err.splitlines()
    assert notice == NO_JOURNAL
    assert reported == "csmtplib: rejected  r2@y.test  550 5.1.1 nobody  table.csv:3"
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
    assert "stopped: --log-json /dev/full: No space left on device" in done.err
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
    assert "3 deferred, not retried in this run" in done.err
    assert "0 accepted, 0 rejected, 3 deferred, 0 in doubt\n" in done.err
    assert "csmtplib resume j" in done.err
    assert all(len(times) == 1 for times in server.log.attempts.values())


def log_of(path: Path) -> dict[str, dict[str, object]]:
    """The last object that a JSON log has of each recipient."""
    return {each["recipient"]: each for each in map(json.loads, path.read_text().splitlines())}


@pytest.mark.parametrize("with_journal", [False, True], ids=["", "journal"])
def test_who_was_deferred_and_who_was_not_tried(
    cli: Command, tmp_path: Path, with_journal: bool
) -> None:
    """T23: a recipient that is greylisted when the run ends has its reply in the log; one that was
    taken up and not tried is queued there, after no attempt."""
    journal = ["--journal", "j"] if with_journal else []
    with ThrottlingServer(
        greylist_seconds=60, refuse=lambda who: "550 5.1.1 no" if who == "r9@y.test" else None
    ) as server:
        done = cli(
            *("bulk", "--server", server.url, "--connections", "1", "--max-in-flight", "1"),
            *("--domain-rate", "z.test=1/h", "--max-failed", "1", "--log-json", "log", *journal),
            *write(tmp_path, [*addresses(8), "a@z.test", "b@z.test", "r9@y.test"]),
        )
        log = log_of(tmp_path / "log")
        assert done.code == 75
        tried = {name: each for name, each in log.items() if name in server.log.attempts}
        assert set(log) - set(tried) == {"b@z.test"}
        assert log["b@z.test"]["state"] == "queued"
        assert (log["b@z.test"]["code"], log["b@z.test"]["attempts"]) == (None, 0)
        assert log["r9@y.test"]["state"] == "rejected"
        for name in set(tried) - {"r9@y.test"}:
            assert (log[name]["state"], log[name]["attempts"]) == ("deferred", 1)
            assert (log[name]["code"], log[name]["enhanced"]) == (451, "4.7.1")
            assert str(log[name]["text"]).startswith("4.7.1 greylisted, try again later; ")
        if not with_journal:
            return
        # Another run that does not come to them says the same.
        done = cli("resume", "j", "--retry-for", "0", "--log-json", "log2")
        again = log_of(tmp_path / "log2")
        assert (again["r1@y.test"]["state"], again["r1@y.test"]["code"]) == ("deferred", 451)
        assert again["r1@y.test"]["attempts"] == 1


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


def test_a_login_that_was_forgotten(cli: Command, tmp_path: Path) -> None:
    """T10: the run stops with exit code 77, and resume sends to all."""
    arguments = write(tmp_path, addresses(200))
    with ThrottlingServer(refuse_mail=lambda *_: "530 5.7.0 Authentication required") as server:
        done = cli("bulk", "--server", server.url, "--journal", "j", *arguments)
        assert done.code == 77
        assert "530 5.7.0 Authentication required" in done.err
        assert "the server URL names no user" in done.err
        assert "csmtplib resume j" in done.err
        assert "rejected  " not in done.err
    with ThrottlingServer() as server:
        assert cli("resume", "--server", server.url, "j").code == 0
    assert server.log.deliveries() == Counter(addresses(200))


def test_a_run_that_is_refused_from_some_message_on(cli: Command, tmp_path: Path) -> None:
    """T10's kind."""
    arguments = write(tmp_path, addresses(300))
    count = itertools.count()
    refuse = lambda *_: "550 5.7.1 quota exceeded" if next(count) >= 100 else None  # noqa: E731
    with ThrottlingServer(refuse_mail=refuse) as server:
        done = cli("bulk", "--server", server.url, "--journal", "j", *arguments)
    assert done.code == 69
    assert "stopped: " in done.err
    assert "550 5.7.1 quota exceeded; it would refuse every message this way" in done.err
    assert "100 accepted, 0 rejected, 0 deferred, 0 in doubt, 200 not sent" in done.err
    assert "to send the rest: csmtplib resume j" in done.err


def test_a_login_that_is_refused_in_the_middle(cli: Command, tmp_path: Path) -> None:
    def first(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.expect("AUTH PLAIN")
        peer.say("235 ok")
        peer.accept_message()
        peer.expect("QUIT")
        peer.say("221 bye")

    def second(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.expect("AUTH PLAIN")
        peer.say("535 5.7.8 no more")
        peer.drain()

    arguments = write(tmp_path, addresses(2))
    with ScriptedServer(first, second) as server:
        where = url(server, login="me:secret@", cleartext_auth="yes")
        done = cli(
            *("bulk", "--server", where, "--journal", "j", "--connections", "1"),
            *("--max-per-connection", "1", *arguments),
        )
    assert done.code == 77
    assert "refuses the login of me: 535 5.7.8 no more" in done.err
    assert "1 accepted" in done.err
    assert "to send the rest: csmtplib resume j" in done.err


def test_the_first_results_are_all_the_same_refusal(cli: Command, tmp_path: Path) -> None:
    """T10's kind: how to go on is said."""
    arguments = write(tmp_path, addresses(1000))
    with ThrottlingServer(refuse=lambda _: "554 5.7.1 Relay access denied") as server:
        done = cli("bulk", "--server", server.url, "--journal", "j", *arguments)
        assert done.code == 69
        assert "the first 50 results are the same refusal" in done.err
        assert "--max-failed" in done.err
        assert "--retry-rejected" in done.err
        done = cli("resume", "--server", server.url, "--max-failed", "10000", "j")
    assert done.code == 1
    with Journal("j") as journal:
        assert journal.counts() == {"rejected": 1000}


def test_what_was_learned_about_the_server_is_reported(cli: Command, tmp_path: Path) -> None:
    """T8: --verbose reports its limit."""
    arguments = write(tmp_path, addresses(300))
    with ThrottlingServer(mails_per_connection=10) as server:
        done = cli("bulk", "--verbose", "--server", server.url, *arguments)
    assert done.code == 0
    assert "learned about the server: it takes 10 messages per connection" in done.err


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
    assert again.err == (
        "csmtplib: b already contains a campaign (3 accepted): csmtplib report b shows its "
        "results, csmtplib resume b sends what is left of it; give another --journal for another "
        "campaign\n"
    )
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
def test_files_that_change_after_they_were_checked(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    arguments = write(tmp_path, addresses(3))
    check = checks.check_all

    def check_and_change(items: Messages, display: Display) -> int:
        count = check(items, display)
        if change == "row":
            with open("table.csv", "a") as file:
                file.write("nobody,No\n")
        else:
            Path("table.csv").unlink()
        return count

    monkeypatch.setattr(checks, "check_all", check_and_change)
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
