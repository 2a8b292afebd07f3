"""What the client classes do where a server takes several commands at once (RFC 2920).

The transaction then is run by a pipeline instead of by mail(), rcpt() and data(), to the same end.
"""

from __future__ import annotations

import sys
from functools import partial
from smtplib import SMTPResponseException, SMTPServerDisconnected

import csmtplib as public

from .. import fastpath, kernel
from ..drive import transactions
from ..drive.replyfile import ReplyFile
from ..kernel.errors import ReplyError, ReplyTooLong
from ..kernel.transaction import CHUNKED, LOCKSTEP, Gear
from ..protocol import limits, switches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel import Octets, Pipeline
    from ..kernel.transaction import Settled
    from .smtp import SMTP

# What sendmail() calls in the stdlib, and what those call: where one of them is not ours, it has to
# be called.
_METHODS = (
    "mail",
    "rcpt",
    "data",
    "rset",
    "_rset",
    "docmd",
    "putcmd",
    "send",
    "getreply",
    "close",
    "has_extn",
    "_get_socket",
    "_print_debug",
)


def gear_of(smtp: SMTP) -> Gear:
    """How sendmail() may run a transaction: in lockstep where that is left to the methods."""
    sock = smtp.sock
    if (
        smtp.debuglevel > 0
        or smtp._awaited_replies
        or type(sock) not in transactions.GENUINE
        or (smtp.file is not None and type(smtp.file) is not ReplyFile)
        or sock.gettimeout() == 0  # type: ignore[union-attr]
        or not fastpath.untouched(smtp, *_METHODS)
    ):
        return LOCKSTEP
    return offered_gear(smtp, chunking=smtp.chunking)


def offered_gear(smtp: SMTP, *, chunking: bool) -> Gear:
    """The best gear that the server offers and nobody has turned off."""
    if not smtp.pipelining:
        return LOCKSTEP
    if smtp._usable is None:
        smtp._usable = switches.usable(smtp._connected_host)
    return switches.best_gear(smtp.esmtp_features, smtp._usable, chunking=chunking)


def transact(
    smtp: SMTP, gear: Gear, commands: list[bytes], octets: Octets
) -> tuple[Settled, Exception | None]:
    """Runs one transaction: what became of it, and why the connection can't be used any more."""
    is_chunked = gear == CHUNKED
    is_proved = gear in smtp._proved_gears
    if is_chunked:
        body = bytes(octets)
        end = b"" if body.endswith(b"\r\n") else b"\r\n"
        asked, content = [], [b"BDAT %d LAST\r\n" % (len(body) + len(end)), body + end]
        if is_proved:
            asked, content = content, []
    else:
        body = public._quote_periods(octets)
        end = b".\r\n" if body.endswith(b"\r\n") else b"\r\n.\r\n"
        asked, content = [b"data\r\n"], [body + end]
    _audit(smtp, *commands, *asked)
    replies = smtp._occupy()
    try:
        sock = smtp.sock
        if not smtp._proved_gears:
            transactions.prepare(sock)
        pipeline = kernel.Pipeline(
            replies, gear, smtp._is_lmtp, False, is_proved, limits.LARGE_MESSAGE_OCTETS
        )
        pipeline.push(None, commands, kernel.Content([body], not is_chunked, end))
        allowed = limits.at_least(sock.gettimeout())  # type: ignore[union-attr]
        before_content = partial(_audit, smtp, *content)
        transactions.run(pipeline, replies, sock, 0, allowed, before_content=before_content)
        if not is_proved:
            learn(smtp, gear, pipeline)
        (settled,) = pipeline.take()
        return settled, pipeline.failure
    except BaseException:
        smtp.close()  # see Connection.getreply()
        raise
    finally:
        smtp._let_go()


def _audit(smtp: SMTP, *written: bytes) -> None:
    """Raises the event of each write that the stdlib would do, before what it tells of leaves."""
    for octets in written:
        sys.audit("smtplib.send", smtp, octets)


def learn(smtp: SMTP, gear: Gear, pipeline: Pipeline) -> None:
    """Remembers what a pipeline has shown of the server."""
    if pipeline.proved:
        smtp._proved_gears |= {gear}
    switches.learn(smtp._connected_host, gear, pipeline)


def disconnected(failure: Exception) -> SMTPServerDisconnected | SMTPResponseException:
    """A failure as getreply() would have raised it."""
    if isinstance(failure, ReplyTooLong):
        return SMTPResponseException(500, failure.reason)
    if isinstance(failure, EOFError):
        return SMTPServerDisconnected("Connection unexpectedly closed")
    if isinstance(failure, TimeoutError):
        return SMTPServerDisconnected("Connection unexpectedly closed: timed out")
    if isinstance(failure, ReplyError):
        return SMTPServerDisconnected(f"Connection closed: the server sent {failure}")
    return SMTPServerDisconnected(f"Connection unexpectedly closed: {failure}")
