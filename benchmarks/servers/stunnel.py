"""stunnel, a server of TLS before one that speaks none."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers.certificates import Certificates
from tests.servers.process import (
    HOST,
    STARTING_SECONDS,
    ServerFailed,
    ends_within,
    free_port,
    open_directory,
    program,
    running,
    tail,
)

CONFIGURATION = """\
foreground = yes
pid =
syslog = no
debug = warning
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1

[smtps]
accept = {host}:{port}
connect = {host}:{server}
cert = {certificates.chain}
key = {certificates.key}
"""


@contextmanager
def running_stunnel(server: int, certificates: Certificates) -> Iterator[int]:
    """Run stunnel before the server on port `server` while the block lasts; yield its port.

    Raises ServerUnavailable where it is not installed, ServerFailed where it does not come up.
    """
    command = program("stunnel4", "stunnel4")
    port = free_port()
    with open_directory("stunnel") as directory:
        configuration, log = directory / "stunnel.conf", directory / "log"
        configuration.write_text(
            CONFIGURATION.format(host=HOST, port=port, server=server, certificates=certificates)
        )
        with running([command, str(configuration)], log, unprivileged=True) as process:
            wait_for_greeting(process, port, log, certificates)
            yield port


def wait_for_greeting(
    process: subprocess.Popen[bytes], port: int, log: Path, certificates: Certificates
) -> None:
    """Return once the server on `port` has greeted over TLS; raise ServerFailed if it does not."""
    context = certificates.client_context()
    deadline = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < deadline and not ends_within(process, 0.02):
        with (
            suppress(OSError),
            socket.create_connection((HOST, port), timeout=5) as connection,
            context.wrap_socket(connection, server_hostname="localhost") as secured,
        ):
            if secured.recv(512).startswith(b"220"):
                secured.sendall(b"QUIT\r\n")
                return
    raise ServerFailed(f"no greeting over TLS on port {port}:\n{tail(log)}")
