"""Who uses a connection: one thread at a time, by the methods or by a pipeline."""

from __future__ import annotations

from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias, overload

    from ..kernel import ReplyBuffer
    from ..protocol.extension_policy import Policy

    # A thread, and whether it has the connection for a step, and not for a pipeline.
    Hold: TypeAlias = tuple[int, bool]

IN_USE_BY_THREAD = "the connection is in use by another thread: make a connection for each thread"
IN_USE_BY_STREAM = (
    "the connection is in use by send_many(): take all its results first, or close the connection"
)


class OwnerLock:
    """A lock on a connection, with its owner.

    A thread owns it either for a pipeline, which reads and writes the socket itself, or for a step:
    a method that sends or reads, or consists of such methods. It is taken or refused in one call in
    C, and given back in one, release(): of what is looked at first and changed then, two threads
    would both find it free, and an interrupt in between would leave it taken for ever.

    is_lent: whether the owner, which has a pipeline, leaves the connection to nobody for a while.
    asker: the thread that has sent a command and is to read the reply, 0 for none. awaited_replies:
    to commands that were sent, by any thread.
    """

    __slots__ = ("_holds", "asker", "awaited_replies", "is_lent", "release")

    def __init__(self) -> None:
        # At most one, at 0.
        self._holds: dict[int, Hold] = {}
        self.release: Callable[[], None] = self._holds.clear
        self.is_lent = False
        self.asker = 0
        self.awaited_replies = 0

    def acquire(self, *, to_send: bool = True) -> None:
        """Take the connection for this thread alone, until release(). Raises RuntimeError if it is
        in use already; to send, also if another thread waits for the reply to its command."""
        self._take((get_ident(), False), to_send)

    def begin_step(self, *, to_send: bool = True) -> bool:
        """Take the connection for a step; return whether to release() it then. A step within a
        longer one of the same thread does not."""
        hold = (get_ident(), True)
        if self._holds.get(0) == hold:
            return False
        self._take(hold, to_send)
        return True

    def _take(self, hold: Hold, to_send: bool) -> None:
        # Each hold is an object of its own.
        try:
            if self._holds.setdefault(0, hold) is not hold:
                raise RuntimeError(self._user())
            if to_send and self.asker not in (0, hold[0]):
                # It would get the reply to this command, sooner or later, and a message the
                # recipients of another.
                raise RuntimeError(IN_USE_BY_THREAD)
        except BaseException:
            if self._holds.get(0) is hold:
                self.release()
            raise

    @property
    def is_within_step(self) -> bool:
        """Whether this thread is within a step."""
        return self._holds.get(0) == (get_ident(), True)

    @property
    def is_mine(self) -> bool:
        """Whether this thread has the connection."""
        hold = self._holds.get(0)
        return hold is not None and hold[0] == get_ident() and not self.is_lent

    @property
    def is_streaming(self) -> bool:
        """Whether this thread has begun to take the results of send_many(), and not all of them."""
        return self._holds.get(0) == (get_ident(), False) and not self.is_lent

    def check_not_in_use(self) -> None:
        """Raise RuntimeError if the connection is in use, unless by a step of this thread."""
        if self._holds and not self.is_within_step:
            raise RuntimeError(self._user())

    def _user(self) -> str:
        return IN_USE_BY_STREAM if self.is_streaming else IN_USE_BY_THREAD

    def forget_replies(self) -> None:
        """No reply comes any more, as the connection is closed, or is another one."""
        self.awaited_replies = self.asker = 0


class LazyOwnerLock:
    """Descriptor: the lock of a connection, which is made when it is first asked for. Programs make
    connections by __new__ alone, and copy or pickle those that are not open."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, connection: None, cls: type) -> LazyOwnerLock: ...
        @overload
        def __get__(self, connection: object, cls: type) -> OwnerLock: ...

    def __get__(self, connection: object | None, cls: type) -> OwnerLock | LazyOwnerLock:
        if connection is None:
            return self
        # In one step: several threads may ask first.
        lock: OwnerLock = connection.__dict__.setdefault("_lock", OwnerLock())
        return lock


class Channel:
    """A connection in the hands of a pipeline, from the moment at which its thread has acquired it
    until release().

    lock: which this thread has. policy: how the server's extensions may be used, with what it has
    shown. audit: is called with all that is sent, before. close: closes the connection.
    """

    __slots__ = ("audit", "close", "is_lmtp", "lock", "policy", "replies", "sock")

    def __init__(
        self,
        sock: Any,
        replies: ReplyBuffer,
        lock: OwnerLock,
        policy: Policy,
        is_lmtp: bool,
        audit: Callable[[bytes], object],
        close: Callable[[], None],
    ) -> None:
        self.sock = sock
        self.replies = replies
        self.lock = lock
        self.policy = policy
        self.is_lmtp = is_lmtp
        self.audit = audit
        self.close = close
