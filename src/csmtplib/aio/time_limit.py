"""asyncio.timeout(), which came with Python 3.11."""

from __future__ import annotations

import asyncio
import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout as time_limit
else:
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def time_limit(seconds: float | None) -> AsyncIterator[None]:
        """Cancel what is in the block after so many seconds, unless that is None, and raise
        TimeoutError. Unlike wait_for() it makes no task, and does not swallow a cancellation."""
        task = asyncio.current_task()
        assert task is not None
        is_over = False

        def end() -> None:
            nonlocal is_over
            is_over = True
            task.cancel()

        timer = None
        if seconds is not None:
            timer = asyncio.get_running_loop().call_later(seconds, end)
        try:
            yield
        except asyncio.CancelledError:
            if is_over:
                raise TimeoutError from None
            raise
        finally:
            if timer is not None:
                timer.cancel()


__all__ = ("time_limit",)
