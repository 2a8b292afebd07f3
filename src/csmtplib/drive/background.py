"""Runs connections in another thread while the caller's thread waits for the next item of a slow
iterable."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ..protocol import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# The name of our threads.
THREAD = "csmtplib"

# An item that takes more seconds is slow: what was taken before it is sent at once, and the other
# thread gets the connections as soon as the next one is asked for.
_SLOW = 0.001

# How often the other thread checks whether the same item is still awaited, as nothing notifies it.
# So it takes over within twice that time.
_TICK = 0.015

# Seconds without work after which the other thread ends. A later item starts another.
_LINGER = 0.3

# Seconds for which the caller waits for the other thread to take over. Otherwise an iterable that
# does not release the GIL would keep it from starting before the item is there.
_BEGIN = 0.005

# Without the GIL a thread may not see at once what another has set, unless both acquire a lock.
_HAS_NO_GIL = not getattr(sys, "_is_gil_enabled", lambda: True)()

# Their items are there already.
_COLLECTIONS: tuple[Iterable[object], ...] = ([], (), deque(), {}, {}.values(), {}.items(), set())
_NEVER_SLOW = frozenset(type(iter(each)) for each in _COLLECTIONS)


class Wake:
    """Ends the wait for sockets in another thread: something can be read from `sock` then."""

    def __init__(self) -> None:
        self.sock, self._other = socket.socketpair()
        self.sock.setblocking(False)
        self._other.setblocking(False)
        self._is_set = False

    def set(self) -> None:
        """Ends the current wait, or else the next one. For any thread."""
        # Set before sending, which releases the GIL: otherwise the loop would spin until this
        # thread runs again. Set again afterwards, as a clear() in between finds nothing to read
        # yet.
        self._is_set = True
        with contextlib.suppress(OSError):
            self._other.send(b"\0")
        self._is_set = True

    def clear(self) -> None:
        """Undoes set(). For the thread that waits."""
        if self._is_set:
            self.wait(0)

    def wait(self, seconds: float) -> None:
        """Waits for set(), for at most so many seconds, and undoes it."""
        self._is_set = False
        self.sock.settimeout(seconds)
        try:
            self.sock.recv(limits.RECEIVE_BYTES)
        except (TimeoutError, BlockingIOError):
            pass
        finally:
            self.sock.settimeout(0)

    def close(self) -> None:
        self.sock.close()
        self._other.close()


class Signal:
    """Like a threading.Event, for one thread that waits; wait() clears it.

    An exception such as KeyboardInterrupt may come at any bytecode of the caller's thread. An
    Event, like the standard library's executors, futures and queues, acquires a lock in Python
    code, and if interrupted there never releases it. A bare lock does not have that problem.
    """

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is set already
            self._unset.release()

    def clear(self) -> None:
        self._unset.acquire(blocking=False)

    def wait(self, seconds: float = -1) -> bool:
        """Wait for set(), for at most this many seconds if they are not negative. Return whether it
        came."""
        return self._unset.acquire(timeout=seconds)


class Source:
    """The caller's iterable. The caller's thread asks it for items; while it is slow, another
    thread drives the connections. The two never use them at the same time.

    is_slow: whether the last item was slow, or the other thread has driven meanwhile. at: when that
    item came, by the monotonic clock. The next item's time counts from there, so the caller updates
    it after doing something else.
    """

    def __init__(
        self, iterable: Iterable[object], drive: Callable[[Wake], bool], wake: Wake | None = None
    ) -> None:
        """drive: called repeatedly in the other thread. It sends and receives until the Wake that
        it is given is set, for a second at most; it returns whether there may be more to do before
        the next item, and never raises. wake: the one to use, if there is one already."""
        self.is_slow = False
        self.at = time.monotonic()
        self.drive = drive
        self.wake = wake
        self._items: Iterator[object] = iter(iterable)
        self._never_slow = type(self._items) in _NEVER_SLOW
        self._was_long = False
        self._driver: _Driver | None = None
        # Who has the connections. They are flags and no lock: an interrupt may come between any two
        # steps of take(), and a flag can be set again; and a lock for each item would cost more
        # than the item. The caller sets _is_lent, then reads _has_driven; the other thread does the
        # reverse.
        self._is_lent = self._is_driving = self._has_driven = self._is_closed = False
        self._gate = threading.Lock()

    def take(self) -> object:
        """Returns the next item. Raises what the iterable raises, StopIteration at its end. After
        any other exception, close() comes next."""
        if self._never_slow:
            self.at = time.monotonic()
            return next(self._items)
        begun = self.at
        self._is_lent = True
        try:
            if self._driver is None or self._was_long:
                self._call()
                begun = time.monotonic()
            return next(self._items)
        finally:
            at = time.monotonic()
            self._was_long = self.is_slow = at - begun > _SLOW
            self.at = at
            self._is_lent = False
            if self._has_driven or _HAS_NO_GIL:
                self._take_back()

    def close(self) -> None:
        """Make the other thread leave the connections alone for good. The caller has them when this
        returns, even if an interrupt makes it raise."""
        interrupt: BaseException | None = None
        self._is_closed = True
        while True:
            try:
                self._take_back()
                break
            except BaseException as error:
                interrupt = error
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.park(self)
        if interrupt is not None:
            raise interrupt

    def _call(self) -> None:
        if self._driver is None:
            self._hire()
        driver = self._driver
        if self._was_long and driver is not None:
            # The next item will probably be slow, too.
            driver.begun.clear()
            driver.called.set()
            driver.begun.wait(_BEGIN)

    def _hire(self) -> None:
        with self._gate:
            try:
                self._driver = self._driver or _hired(self)
            except RuntimeError:
                # No thread can be started here: the connections wait for the items.
                self._never_slow = True

    def _take_back(self) -> None:
        with self._gate:
            self._is_lent = False
        while self._is_driving:
            driver = self._driver
            assert driver is not None
            (self.wake or driver.wake).set()
            if not driver.ended.wait(1.0) and not driver.is_alive():
                # This process was forked meanwhile, and lacks that thread.
                self._is_driving = False
        self.is_slow = self.is_slow or self._has_driven
        self._has_driven = False

    # For the other thread

    def is_waited_for(self, at: float) -> bool:
        """Return whether the caller still waits for the item that it asked for at that `at`."""
        return self._is_lent and self.at == at

    def begin(self, driver: _Driver) -> bool:
        """Takes the connections, if the caller has lent them."""
        with self._gate:
            self._is_driving = self._has_driven = True
            if not self._is_lent or self._is_closed:
                self._is_driving = self._has_driven = False
                return False
            # The thread that hired it may have been interrupted before it could set this.
            self._driver = driver
            driver.ended.clear()
        driver.begun.set()
        return True

    def drive_on(self, wake: Wake) -> None:
        """Drives as long as the connections are lent, and there is something to do."""
        while self._is_lent and self.drive(wake):
            time.sleep(0)  # lets other green threads run

    def end(self, driver: _Driver) -> None:
        """Gives the connections back."""
        with self._gate:
            self._is_driving = False
        driver.ended.set()

    def leave(self, driver: _Driver, at: float, *, is_served: bool) -> bool:
        """Lets the other thread go, unless there is an item to drive for; returns whether it may
        end. is_served: nothing is left to do for the item at that `at`."""
        with self._gate:
            # In this order: a caller that asks meanwhile sees that there is no driver, or is seen
            # here.
            self._driver = None
            if self.at == at and (is_served or not self._is_lent):
                return True
            self._driver = driver
            return False


class _Driver:
    """The other thread, for one source after another.

    called: wakes it at once. begun, ended: it has taken a source's connections, or given them back.
    """

    def __init__(self) -> None:
        self.wake = Wake()
        self.called = Signal()
        self.begun = Signal()
        self.ended = Signal()
        self.source: Source | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Raises RuntimeError if no thread can be started."""
        self._thread = in_thread(self._run)

    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def park(self, source: Source) -> None:
        """Leaves a source; there may be another soon."""
        with _parking:
            if self.source is source:
                self.source = None
                if self not in _parked:
                    _parked.append(self)

    def _run(self) -> None:
        # Set here, as the thread that starts this one may be interrupted.
        self._thread = threading.current_thread()
        # The source, and its `at`, for which nothing is left to do before the next item. Sources
        # are known by id() here, as a reference would keep a closed one alive: it may own a
        # journal.
        served = (0, 0.0)
        rested = time.monotonic()
        while True:
            source = self.source
            at = 0.0 if source is None else source.at
            seen = id(source)
            source = None
            is_called = self.called.wait(_TICK)
            source = self.source
            if seen != id(source):
                continue
            now = time.monotonic()
            if source is not None and is_called:
                at = source.at
            is_served = served == (seen, at)
            if source is not None and not is_served:
                if (is_called or source.is_waited_for(at)) and source.begin(self):
                    served = seen, source.at
                    try:
                        source.drive_on(source.wake or self.wake)
                    finally:
                        source.end(self)
                    rested = time.monotonic()
                elif source.at != at:
                    rested = now
            if now - rested > _LINGER and self._leave(source, at, is_served=is_served):
                self.wake.close()
                return

    def _leave(self, source: Source | None, at: float, *, is_served: bool) -> bool:
        if source is not None:
            return source.leave(self, at, is_served=is_served)
        with _parking:
            if self.source is not None:
                return False
            if self in _parked:
                _parked.remove(self)
            return True


# Drivers without a source, for the next one: starting a thread takes as long as sending a dozen
# messages.
_parked: list[_Driver] = []
_parking = threading.Lock()


def _hired(source: Source) -> _Driver:
    """Return a driver for a source. Raises RuntimeError if no thread can be started."""
    with _parking:
        while _parked:
            driver = _parked[-1]
            if driver.is_alive():
                driver.source = source
                return _parked.pop()
            # It belongs to the process that this one was forked from.
            _parked.pop().wake.close()
    driver = _Driver()
    driver.source = source
    driver.start()
    return driver


def in_thread(function: Callable[..., object], *arguments: object) -> threading.Thread:
    """Start a daemon thread that calls a function. Raises RuntimeError if none can be started."""
    try:
        thread = threading.Thread(target=function, name=THREAD, args=arguments, daemon=True)
    except RuntimeError:
        # Subinterpreters have no daemon threads.
        thread = threading.Thread(target=function, name=THREAD, args=arguments)
    thread.start()
    return thread
