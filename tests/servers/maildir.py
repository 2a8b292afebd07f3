"""The mailboxes of the test domain, and the messages that arrived in them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

DOMAIN = "example.test"
ARRIVING_SECONDS = 60.0
# The number of the mailbox for mail that no test reads; any test may send to it.
UNREAD = 0


@dataclass(frozen=True)
class Mailbox:
    """One address, the Maildir its mail is delivered to, and the header fields that the server
    puts before each message.
    """

    address: str
    maildir: Path
    trace: re.Pattern[bytes]

    def stored(self, count: int) -> list[bytes]:
        """Return the messages as they are stored, in no order, once there are `count` of them.

        A message that is still under way then is missed. Raises AssertionError when fewer have
        arrived after ARRIVING_SECONDS.
        """
        deadline = time.monotonic() + ARRIVING_SECONDS
        while True:
            # A file appears in new/ by rename, so what is there is whole.
            files = list((self.maildir / "new").glob("*"))
            if len(files) >= count:
                return [file.read_bytes() for file in files]
            if time.monotonic() >= deadline:
                raise AssertionError(f"{len(files)} of {count} messages came to {self.address}")
            time.sleep(0.02)

    def arrived(self, count: int) -> list[bytes]:
        """Return the messages without what the server put before them, sorted, to be compared
        with `sorted(sent)`; their lines end in LF. Waits and raises as `stored` does.
        """
        return sorted(self.without_trace(message) for message in self.stored(count))

    def without_trace(self, message: bytes) -> bytes:
        """Return a stored message without the header fields that the server put before it."""
        trace = self.trace.match(message)
        if trace is None:
            raise AssertionError(f"{self.address}: not the trace of this server: {message[:500]!r}")
        return message[trace.end() :]


@dataclass
class Mailboxes:
    """The mailboxes of one server, which stores them under `directory`."""

    directory: Path
    trace: re.Pattern[bytes]
    given: int = UNREAD + 1

    def new(self) -> Mailbox:
        """Return an empty mailbox that no other test has."""
        name = user(self.given)
        self.given += 1
        return Mailbox(f"{name}@{DOMAIN}", self.directory / name, self.trace)


def user(number: int) -> str:
    """Return the local part of the address of a mailbox, which is also its directory's name."""
    return f"box{number}"
