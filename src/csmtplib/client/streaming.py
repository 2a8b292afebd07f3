"""send_many(): the loop between a caller's messages, the connection and the results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from itertools import chain
from smtplib import SMTPServerDisconnected
from typing import TYPE_CHECKING

from ..drive import transactions
from ..drive.background import Source, Wake
from ..drive.performer import Performer
from ..protocol import envelope, limits
from ..protocol.dialogue import Dialogue
from ..protocol.failures import disconnected
from ..protocol.features import Features
from ..protocol.stream import NO_MORE_MESSAGES, Stream
from ..protocol.submission import popped

if TYPE_CHECKING:
    from ..protocol.result import Result
    from .connection import Connection
    from .owner import Channel

# The longest time for which the other thread runs the connection in one go.
_RUN_SECONDS = 1.0


class Streaming:
    """One call of send_many().

    channel: the connection, which this thread owns until the last result is taken.
    """

    def __init__(
        self,
        connection: Connection,
        channel: Channel,
        messages: Iterator[object],
        max_in_flight: int,
        chunking: bool,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._sock = channel.sock
        self._stream = Stream(
            channel.replies,
            Features(connection.esmtp_features),
            channel.policy,
            lmtp=channel.is_lmtp,
            max_in_flight=max_in_flight,
            chunking=chunking,
            audit=channel.audit,
        )
        self._submission = self._stream.submission
        self._source = Source(messages, self._go_on)
        # For the other thread, which runs the connection while a message is awaited: the
        # connection, and the results so far.
        self._runnable: transactions.Connection | None = None
        self._results: deque[Result] = deque()
        self._timeout: float | None = self._sock.gettimeout()
        self._allowed = limits.at_least(self._timeout)
        self._raised: BaseException | None = None

    def results(self) -> Iterator[Result]:
        """Yield all results, in order, even if a signal handler or an audit hook raises an
        exception, which is kept for `error`."""
        turns = self._turns()
        try:
            while True:
                try:
                    known = next(turns, None)
                    if known is None:
                        return
                except BaseException as error:
                    self._raised = error
                    break
                yield from known
        finally:
            # The loop over the results may have been left.
            turns.close()
            self._source.close()
        self._stream.has_more = False
        name = type(self._raised).__name__
        self._submission.give_up(InterruptedError(f"interrupted: {name}"))
        yield from self._known()

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
        """The exception to raise after the last result if the stream has ended early, else None."""
        if self._raised is not None:
            return self._raised
        failure = self._submission.pipeline.failure
        if failure is not None:
            error = disconnected(failure)
            error.__cause__ = failure
            return error
        if self._stream.has_more:
            return SMTPServerDisconnected(NO_MORE_MESSAGES)
        return None

    def _turns(self) -> Generator[Iterator[Result], None, None]:
        """Take messages, send and receive; yield the results of each turn."""
        stream, submission = self._stream, self._submission
        while not stream.is_done:
            yield from self._fill()
            self._run(stream.target())
            yield self._known()
            if submission.must_renew:
                self._renew()
                yield self._known()
            if stream.is_over:
                if submission.pipeline.failure is None:
                    # Only asking for another message shows whether there is one left.
                    self._take_one()
                    yield self._known()
                return

    def _known(self) -> Iterator[Result]:
        """Return an iterator of the results that are known by now; see Submission.results()."""
        found = self._submission.results()
        if self._results:
            return chain(popped(self._results, len(self._results)), found)
        return found

    def _fill(self) -> Iterator[Iterator[Result]]:
        """Take messages while there is room; yield the results that come in meanwhile."""
        stream, source = self._stream, self._source
        source.at = last_run = time.monotonic()
        while stream.wants_message() and self._take_one():
            if not stream.must_send(source.at - last_run, is_slow=source.is_slow):
                continue
            self._run(0, 0)
            yield self._known()
            source.at = last_run = time.monotonic()
        if self._results:
            # The other thread has got some, though no message came.
            yield self._known()

    def _renew(self) -> None:
        """Go on with what the server can handle, after it has failed at more."""
        sock, replies = self._sock, self._channel.replies
        timeout = sock.gettimeout()
        dialogue = Dialogue(replies, timeout)
        try:
            Performer(sock).perform(dialogue.operations(self._stream.renewal(self._hello)))
        except BaseException:
            self._submission.abandon()
            raise
        sock.settimeout(timeout)
        self._runnable = None

    def _hello(self) -> bytes:
        connection = self._connection
        command = envelope.command(f"{connection.ehlo_msg} {connection.local_hostname}")
        self._channel.audit(command)
        return command

    def _take_one(self) -> bool:
        """Take the next message; return False if there is none."""
        stream, lock = self._stream, self._channel.lock
        # Meanwhile another thread may run the connection: close(), even in this thread, then only
        # ends the stream.
        lock.is_lent = True
        try:
            item = self._source.take()
        except StopIteration:
            stream.has_more = False
            return False
        except BaseException as error:
            # The messages taken before still get their results.
            stream.has_more = False
            self._raised = error
            self._source.close()
            return False
        finally:
            lock.is_lent = False
        self._submission.add(item)
        return True

    def _go_on(self, wake: Wake) -> bool:
        """Run the connection in another thread, while this one waits for a message."""
        submission = self._submission
        try:
            if self._runnable is None:
                self._runnable = transactions.Connection(
                    submission.pipeline, self._channel.replies, self._sock, self._allowed
                )
            if not submission.pipeline.want():
                return False
            transactions.run_together([self._runnable], _RUN_SECONDS, wake.sock)
            wake.clear()
            self._results.extend(submission.results())
            if submission.must_renew:
                self._renew()
                self._results.extend(submission.results())
        except BaseException as error:
            self._raised = error
            submission.give_up(InterruptedError(f"interrupted: {type(error).__name__}"))
        finally:
            # It may have been closed meanwhile.
            with suppress(OSError):
                self._sock.settimeout(self._timeout)
        return bool(submission.pipeline.want())

    def _run(self, target: int, seconds: float | None = None) -> None:
        """Run the connection until so many messages are left, or for so many seconds."""
        pipeline = self._submission.pipeline
        if self._connection.sock is not self._sock:
            pipeline.lose(SMTPServerDisconnected("the connection was closed between two results"))
        transactions.run(
            pipeline, self._channel.replies, self._sock, target, self._allowed, seconds=seconds
        )
