"""A server in memory, for tests that compare calls and bytes.

It is its own socket: what is sent to it is answered at once. No thread, no waiting; where there is
nothing left to read, the stream has ended. For the timing of real sockets see tests/faults.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

Answer: TypeAlias = "str | None"
"""One or several whole replies without the last CR LF; None hangs up."""

ANSWERS: dict[str, str] = {
    "greeting": "220 mx.test",
    "ehlo": "250 mx.test",
    "lhlo": "250 mx.test",
    "data": "354 go on",
    "message": "250 queued",
    "quit": "221 bye",
}


class MemoryServer:
    """A stand-in for a socket with as little as the stdlib needs: sendall, makefile and close."""

    def __init__(self, **answers: Answer | Sequence[Answer]) -> None:
        """answers: by the first word of a line in lower case, and to "greeting" and "message"; "250
        ok" if there is none. Of a sequence the last is said again and again."""
        self.sent = bytearray()
        self.closed = False
        self._answers = {
            name: [answer] if answer is None or isinstance(answer, str) else list(answer)
            for name, answer in {**ANSWERS, **answers}.items()
        }
        self._received = bytearray()
        self._replies = bytearray()
        self._awaits_message = False
        self._hung_up = False
        self._answer("greeting")

    @property
    def commands(self) -> list[str]:
        """The lines that were sent, without their ends."""
        return self.sent.decode("utf-8").removesuffix("\r\n").split("\r\n") if self.sent else []

    @property
    def verbs(self) -> list[str]:
        """The first words of the lines that were sent."""
        return [line.partition(" ")[0].lower() for line in self.commands]

    def sendall(self, data: bytes) -> None:
        if self.closed:
            raise OSError("the socket is closed")
        self.sent += data
        self._received += data
        while True:
            end = b"\r\n.\r\n" if self._awaits_message else b"\r\n"
            line, found, rest = self._received.partition(end)
            if not found:
                return
            self._received = rest
            if self._awaits_message:
                self._awaits_message = False
                self._answer("message")
            else:
                self._answer(re.split(b"[ :]", line)[0].decode().lower())

    def _answer(self, name: str) -> None:
        answers = self._answers.get(name, ["250 ok"])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self._hung_up |= answer is None
        if answer is None or self._hung_up:
            return
        self._replies += f"{answer}\r\n".encode("latin-1")
        if name == "data" and answer.startswith("354"):
            self._awaits_message = True
            self._received[:0] = b"\r\n"

    def makefile(self, mode: str) -> Any:
        assert mode == "rb"
        return _File(self)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._replies[:size])
        del self._replies[:size]
        return taken

    def close(self) -> None:
        self.closed = True


class _File:
    """A socket's file as CPython's test suite has it: readline(limit) and close."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def readline(self, limit: int) -> bytes:
        end = self._server._replies.find(b"\n", 0, limit) + 1
        return self._server._take(end or limit)

    def close(self) -> None:
        pass


class ReceivingMemoryServer(MemoryServer):
    """A stand-in with what a real socket has, so that replies are read as from one."""

    def recv(self, size: int) -> bytes:
        return self._take(size)

    def recv_into(self, buffer: memoryview) -> int:
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def gettimeout(self) -> float | None:
        return None


def connected(smtp: Any, server: MemoryServer) -> Any:
    """A client, the stdlib's or ours, after it has read the server's greeting."""
    smtp._get_socket = lambda *arguments: server
    assert smtp.connect("mx.test")[0] == 220
    return smtp
