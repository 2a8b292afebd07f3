"""`csmtplib send` as the programs call it that think it is sendmail."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Command, filed, message

MAIL = b"From: a@x.test\nTo: b1@y.test\nCc: c@y.test\nBcc: d@y.test\n\n1\n.\n2\n"
SHOWN = MAIL.replace(b"Bcc: d@y.test\n", b"")
CUT = SHOWN.replace(b".\n2\n", b"")


def recipients(out: str) -> list[str]:
    return [line.split("  ")[1] for line in out.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "to", "arrived"),
    [
        # git send-email
        (["-f", "s@x.test", "-i", "r@y.test", "q@y.test"], ["r@y.test", "q@y.test"], SHOWN),
        # mutt
        (["-oem", "-oi", "-f", "s@x.test", "--", "r@y.test"], ["r@y.test"], SHOWN),
        # cron
        (["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"], ["root"], SHOWN),
        (
            ["-i", "-FCronDaemon", "-odi", "-oem", "r@y.test,q@y.test"],
            ["r@y.test", "q@y.test"],
            SHOWN,
        ),
        # PHP
        (["-t", "-i"], ["b1@y.test", "c@y.test", "d@y.test"], SHOWN),
        (["-ti"], ["b1@y.test", "c@y.test", "d@y.test"], SHOWN),
        (["-t"], ["b1@y.test", "c@y.test", "d@y.test"], CUT),
        # Postfix's manual: those of the header are added
        (["-t", "r@y.test", "c@y.test"], ["r@y.test", "c@y.test", "b1@y.test", "d@y.test"], CUT),
        (["-t", "--to", "r@y.test"], ["r@y.test", "b1@y.test", "c@y.test", "d@y.test"], CUT),
        (["-bm", "r@y.test"], ["r@y.test"], CUT),
        (["-fs@x.test", "r@y.test"], ["r@y.test"], CUT),
        (["-f", "", "r@y.test"], ["r@y.test"], CUT),
        (["r@y.test", "-i", "q@y.test"], ["r@y.test", "q@y.test"], SHOWN),
        (["-i", "--", "-r@y.test"], ["-r@y.test"], SHOWN),
        (["-i", "Bob <r@y.test>"], ["r@y.test"], SHOWN),
    ],
)
def test_calls(
    cli: Command, tmp_path: Path, arguments: list[str], to: list[str], arrived: bytes
) -> None:
    done = cli("send", "--verbose", *arguments, stdin=MAIL)
    assert done.code == 0, done.err
    assert recipients(done.out) == to
    assert filed(tmp_path / "csmtplib-sink") == [arrived]


def test_an_mbox_is_one_message_to_it(cli: Command, tmp_path: Path) -> None:
    mbox = b"From a\n" + message(1) + b"\nFrom b\n" + message(2)
    assert cli("send", "-t", "-i", stdin=mbox).code == 0
    assert filed(tmp_path / "csmtplib-sink") == [message(1) + b"\nFrom b\n" + message(2)]


def test_even_nothing_is_a_message_to_it(cli: Command, tmp_path: Path) -> None:
    assert cli("send", "-f", "s@x.test", "r@y.test").code == 0
    assert filed(tmp_path / "csmtplib-sink") == [b""]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-i"], "name recipients"),
        (["-f", "s@x.test"], "name recipients"),
        (["-bs"], "invalid choice"),
        (["-bp"], "invalid choice"),
        (["-f", "s@x.test", "--from", "s@x.test", "r@y.test"], "not allowed with"),
        (["-f"], "expected one argument"),
        (["-q"], "unrecognized"),
    ],
)
def test_wrong_calls(cli: Command, arguments: list[str], reason: str) -> None:
    done = cli("send", *arguments, stdin=MAIL)
    assert done.code == 64
    assert reason in done.err
    assert done.err.count("\n") == 1
