"""The server that files what arrives: byte for byte, and gone when the run is over."""

from __future__ import annotations

import shutil
import smtplib
import sys
import threading
from email.message import EmailMessage
from pathlib import Path

import pytest

from csmtplib.cli import sink

from ..servers.corpus import delivered, messages
from .conftest import Command, filed, message, refusal, write_maildir, write_mbox


def test_a_thousand_messages(cli: Command, tmp_path: Path) -> None:
    sent = list(messages(1000, "b@y.test"))
    done = cli("send", "--server", "sink:arrived", write_maildir(tmp_path / "Maildir", *sent))
    assert done.code == 0, done.err
    assert filed(tmp_path / "arrived") == list(map(delivered, sent))


def test_odd_messages(cli: Command, tmp_path: Path) -> None:
    sent = [
        b"",
        b"\n",
        b"Subject: no body at all\n",
        b"Subject: no body at all, no line end",
        b"no header\n",
        b".\n",
        b"Subject: one\rX-Bare: CR\n\n\r\r\n\n",
        b"x" * 998,
        b"Subject: long\n\n" + b"long lines, many of them" * 40 + b"\n",
        b"Subject: large\n\n" + b".0123456789\n" * 100_000,
    ]
    done = cli(
        *("send", "--server", "sink:arrived", "--from", "a@x.test", "--to", "b@y.test"),
        write_maildir(tmp_path / "Maildir", *sent),
    )
    assert done.code == 0, done.err
    # A message ends with the end of a line (RFC 5321 section 4.1.1.4).
    assert filed(tmp_path / "arrived") == [
        data if data.endswith(b"\n") or not data else data + b"\n" for data in map(delivered, sent)
    ]


def test_internationalised_mail(cli: Command, tmp_path: Path) -> None:
    mail = "From: jörg@exämple.test\nTo: žluť@例.test\nSubject: 日本語\n\nGrüße\n".encode()
    done = cli("send", "-v", "--server", "sink:arrived", "-", stdin=mail)
    assert done.code == 0, done.err
    assert "žluť@例.test" in done.out
    assert filed(tmp_path / "arrived") == [mail]


def test_one_file_for_all_recipients(cli: Command, tmp_path: Path) -> None:
    done = cli("send", "-v", "--to", "a@y.test,b@y.test", "--to", "c@y.test", stdin=message())
    assert done.code == 0
    (name,) = (path.name for path in (tmp_path / "csmtplib-sink" / "new").iterdir())
    assert [line.split("  ")[:3] for line in done.out.splitlines()] == [
        ["accepted", f"{user}@y.test", f"250 2.0.0 Ok: filed as {name}"] for user in "abc"
    ]


def test_it_is_the_default_and_adds_to_what_is_there(cli: Command, tmp_path: Path) -> None:
    for number in (1, 2):
        done = cli("send", stdin=message(number))
        assert done.code == 0
        assert "into the Maildir csmtplib-sink only" in done.err
    assert sorted(filed(tmp_path / "csmtplib-sink")) == [message(1), message(2)]


def test_directories_are_made(cli: Command, tmp_path: Path) -> None:
    assert cli("send", "--server", f"sink:{tmp_path}/a/b c", stdin=message()).code == 0
    assert filed(tmp_path / "a" / "b c") == [message()]


def test_where_no_directory_can_be_made(cli: Command, tmp_path: Path) -> None:
    write_mbox(tmp_path / "file", message())
    done = cli("send", "--server", "sink:file/sink", stdin=message())
    reason = refusal(lambda: Path("file", "sink", "tmp").mkdir(parents=True, exist_ok=True))
    assert (done.code, done.err) == (78, f"csmtplib: sink:file/sink: {reason}\n")


def test_a_directory_has_to_be_named(cli: Command) -> None:
    done = cli("send", "--server", "sink:", stdin=message())
    assert done.code == 78
    assert "sink:csmtplib-sink" in done.err


def test_without_aiosmtpd(cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "csmtplib.cli.sink")
    monkeypatch.delattr("csmtplib.cli.sink")
    monkeypatch.setitem(sys.modules, "aiosmtpd.smtp", None)
    done = cli("send", stdin=message())
    assert done.code == 69
    assert "pip install 'csmtplib[cli]'" in done.err


def test_what_can_not_be_filed_is_deferred(tmp_path: Path) -> None:
    with sink.running(tmp_path / "sink") as server, smtplib.SMTP(server.host, server.port) as smtp:
        shutil.rmtree(tmp_path / "sink" / "new")
        mail = EmailMessage()
        mail["From"], mail["To"] = "a@x.test", "b@y.test"
        with pytest.raises(smtplib.SMTPDataError) as caught:
            smtp.send_message(mail)
        assert caught.value.smtp_code == 452


@pytest.mark.filterwarnings("error")
def test_it_stops_with_connections_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sink.running(tmp_path / "sink") as server:
        smtp = smtplib.SMTP(server.host, server.port)
        smtp.ehlo()
        assert [thread.name for thread in threading.enumerate()].count("sink") == 1
    assert "sink" not in [thread.name for thread in threading.enumerate()]
    smtp.close()
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP(server.host, server.port)
    assert not caplog.records
