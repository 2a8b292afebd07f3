"""Haraka as a mail exchanger, from npm (`python -m tests.servers.fetch`).

What it stores is what was sent, with these exceptions (Haraka 3.3.4):
- CRLF is stored as LF, by the plugin of these tests.
- A line of more than 992 bytes is cut into several.
- An empty message gets an empty line.
A message with a bare LF is refused: 451, and the connection is closed.

How it takes what is sent early:
- MAIL, RCPT and DATA in one flight are carried out one by one.
- Whatever has come behind the end of a message by the time of its reply is thrown away, in the same
  segment or in a later one: each whole line of it, RSET too, is answered "503 Bad sequence of
  commands - pipelined after end of DATA", and half a line is lost without an answer. If it is more
  than 8 KiB, the connection is closed. What comes after the reply is carried out. See
  GHSA-rp4q-8m6x-c43c, and connection.js, respond() and process_data().
- It knows no BDAT.

It leaves Nagle's algorithm on, and writes each reply by itself.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .fetch import fetched, haraka_command
from .maildir import DOMAIN, Mailboxes
from .process import HOST, free_port, open_directory, running, wait_for_greeting

# Every line is matched, and no line more: a message may itself begin with a field of these names.
TRACE = re.compile(
    rb"Received: from .*\n"
    rb"\tby .* with .* id .*\n"
    rb"\tenvelope-from <.*>;\n"
    rb"\t.*\n"
)

# The other settings are Haraka's own defaults, which it takes from a file that has to be there.
SETTINGS = {
    "me": "mail.{domain}\n",
    "plugins": "mailboxes\n",
    "smtp.ini": "listen={host}:{port}\nnodes=0\n",
    "log.ini": "[main]\nlevel=notice\n",
}

# Without the first hook Haraka would ask the DNS for the client's name.
PLUGIN = """\
'use strict'
const fs = require('node:fs')
const path = require('node:path')

let stored = 0

exports.hook_lookup_rdns = (next) => next(OK, 'localhost')

exports.hook_rcpt = (next, connection, [recipient]) => {
  if (recipient.host === '%(domain)s' && /^box[0-9]+$/.test(recipient.user)) next(OK)
  else next(DENY, `5.1.1 ${recipient.user}: no such user`)
}

exports.hook_queue = (next, connection) => {
  const transaction = connection.transaction
  transaction.message_stream.get_data((bytes) => {
    // With the line ends that the other servers store.
    const message = bytes.toString('latin1').replaceAll('\\r\\n', '\\n')
    for (const recipient of transaction.rcpt_to) {
      const maildir = path.join(process.env.HARAKA, 'maildirs', recipient.user)
      const name = `${++stored}`
      for (const part of ['tmp', 'new']) fs.mkdirSync(path.join(maildir, part), {recursive: true})
      fs.writeFileSync(path.join(maildir, 'tmp', name), message, 'latin1')
      fs.renameSync(path.join(maildir, 'tmp', name), path.join(maildir, 'new', name))
    }
    setTimeout(() => next(OK, 'queued'), %(milliseconds)d)
  })
}
"""


@dataclass(frozen=True)
class Haraka:
    """A running Haraka: SMTP on `port` of 127.0.0.1, for the `mailboxes`; a recipient who is none
    of them gets 550 5.1.1."""

    port: int
    mailboxes: Mailboxes
    log: Path


@contextmanager
def running_haraka(*, reply_seconds: float = 0.0) -> Iterator[Haraka]:
    """Run Haraka while the block lasts; `reply_seconds`: how long after a message is stored the
    reply to it leaves.

    Raises ServerUnavailable where it was not fetched, ServerFailed where it does not come up.
    """
    installed = fetched("haraka")
    with open_directory("haraka") as directory:
        haraka = Haraka(
            port=free_port(),
            mailboxes=Mailboxes(directory / "maildirs", TRACE),
            log=directory / "log",
        )
        for name in ("config", "plugins"):
            (directory / name).mkdir()
        for name, text in SETTINGS.items():
            text = text.format(domain=DOMAIN, host=HOST, port=haraka.port)
            (directory / "config" / name).write_text(text)
        shutil.copy(installed / "node_modules/Haraka/config/connection.ini", directory / "config")
        plugin = PLUGIN % {"domain": DOMAIN, "milliseconds": 1000 * reply_seconds}
        (directory / "plugins/mailboxes.js").write_text(plugin)
        with running([*haraka_command(installed), "-c", str(directory)], haraka.log) as process:
            wait_for_greeting(process, haraka.port, haraka.log)
            yield haraka
