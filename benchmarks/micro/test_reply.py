"""Replies from a stream in memory."""

from __future__ import annotations

import io
import smtplib
from typing import Any

import pytest

import csmtplib
from csmtplib.drive.replyfile import ReplyFile

from .conftest import IMPLEMENTATIONS

REPLIES = {
    "EHLO reply of 20 lines": b"".join(
        b"250%sX-EXTENSION-%d parameter value\r\n" % (b" " if number == 19 else b"-", number)
        for number in range(20)
    ),
    "reply of one line": b"250 2.0.0 Ok: queued as 4F1E2D3C4B\r\n",
}


class Memory(io.RawIOBase):
    """A socket that receives the same reply again and again; the raw stream under a file, too."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        buffer[: len(self._reply)] = self._reply
        return len(self._reply)

    def recv(self, size: int, /) -> bytes:
        return self._reply

    def gettimeout(self) -> float | None:
        return None


@pytest.mark.parametrize("kind", REPLIES)
def test_getreply(benchmark: Any, side: str, kind: str) -> None:
    """SMTP.getreply() of both, each with the file that it reads a socket through."""
    benchmark.group = f"SMTP.getreply(): {kind}"
    memory = Memory(REPLIES[kind])
    client: smtplib.SMTP | csmtplib.SMTP
    if side == "stdlib":
        client = smtplib.SMTP(local_hostname="client.example")
        client.file = io.BufferedReader(memory)
    else:
        client = csmtplib.SMTP(local_hostname="client.example")
        client.file = ReplyFile(memory, 8192)
        client.file.buffer = IMPLEMENTATIONS[side].ReplyBuffer(8192, 65536)
    code, text = benchmark(client.getreply)
    assert code == 250
    assert text.count(b"\n") == REPLIES[kind].count(b"\n") - 1


@pytest.mark.parametrize("kind", REPLIES)
def test_kernel(benchmark: Any, side: str, kind: str) -> None:
    """The stdlib's getreply() over a file in memory, and the scanner alone over its bytes."""
    benchmark.group = f"reply scanner alone: {kind}"
    stream = io.BytesIO(REPLIES[kind])
    if side == "stdlib":
        client = smtplib.SMTP(local_hostname="client.example")
        client.file = stream

        def read() -> tuple[int, bytes]:
            stream.seek(0)
            return client.getreply()
    else:
        buffer = IMPLEMENTATIONS[side].ReplyBuffer(8192, 65536)

        def read() -> tuple[int, bytes]:
            stream.seek(0)
            buffer.feed(stream.read(8192))
            reply: tuple[int, bytes] = buffer.reply()
            return reply

    assert benchmark(read)[0] == 250
