"""Dovecot as an LMTP server, and as the SASL server behind Postfix.

What it stores is what was sent, with these exceptions (Dovecot 2.3.19):
- CRLF and bare LF are both stored as LF.
- A CR that is the very last byte is dropped (BDAT can send one).
Any other CR, dots, 8-bit bytes, white space at the end of lines, long lines, a message without a
header or without a body and an empty one are kept.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .certificates import Certificates
from .maildir import DOMAIN, Mailboxes
from .process import (
    HOST,
    ServerUnavailable,
    free_port,
    mail_owner,
    open_directory,
    program,
    running,
    wait_for_greeting,
)

# Every line is matched, and no line more: a message may itself begin with a field of these names.
# Delivered-To and "for" are there only when the transaction has a single recipient.
TRACE = re.compile(
    rb"Return-Path: <.*>\n"
    rb"(?:Delivered-To: .*\n)?"
    rb"Received: from .*\n"
    rb"(?:\t\(using TLS.*\n)?"
    rb"\tby .* with LMTPS?\n"
    rb"\tid .*\n"
    rb"\t\(envelope-from <.*>\)(?:\n\tfor <.*>)?; .*\n"
)

# All services run as one user, so root is not needed; chroot(2) would need it.
# The second passwd-file is searched for the domain alone: it holds every user of the domain.
CONFIGURATION = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
instance_name = csmtplib-test
hostname = mail.{domain}
protocols = lmtp
listen = {host}
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
default_process_limit = 32
default_client_limit = 256
first_valid_uid = 1
mail_location = maildir:{directory}/maildirs/%n
mail_home = {directory}/homes/%n
mail_fsync = never

ssl = yes
ssl_cert = <{certificates.chain}
ssl_key = <{certificates.key}

auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
auth_failure_delay = 0
# Postfix decides where a password may travel in clear text.
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = {directory}/passwords
}}
userdb {{
  driver = passwd-file
  args = username_format=%d {directory}/domains
}}

service anvil {{
  chroot =
  # Without it a login that fails makes the next ones from this address wait.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service lmtp {{
  unix_listener {directory}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    port = {port}
  }}
}}
service auth {{
  unix_listener {directory}/sasl {{
    mode = 0666
  }}
}}
"""


@dataclass(frozen=True)
class Dovecot:
    """A running Dovecot: LMTP for every user of DOMAIN, on a socket and on a port of 127.0.0.1
    (a recipient elsewhere gets 550), and SASL for one user, on a socket that speaks Dovecot's
    authentication protocol.
    """

    lmtp_socket: Path
    lmtp_port: int
    sasl_socket: Path
    mailboxes: Mailboxes
    log: Path
    user: str = f"sender@{DOMAIN}"
    password: str = "correct horse"


@contextmanager
def running_dovecot(certificates: Certificates) -> Iterator[Dovecot]:
    """Run Dovecot while the block lasts.

    Raises ServerUnavailable where it is not installed or is not 2.3, ServerFailed where it does
    not come up.
    """
    command = program("dovecot", "dovecot-core")
    require_version(command)
    import grp  # as process.mail_owner() does with pwd

    owner = mail_owner()
    with open_directory("dovecot") as directory:
        dovecot = Dovecot(
            lmtp_socket=directory / "lmtp",
            lmtp_port=free_port(),
            sasl_socket=directory / "sasl",
            mailboxes=Mailboxes(directory / "maildirs", TRACE),
            log=directory / "dovecot.log",
        )
        configuration = directory / "dovecot.conf"
        configuration.write_text(
            CONFIGURATION.format(
                directory=directory,
                domain=DOMAIN,
                host=HOST,
                port=dovecot.lmtp_port,
                user=owner.pw_name,
                group=grp.getgrgid(owner.pw_gid).gr_name,
                certificates=certificates,
            )
        )
        # The password itself, because each of the mechanisms hashes it in its own way.
        (directory / "passwords").write_text(f"{dovecot.user}:{{PLAIN}}{dovecot.password}\n")
        (directory / "domains").write_text(f"{DOMAIN}::{owner.pw_uid}:{owner.pw_gid}::::\n")
        dovecot.log.touch()
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, owner.pw_uid, owner.pw_gid)
        foreground = [command, "-F", "-c", str(configuration)]
        with running(foreground, dovecot.log, unprivileged=True) as process:
            wait_for_greeting(process, dovecot.lmtp_port, dovecot.log)
            yield dovecot


def require_version(command: str) -> None:
    """Raise ServerUnavailable unless this is Dovecot 2.3 with its LMTP server."""
    answer = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    if not answer.stdout.startswith("2.3."):
        raise ServerUnavailable(
            f"the test configuration is for Dovecot 2.3, and this is {answer.stdout.strip()}:"
            " use Debian 12, or port tests/servers/dovecot.py to the syntax of 2.4"
        )
    if not Path("/usr/lib/dovecot/lmtp").exists():
        raise ServerUnavailable("Dovecot has no LMTP server: apt-get install dovecot-lmtpd")
