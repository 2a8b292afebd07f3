"""Runs a pipeline over a socket object: TLS, systems without poll(), third-party sockets.

Reads while it writes, as the loop over a descriptor does (csrc/fdloop.c, for plain sockets).
"""

from __future__ import annotations

import math
import select
import socket
import time
from contextlib import suppress
from functools import lru_cache

from ..kernel.transaction import Want
from ..protocol import limits
from ..protocol.watch import Watch
from . import acks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from ..kernel import Content, Pipeline, ReplyBuffer
    from ..protocol.limits import Limits

    Socket: TypeAlias = Any  # send, recv, settimeout, gettimeout; fileno where it can be polled

# By names of the module, see kernel.transaction.
_, _WRITE, _READ = Want

# One send() is at most one TLS record. Of several, the server could answer the first while the
# others still wait, before send() reports any as sent.
SEND_BYTES = 1 << 14

# Seconds that a socket which can't be polled waits for bytes before it tries to send again.
_SHORT_WAIT = 0.01

# Seconds of one wait without poll(). On Windows Ctrl-C does not end it.
_MOMENT = 0.25


def pump(
    pipeline: Pipeline,
    replies: ReplyBuffer,
    sock: Socket,
    target: int,
    allowed: Limits,
    *,
    seconds: float | None,
    can_poll: bool,
    before_content: Callable[[], Content | None] | None = None,
) -> float:
    """Runs a pipeline until `target` messages are left (with 0: and every reply is in), the
    connection is lost, or so many seconds have passed, unless that is None. Returns the longest
    wait between two replies to one flight, in seconds.

    can_poll: whether the system tells when the socket's descriptor is ready. before_content: see
    transactions.run(). Raises what that and a signal handler raise.
    """
    timeout = sock.gettimeout()
    each = Pump(pipeline, replies, sock, allowed, can_poll)
    try:
        each.run(target, seconds)
        if before_content is not None and len(pipeline) and pipeline.failure is None:
            pipeline.send_content(before_content())
            each.run(target, seconds)
    finally:
        with suppress(OSError):  # it may have been closed meanwhile
            sock.settimeout(timeout)
    return each.gap


def pump_together(
    pumps: Sequence[Pump], targets: Sequence[int], seconds: float, wake: Socket | None
) -> None:
    """Runs several pumps until one of them has at most its target of messages left or is lost,
    until so many seconds have passed, or until the socket `wake` (non-blocking, or None) becomes
    readable. With 0 seconds they do what they can without waiting. Time between the runs does not
    count for the limits.

    Raises what a signal handler raises. If that interrupts a read or a write, the next run counts
    that connection as lost.
    """
    end = time.monotonic() + seconds
    for each in pumps:
        each.begin()
    while True:
        lefts = [each.advance() for each in pumps]
        if math.inf in lefts:
            break
        if any(each.is_over(target) for each, target in zip(pumps, targets, strict=True)):
            break
        left = end - time.monotonic()
        if left <= 0 and (seconds > 0 or min(lefts) > 0):
            break
        if min(lefts) > 0 and _wait_together(pumps, min(left, *lefts), wake):
            break
    for each in pumps:
        each.rest()


def _wait_together(pumps: Sequence[Pump], seconds: float, wake: Socket | None) -> bool:
    """Waits until one of them can go on; returns whether `wake` ended the wait."""
    for each in pumps:
        if not each.can_poll:
            each._receive(min(seconds, _SHORT_WAIT))
            return _is_readable(wake)
    if any(each.has_pending() for each in pumps):
        return False
    reading = [each.sock for each in pumps]
    if wake is not None:
        reading.append(wake)
    writing = [each.sock for each in pumps if each.wants_to_write]
    return wake in _poll(reading, writing, seconds)


