"""Messages that mail software stumbles over, by the thousand."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

BODIES = [
    b"plain text\n",
    b"",
    b".\n",
    b"..\n.\n...\n. \n.a\n",
    b"text\n.\ntext behind what looks like the end\n",
    b"\n\n\n",
    b"line with a bare\rCR inside\n",
    b"CR LF\r\nand LF\nmixed\r\n",
    b"\r\n.\r\n.\n",
    bytes(range(128, 256)) + b"\n",
    "Grüße, žluťoučký, 日本語\n".encode(),
    b"x" * 998 + b"\n",
    b"." + b"y" * 997 + b"\n",
    b"\xe9" * 998 + b"\n" + b"z" * 998 + b"\n",
    b"trailing space \ntab\t\n \n\t\n",
    b">From here\n> .\n",
    b"MAIL FROM:<a@b>\nQUIT\nDATA\n",
    b"\x01\x02\x07\x08\x0b\x0c\x0e\x1b\x7f\n",
]


def messages(count: int, recipient: str) -> Iterator[bytes]:
    """`count` messages to one recipient, no two alike; most of their lines end in LF."""
    chance = random.Random(5321)
    for number, body in zip(range(count), itertools.cycle(BODIES), strict=False):
        filler = b"".join(
            bytes(chance.choices(b"abc .\t\xe4", k=chance.randrange(80))) + b"\n"
            for _ in range(chance.randrange(40))
        )
        yield (
            b"From: sender@example.test\nTo: %s\nSubject: message %d\nX-Number: %d\n"
            b"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
            b"Content-Transfer-Encoding: 8bit\n\n%s%s"
        ) % (recipient.encode(), number, number, body, filler)


def mbox(sent: list[bytes]) -> bytes:
    """The messages as an mbox file."""
    return b"".join(b"From sender@example.test Mon Nov 23 09:00:00 2026\n%s\n" % m for m in sent)


def delivered(message: bytes) -> bytes:
    """How a message is found in a mailbox: the line ends that went over the wire, as LF."""
    return message.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
