"""Leads the hosts of the documentation to the tests' own servers, and nobody to any other.

Python imports this when it starts, where PYTHONPATH names this directory: so it is done in all
programs that the documentation shows, whoever starts them.
"""

from __future__ import annotations

import os
import socket
from typing import Any

# "25=40001 587=40002": the ports of the documentation, and of the tests' servers.
_PORTS = dict(pair.split("=") for pair in os.environ["DOCUMENTED_PORTS"].split())
_PROVIDERS = set(os.environ["DOCUMENTED_PROVIDERS"].split())
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

_getaddrinfo: Any = socket.getaddrinfo


def _redirected(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
    if isinstance(host, str) and (host.endswith(".example.org") or host in _PROVIDERS):
        documented = "0" if host == "blocked.example.org" else str(port)
        return _getaddrinfo("127.0.0.1", int(_PORTS[documented]), *arguments, **named)
    if host not in _LOOPBACK:
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is no host of the documentation")
    return _getaddrinfo(host, port, *arguments, **named)


def _name(name: str = "") -> str:
    return "client.example.org"


socket.getaddrinfo = _redirected
# That would ask name servers.
socket.getfqdn = _name
