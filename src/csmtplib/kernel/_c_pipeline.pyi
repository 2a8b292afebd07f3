from collections.abc import Iterable, Sequence
from typing import final

from typing_extensions import Self

from . import BytesLike, ReplyBuffer
from .transaction import Completed

@final
class Content:
    """The bytes of one message, as they are sent.

    buffers: the text, in one piece or cut anywhere. Line ends become CR LF, and the last line gets
    one. `dots`, for DATA, doubles leading dots and adds the terminator. What needs no change is not
    copied, unless its owner could change it meanwhile. With `end`, the buffers are already as they
    are sent, and `end` follows them.

    byte_count: the number of bytes sent. size: the number that SIZE counts (RFC 1870).
    longest_line: the length without the line end, where CR and LF both end a line. terminator: the
    offset from which on the server may have the whole message. With `end`, size, longest_line,
    has_nul and has_8bit are not determined.
    """

    byte_count: int
    size: int
    longest_line: int
    has_nul: bool
    has_8bit: bool
    terminator: int

    def __new__(
        cls, buffers: bytes | Iterable[BytesLike], dots: bool, end: bytes | None = None, /
    ) -> Self: ...

@final
class Pipeline:
    """The transactions of one connection, without I/O: what to write, which command each reply
    answers, what has become of each message (RFC 5321 section 3.3, RFC 2920, RFC 3030).

    A driver writes what it pulls, feeds `replies` with what it reads, and then calls receive().
    Messages are completed in the order in which they were pushed.

    mode: a transaction.Mode. lmtp: one reply per recipient after the content (RFC 2033). strict: a
    reply that RFC 5321 does not allow is a failure, and refused transactions are reset. Without
    strict, one message is sent and its replies are reported as they are, as smtplib does. large:
    content of more bytes waits for the replies to RCPT.

    proof: the last transaction.Step that the server has proved to handle. limit: the last one that
    may be taken or tried; it falls when a step turns out not to work. A strict pipeline tries the
    next step by itself. If a refusal may be about sending early, it sends the message again, one
    command at a time: if the message is then accepted, the step was to blame. doubts: how many such
    refusals are open; without strict they stay open, for the caller to examine.

    failure: why the connection can no longer be used, or None. byte_count: the size of all messages
    that are not completed; len() is their number. booked: how many replies there were.
    """

    strict: bool
    failure: Exception | None
    byte_count: int
    booked: int

    def __new__(
        cls,
        replies: ReplyBuffer,
        mode: int,
        lmtp: bool,
        strict: bool,
        proof: int,
        large: int,
        /,
    ) -> Self: ...
    @property
    def proof(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def doubts(self) -> int: ...
    def __len__(self) -> int: ...
    def push(self, tag: object, commands: Sequence[bytes], content: Content, /) -> None:
        """Add a message: MAIL and each RCPT as command lines with CR LF, and the content."""

    def learn(self, proof: int, limit: int, /) -> None:
        """Take over what other connections to the server have shown. This raises proof and lowers
        limit, never the reverse. Raises ValueError for anything but a transaction.Step."""

    def send_content(self, content: Content | None = None, /) -> None:
        """Send the content that is held. Unless the pipeline is strict, it holds content that the
        server has asked for with 354, and content for BDAT while no message has come through that
        way; want() is 0 meanwhile. For DATA, `content` replaces what is held: that may have been
        made before it was known whether it is needed. Raises ValueError if nothing is held."""

    def want(self) -> int:
        """Return what the driver should do, as bits of transaction.Want."""

    def phase(self) -> int:
        """Return what the pipeline is waiting for, a transaction.Phase; after a failure, what it
        was waiting for then."""

    def pull(self, limit: int, /) -> bytes:
        """Return the next bytes to write, at most `limit`. Until wrote() is called, it returns the
        same bytes again, even if more could follow: TLS requires that after a failed write.

        Until wrote() reports how many were sent, all of them count as sent if the pipeline is lost:
        a driver that is interrupted between the two calls leaves messages in doubt."""

    def wrote(self, count: int, /) -> None:
        """Report how many of the pulled bytes were sent, 0 for none. Raises ValueError for more
        than there were."""

    def receive(self) -> None:
        """Book the replies that are in the buffer."""

    def lose(self, error: Exception, /) -> None:
        """Complete every message, as the connection is lost or useless."""

    def end_of_stream(self) -> None:
        """Complete every message, as the server has closed the connection. Unless strict, first
        book a last reply that has no line end."""

    def take(self) -> list[Completed]:
        """Return the messages that were completed since the last call, in order."""
