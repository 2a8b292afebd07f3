"""Acknowledges replies at once, for servers that wait for that.

A server that leaves Nagle's algorithm on and writes each reply separately sends the second reply to
a flight of commands only when the first is acknowledged. The client's system delays that, in the
hope of a command to send it with: 40 ms on Linux, up to 200 ms on Windows. macOS acknowledges
segments as short as a reply without delay (tcp_cc_delay_ack() in XNU's bsd/netinet/tcp_cc.c).
"""

from __future__ import annotations

import contextlib
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Whether to acknowledge replies at once if the system can. Tests turn it off to see what happens if
# it can't.
is_quick = True

_IS_WINDOWS = sys.platform == "win32"
_OPTION: int | None = None if _IS_WINDOWS else getattr(socket, "TCP_QUICKACK", None)

# socket.ioctl() refuses it, and Python has a name for it only since 3.14.
_SIO_TCP_SET_ACK_FREQUENCY = 0x98000017


def acknowledge(sock: Any) -> bool:
    """Acknowledges at once what was read from a socket; returns whether that can be done at all.
    Linux goes back to delays when something is written, so this is repeated for each flight of
    commands."""
    if _OPTION is None or not is_quick:
        return False
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _OPTION, 1)
    except (OSError, AttributeError):
        # Unix sockets lack the option, and some third-party sockets the method.
        return False
    return True


def prepare(sock: socket.socket) -> None:
    """Make the system acknowledge at once whatever comes from a connected TCP socket, if one call
    does that for good (on Windows)."""
    if _IS_WINDOWS and is_quick:
        with contextlib.suppress(OSError, AttributeError):
            set_ack_frequency(sock, 1)


def set_ack_frequency(sock: socket.socket, segments: int) -> None:
    """Make Windows acknowledge after this many segments, or after a while."""
    import ctypes
    from ctypes import byref, c_size_t, c_ulong, c_void_p, sizeof

    ioctl = ctypes.WinDLL("ws2_32").WSAIoctl  # type: ignore[attr-defined]
    # By default ctypes passes an int as a C int, too short for handles and pointers.
    ioctl.argtypes = (c_size_t, c_ulong, c_void_p, c_ulong, c_void_p, c_ulong, *(c_void_p,) * 3)
    value, returned = c_ulong(segments), c_ulong()
    ioctl(
        sock.fileno(),
        _SIO_TCP_SET_ACK_FREQUENCY,
        byref(value),
        sizeof(value),
        None,
        0,
        byref(returned),
        None,
        None,
    )
