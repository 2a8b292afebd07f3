"""`csmtplib send`: its output, and its exit code for every answer of a server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..faults.server import Peer, Script, ScriptedServer
from .conftest import Command, filed, message, refusal, url, write_maildir, write_mbox


def answering(**answers: str) -> Script:
    """A server for one message, that gives these answers in the place of its usual ones: `rcpt`,
    or the user part of a recipient; `mail`, `data`, `end`."""

    def script(peer: Peer) -> None:
        peer.greet("8BITMIME", "SIZE 1000")
        line = peer.expect("MAIL FROM:")
        accepted = 0
        peer.say(answers.get("mail", "250 ok"))
        while True:
            line = peer.expect()
            if line.startswith(b"RCPT"):
                user = line[len(b"RCPT TO:<") :].split(b"@")[0].decode()
                peer.say(answers.get(user, "250 ok"))
                accepted += user not in answers
            elif line == b"RSET\r\n":
                peer.say("250 ok")
                return
            else:
                assert line == b"DATA\r\n"
                peer.say(answers.get("data", "354 go on"))
                if "data" not in answers:
                    peer.read_body()
                    peer.say(answers.get("end", "250 2.0.0 Ok: queued as 4F1"))
                    return

    return script


def test_verbose_tells_each_outcome(cli: Command) -> None:
    script = answering(bob="550 5.1.1 no bob", carol="450 4.2.1 carol is full")
    with ScriptedServer(script) as server:
        done = cli(
            *("send", "-v", "--server", url(server), "-"),
            *("--to", "alice@y.test", "--to", "bob@y.test", "--to", "carol@y.test"),
            stdin=message(),
        )
    assert done.out == (
        "accepted  alice@y.test  250 2.0.0 Ok: queued as 4F1  -\n"
        "rejected  bob@y.test  550 5.1.1 no bob  -\n"
        "deferred  carol@y.test  450 4.2.1 carol is full  -\n"
    )
    assert done.code == 75
    (summary,) = done.err.splitlines()
    assert summary.startswith(f"csmtplib: 1 message to 127.0.0.1:{server.port} in 0.")
    assert "recipients: 1 accepted, 1 rejected, 1 deferred, 0 in doubt" in summary


def test_without_it_failures_are_reported(cli: Command) -> None:
    with ScriptedServer(answering(bob="550 5.1.1 no bob")) as server:
        done = cli(
            *("send", "--quiet", "--server", url(server), "--to", "alice@y.test,bob@y.test"),
            stdin=message(),
        )
    assert (done.code, done.out) == (1, "")
    assert done.err == "csmtplib: rejected  bob@y.test  550 5.1.1 no bob  -\n"


def test_quiet_says_nothing_when_all_is_well(cli: Command) -> None:
    done = cli("send", "--quiet", stdin=message())
    assert (done.code, done.out, done.err) == (0, "", "")


def test_nothing_that_a_server_says_reaches_the_terminal_as_it_is(cli: Command) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.deliver(b"550-\x1b[2J\xff\r\n550 no\r\n")
        peer.expect("RSET")
        peer.say("250 ok")

    with ScriptedServer(script) as server:
        done = cli("send", "--server", url(server), stdin=message())
    assert done.code == 1
    assert r"550 \x1b[2J\xff / no" in done.err


def test_origins_name_file_and_message(cli: Command, tmp_path: Path) -> None:
    Path(tmp_path / "letter.eml").write_bytes(message(3))
    write_mbox(tmp_path / "box", message(1), message(2))
    maildir = write_maildir(tmp_path / "Maildir", message(4))
    done = cli("send", "-v", "box", "letter.eml", maildir)
    assert [line.split("  ")[-1] for line in done.out.splitlines()] == [
        "box#1",
        "box#2",
        "letter.eml",
        str(Path(maildir, "new", "000000.host")),
    ]


def test_an_empty_mbox_is_no_fault(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "box").touch()
    done = cli("send", "box")
    assert done.code == 0
    assert done.err.startswith("csmtplib: 0 messages ")


@pytest.mark.parametrize(
    ("answers", "code", "state"),
    [
        ({}, 0, "accepted"),
        ({"mail": "550 no"}, 1, "rejected"),
        ({"b1": "550 no"}, 1, "rejected"),
        ({"data": "554 no"}, 1, "rejected"),
        ({"end": "554 no"}, 1, "rejected"),
        ({"mail": "451 later"}, 75, "deferred"),
        ({"b1": "450 later"}, 75, "deferred"),
        ({"b1": "552 too many"}, 75, "deferred"),
        ({"data": "451 later"}, 75, "deferred"),
        ({"end": "452 later"}, 75, "deferred"),
    ],
)
def test_answers(cli: Command, answers: dict[str, str], code: int, state: str) -> None:
    with ScriptedServer(answering(**answers)) as server:
        done = cli("send", "-v", "--server", url(server), stdin=message())
    assert done.code == code
    assert done.out.startswith(f"{state}  b1@y.test  ")


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (b"To: b@y.test\n\n", [], "no address in Sender or From"),
        (b"From: a@x.test\n\n", [], "no recipient in To, Cc or Bcc"),
        (b"From: a@x.test\nTo: b@y)c@z\n\n", [], "not a list of addresses"),
        (message(body=b"\0\n"), [], "NUL"),
        (message(body=b"x" * 999 + b"\n"), [], "line 5 of the message is longer than 998 bytes"),
        (message(body=b"12345678\n" * 100), [], "the server takes 1000"),
        ("From: a@x.test\nTo: b@exämple.test\n\n".encode(), [], "SMTPUTF8"),
        (b"From: a@x.test\nTo: b\x01@y.test\n\n", [], "control"),
    ],
)
def test_a_message_that_can_not_be_sent_does_not_stop_the_others(
    cli: Command, tmp_path: Path, data: bytes, options: list[str], reason: str
) -> None:
    maildir = write_maildir(tmp_path / "Maildir", data, message(2))
    with ScriptedServer(answering()) as server:
        done = cli("send", "-v", "--server", url(server), maildir)
    assert done.code == 65
    assert done.out.startswith("accepted  b2@y.test  ")
    line, summary = done.err.splitlines()
    assert line.startswith(f"csmtplib: {Path(maildir, 'new', '000000.host')}: ")
    assert reason in line
    assert summary.endswith("; 1 message unsendable")


def test_a_message_that_is_gone_does_not_stop_the_others(cli: Command, tmp_path: Path) -> None:
    maildir = write_maildir(tmp_path / "Maildir", message(1), message(2), message(3))

    def script(peer: Peer) -> None:
        peer.greet()
        (tmp_path / "Maildir" / "new" / "000001.host").unlink()
        peer.accept_message()
        peer.accept_message()

    with ScriptedServer(script) as server:
        done = cli("send", "-v", "--server", url(server), maildir)
    assert done.code == 66
    assert [line.split("  ")[1] for line in done.out.splitlines()] == ["b1@y.test", "b3@y.test"]
    assert "000001.host: No such file or directory" in done.err
    assert done.err.endswith("; 1 message unreadable\n")


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["later", "gone", "bad", "no"], 75),
        (["gone", "bad", "no"], 66),
        (["bad", "no"], 65),
        (["no"], 1),
        ([], 0),
    ],
    ids=["75", "66", "65", "1", "0"],
)
def test_which_exit_code_wins(cli: Command, tmp_path: Path, messages: list[str], code: int) -> None:
    data = {
        "later": message(450),
        "gone": message(),
        "bad": b"no header\n",
        "no": message(550),
        "fine": message(250),
    }
    everything = ["fine", *messages]
    maildir = write_maildir(tmp_path / "Maildir", *(data[each] for each in everything))

    def script(peer: Peer) -> None:
        peer.greet()
        for number, each in enumerate(everything):
            if each == "gone":
                (tmp_path / "Maildir" / "new" / f"{number:06}.host").unlink()
        for each in everything:
            if each in ("gone", "bad"):
                continue
            peer.expect("MAIL")
            peer.say("250 ok")
            peer.say(f"{int(peer.expect('RCPT TO:<b')[10:13])} answer")
            if each == "fine":
                peer.expect("DATA")
                peer.say("354 go on")
                peer.read_body()
                peer.say("250 ok")
            else:
                peer.expect("RSET")
                peer.say("250 ok")

    with ScriptedServer(script) as server:
        assert cli("send", "--server", url(server), maildir).code == code


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--to", "a@x.test\r\nDATA"),
        ("--to", "a@x.test\x00"),
        ("--to", "a@x)b@y"),
        ("--to", ""),
        ("--from", "a@x.test, b@x.test"),
        ("--from", "a@x.test\n"),
        ("--from", "a@@x.test"),
    ],
)
def test_addresses_are_checked_first(cli: Command, tmp_path: Path, option: str, value: str) -> None:
    done = cli("send", option, value, stdin=message())
    assert done.code == 64
    assert done.err.count("\n") == 1
    assert not (tmp_path / "csmtplib-sink").exists()


def test_the_null_sender(cli: Command) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL FROM:<>\r\n")
        peer.say("250 ok")
        peer.expect("RCPT TO:<b1@y.test>\r\n")
        peer.say("550 no")
        peer.expect("RSET")
        peer.say("250 ok")

    for sender in ("", "<>"):
        with ScriptedServer(script) as server:
            done = cli("send", "--server", url(server), "--from", sender, stdin=message())
        assert done.code == 1


def test_nothing_is_sent_where_a_path_is_missing(cli: Command, tmp_path: Path) -> None:
    done = cli("send", "-", "missing.eml", stdin=message())
    assert (done.code, done.out) == (66, "")
    assert done.err == f"csmtplib: missing.eml: {refusal(os.stat, 'missing.eml')}\n"
    assert not (tmp_path / "csmtplib-sink").exists()


def test_lmtp_has_an_answer_for_each_recipient(cli: Command) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.say("250 ok")
        for _ in range(3):
            peer.expect("RCPT")
            peer.say("250 ok")
        peer.expect("DATA")
        peer.say("354 go on")
        peer.read_body()
        peer.say("250 2.0.0 saved", "552 5.2.2 full", "451 4.3.0 later")

    with ScriptedServer(script) as server:
        done = cli(
            *("send", "-v", "--server", url(server, "lmtp"), "--to", "a@y,b@y,c@y"),
            stdin=message(),
        )
    assert done.code == 75
    assert [line.split("  ")[:2] for line in done.out.splitlines()] == [
        ["accepted", "a@y"],
        ["rejected", "b@y"],
        ["deferred", "c@y"],
    ]


def test_bcc_gets_the_message_and_is_not_in_it(cli: Command, tmp_path: Path) -> None:
    mail = b"From: a@x.test\nBcc: b@y.test,\n c@y.test\nTo: d@y.test\n\nBcc: text\n"
    done = cli("send", "-v", stdin=mail)
    assert done.code == 0
    assert sorted(line.split("  ")[1][0] for line in done.out.splitlines()) == ["b", "c", "d"]
    assert filed(tmp_path / "csmtplib-sink") == [b"From: a@x.test\nTo: d@y.test\n\nBcc: text\n"]
