"""A stream of messages that are made as they are sent: how much memory the client holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..messages import Message, messages
from . import bulk, drop_in
from .worker import Job, job, measure, report


def resident() -> int:
    """Return how many bytes of this process are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def watched(order: Job, memory: dict[str, int]) -> Iterator[Message]:
    """Yield the messages; note the memory in use before the first, a middle and the last one."""
    moments = {0: "start", order.count // 2: "middle", order.count - 1: "end"}
    for number, message in enumerate(messages(order.count, order.size)):
        if number in moments:
            memory[moments[number]] = resident()
        yield message


def main() -> None:
    order = job()
    memory: dict[str, int] = {}
    client = bulk if order.method.startswith("BulkSender") else drop_in
    with client.connected(order) as connection:
        measured = measure(lambda: client.send(connection, order.method, watched(order, memory)))
    report(measured | memory)


if __name__ == "__main__":
    main()
