"""A thread that counts as fast as Python can, while the main thread sleeps and while it sends."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

from ..messages import Message, messages
from .drop_in import connected, send
from .worker import job, report, wait_for_the_word

SECONDS = 2.0


class Counter(threading.Thread):
    """Counts until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            self.count += 1


def for_a_while(message: Message, most: int) -> Iterator[Message]:
    """Yield the same message again and again, for SECONDS and at most so many times."""
    end = time.perf_counter() + SECONDS
    for _ in itertools.takewhile(lambda _: time.perf_counter() < end, range(most)):
        yield message


def main() -> None:
    order = job()
    (message,) = messages(1, order.size)
    counter = Counter()
    with connected(order) as smtp:
        wait_for_the_word()
        counter.start()
        began, before = time.perf_counter(), counter.count
        time.sleep(SECONDS)
        alone = (counter.count - before) / (time.perf_counter() - began)
        began, before, cpu = time.perf_counter(), counter.count, time.process_time()
        accepted = send(smtp, order.method, for_a_while(message, order.count))
        seconds = time.perf_counter() - began
        beside = (counter.count - before) / seconds
        cpu = time.process_time() - cpu
        counter.stopped = True
    report({"seconds": seconds, "cpu": cpu, "accepted": accepted, "alone": alone, "beside": beside})


if __name__ == "__main__":
    main()
