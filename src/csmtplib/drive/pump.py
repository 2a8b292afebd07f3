"""Runs a pipeline over a socket object: TLS, systems without poll(), sockets of other makes.

Reads while it writes, as the loop over a descriptor does (csrc/fdloop.c, for plain sockets).
"""

from __future__ import annotations

import math
import select
import time

from ..kernel.transaction import Phase, Want
from ..protocol import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    from ..kernel import Pipeline, ReplyBuffer
    from ..protocol.limits import Limits

    Socket: TypeAlias = Any  # send, recv, settimeout, gettimeout; fileno where it can be polled

# One send(): a TLS record at most. Of several, the first ones would be answered while the others
# still wait, and nobody would know that they had left.
SEND_OCTETS = 1 << 14

# Seconds that a socket which can't be polled waits for octets before it tries to send again.
_BLINK = 0.01

# Seconds of one select() where there is no poll(). On Windows it does not end for Ctrl-C.
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
) -> None:
    """Runs a pipeline until `target` messages are left (with 0: and every reply is in), the
    connection is lost, or so many seconds have passed, where that is not None.

    can_poll: whether the system tells when the socket's descriptor is ready. Raises what a signal
    handler raises, and OSError where the socket has been closed.
    """
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        Pump(pipeline, replies, sock, allowed, can_poll).run(target, seconds)
    finally:
        if sock.fileno() >= 0:
            sock.settimeout(timeout)


def pump_together(
    pumps: Sequence[Pump], targets: Sequence[int], seconds: float, wake: Socket
) -> None:
    """Runs several pumps until one of them has no more than its target of messages left or is lost,
    for so many seconds, or until there is something to read from the socket `wake`; with 0 seconds
    they do what they can without waiting. Time between the runs is left out of the limits.

    Raises what a signal handler raises.
    """
    end = time.monotonic() + seconds
    for each in pumps:
        each.begin()
    try:
        while True:
            lefts = [each.advance() for each in pumps]
            if any(each.is_over(target) for each, target in zip(pumps, targets, strict=True)):
                return
            left = end - time.monotonic()
            if left <= 0 and (seconds > 0 or min(lefts) > 0):
                return
            if min(lefts) > 0 and _wait_together(pumps, min(left, *lefts), wake):
                return
    finally:
        for each in pumps:
            each.rest()


def _wait_together(pumps: Sequence[Pump], seconds: float, wake: Socket) -> bool:
    """Waits until one of them can go on; whether it was `wake` that ended it."""
    for each in pumps:
        if not each.can_poll:
            each.wait(min(seconds, _BLINK))
            return False
    if any(each.has_pending() for each in pumps):
        return False
    reading = [wake, *(each.sock for each in pumps)]
    writing = [each.sock for each in pumps if each.wants_to_write()]
    return wake in _poll(reading, writing, seconds)


