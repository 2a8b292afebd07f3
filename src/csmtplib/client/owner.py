"""Who uses a connection: one thread at a time, by the methods or by a pipeline."""

from __future__ import annotations

from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias, overload

    from ..kernel import ReplyBuffer
    from ..protocol.extension_policy import Policy

    # A thread, and whether it owns the connection for a step, rather than for a pipeline.
    Hold: TypeAlias = tuple[int, bool]

IN_USE_BY_THREAD = "the connection is in use by another thread: make a connection for each thread"
IN_USE_BY_STREAM = (
    "the connection is in use by send_many(): take all its results first, or close the connection"
)


class OwnerLock:
    """A lock on a connection, with its owner.

    A thread owns it either for a pipeline, which reads and writes the socket itself, or for a step:
    a method that sends or reads, or consists of such methods. One call into C acquires or refuses
    it, and one, release(), frees it: if it were tested first and changed afterwards, two threads
    could both find it free, and an interrupt in between could leave it acquired for ever.

    is_lent: whether the owner, a pipeline, waits for its next message; meanwhile no method may use
    the connection. asker: the thread that has sent a command and must read the reply, 0 for none.
    awaited_replies: the number of replies still due, whichever thread sent the commands.
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
        """Acquire the connection for this thread alone, until release(). Raises RuntimeError if it
        is in use; with to_send, also if another thread waits for the reply to its command."""
        self._take((get_ident(), False), to_send)

    def begin_step(self, *, to_send: bool = True) -> bool:
        """Acquire the connection for a step. Return whether to release() it afterwards: not if this
        is a step within a longer one of the same thread."""
        hold = (get_ident(), True)
        if self._holds.get(0) == hold:
            return False
        self._take(hold, to_send)
        return True

    def _take(self, hold: Hold, to_send: bool) -> None:
        # Each hold is a new object, so its identity tells whose it is.
        try:
            if self._holds.setdefault(0, hold) is not hold:
                raise RuntimeError(self._user())
            if to_send and self.asker not in (0, hold[0]):
                # That thread would get the reply to this command, sooner or later, and a message
                # could go to the recipients of another.
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
        """Whether this thread has begun to take the results of send_many(), but not finished."""
        return self._holds.get(0) == (get_ident(), False) and not self.is_lent

    def check_not_in_use(self) -> None:
        """Raise RuntimeError if the connection is in use, unless by a step of this thread."""
        if self._holds and not self.is_within_step:
            raise RuntimeError(self._user())

    def _user(self) -> str:
        return IN_USE_BY_STREAM if self.is_streaming else IN_USE_BY_THREAD

    def forget_replies(self) -> None:
        """Expect no more replies, as the connection is closed, or is a new one."""
        self.awaited_replies = self.asker = 0


class LazyOwnerLock:
    """Descriptor: the lock of a connection, created on first use. Programs create connections by
    __new__ alone, and copy or pickle those that are not open."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, connection: None, cls: type) -> LazyOwnerLock: ...
        @overload
        def __get__(self, connection: object, cls: type) -> OwnerLock: ...

    def __get__(self, connection: object | None, cls: type) -> OwnerLock | LazyOwnerLock:
        if connection is None:
            return self
        # Atomic, as several threads may ask first.
        lock: OwnerLock = connection.__dict__.setdefault("_lock", OwnerLock())
        return lock


class Channel:
    """A connection that a pipeline uses, from the time its thread acquires it until release().

    lock: held by this thread. policy: how the server's extensions may be used, and what the server
    has shown. audit: called with everything before it is sent. close: closes the connection.
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
