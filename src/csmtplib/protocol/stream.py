"""Many messages one after the other over one connection, without I/O: when to take another one,
when to send, what to wait for, and how to go on if the server can't handle what was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kernel.transaction import ALONE, Want
from .dialogue import Exchange
from .failures import ConnectionLost
from .features import parse_ehlo
from .submission import Submission

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel import ReplyBuffer
    from .dialogue import Flow
    from .extension_policy import Policy
    from .features import Features

# Seconds for which messages that come quickly are gathered, to be sent in one write.
_GATHER = 0.001

NO_MORE_MESSAGES = (
    "the server takes no more messages on one connection (LIMITS MAILMAX): connect again for the "
    "rest"
)


class Stream:
    """The messages of one source over one connection.

    A driver adds messages to the `submission` while wants_message(), runs its pipeline when
    must_send() and to the target(), and takes the results(). When submission.must_renew, it
    performs renewal(). It stops when is_done or is_over.

    has_more: whether the source may have another message; the driver sets it.
    """

    def __init__(
        self,
        replies: ReplyBuffer,
        features: Features,
        policy: Policy,
        *,
        lmtp: bool,
        max_in_flight: int,
        chunking: bool,
        audit: Callable[[bytes], object] | None = None,
    ) -> None:
        self._offered = features.extensions
        self._policy = policy
        self._chunking = chunking
        self._half = max_in_flight // 2
        self.has_more = True
        self.submission = Submission(
            replies,
            features,
            policy.mode_for_stream(self._offered, chunking=chunking),
            lmtp=lmtp,
            host=policy.host,
            max_in_flight=max_in_flight,
            audit=audit,
            can_renew=True,
        )

    def wants_message(self) -> bool:
        """Return whether to ask the source for another message."""
        return self.has_more and self.submission.has_room()

    def must_send(self, waited: float, *, is_slow: bool) -> bool:
        """Return whether to send what is there before the next message is asked for.

        waited: seconds since the last run. is_slow: whether the source is slow to give messages.
        """
        pipeline = self.submission.pipeline
        return bool(
            is_slow
            or pipeline.proof == ALONE
            # If messages come quickly, they are sent together, if that is allowed.
            or (waited > _GATHER and pipeline.want() & Want.WRITE)
        )

    def target(self) -> int:
        """Return how many messages may be left when a run ends; 0: all replies are awaited, too."""
        if not self.has_more or self.submission.is_over:
            return 0
        # Half of the window stays in progress while the other is filled again.
        return min(self._half, max(len(self.submission.pipeline) - 1, 0))

    @property
    def is_done(self) -> bool:
        """Whether all messages of the source have their results."""
        return not self.has_more and not len(self.submission)

    @property
    def is_over(self) -> bool:
        """Whether the connection takes no more messages, and those that it took have their
        results."""
        return self.submission.is_over and not len(self.submission)

    def renewal(self, hello: Callable[[], bytes]) -> Flow[None]:
        """Go on with what the server can handle, after it has failed at more.

        hello: returns the EHLO command. If the server has not answered a command, it may have lost
        it, or be late. The answer to EHLO differs from that to any other command by its list of
        extensions, and nothing comes after it.
        """
        submission = self.submission
        if submission.is_lost_in_a_try:
            try:
                reply = yield Exchange(hello(), is_late=True)
                if not _lists_extensions(*reply):
                    # That was the late one. There is at most one.
                    reply = yield Exchange(b"")
            except ConnectionLost:
                submission.abandon()
                return
            if not _lists_extensions(*reply):
                submission.abandon()
                return
        submission.renew(self._policy.best_mode(self._offered, chunking=self._chunking))


def _lists_extensions(code: int, text: bytes) -> bool:
    return code == 250 and "pipelining" in parse_ehlo(text)
