"""The mail that is sent: no two messages alike, all of about the same size.

`python -m benchmarks.messages COUNT SIZE` prints them for clients that are not written in Python,
one JSON array a line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from tests.servers.maildir import DOMAIN, user
from tests.servers.postfix import MAILBOXES

SENDER = f"sender@{DOMAIN}"

# As sendmail() takes them: from, to and the message itself.
Message = tuple[str, list[str], bytes]

HEADER = (
    b"From: Sender <%(sender)s>\r\n"
    b"To: Reader %(number)d <%(recipient)s>\r\n"
    b"Subject: Newsletter number %(number)d\r\n"
    b"Date: Mon, 23 Nov 2026 09:00:00 +0000\r\n"
    b"Message-ID: <%(number)d.benchmark@example.test>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=us-ascii\r\n"
    b"\r\n"
)
LINE = b"It was a bright cold day in April, and the clocks were striking thirteen; he\r\n"


def messages(count: int, size: int) -> Iterator[Message]:
    """Yield `count` messages of about `size` bytes, CRLF line ends, with one recipient each."""
    body = LINE * max(1, round((size - len(HEADER)) / len(LINE)))
    sender = SENDER.encode()
    for number in range(count):
        recipient = f"{user(number % MAILBOXES)}@{DOMAIN}"
        fields = {b"sender": sender, b"recipient": recipient.encode(), b"number": number}
        yield SENDER, [recipient], HEADER % fields + body


if __name__ == "__main__":
    for sender, recipients, content in messages(int(sys.argv[1]), int(sys.argv[2])):
        print(json.dumps([sender, recipients, content.decode("ascii")]))
