"""A client's end of a connection to a test server, byte by byte."""

from __future__ import annotations

import socket
from types import TracebackType

DEADLINE = 10.0
# More than the socket buffers of both ends hide.
FLOOD_BYTES = 64 * 1024 * 1024


class Wire:
    """A connection to `port` of 127.0.0.1; its greeting is read first, where it is to be one."""

    def __init__(self, port: int, *, greeted: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._replies = self._socket.makefile("rb")
        if greeted:
            assert self.reply().startswith("220 ")

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._replies.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Sends the bytes in one segment, where they fit in one."""
        self._socket.sendall(data)

    def send_until_it_blocks(self, data: bytes) -> None:
        """Sends the bytes again and again, until the server has not read for half a second; raises
        AssertionError where it always does."""
        self._socket.settimeout(0.5)
        try:
            for _ in range(FLOOD_BYTES // len(data)):
                self._socket.sendall(data)
        except TimeoutError:
            self._socket.settimeout(DEADLINE)
        else:
            raise AssertionError(f"the server took {FLOOD_BYTES} bytes")

    def reply(self) -> str:
        """The last line of the next reply; "" where the server has closed."""
        while True:
            line = self._replies.readline().decode()
            if line[3:4] != "-":
                return line.removesuffix("\r\n")

    def ask(self, *commands: str) -> list[str]:
        """The replies to these commands, sent in one segment."""
        self.send("".join(f"{command}\r\n" for command in commands).encode())
        return [self.reply() for _ in commands]

    def codes(self, *commands: str) -> list[str]:
        """The codes of those replies."""
        return [reply[:3] for reply in self.ask(*commands)]

    def content(self, data: bytes) -> str:
        """The reply to a content, which is sent with its end."""
        self.send(data + b".\r\n")
        return self.reply()

    def deliver(self, *recipients: str, content: bytes = b"Subject: x\r\n\r\nx\r\n") -> list[str]:
        """The codes of all replies to a transaction whose commands leave together."""
        rcpt = [f"RCPT TO:<{recipient}>" for recipient in recipients]
        codes = self.codes("MAIL FROM:<a@x.test>", *rcpt, "DATA")
        return [*codes, self.content(content)[:3]] if codes[-1] == "354" else codes

    def is_closed(self) -> bool:
        """Whether the server closes without another byte."""
        return self._replies.read() == b""
