"""The extensions of a server that may be used, and how far: those that it offers, that nobody has
turned off, and that have been seen to work.

The environment variables CSMTPLIB_NO_PIPELINING and CSMTPLIB_NO_CHUNKING turn an extension off: for
all servers if the value is "*", else for those whose names it lists, separated by commas. What a
server shows is kept as long as the process lasts, for all connections to it.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from collections import OrderedDict

from ..kernel.errors import ChunkingRefused
from ..kernel.transaction import (
    ALONE,
    CHUNKING,
    CONTENT,
    FLIGHT,
    LAST_STEP,
    NEXT,
    PIPELINING,
    SEQUENTIAL,
    Mode,
)
from .pacing import Pace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from ..kernel import Pipeline

# Commands of an envelope in addition to those for its recipients: MAIL and DATA.
ENVELOPE_COMMANDS = 2

# Servers that are remembered: those used last.
_MOST_HOSTS = 4096


class Host:
    """One server, as far as this process knows it: how early commands may be sent.

    version: changes whenever something is learned. pace: whether it answers commands sooner one by
    one.
    """

    __slots__ = ("_limits", "_lock", "_proofs", "pace", "version")

    def __init__(self) -> None:
        self._limits: dict[int, int] = dict(LAST_STEP)
        self._proofs: dict[Mode, int] = dict.fromkeys(Mode, ALONE)
        self._lock = allocate_lock()
        self.version = 0
        self.pace = Pace()

    def proof(self, mode: Mode) -> int:
        """Return the last Step that the server has been seen to handle in a mode."""
        return self._proofs[mode]

    def limit(self, mode: Mode) -> int:
        """Return the last Step that may be taken or tried in a mode."""
        # If the server can't handle commands that come together, no mode allows more than ALONE.
        return self._limits[mode] if self._limits[PIPELINING] else ALONE

    def learn(self, mode: Mode, pipeline: Pipeline) -> None:
        """Take over what a pipeline has shown, good or bad."""
        failure = pipeline.failure
        if isinstance(failure, InterruptedError):
            # It was not the server that ended it.
            return
        with self._lock:
            limit = pipeline.limit
            if isinstance(failure, ChunkingRefused):
                limit = ALONE
            elif limit == ALONE < LAST_STEP[mode]:
                # Commands that come together confuse it, whatever follows them.
                mode = PIPELINING
            self._restrict(mode, limit)
            proof = min(pipeline.proof, self._limits[mode])
            if proof > self._proofs[mode]:
                self._proofs[mode] = proof
                self.version += 1

    def learn_message(
        self, mode: Mode, pipeline: Pipeline, proof: int, recipients: int, gap: float | None
    ) -> None:
        """Take over what a pipeline has shown that ran one message to so many recipients.

        proof: what was known before. gap: the longest wait between two replies to one flight, in
        seconds; None if it says nothing.
        """
        if pipeline.proof > proof or pipeline.failure is not None:
            self.learn(mode, pipeline)
        if gap is not None:
            self.pace.learn_flight(recipients + ENVELOPE_COMMANDS, gap)

    def restrict(self, mode: Mode, limit: int) -> None:
        """Allow no later step than this in a mode."""
        with self._lock:
            self._restrict(mode, limit)

    def blame(self, mode: Mode, stage: int) -> None:
        """Remember that a transaction was refused at this stage because its commands came together:
        one by one they were accepted."""
        if stage == CONTENT:
            self.restrict(mode, FLIGHT)
        else:
            self.restrict(PIPELINING, ALONE)

    def _restrict(self, mode: Mode, limit: int) -> None:
        if limit < self._limits[mode]:
            self._limits[mode] = limit
            self._proofs[mode] = min(self._proofs[mode], limit)
            self.version += 1


class Policy:
    """The use of a server's extensions by one connection."""

    __slots__ = ("_chunking", "_pipelining", "host")

    def __init__(self, host: Host, *, pipelining: bool, chunking: bool) -> None:
        self.host = host
        self._pipelining = pipelining
        self._chunking = chunking

    def without_pipelining(self) -> Policy:
        """Return this policy for a caller that wants one command at a time."""
        return Policy(self.host, pipelining=False, chunking=False)

    def mode_for_message(
        self, offered: Container[str], recipients: int, *, chunking: bool, lmtp: bool
    ) -> Mode:
        """Return the mode for one message to so many recipients."""
        mode = self.best_mode(offered, chunking=chunking)
        # An LMTP server is usually local, and takes time for each recipient: the pace says nothing.
        if mode == SEQUENTIAL or lmtp:
            return mode
        if self.host.pace.is_sequential_due(recipients + ENVELOPE_COMMANDS):
            return SEQUENTIAL
        return mode

    def mode_for_stream(self, offered: Container[str], *, chunking: bool) -> Mode:
        """Return the mode for many messages, one after the other."""
        mode = self.best_mode(offered, chunking=chunking)
        # For one recipient, with the content as one more command.
        if mode == PIPELINING and self.host.pace.is_sequential_faster(2 + ENVELOPE_COMMANDS):
            return SEQUENTIAL
        return mode

    def best_mode(self, offered: Container[str], *, chunking: bool) -> Mode:
        """Return the best mode that the server offers and that may be used. offered: its
        extensions, in lower case."""
        if not self._pipelining or "pipelining" not in offered:
            return SEQUENTIAL
        host = self.host
        if chunking and self._chunking and "chunking" in offered and host.limit(CHUNKING) == NEXT:
            return CHUNKING
        return PIPELINING if host.limit(PIPELINING) > ALONE else SEQUENTIAL


# By name in lower case, and port or path.
_hosts: OrderedDict[tuple[str, object], Host] = OrderedDict()
_lock = allocate_lock()


def policy(name: str, port: object) -> Policy:
    """Return the policy for a new connection to a server, by its name and its port, or the path of
    its socket. Without a name nothing is known of it, and nothing is kept."""
    name = name.lower()
    host = _host(name, port) if name else Host()
    return Policy(host, pipelining=_is_on("PIPELINING", name), chunking=_is_on("CHUNKING", name))


def no_extensions() -> Policy:
    """Return the policy for a connection that takes one command at a time, whatever the server
    offers."""
    return Policy(Host(), pipelining=False, chunking=False)


def _host(name: str, port: object) -> Host:
    with _lock:
        host = _hosts.get((name, port))
        if host is None:
            host = _hosts[name, port] = Host()
            if len(_hosts) > _MOST_HOSTS:
                _hosts.popitem(last=False)
        else:
            _hosts.move_to_end((name, port))
        return host


def _is_on(extension: str, name: str) -> bool:
    off = os.environ.get(f"CSMTPLIB_NO_{extension}", "").lower().replace(",", " ").split()
    return "*" not in off and name not in off


def is_pix(greeting: bytes) -> bool:
    """Return whether a greeting came through a firewall that rewrites SMTP, and does not pass on
    several commands at once (Cisco PIX: all but "2", "0" and spaces are asterisks)."""
    return b"*" in greeting and not greeting.strip(b"20* \t")
