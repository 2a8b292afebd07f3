"""Which of a server's extensions are left alone although it offers them.

The environment variables CSMTPLIB_NO_PIPELINING and CSMTPLIB_NO_CHUNKING turn one off: for all
servers where the value is "*", else for those whose names stand in it, with commas between. A
server that turns out not to have what it offers is left out for as long as the process lasts.
"""

from __future__ import annotations

import os

from ..kernel.errors import ChunkingRefused
from ..kernel.transaction import CHUNKED, LOCKSTEP, PIPELINED, Gear, Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from ..kernel import Pipeline

_failed: set[tuple[str, str]] = set()


def usable(host: str) -> frozenset[str]:
    """The extensions that may be used with a host where it offers them, in lower case."""
    return frozenset(each for each in ("pipelining", "chunking") if _is_on(each, host))


def best_gear(offered: Container[str], usable: frozenset[str], *, chunking: bool) -> Gear:
    """The best gear of those that a server offers, by its extensions in lower case, and that may be
    used with it."""
    if "pipelining" not in offered or "pipelining" not in usable:
        return LOCKSTEP
    if chunking and "chunking" in offered and "chunking" in usable:
        return CHUNKED
    return PIPELINED


def learn(host: str, gear: Gear, pipeline: Pipeline) -> None:
    """Remembers what a pipeline has shown of a host: that it does not have what it offers."""
    failure = pipeline.failure
    if isinstance(failure, ChunkingRefused):
        _failed.add(("chunking", host.lower()))
    elif (
        isinstance(failure, TimeoutError)
        and gear != LOCKSTEP
        and pipeline.booked
        and not pipeline.proved
        and pipeline.phase() in (Phase.COMMAND, Phase.DATA)
    ):
        # It has answered some commands and not all: there are servers that lose what comes close
        # behind.
        _failed.add(("pipelining", host.lower()))


def _is_on(extension: str, host: str) -> bool:
    host = host.lower()
    if (extension, host) in _failed:
        return False
    off = os.environ.get(f"CSMTPLIB_NO_{extension.upper()}", "").lower().replace(",", " ").split()
    return "*" not in off and host not in off


def is_pix(greeting: bytes) -> bool:
    """Whether a greeting came through a firewall that rewrites SMTP, and does not pass on commands
    that come several at once (Cisco PIX: all but "2", "0" and spaces are asterisks)."""
    return b"*" in greeting and not greeting.strip(b"20* \t")
