"""A pytest plugin that takes away what Windows lacks, before csmtplib is imported:

    python -m pytest -p tests.without_posix tests/drive

What runs then is the pump with the compiled kernels, or with their pure twins.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from typing import Any

MISSING: dict[Any, tuple[str, ...]] = {
    os: ("fork", "geteuid", "mkfifo"),
    select: ("poll", "epoll", "kqueue"),
    signal: ("pthread_kill", "SIGUSR1"),
    socket: ("AF_UNIX",),
}
MODULES = ("csmtplib.drive._fd", "grp", "pty", "pwd", "resource", "termios")


def take_away() -> None:
    """Does it, for good."""
    if found := [each for each in sys.modules if each.split(".")[0] == "csmtplib"]:
        raise RuntimeError(f"{found[0]} has been imported before")
    # Tests want two ends, of whatever family.
    pair, family = socket.socketpair, socket.AF_UNIX
    socket.socketpair = lambda: pair(family)  # type: ignore[assignment,misc]
    # Modules that are older than this keep what they have of it.
    import asyncio  # noqa: F401
    import selectors
    import subprocess  # noqa: F401

    selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[misc,assignment]
    for owner, names in MISSING.items():
        for name in names:
            if hasattr(owner, name):
                delattr(owner, name)
    for module in MODULES:
        sys.modules[module] = None  # type: ignore[assignment]


take_away()
