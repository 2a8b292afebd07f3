"""The name by which this host introduces itself."""

from __future__ import annotations

import contextlib
import socket

from ..protocol.features import is_domain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def local_hostname(sockets: Any = socket) -> str:
    """Return this host's full name for EHLO and HELO; an address literal if it has none, or one
    that is not a valid domain name, for example with a space, letters outside ASCII, or a label of
    more than 63 (RFC 5321 sections 4.1.3 and 4.1.4).

    Asks name servers, so it can take seconds. sockets: the socket module to ask through.
    """
    name = address = ""
    # UnicodeError: host names are looked up in IDNA form, which not all of them have.
    with contextlib.suppress(UnicodeError):
        name = sockets.getfqdn().rstrip(".")
    if "." in name and is_domain(name):
        return name
    with contextlib.suppress(OSError, UnicodeError):
        address = sockets.gethostbyname(sockets.gethostname())
    return f"[{address or '127.0.0.1'}]"
