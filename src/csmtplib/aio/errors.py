"""The exceptions of csmtplib.aio: they have the shape of aiosmtplib's, and are smtplib's as well,
so that programs written for either catch them."""

from __future__ import annotations

import asyncio
import smtplib
import sys
from typing import TYPE_CHECKING, Any

from ..kernel.errors import ReplyError, SessionClosed
from ..protocol.failures import disconnected
from .response import SMTPStatus, reply_text, response_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..protocol.result import Result

__all__ = (
    "SMTPAuthenticationError",
    "SMTPConnectError",
    "SMTPConnectResponseError",
    "SMTPConnectTimeoutError",
    "SMTPDataError",
    "SMTPException",
    "SMTPHeloError",
    "SMTPNotSupported",
    "SMTPReadTimeoutError",
    "SMTPRecipientRefused",
    "SMTPRecipientsRefused",
    "SMTPResponseException",
    "SMTPSenderRefused",
    "SMTPServerDisconnected",
    "SMTPTimeoutError",
    "result_of",
    "results_of",
)

if sys.version_info >= (3, 11):
    _Timeout = TimeoutError
else:

    class _Timeout(TimeoutError, asyncio.TimeoutError):
        """Before Python 3.11 these are two classes."""


class SMTPException(smtplib.SMTPException):
    """The base of all.

    message: what happened, as a str. csmtplib_result: the result of the message, if the exception
    comes from sending one and its transaction had begun; else None.
    """

    csmtplib_result: Result | None = None

    def __init__(self, message: str, /) -> None:
        self.message = message
        self.args = (message,)


class SMTPServerDisconnected(SMTPException, smtplib.SMTPServerDisconnected, ConnectionError):
    """The connection was lost, or there is none."""


class SMTPConnectError(SMTPException, smtplib.SMTPConnectError, ConnectionError):
    """The connection could not be opened."""

    def __init__(self, message: str, /) -> None:
        super().__init__(message)
        self.smtp_code = int(SMTPStatus.invalid_response)
        self.smtp_error = reply_text(message)


class SMTPTimeoutError(SMTPException, _Timeout):
    """A time limit has passed."""


class SMTPConnectTimeoutError(SMTPTimeoutError, SMTPConnectError):
    """The connection could not be opened in time."""


class SMTPReadTimeoutError(SMTPTimeoutError, smtplib.SMTPServerDisconnected):
    """The server has sent no reply in time. The connection is closed: the reply could still come,
    and would be read as the one to the next command."""


class SMTPNotSupported(SMTPException, smtplib.SMTPNotSupportedError):
    """The server does not offer what was asked for."""


class SMTPResponseException(SMTPException, smtplib.SMTPResponseException):
    """The server has refused something.

    code: of its reply, -1 if that can't be read. message: its text. smtp_code, smtp_error: as
    smtplib has the two.
    """

    def __init__(self, code: int, message: str, /) -> None:
        self.code = self.smtp_code = code
        self.message = message
        self.smtp_error = reply_text(message)
        self.args = (code, message)


class SMTPConnectResponseError(SMTPResponseException, SMTPConnectError):
    """The server has greeted with a refusal."""

    def __init__(self, code: int, message: str, /) -> None:
        SMTPResponseException.__init__(self, code, message)


class SMTPHeloError(SMTPResponseException, smtplib.SMTPHeloError):
    """EHLO or HELO was refused."""


class SMTPDataError(SMTPResponseException, smtplib.SMTPDataError):
    """DATA, or the message, was refused."""


class SMTPAuthenticationError(SMTPResponseException, smtplib.SMTPAuthenticationError):
    """The login was refused."""


class SMTPSenderRefused(SMTPResponseException, smtplib.SMTPSenderRefused):
    """MAIL was refused. sender: its address."""

    def __init__(self, code: int, message: str, sender: str, /) -> None:
        SMTPResponseException.__init__(self, code, message)
        self.sender = sender
        self.args = (code, message, sender)  # type: ignore[assignment]


class SMTPRecipientRefused(SMTPResponseException):
    """RCPT was refused. recipient: the address."""

    def __init__(self, code: int, message: str, recipient: str, /) -> None:
        super().__init__(code, message)
        self.recipient = recipient
        self.args = (code, message, recipient)  # type: ignore[assignment]


