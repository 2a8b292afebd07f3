"""Postfix as a submission server (RFC 6409), which wants a login, or as a mail exchanger.

What it stores is what was sent, with these exceptions (Postfix 3.7.11):
- CRLF and bare LF are both stored as LF; a last line without an end (BDAT can send one) gets one.
- CRs before a line's end are dropped, one elsewhere in a line becomes a space.
- Where the header has a line that neither is a field nor continues one, an empty line is put
  before it: so before a message that has no header.
- White space between a field's name and its colon is dropped.
- A first line "From ..." becomes "X-Mailbox-Line: From ...".
Dots, 8-bit bytes, white space at the end of lines, long lines and an empty message are kept.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .certificates import Certificates
from .maildir import DOMAIN, Mailboxes, user
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
# "for" is there only when the transaction has a single recipient.
TRACE = re.compile(
    rb"Return-Path: <.*>\n"
    rb"X-Original-To: .*\n"
    rb"Delivered-To: .*\n"
    rb"Received: from .*\n"
    rb"\tby .* id \w+(?:\n\tfor <.*>; |;\n\t).*\n"
)

# virtual(8) takes no mailbox from a pattern, so the mailboxes are listed beforehand.
MAILBOXES = 1000

QUEUES = (
    "active",
    "bounce",
    "corrupt",
    "defer",
    "deferred",
    "flush",
    "hold",
    "incoming",
    "maildrop",
    "private",
    "public",
    "saved",
    "trace",
)

# There is no smtp client among the services: whatever a test does, no mail leaves the machine.
# postlog lets Postfix write a log of its own instead of the machine's syslog.
SERVICES = """\
{host}:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

# Clients in mynetworks are exempt from the limits on connections and rates.
# Header rewriting off and no header dropped: what arrives can be compared with what was sent.
PARAMETERS = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {log}
maillog_file_prefixes = {directory}
inet_interfaces = {host}
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
myhostname = mail.{domain}
mydestination =
local_recipient_maps =
alias_maps =
default_transport = discard
smtpd_peername_lookup = no
in_flow_delay = 0
message_size_limit = 100000000
local_header_rewrite_clients =
message_drop_headers =

virtual_mailbox_domains = {domain}
virtual_mailbox_maps = texthash:{directory}/mailboxes
virtual_mailbox_base = {mailboxes.directory}
virtual_mailbox_limit = 0
virtual_transport = {transport}
virtual_uid_maps = static:{owner.pw_uid}
virtual_gid_maps = static:{owner.pw_gid}

smtpd_tls_security_level = may
smtpd_tls_chain_files = {certificates.key}, {certificates.chain}
smtpd_relay_restrictions = reject_unauth_destination
"""

LOGIN_PARAMETERS = """\
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {sasl_socket}
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
"""


@dataclass(frozen=True)
class Postfix:
    """A running Postfix: smtpd with STARTTLS on `port` of 127.0.0.1, for the `mailboxes`; a
    recipient who is none of them gets 550, and 554 if in another domain.
    """

    port: int
    mailboxes: Mailboxes
    log: Path


@contextmanager
def running_postfix(
    certificates: Certificates,
    *,
    sasl_socket: Path | None = None,
    transport: str = "virtual",
    more_parameters: str = "",
) -> Iterator[Postfix]:
    """Run Postfix while the block lasts.

    With `sasl_socket`, which is Dovecot's, only clients that logged in over TLS may send; without
    it everyone may. `transport` "discard" throws the mail away instead of delivering it.
    `more_parameters`: lines of main.cf.
    Raises ServerUnavailable where Postfix is not installed or one is not root, ServerFailed where
    it does not come up.
    """
    postconf = program("postconf", "postfix")
    if os.geteuid() != 0:
        raise ServerUnavailable("Postfix starts as root only: run these tests as root")
    with open_directory("postfix") as directory:
        postfix = Postfix(
            port=free_port(),
            mailboxes=Mailboxes(directory / "maildirs", TRACE),
            log=directory / "mail.log",
        )
        owner = mail_owner()
        parameters = PARAMETERS if sasl_socket is None else PARAMETERS + LOGIN_PARAMETERS
        write_configuration(
            directory,
            (parameters + more_parameters).format(
                directory=directory,
                log=postfix.log,
                mailboxes=postfix.mailboxes,
                host=HOST,
                domain=DOMAIN,
                transport=transport,
                owner=owner,
                certificates=certificates,
                sasl_socket=sasl_socket,
            ),
            SERVICES.format(host=HOST, port=postfix.port),
        )
        make_queue(directory)
        postfix.mailboxes.directory.mkdir()
        shutil.chown(postfix.mailboxes.directory, owner.pw_uid, owner.pw_gid)
        daemons = subprocess.run(
            [postconf, "-c", str(directory), "-h", "daemon_directory"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        # As postfix(1) sets them: without, what master says before postlog runs goes to syslog.
        logging = ["env", "POSTLOG_SERVICE=postlog", f"POSTLOG_HOSTNAME=mail.{DOMAIN}"]
        foreground = [f"{daemons}/master", "-c", str(directory), "-d"]
        with running([*logging, *foreground], postfix.log) as process:
            wait_for_greeting(process, postfix.port, postfix.log)
            yield postfix


def write_configuration(directory: Path, parameters: str, services: str) -> None:
    """Write main.cf, master.cf and the table of mailboxes into `directory`."""
    addresses = "".join(f"{user(n)}@{DOMAIN} {user(n)}/\n" for n in range(MAILBOXES))
    long_ago = time.time() - 60
    for name, text in (("main.cf", parameters), ("master.cf", services), ("mailboxes", addresses)):
        path = directory / name
        path.write_text(text)
        path.chmod(0o644)
        # Postfix waits for seconds if a file is so new that it might still be being written.
        os.utime(path, (long_ago, long_ago))


def make_queue(directory: Path) -> None:
    """Make the queue and data directories as `postfix check` does, which takes two seconds."""
    queue = directory / "queue"
    for path in (queue, queue / "pid"):
        path.mkdir()
        path.chmod(0o755)
    for path in (directory / "data", *(queue / name for name in QUEUES)):
        path.mkdir(mode=0o700)
        shutil.chown(path, "postfix")
