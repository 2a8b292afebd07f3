"""Exim as a mail exchanger, from Debian's package (`python -m tests.servers.fetch`).

What it stores is what was sent, with these exceptions (Exim 4.96):
- CRLF and bare LF are both stored as LF; a bare CR becomes one too.
- The last line gets an end if it has none (BDAT can send one), and so does an empty message.

How it takes what is sent early, with PIPELINING offered:
- Commands behind the end of a message, in the same segment or a later one, are carried out; so are
  whole BDAT transactions in one stream.
- After `BDAT n LAST` or DATA without a valid recipient (503) the transaction stays open: the next
  MAIL is refused with "503 sender already given", and the next RCPT belongs to the old sender.
- The fourth such 503 ends the session (smtp_max_synprot_errors), and so does the eleventh RSET, not
  counting the first one behind each message that it took: "554 Too many nonmail commands"
  (smtp_accept_max_nonmail).

Without PIPELINING a command behind another one gets "554 SMTP synchronization error", and the
connection is closed (smtp_enforce_sync).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .fetch import exim_command, fetched
from .maildir import DOMAIN, Mailboxes, user
from .process import HOST, free_port, mail_owner, open_directory, running, wait_for_greeting

# Every line is matched, and no line more: a message may itself begin with a field of these names.
# "for" is there only when the transaction has a single recipient.
TRACE = re.compile(
    rb"Received: from .*\n"
    rb"\tby .* with .*\n"
    rb"\t\(envelope-from <.*>\)\n"
    rb"\tid [^;\s]+(?:\n\tfor .*)?;\n"
    rb"\t.*\n"
)

# Exim takes no name of a file from what a client says, only from a list that it looks it up in.
MAILBOXES = 1000

# Exim delivers each message in a process of its own, which is a new Exim: it has to find itself,
# its libraries and the account again. Whoever runs it owns the mail; nothing of it needs root.
# By default it would leave what is behind the tenth message of a connection to a queue runner.
CONFIGURATION = """\
exim_path = {directory}/exim/usr/sbin/exim4
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/exim.pid
keep_environment = LD_LIBRARY_PATH : LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
deliver_drop_privilege
never_users =

primary_hostname = mail.{domain}
local_interfaces = {host}
daemon_smtp_ports = {port}
disable_ipv6
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
message_size_limit = 100M
tls_advertise_hosts =
pipelining_advertise_hosts = {pipelining}
acl_smtp_rcpt = recipient
acl_smtp_data = accept

begin acl
recipient:
  accept domains = {domain}
         local_parts = lsearch;{directory}/mailboxes
  deny   message = 5.1.1 no such user

begin routers
mailboxes:
  driver = accept
  local_parts = lsearch;{directory}/mailboxes
  transport = maildir

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {mailboxes.directory}/$local_part_data
  create_directory
"""


@dataclass(frozen=True)
class Exim:
    """A running Exim: SMTP on `port` of 127.0.0.1, for the `mailboxes`; a recipient who is none of
    them gets 550."""

    port: int
    mailboxes: Mailboxes
    log: Path


@contextmanager
def running_exim(*, pipelining: bool = True) -> Iterator[Exim]:
    """Run Exim while the block lasts; `pipelining`: whether it offers that.

    Raises ServerUnavailable where it was not fetched, ServerFailed where it does not come up.
    """
    unpacked = fetched("exim")
    owner = mail_owner()
    with open_directory("exim") as directory:
        # The cache of root's is closed to the user who runs it.
        shutil.copytree(unpacked, directory / "exim", symlinks=True)
        exim = Exim(
            port=free_port(),
            mailboxes=Mailboxes(directory / "maildirs", TRACE),
            log=directory / "mainlog",
        )
        configuration = directory / "exim.conf"
        configuration.write_text(
            CONFIGURATION.format(
                directory=directory,
                mailboxes=exim.mailboxes,
                domain=DOMAIN,
                host=HOST,
                port=exim.port,
                pipelining="*" if pipelining else "! *",
            )
        )
        names = (user(number) for number in range(MAILBOXES))
        (directory / "mailboxes").write_text("".join(f"{name}: {name}\n" for name in names))
        for path in (exim.mailboxes.directory, directory / "spool"):
            path.mkdir()
        exim.log.touch()
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, owner.pw_uid, owner.pw_gid)
        foreground = [*exim_command(directory / "exim"), "-C", str(configuration), "-bdf"]
        with running(foreground, exim.log, unprivileged=True) as process:
            wait_for_greeting(process, exim.port, exim.log)
            yield exim