def _is_readable(wake: Socket) -> bool:
    try:
        return bool(wake.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


def _poll(reading: Sequence[Socket], writing: Sequence[Socket], seconds: float) -> list[Socket]:
    """Waits for sockets, for so many seconds or less; returns those with something to read."""
    if not hasattr(select, "poll"):
        ready: list[Socket] = select.select(reading, writing, [], min(seconds, _MOMENT))[0]
        return ready
    poll = select.poll()
    for each in reading:
        poll.register(each, select.POLLIN | (select.POLLOUT if each in writing else 0))
    # Errors count, too: reading finds out what is wrong.
    found = {fd for fd, events in poll.poll(seconds * 1000) if events & ~select.POLLOUT}
    return [each for each in reading if each.fileno() in found]


class Pump:
    """A connection that is run, by its socket."""

    def __init__(
        self,
        pipeline: Pipeline,
        replies: ReplyBuffer,
        sock: Socket,
        allowed: Limits,
        can_poll: bool,
    ) -> None:
        self._pipeline = pipeline
        self._replies = replies
        self.sock = sock
        self.can_poll = can_poll
        self.wants_to_write = False  # when it was run last
        self._nothing = nothing_yet()
        self._watch = Watch(pipeline, allowed, time.monotonic())
        self._must_read_first = False
        self._owes_ack = False  # what was read since anything was written
        self._can_acknowledge = True
        self._is_busy = False  # reading or writing
        self._is_blocking = True  # the socket
        self._rested = time.monotonic()

    @property
    def gap(self) -> float:
        """The longest wait so far between two replies to one flight, in seconds."""
        return self._watch.gap

    def run(self, target: int, seconds: float | None) -> None:
        """Runs this one alone; see pump()."""
        end = math.inf if seconds is None else time.monotonic() + seconds
        self.begin()
        left = 0.0
        while not self.is_over(target):
            if left > 0 and self._pipeline.want() == _READ:
                # It has just read, and has nothing to write: it waits on.
                self._acknowledge()
            else:
                left = self.advance(alone=True)
                if left == math.inf:
                    break
            if left > 0:
                if seconds is not None:
                    left = min(left, end - time.monotonic())
                    if left <= 0:
                        break
                left = self.wait(left)
        self.rest()

    def begin(self) -> None:
        """Begins a run; the time since the last one does not count."""
        if self._is_busy:
            # The last one was interrupted, and nobody knows what it has sent, or has read.
            self._pipeline.lose(InterruptedError("interrupted"))
        # Read what the server has sent meanwhile, maybe unasked, before writing more.
        self._must_read_first = self._pipeline.strict
        self._watch.shift(time.monotonic() - self._rested)
        self._is_blocking = self.sock.gettimeout() != 0

    def rest(self) -> None:
        """Ends a run."""
        self._rested = time.monotonic()
        if self._pipeline.want() == _READ:
            # Nobody knows when the next run comes, nor whether it writes anything.
            self._acknowledge()

    def advance(self, *, alone: bool = False) -> float:
        """Writes and reads once, without waiting; returns how many seconds the connection may wait
        now: 0 if there may be more to do, infinity if nothing is left to do.

        alone: wait() comes next, which reads.
        """
        want = self._pipeline.want()
        if not want:
            self.wants_to_write = False
            return math.inf
        self._is_busy = True
        left = self._advance(want, alone)
        self._is_busy = False
        return left

    def _advance(self, want: int, alone: bool) -> float:
        pipeline = self._pipeline
        read_first, self._must_read_first = self._must_read_first, False
        try:
            wrote = read = False
            if want & _WRITE and not read_first:
                wrote = self._write()
                want = pipeline.want()
            has_more = bool(want & _WRITE)
            self.wants_to_write = has_more
            # What was just written has no answer yet: there is nothing to read but by waiting.
            if read_first or has_more or not (wrote or alone):
                read = self._read()
            left = self._watch.note(time.monotonic(), wrote, read)
            self._owes_ack = read or (self._owes_ack and not wrote)
            if read_first or read or (has_more and wrote):
                return 0
            if want and left <= 0:
                if alone and not has_more:
                    # This process may have been stopped: what came meanwhile counts as in time.
                    return self._advance(want, alone=False)
                raise TimeoutError(limits.NO_PROGRESS % self._watch.allowed_seconds)
            if want == _READ:
                self._acknowledge()
            return left
        except EOFError:
            pipeline.end_of_stream()
        except OSError as error:
            pipeline.lose(error)
        return 0

    def _acknowledge(self) -> None:
        if self._owes_ack and self._can_acknowledge:
            # A server that leaves Nagle's algorithm on waits for it with the next reply.
            self._can_acknowledge = acks.acknowledge(self.sock)
            self._owes_ack = False

    def wait(self, seconds: float) -> float:
        """Waits until there is more to do, at most for so many seconds. If it has read, returns the
        seconds that are left for more; else 0."""
        if not self.wants_to_write:
            return self._receive(seconds if hasattr(select, "poll") else min(seconds, _MOMENT))
        if not self.can_poll:
            self._receive(min(seconds, _SHORT_WAIT))
        elif not self.has_pending():
            _poll([self.sock], [self.sock], seconds)
        return 0.0

    def has_pending(self) -> bool:
        """Returns whether decrypted bytes are left to read, which polling does not show."""
        return bool(getattr(self.sock, "pending", int)())

    def is_over(self, target: int) -> bool:
        """Returns whether the connection is lost, or has at most so many messages left, unless that
        is 0."""
        pipeline = self._pipeline
        return pipeline.failure is not None or 0 < target >= len(pipeline)

    def _write(self) -> bool:
        """Writes; returns whether any bytes could be written."""
        self._never_wait()
        data = self._pipeline.pull(SEND_BYTES)
        # From here to wrote(), all of it counts as sent.
        try:
            count: int = self.sock.send(data)
        except self._nothing:
            self._pipeline.wrote(0)
            return False
        except OSError as error:
            # An error with an errno is the system's: nothing was sent. One without may come from a
            # signal handler, after everything was sent.
            if error.errno is not None:
                self._pipeline.wrote(0)
            # What the server said before it closed tells more than this error.
            while self._read():
                pass
            raise
        self._pipeline.wrote(count)
        return count > 0

    def _read(self) -> bool:
        """Reads; returns whether there were bytes. Raises EOFError at the end of the stream."""
        self._never_wait()
        try:
            data: bytes = self.sock.recv(limits.RECEIVE_BYTES)
        except self._nothing:
            return False
        self._take_in(data)
        return True

    def _never_wait(self) -> None:
        if self._is_blocking:
            self.sock.settimeout(0)
            self._is_blocking = False

    def _take_in(self, data: bytes) -> None:
        if not data:
            raise EOFError
        self._replies.feed(data)
        self._pipeline.receive()

    def _receive(self, seconds: float) -> float:
        # A recv() with a timeout works with every socket, costs less than polling and then reading,
        # and lets other green threads run.
        left = 0.0
        self._is_busy = self._is_blocking = True
        try:
            self.sock.settimeout(seconds)
            self._take_in(self.sock.recv(limits.RECEIVE_BYTES))
        except TimeoutError:
            pass
        except EOFError:
            self._pipeline.end_of_stream()
        except OSError as error:
            self._pipeline.lose(error)
        else:
            left = self._watch.note(time.monotonic(), False, True)
            self._owes_ack = True
        self._is_busy = False
        return left


@lru_cache(maxsize=1)
def nothing_yet() -> tuple[type[OSError], ...]:
    """Return the exceptions that a non-blocking socket raises if it would have to wait."""
    try:
        from ssl import SSLWantReadError, SSLWantWriteError
    except ImportError:
        return (BlockingIOError,)
    return (BlockingIOError, SSLWantReadError, SSLWantWriteError)
