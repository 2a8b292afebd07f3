"""Replies from a stream in memory."""

from __future__ import annotations

import io
import smtplib
from typing import Any

import pytest

from .conftest import IMPLEMENTATIONS

REPLIES = {
    "EHLO reply of 20 lines": b"".join(
        b"250%cX-EXTENSION-%d parameter value\r\n" % (b" "[0] if number == 19 else b"-"[0], number)
        for number in range(20)
    ),
    "reply of one line": b"250 2.0.0 Ok: queued as 4F1E2D3C4B\r\n",
}


@pytest.mark.parametrize("kind", REPLIES)
def test_getreply(benchmark: Any, side: str, kind: str) -> None:
    """The stdlib reads lines from the stream; a ReplyBuffer receives from it, as from a socket."""
    benchmark.group = f"getreply: {kind}"
    stream = io.BytesIO(REPLIES[kind])
    if side == "stdlib":
        client = smtplib.SMTP(local_hostname="client.example")
        client.file = stream

        def read() -> tuple[int, bytes]:
            stream.seek(0)
            return client.getreply()
    else:
        buffer = IMPLEMENTATIONS[side].ReplyBuffer()

        def read() -> tuple[int, bytes]:
            stream.seek(0)
            buffer.feed(stream.read(8192))
            reply: tuple[int, bytes] = buffer.reply()
            return reply

    code, text = benchmark(read)
    assert code == 250
    assert text.count(b"\n") == REPLIES[kind].count(b"\n") - 1
