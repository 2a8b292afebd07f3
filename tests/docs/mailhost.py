"""The servers that the documentation names: SMTP, submission, SMTPS and LMTP, on loopback.

They offer what a large provider offers: STARTTLS, within TLS a login of anybody whose password is
"secret", PIPELINING and CHUNKING. Some mailboxes are not like the others, in any domain:

    nobody  does not exist: 550
    busy    is refused for now, whenever it is tried: 451
    later   is refused for now when it is tried for the first time: 451
    lost    has the server hang up instead of an answer, the first time
    crowd   is one too many for the session, the first time: 421
    slow    has the server take its time for the reply to a message
    strict  takes mail of authenticated senders alone: 550
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from ..protocol.serving import Delivery, Host

HOSTS = ("mail.example.org", "mx.example.org", "lists.example.org")
# On the pages these stand for themselves; in the tests they are the same servers as the others.
PROVIDERS = (
    "email-smtp.eu-west-1.amazonaws.com",
    "smtp.sendgrid.net",
    "smtp.mailgun.org",
    "smtp.postmarkapp.com",
    "smtp.gmail.com",
)
# In place of any port of blocked.example.org.
BLOCKED = 0
PASSWORD = "secret"
SECONDS = 30.0
SLOW_SECONDS = 5.0

_OFFERED = (
    *("PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "SIZE 50000000", "DSN"),
    "ENHANCEDSTATUSCODES",
)
_ADDRESS = re.compile(r"RCPT TO:<(([^@>]+)@[^>]*)>", re.IGNORECASE)


@dataclass
class MailHost:
    """All the servers. ports: of the documentation, and on loopback. authority: a PEM file."""

    authority: Path
    ports: dict[int, int] = field(default_factory=dict)
    hosts: list[Host] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    @property
    def deliveries(self) -> list[Delivery]:
        """The messages that were taken, in no order."""
        return [each for host in self.hosts for each in host.deliveries]

    def host(self, *, lmtp: bool, tls: bool) -> Host:
        """The server's side of another connection. tls: whether it is encrypted already."""
        offered = ("mail.example.org", *_OFFERED, "AUTH PLAIN" if tls else "STARTTLS")
        *before, last = offered
        hello = "\r\n".join([*(f"250-{each}" for each in before), f"250 {last}"])
        lost: list[str] = []
        slow: list[str] = []

        def rcpt(line: str) -> str:
            found = _ADDRESS.match(line)
            address, name = found.groups() if found else ("", "")
            if name == "nobody":
                return "550 5.1.1 there is no such mailbox"
            if name == "busy" or (name == "later" and self._is_first(address)):
                return "451 4.7.1 try again later"
            if name == "crowd" and self._is_first(address):
                return "421 4.7.0 too many messages in this session"
            if name == "strict":
                return "550 5.7.26 the sender is not authenticated: SPF and DKIM did not pass"
            if name == "lost" and self._is_first(address):
                lost.append(address)
            if name == "slow":
                slow.append(address)
            return "250 2.1.5 ok"

        def message(about: str) -> str | None:
            if slow:
                slow.clear()
                time.sleep(SLOW_SECONDS)
            return None if lost else "250 2.0.0 queued"

        made = Host(
            lmtp=lmtp,
            ehlo=hello,
            lhlo=hello,
            starttls="220 2.0.0 go on",
            auth=_login,
            rcpt=rcpt,
            message=message,
        )
        self.hosts.append(made)
        return made

    def _is_first(self, address: str) -> bool:
        is_first = address not in self._seen
        self._seen.add(address)
        return is_first


def _login(line: str) -> str:
    try:
        said = base64.b64decode(line.split()[2], validate=True).decode()
    except (IndexError, binascii.Error):
        return "501 5.5.2 no PLAIN with an initial response"
    return "235 2.7.0 welcome" if said.endswith(f"\0{PASSWORD}") else "535 5.7.8 wrong password"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, site: MailHost, tls: ssl.SSLContext, *, lmtp: bool, implicit: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.site = site
        self.tls = tls
        self.lmtp = lmtp
        self.implicit = implicit


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        sock: Any = self.request
        sock.settimeout(SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A client that is gone is no fault of the server's.
        with contextlib.suppress(OSError):
            if server.implicit:
                sock = server.tls.wrap_socket(sock, server_side=True)
            host = server.site.host(lmtp=server.lmtp, tls=server.implicit)
            sock.sendall(b"220 mail.example.org\r\n")
            while not host.hung_up and (data := sock.recv(1 << 16)):
                sock.sendall(host.take(data))
                if host.verbs[-1:] == ["starttls"]:
                    sock = server.tls.wrap_socket(sock, server_side=True)
                    host = server.site.host(lmtp=server.lmtp, tls=True)
            # What else comes is read, lest the end of the connection becomes a reset.
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1 << 16):
                pass


@contextlib.contextmanager
def _full() -> Iterator[int]:
    """A port of loopback that answers no connection, as if a firewall dropped its packets."""
    with ExitStack() as resources:
        listener = resources.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = resources.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def running(directory: Path) -> Iterator[MailHost]:
    """The servers, for as long as the context. Their authority is written into the directory."""
    authority = trustme.CA()
    site = MailHost(directory / "authority.pem")
    authority.cert_pem.write_to_path(site.authority)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*HOSTS, *PROVIDERS).configure_cert(tls)
    with ExitStack() as resources:
        for port in (24, 25, 465, 587, 2003):
            server = _Server(site, tls, lmtp=port in (24, 2003), implicit=port == 465)
            resources.enter_context(server)
            site.ports[port] = server.server_address[1]
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            resources.callback(server.shutdown)
        site.ports[BLOCKED] = resources.enter_context(_full())
        yield site
