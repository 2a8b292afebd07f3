"""`csmtplib send` into real servers: every message arrives, byte for byte."""

from __future__ import annotations

import mailbox
from pathlib import Path
from urllib.parse import quote

import pytest

from csmtplib.cli.main import main

from .certificates import Certificates
from .corpus import delivered, mbox, messages
from .dovecot import Dovecot
from .maildir import Mailbox
from .postfix import Postfix

MESSAGES = 1000


@pytest.fixture
def sent(tmp_path: Path) -> tuple[Path, list[bytes]]:
    """An mbox file and the messages in it."""
    everything = list(messages(MESSAGES, "reader@example.test"))
    path = tmp_path / "thousand.mbox"
    path.write_bytes(mbox(everything))
    return path, everything


def send(path: Path, server: str, *options: str) -> int:
    return main(["send", "--server", server, *options, str(path)])


def check(box: Mailbox, sent: list[bytes]) -> None:
    assert box.arrived(len(sent)) == sorted(map(delivered, sent))


def test_into_the_sink(tmp_path: Path, sent: tuple[Path, list[bytes]]) -> None:
    path, everything = sent
    assert send(path, f"sink:{tmp_path / 'arrived'}") == 0
    maildir = mailbox.Maildir(tmp_path / "arrived", create=False)
    assert sorted(map(maildir.get_bytes, maildir.keys())) == sorted(map(delivered, everything))


def test_into_postfix_over_starttls_with_login(
    postfix_submission: Postfix,
    dovecot: Dovecot,
    certificates: Certificates,
    sent: tuple[Path, list[bytes]],
) -> None:
    path, everything = sent
    box = postfix_submission.mailboxes.new()
    login = f"{quote(dovecot.user)}:{quote(dovecot.password)}"
    address = f"127.0.0.1:{postfix_submission.port}"
    server = f"submission://{login}@{address}?cafile={quote(str(certificates.authority))}"
    assert send(path, server, "--from", "sender@example.test", "--to", box.address) == 0
    check(box, everything)


def test_into_dovecot_over_a_unix_socket(dovecot: Dovecot, sent: tuple[Path, list[bytes]]) -> None:
    path, everything = sent
    box = dovecot.mailboxes.new()
    assert send(path, f"lmtp+unix:{dovecot.lmtp_socket}", "--to", box.address) == 0
    check(box, everything)
