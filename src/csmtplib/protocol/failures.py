"""Why a connection can't be used any more: in words, and as the exceptions of smtplib."""

from __future__ import annotations

from smtplib import SMTPResponseException, SMTPServerDisconnected

from ..kernel.errors import ChunkingRefused, ReplyError, ReplyTooLong, SessionClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel import ReplyBuffer


class ConnectionLost(SMTPServerDisconnected):
    """The connection is closed, by the server or because of what it sent."""


class NoGreeting(ConnectionLost):
    """The server sent nothing readable, so it may not speak SMTP on this port, or not without
    TLS."""


def describe(failure: Exception | None) -> str:
    """Return a failure in words."""
    return str(failure) or type(failure).__name__


def disconnected(failure: Exception) -> SMTPServerDisconnected | SMTPResponseException:
    """Return the exception that getreply() raises for the failure of a pipeline."""
    if isinstance(failure, ReplyTooLong):
        return SMTPResponseException(500, failure.reason)
    if isinstance(failure, EOFError):
        return SMTPServerDisconnected("Connection unexpectedly closed")
    if isinstance(failure, TimeoutError):
        return SMTPServerDisconnected("Connection unexpectedly closed: timed out")
    if isinstance(failure, (SessionClosed, ChunkingRefused)):
        return SMTPServerDisconnected(f"Connection closed: {failure}")
    if isinstance(failure, ReplyError):
        return SMTPServerDisconnected(f"Connection closed: the server sent {failure}")
    return SMTPServerDisconnected(f"Connection unexpectedly closed: {failure}")


def surplus_reply(replies: ReplyBuffer, *, allowed: bytes | None = None) -> str | None:
    """Describe what the server sent before the next command, if anything; None if the buffer is
    empty, or begins with the code that is allowed.

    A client that went on would take it for the answer to its next command, and each later reply for
    the answer to the command after its own: a refused recipient could count as accepted.
    """
    if not len(replies):
        return None
    surplus = replies.peek(200)
    if allowed is not None and surplus.startswith(allowed):
        return None
    return f"the server sent a reply that answers no command: {surplus!r}"


def injected_text(replies: ReplyBuffer) -> str | None:
    """Describe what follows the server's reply to STARTTLS, if anything. It came in the clear, so
    anybody may have put it there, and must not be read as sent inside TLS (CVE-2021-38371)."""
    if not len(replies):
        return None
    return f"more followed the server's reply to STARTTLS, in the clear: {replies.peek(200)!r}"
