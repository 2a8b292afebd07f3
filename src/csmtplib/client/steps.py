"""The steps of a transaction in which each command waits for the reply to the one before."""

from __future__ import annotations

import time
from smtplib import SMTPDataError

from ..protocol.extension_policy import ENVELOPE_COMMANDS
from .pipelining import encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from ..kernel import BytesLike
    from ..kernel.transaction import Reply
    from .connection import Connection

    class Methods(Protocol):
        """The methods of SMTP by which a transaction is run."""

        def mail(self, sender: str, options: Sequence[str] = ()) -> Reply: ...
        def rcpt(self, recip: str, options: Sequence[str] = ()) -> Reply: ...
        def data(self, msg: str | BytesLike) -> Reply: ...


class ByMethods:
    """Steps that call mail(), rcpt() and data(), as in the stdlib, because programs override
    them."""

    def __init__(
        self,
        smtp: Methods,
        from_addr: str,
        data: BytesLike,
        mail_options: Sequence[str],
        rcpt_options: Sequence[str],
    ) -> None:
        self._smtp = smtp
        self._from_addr = from_addr
        self._data = data
        self._mail_options = mail_options
        self._rcpt_options = rcpt_options

    def mail(self) -> Reply:
        """Return the reply to MAIL."""
        return self._smtp.mail(self._from_addr, self._mail_options)

    def rcpt(self, recipient: str) -> Reply:
        """Return the reply to RCPT of the next recipient."""
        return self._smtp.rcpt(recipient, self._rcpt_options)

    def data(self) -> Reply:
        """Return the reply to the message. Raises SMTPDataError if DATA is refused."""
        return self._smtp.data(self._data)


class Direct:
    """The same steps without the methods, if none is overridden: each of those would check and lock
    again what is checked and locked once for the transaction."""

    def __init__(self, connection: Connection, commands: list[bytes], data: BytesLike) -> None:
        """commands: MAIL and each RCPT."""
        self._connection = connection
        self._count = len(commands) - 1 + ENVELOPE_COMMANDS
        self._commands = iter(commands)
        self._data = data
        self._begun = time.monotonic()

    def mail(self) -> Reply:
        """Return the reply to MAIL."""
        return self._connection._ask(next(self._commands))

    def rcpt(self, recipient: str) -> Reply:
        """Return the reply to RCPT of the next recipient."""
        return self._connection._ask(next(self._commands))

    def data(self) -> Reply:
        """Return the reply to the message. Raises SMTPDataError if DATA is refused."""
        connection = self._connection
        code, text = connection._ask(b"data\r\n")
        if code != 354:
            raise SMTPDataError(code, text)
        seconds = time.monotonic() - self._begun
        connection._policy().host.pace.learn_sequence(self._count, seconds)
        return self._reply_to_content(encoded_for(connection, self._data))

    def _reply_to_content(self, content: bytes) -> Reply:
        return self._connection._exchange(content)


def encoded_for(connection: Connection, data: BytesLike) -> bytes:
    """Return a message as it is sent after DATA. If that fails, close the connection: the server
    waits for a message, and would take the next command for its content."""
    try:
        body, end = encoded(data)
        return body + end
    except BaseException:
        connection.close()
        raise
