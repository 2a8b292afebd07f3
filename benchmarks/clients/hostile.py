"""smtplib or csmtplib, told by the line what to send: one connection is used by many rounds.

`python -m benchmarks.clients.hostile MODULE` prints a line when it is ready. Each line that it
reads is a Request as JSON, and is answered with the seconds that it took, likewise in JSON.
"""

from __future__ import annotations

import importlib
import json
import socket
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from .worker import HOST, READY

SENDER = "sender@bench.example"
HEADER = b"From: <%b>\r\nSubject: Hostile servers\r\n\r\n" % SENDER.encode()
LINE = b"It was a bright cold day in April, and the clocks were striking thirteen; he\r\n"


@dataclass(frozen=True)
class Request:
    """A task, `count` times: "send" a message of about `size` bytes to so many recipients over
    the connection that "open" made, or "connect" and quit again."""

    what: Literal["open", "send", "connect"]
    count: int = 1
    size: int = 100
    recipients: int = 1
    port: int = 0
    path: str | None = None
    authority: str | None = None


@lru_cache(maxsize=1)
def message(size: int) -> bytes:
    """Return a message; one of its lines begins with a period."""
    lines = max(0, (size - len(HEADER)) // len(LINE))
    return HEADER + b".\r\n" + LINE * lines


@lru_cache(maxsize=1)
def context(authority: str) -> ssl.SSLContext:
    """Return the context that verifies the server."""
    return ssl.create_default_context(cafile=authority)


class Client:
    """The connection of one module."""

    def __init__(self, module: str) -> None:
        self.module: Any = importlib.import_module(module)
        self.smtp: Any = None

    def connect(self, request: Request) -> Any:
        """Return an SMTP object that has said EHLO."""
        if request.path is not None:
            smtp = self.module.SMTP()
            smtp.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            smtp.sock.connect(request.path)
            smtp.getreply()
        elif request.authority is not None:
            tls = context(request.authority)
            smtp = self.module.SMTP_SSL(HOST, request.port, context=tls)
        else:
            smtp = self.module.SMTP(HOST, request.port)
        smtp.ehlo_or_helo_if_needed()
        return smtp

    def perform(self, request: Request) -> float:
        """Do what is asked for; return the seconds that it took."""
        recipients = [f"user{number}@bench.example" for number in range(request.recipients)]
        content = message(request.size)
        began = time.perf_counter()
        if request.what == "open":
            if self.smtp is not None:
                self.smtp.close()
            self.smtp = self.connect(request)
        elif request.what == "connect":
            for _ in range(request.count):
                self.connect(request).quit()
        else:
            for _ in range(request.count):
                self.send(recipients, content)
        return time.perf_counter() - began

    def send(self, recipients: list[str], content: bytes) -> None:
        """Send a message, whatever the server answers about its recipients."""
        with suppress(self.module.SMTPRecipientsRefused):
            self.smtp.sendmail(SENDER, recipients, content)


def main() -> None:
    client = Client(sys.argv[1])
    print(READY, flush=True)
    for line in sys.stdin:
        print(json.dumps(client.perform(Request(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
