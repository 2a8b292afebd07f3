"""send_many() of csmtplib.aio: the loop between the caller's messages, the connection and the
results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterator
from contextlib import aclosing
from time import monotonic
from typing import TYPE_CHECKING

from ..protocol import envelope, limits
from ..protocol.arguments import check_count, check_flag
from ..protocol.dialogue import Dialogue
from ..protocol.features import Features
from ..protocol.mail_object import iterator_of
from ..protocol.result import AsyncLazy
from ..protocol.stream import NO_MORE_MESSAGES, Stream
from . import errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..drive.event_loop import LoopConnection
    from ..protocol.extension_policy import Policy
    from ..protocol.result import Result
    from .session import Session

# Seconds for which results are gathered before they are yielded.
_PATIENCE = 0.01


def stream(
    client: Session,
    messages: object,
    max_in_flight: int,
    chunking: bool | None,
    *,
    pipelining: bool,
) -> AsyncGenerator[Result, None]:
    """Return the results of SMTP.send_many(). Raises TypeError and ValueError for arguments."""
    max_in_flight = check_count("max_in_flight", max_in_flight)
    if chunking is not None:
        check_flag("chunking", chunking)
    if not isinstance(messages, AsyncIterable):
        messages = iterator_of("messages", messages)  # type: ignore[arg-type]
    results = _results(client, messages, max_in_flight, chunking is not False, pipelining)
    return AsyncLazy(results, "SMTP.send_many()")


async def _results(
    client: Session,
    source: AsyncIterable[object] | Iterator[object],
    max_in_flight: int,
    chunking: bool,
    pipelining: bool,
) -> AsyncGenerator[Result, None]:
    protocol, lock, command_lock = client._connected()
    client.left_results = ()
    async with lock:
        client._check_still(protocol)
        await client._ehlo_or_helo_if_needed()
        async with command_lock:
            client._check_still(protocol)
            policy = client._policy if pipelining else client._policy.without_pipelining()
            streaming = Streaming(client, protocol, policy, max_in_flight, chunking)
            client._is_streaming = True
            if isinstance(source, AsyncIterable):
                found = streaming.from_async_iterable(source)
            else:
                found = streaming.from_iterator(source)
            try:
                async with aclosing(found):
                    async for result in found:
                        yield result
                # All messages have their results, but a reply to RSET may be left.
                await streaming.connection.run()
            except BaseException as error:
                # Cancelled, or the loop over the results was left.
                results = client.left_results = streaming.give_up()
                error.csmtplib_results = results  # type: ignore[attr-defined]
                client._drop(streaming.connection)
                raise
            finally:
                client._is_streaming = False
                streaming.end()
            if streaming.is_lost:
                client._drop(streaming.connection)
        if streaming.error is not None:
            if streaming.has_more and not streaming.is_lost:
                await client._quit(limits.QUIT_SECONDS)
            raise streaming.error


class Streaming:
    """One call of send_many(), by the owner of the connection's locks."""

    def __init__(
        self,
        client: Session,
        connection: LoopConnection,
        policy: Policy,
        max_in_flight: int,
        chunking: bool,
    ) -> None:
        self.connection = connection
        self._client = client
        self._stream = Stream(
            connection.replies,
            Features(client.esmtp_extensions),
            policy,
            lmtp=client._is_lmtp,
            max_in_flight=max_in_flight,
            chunking=chunking,
        )
        self._submission = self._stream.submission
        self._allowed = limits.at_most(client.timeout)
        self._raised: BaseException | None = None
        self._is_running = False
        # For an asynchronous source:
        self._feeder: asyncio.Task[None] | None = None
        self._flushing: asyncio.Handle | None = None
        self._has_ended = False
        self._change = asyncio.Event()  # there are more messages, or none
        self._may_add = asyncio.Event()  # there is a pipeline that takes them
        self._may_add.set()
        self._room = asyncio.Event()
        self._is_fed = False  # the source has no more, or is not asked any more

    @property
    def has_more(self) -> bool:
        """Whether messages are left that the connection does not take any more."""
        return self._stream.has_more

    @property
    def is_lost(self) -> bool:
        """Whether the connection can't be used any more."""
        return self._submission.pipeline.failure is not None

    @property
    def error(self) -> BaseException | None:
        """The exception to raise after the last result, or None."""
        if self._raised is not None:
            return self._raised
        failure = self._submission.pipeline.failure
        if failure is not None:
            error = errors.lost(failure)
            if isinstance(error, errors.SMTPResponseException):
                error = errors.SMTPServerDisconnected(error.message)
                error.__cause__ = failure
            return error
        if self._stream.has_more:
            return errors.SMTPServerDisconnected(NO_MORE_MESSAGES)
        return None

    async def _begin(self) -> None:
        await self.connection.catch_up()
        self.connection.begin(self._submission.pipeline, self._allowed)
        self._is_running = True

    def end(self) -> None:
        """Leave the connection to others, and the source alone."""
        self._has_ended = True
        if self._feeder is not None:
            self._feeder.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
        if self._is_running:
            self._is_running = False
            self.connection.end()

    def give_up(self) -> list[Result]:
        """Lose the connection; return what has become of the messages whose results were not
        yielded."""
        self._submission.give_up(InterruptedError("cancelled"))
        return list(self._submission.results())

    async def _renew(self) -> None:
        """Go on with what the server can handle, after it has failed at more."""
        connection, client = self.connection, self._client
        self._is_running = False
        connection.end()
        self._may_add.clear()
        dialogue = Dialogue(connection.replies, client.timeout)
        try:
            await connection.perform(dialogue.operations(self._stream.renewal(self._hello)))
        except BaseException:
            self._submission.abandon()
            raise
        finally:
            self._may_add.set()
        await self._begin()

    def _hello(self) -> bytes:
        verb = "LHLO" if self._client._is_lmtp else "EHLO"
        return envelope.command(f"{verb} {self._client.local_hostname}")

    # From an iterator: its messages come when they are asked for

    async def from_iterator(self, source: Iterator[object]) -> AsyncGenerator[Result, None]:
        """Yield the results of its messages."""
        stream, submission = self._stream, self._submission
        await self._begin()
        while not stream.is_done:
            last_sent = monotonic()
            while stream.wants_message() and self._take_one(source):
                if stream.must_send(monotonic() - last_sent, is_slow=False):
                    self.connection.flush()
                    for result in submission.results():
                        yield result
                    last_sent = monotonic()
            await self.connection.run(stream.target(), patience=_PATIENCE)
            for result in submission.results():
                yield result
            if submission.must_renew:
                await self._renew()
            if stream.is_over:
                if not self.is_lost:
                    # Only asking for another message shows whether there is one left.
                    self._take_one(source)
                    for result in submission.results():
                        yield result
                return

    def _take_one(self, source: Iterator[object]) -> bool:
        """Take the next message; return False if there is none."""
        try:
            item = next(source)
        except StopIteration:
            self._stream.has_more = False
            return False
        except Exception as error:
            # The messages taken before still get their results.
            self._stream.has_more = False
            self._raised = error
            return False
        self._submission.add(item)
        return True

    # From an asynchronous iterable: a task takes messages, as nothing else can wait for the next
    # one and for results at the same time

    async def from_async_iterable(
        self, source: AsyncIterable[object]
    ) -> AsyncGenerator[Result, None]:
        """Yield the results of its messages."""
        stream, submission = self._stream, self._submission
        await self._begin()
        self._feeder = asyncio.ensure_future(self._feed(source))
        while True:
            self._change.clear()
            has_some = False
            for result in submission.results():
                has_some = True
                yield result
            self._room.set()
            if submission.must_renew:
                await self._renew()
                continue
            if stream.is_done or (stream.is_over and (self.is_lost or self._is_fed)):
                return
            if submission.pipeline.want() and not self.is_lost:
                await self.connection.run(stream.target(), patience=_PATIENCE)
            elif not has_some:
                await self._change.wait()

    async def _feed(self, source: AsyncIterable[object]) -> None:
        """Take messages from the source while there is room."""
        stream, submission = self._stream, self._submission
        try:
            async for item in source:
                # Only asking for another message shows whether there is one left.
                await self._may_add.wait()
                was_over = submission.is_over
                submission.add(item)
                self._send_soon()
                if was_over:
                    return
                await self._has_room()
                if self.is_lost:
                    return
            stream.has_more = False
        except BaseException as error:
            # A source may raise CancelledError itself.
            if self._has_ended or not isinstance(error, (Exception, asyncio.CancelledError)):
                raise
            stream.has_more = False
            self._raised = error
        finally:
            self._is_fed = True
            self._change.set()

    async def _has_room(self) -> None:
        while not self._stream.wants_message() and not self._submission.is_over:
            self._room.clear()
            await self._room.wait()

    def _send_soon(self) -> None:
        """Send what the source has given, at once or when it waits."""
        self._change.set()
        if self._stream.must_send(0.0, is_slow=False):
            self._flush()
        elif self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if self._is_running:
            self.connection.flush()
