"""Runs of asynchronous tests, each in an event loop of its own that has to be left empty."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from csmtplib.drive.background import THREAD

LIMIT = 20.0

new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
"""Tests replace it, to run in another kind of loop."""


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test: it takes less than LIMIT seconds, and leaves neither a task nor a thread of ours,
    nor anything for the loop to complain of."""
    complaints: list[str] = []

    async def watched() -> None:
        before = asyncio.all_tasks()
        await main
        await asyncio.sleep(0.01)  # generators that the test has left are closed
        assert asyncio.all_tasks() <= before

    loop = new_event_loop()
    try:
        loop.set_debug(True)
        loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
        loop.run_until_complete(asyncio.wait_for(watched(), LIMIT))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    assert not complaints
    deadline = time.monotonic() + LIMIT
    while any(each.name == THREAD for each in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
