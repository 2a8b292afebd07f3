"""The needs of tests on the system that they run on, and what becomes of them without."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

import pytest

# These are the system's for good, and nothing that could be installed: such a test is skipped.
needs_fork = pytest.mark.skipif(
    not (hasattr(os, "fork") and hasattr(os, "waitid")),
    reason="this system, or this Python on it, has no fork() or no waitid()",
)
needs_named_pipes = pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no named pipes"
)
needs_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no /dev/full"
)
needs_reference_counts = pytest.mark.skipif(
    not hasattr(sys, "getrefcount"),
    reason="this Python closes a generator that was left, and frees what nobody has, later",
)
needs_posix = pytest.mark.skipif(
    os.name != "posix", reason="the loop over descriptors is for POSIX systems"
)
needs_resource_limits = pytest.mark.skipif(
    importlib.util.find_spec("resource") is None, reason="this Python has no module resource"
)
needs_signals = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="this system has no signals but for the console"
)
needs_symbolic_links = pytest.mark.skipif(
    sys.platform == "win32", reason="symbolic links want a privilege on this system"
)
needs_terminals = pytest.mark.skipif(
    importlib.util.find_spec("pty") is None or sys.platform == "win32",
    reason="this system has no pseudo-terminals",
)
needs_unix_sockets = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="this system has no unix sockets"
)
needs_permissions = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="this user may write everywhere"
)


def unavailable(reason: str) -> NoReturn:
    """Skip the test for want of a program that can be installed.

    With CI set in the environment fail it instead, on Linux: there .ci/run installs them all, and a
    test that is missing must not look like one that passes. Not all of them exist elsewhere.
    """
    if os.environ.get("CI") and sys.platform.startswith("linux"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
