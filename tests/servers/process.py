"""The base of all servers: a program, a directory, a port and a process that ends."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pwd

HOST = "127.0.0.1"
STARTING_SECONDS = 30.0
STOPPING_SECONDS = 10.0


class ServerUnavailable(Exception):
    """This machine cannot run the server; the message says what would let it."""


class ServerFailed(Exception):
    """The server ended or stayed silent; the message carries the end of its log."""


def program(name: str, package: str) -> str:
    """Return the path of a program of the Debian package `package`.

    Raises ServerUnavailable where it is not installed.
    """
    if not sys.platform.startswith("linux"):
        raise ServerUnavailable(f"{name} is run as Debian has it, on Linux")
    # Debian keeps servers in /usr/sbin, which an ordinary user's PATH leaves out.
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise ServerUnavailable(f"{name} is not installed: apt-get install {package}")
    return found


def mail_owner() -> pwd.struct_passwd:
    """Return the account that owns delivered mail: nobody, or oneself where one is not root."""
    import pwd  # here, as this module is imported on Windows too, and no more than that

    return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listened a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def open_directory(prefix: str) -> Iterator[Path]:
    """Make a directory that every user may enter; remove it with all it holds at the end.

    pytest's tmp_path is closed to other users, and the servers run as several.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    try:
        directory.chmod(0o755)
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def running(
    command: Sequence[str], log: Path, *, unprivileged: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in the foreground, its output appended to `log`, and end it and its children
    when the block is left. `unprivileged` has mail_owner() run it even where root starts it.
    """
    owner = mail_owner() if unprivileged and os.geteuid() == 0 else None
    with log.open("ab") as output:
        # A session of its own: Ctrl-C reaches pytest alone, and the group is the server's.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=owner and owner.pw_uid,
            group=owner and owner.pw_gid,
            extra_groups=owner and [],
        )
    # Should pytest be killed, the pipe is closed and the server ended all the same.
    watchdog = subprocess.Popen(
        ["sh", "-c", 'read -r _ || kill "$0"', str(process.pid)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        watchdog.communicate(b"\n")
        os.kill(process.pid, signal.SIGTERM)
        ends_within(process, STOPPING_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the process to end, at most `seconds`, and tell whether it did.

    Unlike the methods of Popen this does not reap it: a process not yet reaped keeps the id of
    its group from being given to another, so the group can still be killed.
    """
    pidfd = os.pidfd_open(process.pid)
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


def wait_for_greeting(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once the server on `port` has greeted with 220.

    Raises ServerFailed when it ends first or has not greeted within STARTING_SECONDS.
    """
    deadline = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=5) as connection:
            if connection.recv(512).startswith(b"220"):
                connection.sendall(b"QUIT\r\n")
                return
        if ends_within(process, 0.02):
            raise ServerFailed(f"{process.args!r} ended:\n{tail(log)}")
    raise ServerFailed(f"no greeting on port {port} in {STARTING_SECONDS:g} s:\n{tail(log)}")


def tail(log: Path) -> str:
    """Return the last 4000 characters of a log, or nothing where there is no log yet."""
    return log.read_text("utf-8", "replace")[-4000:] if log.exists() else ""