def _poll(reading: Sequence[Socket], writing: Sequence[Socket], seconds: float) -> list[Socket]:
    """Waits for sockets, for so many seconds or less; those that there is something to read
    from."""
    if not hasattr(select, "poll"):
        ready: list[Socket] = select.select(reading, writing, [], min(seconds, _MOMENT))[0]
        return ready
    poll = select.poll()
    for each in reading:
        poll.register(each, select.POLLIN | (select.POLLOUT if each in writing else 0))
    # What has gone wrong is found by reading, too.
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
        self._nothing = _nothing_yet()
        self._watch = _Watch(pipeline, allowed)
        self._look = False
        self._rested = time.monotonic()

    def run(self, target: int, seconds: float | None) -> None:
        """Runs this one alone; see pump()."""
        end = math.inf if seconds is None else time.monotonic() + seconds
        self.begin()
        while not self.is_over(target):
            left = self.advance()
            if left > 0:
                left = min(left, end - time.monotonic())
                if left <= 0:
                    return
                self.wait(left)

    def begin(self) -> None:
        """Begins a run; the time since the last one does not count."""
        # What the server has said meanwhile, maybe unasked, is seen before more is written.
        self._look = self._pipeline.strict
        self._watch.shift(time.monotonic() - self._rested)
        try:
            if self.sock.gettimeout() != 0:
                self.sock.settimeout(0)
        except OSError as error:
            self._pipeline.lose(error)

    def rest(self) -> None:
        """Ends a run."""
        self._rested = time.monotonic()

    def advance(self) -> float:
        """Writes and reads once what can be without waiting; for how many seconds there is nothing
        more to do than to wait, 0 where there may be."""
        pipeline = self._pipeline
        if not pipeline.want():
            return math.inf
        looked, self._look = self._look, False
        try:
            wrote = not looked and bool(pipeline.want() & Want.WRITE) and self._write()
            # What was just written has no answer yet: there is nothing to read but by waiting.
            read = False
            if looked or not wrote or pipeline.want() & Want.WRITE:
                read = self._read()
            left = self._watch.look(wrote, read)
            if looked or read or (wrote and pipeline.want() & Want.WRITE):
                return 0
            if pipeline.want() and left <= 0:
                raise TimeoutError(limits.NO_PROGRESS % self._watch.allowed_seconds)
            return left
        except EOFError:
            pipeline.end_of_stream()
        except OSError as error:
            pipeline.lose(error)
        return 0

    def wait(self, seconds: float) -> None:
        """Waits until there is more to do, at most for so many seconds."""
        if not self.can_poll:
            self._blink(seconds)
        elif not self.has_pending():
            _poll([self.sock], [self.sock] if self.wants_to_write() else [], seconds)

    def wants_to_write(self) -> bool:
        return bool(self._pipeline.want() & Want.WRITE)

    def has_pending(self) -> bool:
        """Whether there are octets that are deciphered already, and of which the descriptor knows
        nothing."""
        return bool(getattr(self.sock, "pending", int)())

    def is_over(self, target: int) -> bool:
        """Whether the connection is lost, or has no more than so many messages left."""
        if self._pipeline.failure is not None:
            return True
        return 0 < target >= len(self._pipeline) or not self._pipeline.want()

    def _write(self) -> bool:
        """Whether octets could be written."""
        try:
            count: int = self.sock.send(self._pipeline.pull(SEND_OCTETS))
        except self._nothing:
            return False
        except OSError:
            # What the server said before it closed tells more.
            while self._read():
                pass
            raise
        self._pipeline.wrote(count)
        return count > 0

    def _read(self) -> bool:
        """Whether there were octets to read; raises EOFError at the end of the stream."""
        try:
            octets: bytes = self.sock.recv(limits.RECEIVE_OCTETS)
        except self._nothing:
            return False
        self._take_in(octets)
        return True

    def _take_in(self, octets: bytes) -> None:
        if not octets:
            raise EOFError
        self._replies.feed(octets)
        self._pipeline.receive()

    def _blink(self, seconds: float) -> None:
        # By the one wait that every socket has, which is also how green threads take turns.
        self.sock.settimeout(min(seconds, _BLINK) if self.wants_to_write() else seconds)
        try:
            octets = self.sock.recv(limits.RECEIVE_OCTETS)
            self.sock.settimeout(0)
            self._take_in(octets)
        except TimeoutError:
            self.sock.settimeout(0)
        except EOFError:
            self._pipeline.end_of_stream()
        except OSError as error:
            self._pipeline.lose(error)
        else:
            self._watch.look(False, True)


class _Watch:
    """The time limits of what is being waited for, as csmtp_watch in C."""

    def __init__(self, pipeline: Pipeline, allowed: Limits) -> None:
        self._pipeline = pipeline
        self._allowed = allowed
        self._phase_since = self._progress_since = time.monotonic()
        self._phase = pipeline.phase()
        self._booked = pipeline.booked
        self.allowed_seconds = 0.0  # that the nearest limit has in all

    def shift(self, seconds: float) -> None:
        """Leaves out so many seconds."""
        self._phase_since += seconds
        self._progress_since += seconds

    def look(self, wrote: bool, read: bool) -> float:
        """Notes what has happened by now; the seconds that are left."""
        now = time.monotonic()
        phase, booked = self._pipeline.phase(), self._pipeline.booked
        is_new = phase != self._phase or booked != self._booked
        if is_new or (wrote and phase == Phase.BLOCK):
            self._phase_since = now
        if wrote or read:
            self._progress_since = now
        self._phase, self._booked = phase, booked
        self.allowed_seconds = self._allowed.phases[phase]
        left = self._phase_since + self.allowed_seconds - now
        idle = self._allowed.idle
        if idle is not None and self._progress_since + idle - now < left:
            self.allowed_seconds = idle
            left = self._progress_since + idle - now
        return left


def _nothing_yet() -> tuple[type[OSError], ...]:
    """What a socket that does not wait raises where it would have to."""
    try:
        from ssl import SSLWantReadError, SSLWantWriteError
    except ImportError:
        return (BlockingIOError,)
    return (BlockingIOError, SSLWantReadError, SSLWantWriteError)
