from collections.abc import Iterable, Sequence
from typing import final

from typing_extensions import Self

from . import Octets, ReplyBuffer
from .transaction import Settled

@final
class Content:
    """The octets of one message, as they go over the wire.

    buffers: its text, in one piece or cut anywhere. Line ends become CR LF and the last line gets
    one; `dots`, for DATA, doubles leading dots and adds the terminator. What needs no change is not
    copied, unless its owner could change it meanwhile. With an `end` the buffers are the text as it
    is on the wire already, and that follows it.

    octets: on the wire. size: as SIZE counts them (RFC 1870). longest_line: octets without the line
    end, where CR and LF both end one. terminator: the offset from which on the server may have it
    all. size, longest_line, has_nul and has_8bit are not found out where there is an `end`.
    """

    octets: int
    size: int
    longest_line: int
    has_nul: bool
    has_8bit: bool
    terminator: int

    def __new__(
        cls, buffers: bytes | Iterable[Octets], dots: bool, end: bytes | None = None, /
    ) -> Self: ...

@final
class Pipeline:
    """The transactions of one connection, without I/O: what to write, what each reply answers, what
    has become of each message (RFC 5321 section 3.3, RFC 2920, RFC 3030).

    A driver writes what it pulls, feeds `replies` with what it reads and calls receive() then.
    Messages are settled in the order in which they were pushed.

    gear: a transaction.Gear. lmtp: one reply a recipient after the content (RFC 2033). strict: a
    reply that RFC 5321 does not have is a failure, and transactions that were refused are reset;
    otherwise one message is sent, and its replies are told as they are, for smtplib's ways. proved:
    the gear has brought a message through on this connection; until then one is sent at a time.
    large: octets from which on a message waits for the replies to RCPT.

    failure: why the connection can't be used on; None while it can. octets: of all messages that
    are not settled; len() is their number. booked: how many replies there were.
    """

    strict: bool
    proved: bool
    failure: Exception | None
    octets: int
    booked: int

    def __new__(
        cls,
        replies: ReplyBuffer,
        gear: int,
        lmtp: bool,
        strict: bool,
        proved: bool,
        large: int,
        /,
    ) -> Self: ...
    def __len__(self) -> int: ...
    def push(self, tag: object, commands: Sequence[bytes], content: Content, /) -> None:
        """Adds a message: MAIL and each RCPT as command lines with CR LF, and the content."""

    def release(self) -> None:
        """Lets content leave. Unless the pipeline is strict, content that the server has asked for
        by 354, or that BDAT would send where the gear is not proved, is held until then, and want()
        says nothing."""

    def want(self) -> int:
        """What a driver is to do, as bits of transaction.Want."""

    def phase(self) -> int:
        """What is being waited for, a transaction.Phase; after a failure, what was then."""

    def pull(self, limit: int, /) -> bytes:
        """The next octets to write, at most `limit` of them. Until wrote() is called they are the
        same again, whatever comes behind them: TLS wants that of who could not write a record."""

    def wrote(self, count: int, /) -> None:
        """So many octets have been handed to the network. Raises ValueError for more than there
        were."""

    def receive(self) -> None:
        """Books the replies that are in the buffer."""

    def lose(self, error: Exception, /) -> None:
        """The connection is lost, or has become useless: settles every message."""

    def end_of_stream(self) -> None:
        """The server has closed the connection: books a last reply without a line end, unless it is
        to be strict, and settles every message."""

    def take(self) -> list[Settled]:
        """The messages that were settled since the last call, in order."""
