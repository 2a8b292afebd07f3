from collections.abc import Iterable
from typing import final

from typing_extensions import Self

from . import Octets

@final
class ReplyBuffer:
    """The receive buffer of one connection, and the replies in it.

    Lines longer than `max_line` octets and replies longer than `max_reply`, line ends counted, are
    refused.
    """

    def __new__(cls, max_line: int, max_reply: int, /) -> Self: ...
    def __len__(self) -> int:
        """Octets that were received and not read yet."""

    def feed(self, octets: Octets, /) -> None:
        """Takes in what was received."""

    def end_of_stream(self) -> bool:
        """Gives an unfinished last line its LF, as no more will come; False where there is none."""

    def peek(self, count: int, /) -> bytes:
        """The next octets, at most `count`, which stay unread."""

    def take(self, count: int, /) -> bytes:
        """The next octets, at most `count`, which are read by that."""

    def readline(self, limit: int = -1, /) -> bytes | None:
        """The next line with its LF, or `limit` octets of a longer one; None while it is not
        there."""

    def reply(self) -> tuple[int, bytes] | None:
        """The next reply (RFC 5321 section 4.2): code and joined text; None while it is not there.

        The texts of its lines are stripped of white space and joined by LF. The code is -1 where a
        line begins with none, as in the stdlib. Raises ReplyTooLong, ReplyMalformed.
        """

@final
class BodyEncoder:
    """Normalises line ends to CR LF and doubles leading dots, chunk by chunk (RFC 5321 section
    4.5.2), whatever the borders of the chunks.

    dots=False: for BDAT, where the end is known by a count, and dots are left alone.
    """

    def __init__(self, dots: bool = True) -> None: ...
    def encode(self, octets: Octets, /) -> bytes:
        """The next chunk as it goes over the wire."""

    def finish(self) -> bytes:
        """What ends the body: the line end that the last line lacks, and with dots the terminator.
        What is encoded next begins another body."""

def fix_eols(text: str, /) -> str:
    """The text with every CR LF, lone CR and lone LF as CR LF (smtplib._fix_eols)."""

def quote_periods(octets: Octets, /) -> bytes:
    """The octets with every dot at the start and behind an LF doubled (smtplib._quote_periods)."""

def survey(octets: Octets, /) -> tuple[int, bool, bool]:
    """What a body holds: octets of its longest line (CR and LF both end one, and don't count),
    whether there is a NUL, whether there is an octet above 127."""

def has_control(text: str, /) -> bool:
    """Whether the text has a C0 control character or DEL."""

def is_plain_address(address: str, /) -> bool:
    """Whether this is a dot-atom, "@" and a domain of ASCII letters, digits, "-" and ".", which
    every parser of addresses reads the same way."""

def envelope_lines(
    mail: str,
    sender: str,
    mail_parameters: str,
    rcpt: str,
    recipients: Iterable[str],
    rcpt_parameters: str,
    /,
) -> list[bytes] | None:
    """MAIL and each RCPT as command lines: `mail` and `rcpt` up to the "<", an address, ">" and the
    parameters. None where an address is not plain, or anything not ASCII without control
    characters: that has to be looked at first."""
