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
    from typing import Any, TypeAlias

    from ..kernel import Pipeline, ReplyBuffer
    from ..protocol.limits import Limits

    Socket: TypeAlias = Any  # send, recv, settimeout, gettimeout; fileno where it can be polled

# One send(): a TLS record at most. Of several, the first ones would be answered while the others
# still wait, and nobody would know that they had left.
SEND_OCTETS = 1 << 14

# Seconds that a socket which can't be polled waits for octets before it tries to send again.
_BLINK = 0.01


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
        _Pump(pipeline, replies, sock, allowed, can_poll).run(target, seconds)
    finally:
        if sock.fileno() >= 0:
            sock.settimeout(timeout)


class _Pump:
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
        self._sock = sock
        self._nothing = _nothing_yet()
        self._wait_for = self._poll if can_poll else self._blink
        self._watch = _Watch(pipeline, allowed)

    def run(self, target: int, seconds: float | None) -> None:
        pipeline = self._pipeline
        end = math.inf if seconds is None else time.monotonic() + seconds
        # What the server has said unasked is seen before more is written.
        look = pipeline.strict and pipeline.phase() == Phase.BLOCK
        try:
            while pipeline.failure is None and not self._is_done(target):
                wrote = not look and bool(pipeline.want() & Want.WRITE) and self._write()
                # What was just written has no answer yet: there is nothing to read but by waiting.
                read = False
                if look or not wrote or pipeline.want() & Want.WRITE:
                    read = self._read()
                left = self._watch.look(wrote, read)
                if look or read or pipeline.failure is not None or self._is_done(target):
                    look = False
                elif not wrote or not pipeline.want() & Want.WRITE:
                    if left <= 0:
                        raise TimeoutError(limits.NO_PROGRESS % self._watch.allowed_seconds)
                    left = min(left, end - time.monotonic())
                    if left <= 0:
                        return
                    if self._wait_for(left):
                        self._watch.look(False, True)
        except EOFError:
            pipeline.end_of_stream()
        except OSError as error:
            pipeline.lose(error)

    def _is_done(self, target: int) -> bool:
        return 0 < target >= len(self._pipeline) or not self._pipeline.want()

    def _write(self) -> bool:
        """Whether octets could be written."""
        try:
            count: int = self._sock.send(self._pipeline.pull(SEND_OCTETS))
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
            octets: bytes = self._sock.recv(limits.RECEIVE_OCTETS)
        except self._nothing:
            return False
        self._take_in(octets)
        return True

    def _take_in(self, octets: bytes) -> None:
        if not octets:
            raise EOFError
        self._replies.feed(octets)
        self._pipeline.receive()

    def _poll(self, seconds: float) -> bool:
        if getattr(self._sock, "pending", int)():
            return False  # deciphered already, and the descriptor knows nothing of it
        writing = bool(self._pipeline.want() & Want.WRITE)
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self._sock, select.POLLIN | (select.POLLOUT if writing else 0))
            poll.poll(seconds * 1000)
        else:
            select.select([self._sock], [self._sock] if writing else [], [], seconds)
        return False

    def _blink(self, seconds: float) -> bool:
        """Whether there were octets to read."""
        # By the one wait that every socket has, which is also how green threads take turns.
        writing = bool(self._pipeline.want() & Want.WRITE)
        self._sock.settimeout(min(seconds, _BLINK) if writing else seconds)
        try:
            octets = self._sock.recv(limits.RECEIVE_OCTETS)
        except TimeoutError:
            return False
        finally:
            self._sock.settimeout(0)
        self._take_in(octets)
        return True


class _Watch:
    """The time limits of what is being waited for, as csmtp_watch in C."""

    def __init__(self, pipeline: Pipeline, allowed: Limits) -> None:
        self._pipeline = pipeline
        self._allowed = allowed
        self._phase_since = self._progress_since = time.monotonic()
        self._phase = pipeline.phase()
        self._booked = pipeline.booked
        self.allowed_seconds = 0.0  # that the nearest limit has in all

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
