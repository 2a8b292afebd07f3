"""BulkSender for asyncio: the run, its connections and its journal are in a thread of their own, so
that neither SQLite nor the server holds up the loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .. import bulk
from ..drive.background import THREAD
from ..protocol.arguments import check_kind
from ..protocol.mail_object import iterator_of
from ..protocol.result import AsyncLazy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

    from ..bulk import Delivery, Status
    from ..bulk.inbox import Inbox
    from ..protocol.server_url import Server

# Jobs that wait for the run, and results that wait for the loop.
_MOST_JOBS = 1000
_MOST_DELIVERIES = 1000

# Jobs of an iterable that are taken before the loop goes on.
_JOBS_A_TURN = 100


class BulkSender:
    """Sends messages over several connections to one server, within its limits, from asyncio.

        async with BulkSender("submission://me@mail.example.org", journal="may.journal") as sender:
            async for delivery in sender.send(jobs):
                print(delivery)

    It is csmtplib.bulk.BulkSender, in a thread of its own. One send() runs at a time.
    """

    def __init__(self, server: str | Server, **settings: Any) -> None:
        """The arguments are those of csmtplib.bulk.BulkSender. They are checked, and the journal is
        opened, when the `async with` block or the first send() begins, which raises what that class
        raises."""
        self._server = server
        self._settings = settings
        self._sender: bulk.BulkSender | None = None
        self._run: _Run | None = None  # the current one, or the last one

    async def __aenter__(self) -> BulkSender:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            # Cancelled: nothing is awaited then.
            if self._run is not None:
                self._run.end("cancelled", at_once=True)
            in_thread(self._close)
        else:
            await self.close()

    async def _open(self) -> bulk.BulkSender:
        if self._sender is None:
            self._sender = await asyncio.to_thread(bulk.BulkSender, self._server, **self._settings)
        return self._sender

    async def close(self) -> None:
        """Wait for the messages in progress, begin no more, and close the connections, and the
        journal if it was given as a path."""
        if self._run is not None:
            self._run.end("the sender was closed")
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._run is not None:
            self._run.thread.join()
        if self._sender is not None:
            self._sender.close()

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """Stop the current run, as csmtplib.bulk.BulkSender.stop() does: messages in progress
        finish, or with `at_once` are aborted; the rest stays queued."""
        check_kind("reason", reason, str, "a str")
        if self._sender is not None:
            self._sender.stop(reason, at_once=at_once)

    @property
    def status(self) -> Status:
        """The counts of the current run, or of the last one. Raises RuntimeError before that."""
        if self._sender is None:
            raise RuntimeError("the sender is not open: use it in an `async with` block")
        return self._sender.status

    def send(
        self, jobs: Iterable[object] | AsyncIterable[object]
    ) -> AsyncGenerator[Delivery, None]:
        """Send messages, and yield a result for each recipient as it comes. With a journal, a
        result is recorded before it is yielded.

        jobs: any iterable, also an asynchronous one, of what csmtplib.bulk.BulkSender.send() takes.
        They are taken in the loop, as they can be sent. If the loop over the results is left early,
        messages in progress finish; if the task is cancelled, they are aborted: in doubt if their
        end may have left, else queued.

        Raises what csmtplib.bulk.BulkSender.send() raises; TypeError, at once, for a single job.
        """
        if isinstance(jobs, bulk.Job):
            raise TypeError("jobs must be an iterable of jobs, not a Job: pass a list, [job]")
        if not isinstance(jobs, AsyncIterable):
            jobs = iterator_of("jobs", jobs)
        return AsyncLazy(self._send(jobs), "BulkSender.send()")

    async def _send(
        self, jobs: Iterator[object] | AsyncIterable[object]
    ) -> AsyncGenerator[Delivery, None]:
        sender = await self._open()
        if self._run is not None and not self._run.is_over:
            raise RuntimeError("send() is already running: use another BulkSender")
        self._run = run = _Run(sender, jobs)
        try:
            while (batch := await run.outbox.take()) is not None:
                for delivery in batch:
                    yield delivery
        except asyncio.CancelledError:
            run.end("cancelled", at_once=True)
            # The process, too, has to wait for what becomes of the messages in progress.
            in_thread(run.thread.join)
            raise
        except BaseException:
            run.end("the loop over the results was left")
            await asyncio.to_thread(run.thread.join)
            raise
        if run.outbox.error is not None:
            raise run.outbox.error


def in_thread(call: Callable[[], object]) -> None:
    """Call this in a thread that the end of the process waits for."""
    threading.Thread(target=call, name=THREAD, daemon=False).start()


class _Run:
    """A run in a thread of its own, and the task that takes jobs for it.

    The thread must not keep a process from ending whose loop has been forgotten, so it is a daemon.
    """

    def __init__(
        self, sender: bulk.BulkSender, jobs: Iterator[object] | AsyncIterable[object]
    ) -> None:
        self.outbox = Outbox(asyncio.get_running_loop())
        self._room = asyncio.Event()
        self._inbox = sender.inbox(self.outbox.soon(self._room.set), size=_MOST_JOBS)
        self._has_ended = False
        self.thread = threading.Thread(
            target=_run, args=(sender, self._inbox, self.outbox), name=THREAD, daemon=True
        )
        self.thread.start()
        self._feeder = asyncio.ensure_future(self._feed(jobs))

    @property
    def is_over(self) -> bool:
        """Whether another run may begin."""
        return self.outbox.is_over

    def end(self, reason: str, *, at_once: bool = False) -> None:
        """Take no more jobs and no more results; messages in progress finish, or are aborted."""
        if not self._has_ended:
            self._has_ended = True
            self._feeder.cancel()
        self._inbox.stop(reason, at_once=at_once)
        self.outbox.close()

    async def _feed(self, jobs: Iterator[object] | AsyncIterable[object]) -> None:
        """Take jobs while there is room for them."""
        try:
            if isinstance(jobs, AsyncIterable):
                async for each in jobs:
                    self._inbox.put(each)
                    await self._has_room()
            else:
                for number, each in enumerate(jobs, 1):
                    self._inbox.put(each)
                    await self._has_room()
                    if number % _JOBS_A_TURN == 0:
                        await asyncio.sleep(0)
            self._inbox.end()
        except BaseException as error:
            # A source may raise CancelledError itself.
            self._inbox.end(error)
            if self._has_ended or not isinstance(error, (Exception, asyncio.CancelledError)):
                raise

    async def _has_room(self) -> None:
        while not self._inbox.has_room():
            self._room.clear()
            if not self._inbox.has_room():
                await self._room.wait()


def _run(sender: bulk.BulkSender, inbox: Inbox, outbox: Outbox) -> None:
    """Do a run, in a thread of its own."""
    try:
        for delivery in sender.send_from(inbox):
            outbox.put(delivery)
    except BaseException as error:
        outbox.error = error
    outbox.end()


class Outbox:
    """Results on their way from the thread of a run to a loop.

    error: what the run has raised. is_over: whether it has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.error: BaseException | None = None
        self._loop = loop
        self._deliveries: deque[Delivery] = deque()
        self.is_over = False
        self._is_closed = False
        self._has_some = asyncio.Event()
        self._room = threading.Event()

    def soon(self, call: Any) -> Any:
        """Return a function for the thread, which has the loop call this one."""

        def later() -> None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(call)

        return later

    # In the thread

    def put(self, delivery: Delivery) -> None:
        """Hand over a result; wait while too many wait already."""
        if self._is_closed or self._loop.is_closed():
            return
        self._deliveries.append(delivery)
        if len(self._deliveries) == 1:
            self.soon(self._has_some.set)()
        while len(self._deliveries) >= _MOST_DELIVERIES:
            self._room.clear()
            if self._is_closed or self._loop.is_closed():
                break
            self._room.wait(0.1)

    def end(self) -> None:
        """Hand over no more."""
        self.is_over = True
        self.soon(self._has_some.set)()

    # In the loop

    async def take(self) -> list[Delivery] | None:
        """Return the results that have come, at least one; None after the last."""
        while True:
            is_over = self.is_over  # first, as the last result comes before it
            self._has_some.clear()
            count = len(self._deliveries)
            if count:
                found = [self._deliveries.popleft() for _ in range(count)]
                self._room.set()
                return found
            if is_over:
                return None
            await self._has_some.wait()

    def close(self) -> None:
        """Take no more."""
        self._is_closed = True
        self._room.set()
