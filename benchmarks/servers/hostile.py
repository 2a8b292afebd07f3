"""An SMTP server that makes it hard for a client to be fast, in the ways that real ones do.

`python -m benchmarks.servers.hostile PORT PATH SETTINGS CHAIN KEY`, with Settings as JSON, listens
on the port of 127.0.0.1, or on the path of a Unix socket. It throws all mail away.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.servers.certificates import Certificates
from tests.servers.process import (
    HOST,
    ServerFailed,
    ends_within,
    free_port,
    open_directory,
    running,
    tail,
)

ROOT = Path(__file__).parents[2]
STARTING_SECONDS = 10.0
END_OF_MESSAGE = b"\r\n.\r\n"


@dataclass(frozen=True)
class Settings:
    """Settings of what the server does to its clients.

    nagle: whether the system holds small writes back until the one before is acknowledged.
    reply_by_reply: whether each reply is a write of its own, instead of one for all that a read
      brought. window: bytes of its receive buffer. read_size: how much it reads at once, with
      `pause` seconds after each read of a message. rcpt_seconds: how long it thinks about a
      recipient, whom it answers `rcpt_reply`. held_seconds: how long it holds the second reply to
      a flight back, as a proxy does that delays acknowledgements before a server with `nagle`.
    """

    nagle: bool = False
    reply_by_reply: bool = False
    window: int | None = None
    read_size: int = 1 << 18
    pause: float = 0.0
    rcpt_seconds: float = 0.0
    rcpt_reply: str = "250 2.1.5 Ok"
    held_seconds: float = 0.0
    pipelining: bool = True
    chunking: bool = False
    tls: bool = False
    unix: bool = False


@dataclass(frozen=True)
class Address:
    """Where the server listens: a port of 127.0.0.1, or the path of a Unix socket; `authority` is
    the file to verify it by, where it speaks TLS from the start."""

    port: int = 0
    path: str | None = None
    authority: str | None = None


@contextmanager
def running_hostile(settings: Settings, certificates: Certificates) -> Iterator[Address]:
    """Run the server while the block lasts.

    Raises ServerFailed where it does not come up.
    """
    with open_directory("hostile") as directory:
        path = str(directory / "socket")
        port = 0 if settings.unix else free_port()
        log = directory / "log"
        command = [sys.executable, "-m", "benchmarks.servers.hostile", str(port), path]
        files = [str(certificates.chain), str(certificates.key)]
        with running([*command, json.dumps(asdict(settings)), *files], log) as process:
            deadline = time.monotonic() + STARTING_SECONDS
            while not log.exists() or b"listening" not in log.read_bytes():
                if ends_within(process, 0.02) or time.monotonic() > deadline:
                    raise ServerFailed(f"the hostile server did not start:\n{tail(log)}")
            authority = str(certificates.authority) if settings.tls else None
            yield Address(path=path) if settings.unix else Address(port, authority=authority)


class Session:
    """One connection."""

    def __init__(self, sock: socket.socket, settings: Settings) -> None:
        self.sock = sock
        self.settings = settings
        self.pending = b""  # read and not answered
        self.replies: list[bytes] = []  # not written
        self.accepted = 0  # recipients
        self.buffer = bytearray(settings.read_size)

    def run(self) -> None:
        """Talk to the client until it hangs up or quits."""
        self.sock.sendall(b"220 hostile ESMTP\r\n")
        while received := self.sock.recv(1 << 16):
            self.pending += received
            if not self.answer_all():
                return

    def answer_all(self) -> bool:
        """Answer the commands that have come; return whether there may be more, after QUIT not."""
        answered = 0
        line = b""
        while b"\n" in self.pending:
            line, _, self.pending = self.pending.partition(b"\n")
            if answered == 1 and self.settings.held_seconds:
                time.sleep(self.settings.held_seconds)
            answered += 1
            self.reply(self.answer(line))
        self.flush()
        return line[:4].upper() != b"QUIT"

    def reply(self, reply: bytes) -> None:
        """Write a reply, or keep it for the next flush()."""
        self.replies.append(reply)
        if self.settings.reply_by_reply:
            self.flush()

    def flush(self) -> None:
        """Write the replies that were kept."""
        if self.replies:
            self.sock.sendall(b"".join(self.replies))
            self.replies.clear()

    def answer(self, line: bytes) -> bytes:
        """Return the reply to a command, or to the message behind it."""
        verb = line[:4].upper()
        if verb == b"RCPT":
            if self.settings.rcpt_seconds:
                time.sleep(self.settings.rcpt_seconds)
            self.accepted += self.settings.rcpt_reply.startswith("2")
            return self.settings.rcpt_reply.encode() + b"\r\n"
        if verb == b"DATA":
            if not self.accepted:
                return b"554 5.5.1 No valid recipients\r\n"
            self.reply(b"354 Go on\r\n")
            self.flush()
            self.skip_message()
            return b"250 2.0.0 Ok: taken\r\n"
        if verb == b"BDAT":
            self.flush()
            self.skip_chunk(int(line.split()[1]))
            return b"250 2.0.0 Ok: taken\r\n"
        if verb == b"EHLO":
            offers = [b"hostile", b"SIZE", b"8BITMIME"]
            offers += [b"PIPELINING"] * self.settings.pipelining
            offers += [b"CHUNKING"] * self.settings.chunking
            return b"".join(b"250-%b\r\n" % each for each in offers) + b"250 SMTPUTF8\r\n"
        if verb in (b"MAIL", b"RSET"):
            self.accepted = 0
        return b"221 2.0.0 Bye\r\n" if verb == b"QUIT" else b"250 2.0.0 Ok\r\n"

    def skip_message(self) -> None:
        """Read a message to its end, behind which its client sends nothing."""
        end = b"\r\n" + self.pending
        self.pending = b""
        while not end.endswith(END_OF_MESSAGE):
            end = end[-len(END_OF_MESSAGE) :] + self.read()

    def skip_chunk(self, size: int) -> None:
        """Read what BDAT announced."""
        while len(self.pending) < size:
            size -= len(self.pending)
            self.pending = self.read()
        self.pending = self.pending[size:]

    def read(self) -> bytes:
        """Return some of a message, and pause. Raises EOFError at the end of the stream."""
        count = self.sock.recv_into(self.buffer)
        if not count:
            raise EOFError
        if self.settings.pause:
            time.sleep(self.settings.pause)
        return bytes(memoryview(self.buffer)[:count])


def serve(sock: socket.socket, settings: Settings, context: ssl.SSLContext | None) -> None:
    """Serve one client, and close its connection."""
    with suppress(OSError, EOFError), sock:
        if not settings.unix:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, not settings.nagle)
        if context is None:
            Session(sock, settings).run()
        else:
            with context.wrap_socket(sock, server_side=True) as secured:
                Session(secured, settings).run()


def main() -> None:
    port, path, settings_json, chain, key = sys.argv[1:]
    settings = Settings(**json.loads(settings_json))
    listener = socket.socket(socket.AF_UNIX if settings.unix else socket.AF_INET)
    if settings.window is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings.window)
    listener.bind(path if settings.unix else (HOST, int(port)))
    listener.listen()
    context = None
    if settings.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
    print("listening", flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, settings, context), daemon=True).start()


if __name__ == "__main__":
    main()
