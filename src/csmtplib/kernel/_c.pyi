from collections.abc import Iterable
from typing import final

from typing_extensions import Self

from . import BytesLike

@final
class ReplyBuffer:
    """The receive buffer of one connection, and the replies in it.

    It refuses lines longer than `max_line` bytes and replies longer than `max_reply`, including
    line ends.
    """

    def __new__(cls, max_line: int, max_reply: int, /) -> Self: ...
    def __len__(self) -> int:
        """Return how many bytes were received but not read."""

    def feed(self, data: BytesLike, /) -> None:
        """Add bytes that were received."""

    def end_of_stream(self) -> bool:
        """Add the LF that the last line lacks, as no more will come. Return False if it lacks
        none."""

    def peek(self, count: int, /) -> bytes:
        """Return the next bytes, at most `count`, which stay unread."""

    def take(self, count: int, /) -> bytes:
        """Read the next bytes, at most `count`."""

    def readline(self, limit: int = -1, /) -> bytes | None:
        """Read the next line with its LF, or `limit` bytes of a longer one. Return None while it is
        not complete."""

    def reply(self) -> tuple[int, bytes] | None:
        """Read the next reply (RFC 5321 section 4.2): code and joined text. Return None while it is
        not complete.

        The texts of the lines are stripped of white space and joined by LF. As in the stdlib, the
        code is -1 if a line begins with none. Raises ReplyTooLong, ReplyMalformed.
        """

@final
class BodyEncoder:
    """Normalise line ends to CR LF and double leading dots, chunk by chunk (RFC 5321 section
    4.5.2), wherever the text is cut.

    dots=False: leave dots alone, for BDAT, which announces the size.
    """

    def __init__(self, dots: bool = True) -> None: ...
    def encode(self, data: BytesLike, /) -> bytes:
        """Return the next chunk as it is sent."""

    def finish(self) -> bytes:
        """Return what ends the body: the line end that the last line lacks, and with dots the
        terminator. The next chunk begins another body."""

def fix_eols(text: str, /) -> str:
    """Replace every CR LF, lone CR and lone LF by CR LF (smtplib._fix_eols)."""

def quote_periods(data: BytesLike, /) -> bytes:
    """Double every dot at the start and after an LF (smtplib._quote_periods)."""

def scan(data: BytesLike, /) -> tuple[int, bool, bool]:
    """Return the length of the longest line of a body (CR and LF both end a line, and do not
    count), whether there is a NUL, and whether there is a byte above 127."""

def has_control(text: str, /) -> bool:
    """Return whether the text has a C0 control character or DEL."""

def is_plain_address(address: str, /) -> bool:
    """Return whether this is a dot-atom, "@" and a domain of ASCII letters, digits, "-" and ".",
    which every parser of addresses reads the same way."""

def envelope_lines(
    mail: str,
    sender: str,
    mail_parameters: str,
    rcpt: str,
    recipients: Iterable[str],
    rcpt_parameters: str,
    /,
) -> list[bytes] | None:
    """Return MAIL and each RCPT as command lines: `mail` or `rcpt` up to the "<", an address, ">"
    and the parameters. Return None if an address is not plain, or if anything is not ASCII or has
    control characters; then a closer look is needed."""
