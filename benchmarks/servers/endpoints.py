"""The ways to the servers, each started when it is first asked for."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.servers.certificates import Certificates, issue
from tests.servers.postfix import running_postfix
from tests.servers.process import HOST, open_directory
from tests.servers.smtp_sink import running_smtp_sink

from .native import running_proxy, running_sink
from .stunnel import running_stunnel

# Of the wire, each way.
DELAY_SECONDS = 0.025
DRAINING_SECONDS = 60.0


@dataclass(frozen=True)
class Endpoint:
    """Where to connect. `authority` is given where TLS is spoken from the start; `taken` tells how
    many messages the server has counted, where it does; `complete` waits until it has nothing left
    to do.
    """

    port: int
    authority: Path | None = None
    taken: Callable[[], int] | None = None
    complete: Callable[[], None] = lambda: None


class Endpoints:
    """The servers that a run uses; they live as long as `stack`. What cannot run here raises
    ServerUnavailable when it is asked for.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._ways: dict[str, Callable[[], Endpoint]] = {
            "smtp-sink": lambda: Endpoint(self._smtp_sink),
            "smtp-sink, TLS": self._tls,
            "smtp-sink, 50 ms": lambda: self._distant(Endpoint(self._smtp_sink)),
            "sink": lambda: self._sink,
            "sink, 50 ms": lambda: self._distant(self._sink),
            "Postfix, 50 ms": lambda: self._distant(self._postfix),
        }
        self._started: dict[str, Endpoint] = {}

    def __getitem__(self, name: str) -> Endpoint:
        if name not in self._started:
            self._started[name] = self._ways[name]()
        return self._started[name]

    @cached_property
    def _certificates(self) -> Certificates:
        return issue(self._stack.enter_context(open_directory("certificates")))

    @cached_property
    def _smtp_sink(self) -> int:
        return self._stack.enter_context(running_smtp_sink()).port

    @cached_property
    def _sink(self) -> Endpoint:
        port = self._stack.enter_context(running_sink())
        return Endpoint(port, taken=lambda: messages_taken(port))

    @cached_property
    def _postfix(self) -> Endpoint:
        server = running_postfix(self._certificates, transport="discard")
        postfix = self._stack.enter_context(server)
        queue = postfix.log.parent / "queue"
        return Endpoint(postfix.port, complete=lambda: wait_until_empty(queue))

    def _tls(self) -> Endpoint:
        way = running_stunnel(self._smtp_sink, self._certificates)
        return Endpoint(self._stack.enter_context(way), authority=self._certificates.authority)

    def _distant(self, server: Endpoint) -> Endpoint:
        port = self._stack.enter_context(running_proxy(server.port, DELAY_SECONDS))
        return Endpoint(port, taken=server.taken, complete=server.complete)


def messages_taken(port: int) -> int:
    """Ask our sink how many messages it has taken; its reply to QUIT tells."""
    _, reply = smtplib.SMTP(HOST, port).quit()
    return int(reply.split()[1])


def wait_until_empty(queue: Path) -> None:
    """Return once Postfix has no mail in its queue, so that its work does not disturb the next
    contender; raise TimeoutError after DRAINING_SECONDS.
    """
    deadline = time.monotonic() + DRAINING_SECONDS
    while any(
        file.is_file() for name in ("incoming", "active") for file in (queue / name).rglob("*")
    ):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Postfix still has mail in its queue after {DRAINING_SECONDS:g} s")
        time.sleep(0.1)