class SMTPRecipientsRefused(SMTPException, smtplib.SMTPRecipientsRefused):
    """All recipients were refused. recipients: an SMTPRecipientRefused for each; in smtplib this is
    a dictionary."""

    recipients: list[SMTPRecipientRefused]  # type: ignore[assignment]

    def __init__(self, recipients: Sequence[SMTPRecipientRefused], /) -> None:
        self.recipients = list(recipients)
        self.args = (self.recipients,)  # type: ignore[assignment]


def result_of(error: BaseException | None) -> Result | None:
    """Return the result of the message that an exception is about; None if no transaction had
    begun, so that nothing was sent.

    Works for every exception of sendmail(), send_message(), send() and SMTPPool.send(), and for
    those that asyncio makes of them: CancelledError, TimeoutError.
    """
    result: Result | None = _found(error, "csmtplib_result")
    return result


def results_of(error: BaseException | None) -> list[Result]:
    """Return the results of the messages that SMTP.send_many() had taken when it was cancelled, and
    that it had not yielded. As for result_of(), the exception may be one that asyncio has made."""
    results: list[Result] | None = _found(error, "csmtplib_results")
    return results or []


def _found(error: BaseException | None, name: str) -> Any:
    """Return the attribute of an exception, or of one of those that it was raised from.

    What was only being handled when it was raised may be about another message. But Python 3.10
    raises a CancelledError of its own for a task that was cancelled, in the context of the task's.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        value = getattr(error, name, None)
        if value is not None:
            return value
        seen.add(id(error))
        cause, context = error.__cause__, error.__context__
        is_of_task = isinstance(error, asyncio.CancelledError) and type(context) is type(error)
        error = context if cause is None and is_of_task else cause
    return None


def lost(failure: BaseException) -> SMTPException:
    """Return the exception for a connection that can't be used any more for this reason."""
    error: SMTPException
    if isinstance(failure, SMTPException):
        return failure
    if isinstance(failure, TimeoutError):
        error = SMTPReadTimeoutError("Timed out waiting for server response")
    elif isinstance(failure, ReplyError) and not isinstance(failure, SessionClosed):
        error = SMTPResponseException(
            int(SMTPStatus.invalid_response), f"Malformed SMTP response: {failure}"
        )
    elif isinstance(failure, smtplib.SMTPServerDisconnected):
        error = SMTPServerDisconnected(str(failure))
    elif isinstance(failure, Exception):
        error = SMTPServerDisconnected(str(disconnected(failure)))
    else:
        error = SMTPServerDisconnected("Connection lost")
    error.__cause__ = failure
    return error


def translated(
    error: smtplib.SMTPException, refused: Sequence[tuple[str, tuple[int, bytes]]] | None = None
) -> SMTPException:
    """Return an exception of smtplib as one of ours.

    refused: the recipients that were refused, in order, with the replies; smtplib has one that was
    named twice once.
    """
    if isinstance(error, SMTPException):
        return error
    if isinstance(error.__cause__, (ReplyError, EOFError, OSError)):
        return lost(error.__cause__)
    ours: SMTPException
    if isinstance(error, smtplib.SMTPSenderRefused):
        text = response_text(_bytes(error.smtp_error))
        ours = SMTPSenderRefused(error.smtp_code, text, error.sender)
    elif isinstance(error, smtplib.SMTPRecipientsRefused):
        ours = SMTPRecipientsRefused(
            [
                SMTPRecipientRefused(code, response_text(text), recipient)
                for recipient, (code, text) in refused or error.recipients.items()
            ]
        )
    elif isinstance(error, smtplib.SMTPResponseException):
        kind = next(
            (each for theirs, each in _RESPONSES if isinstance(error, theirs)),
            SMTPResponseException,
        )
        ours = kind(error.smtp_code, response_text(_bytes(error.smtp_error)))
    elif isinstance(error, smtplib.SMTPNotSupportedError):
        ours = SMTPNotSupported(str(error))
    elif isinstance(error, smtplib.SMTPServerDisconnected):
        return lost(error)
    else:
        ours = SMTPException(str(error))
    ours.__cause__ = error.__cause__
    return ours


_RESPONSES: tuple[tuple[type[smtplib.SMTPException], type[SMTPResponseException]], ...] = (
    (smtplib.SMTPDataError, SMTPDataError),
    (smtplib.SMTPConnectError, SMTPConnectResponseError),
    (smtplib.SMTPHeloError, SMTPHeloError),
    (smtplib.SMTPAuthenticationError, SMTPAuthenticationError),
)


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else reply_text(text)
