"""The name by which this host introduces itself."""

from __future__ import annotations

import contextlib
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def local_hostname(sockets: Any = socket) -> str:
    """This host's full name for EHLO and HELO, else an address literal (RFC 5321 section 4.1.4).

    Asks name servers, so it can take seconds. `sockets` is the socket module to ask through.
    """
    name: str = sockets.getfqdn()
    if "." in name:
        return name
    address = "127.0.0.1"
    with contextlib.suppress(sockets.gaierror):
        address = sockets.gethostbyname(sockets.gethostname())
    return f"[{address}]"
