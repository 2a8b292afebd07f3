"""The one connection of a run, opened again when the server has closed it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from smtplib import SMTPNotSupportedError

from ..drive.sock import Connection, connect
from ..protocol.flows import farewell
from ..protocol.mail_object import MailObject, Unsendable
from ..protocol.outcome import Outcome, State
from ..protocol.server_url import Server
from .destination import NoSession, no_session


class Session:
    """Sends messages over one connection at a time. `was_open`: whether there has been one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Connection | None = None
        self.was_open = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._connection is not None:
            if kind is None and self._connection.is_open:
                # Nothing depends on it any more: who interrupts it has waited long enough.
                with suppress(KeyboardInterrupt):
                    self._connection.run(farewell())
            self._connection.close()

    def send(self, sender: str, recipients: Sequence[str], message: bytes) -> list[Outcome]:
        """Sends a message; an outcome for each recipient, in order.

        Where the connection is lost before the whole message has left, or the server closes it by a
        421, the recipients that have no other answer are tried once more on a new one. Raises
        NoSession, and what is wrong with the message; then nothing was sent.
        """
        outcomes = self._transact(sender, recipients, message)
        again = [outcome.recipient for outcome in outcomes if _was_cut_off(outcome)]
        if not again:
            return outcomes
        try:
            second = iter(self._transact(sender, again, message))
        except (NoSession, Unsendable, SMTPNotSupportedError, KeyboardInterrupt):
            # They stay deferred, and what is known of the other recipients is not lost. If there is
            # no session to be had, the next message says so.
            return outcomes
        return [next(second) if _was_cut_off(outcome) else outcome for outcome in outcomes]

    def _transact(self, sender: str, recipients: Sequence[str], message: bytes) -> list[Outcome]:
        connection = self._open()
        try:
            result = connection.send(MailObject(sender, recipients, message))
        except KeyboardInterrupt:
            # Nobody knows how much of it the server has.
            return [Outcome(each, State.IN_DOUBT, fault="interrupted") for each in recipients]
        if result.error is not None:
            raise result.error
        return list(result.outcomes)

    def _open(self) -> Connection:
        if self._connection is None or not self._connection.is_open:
            try:
                self._connection = connect(self._server)
            except (OSError, ValueError) as error:
                raise no_session(self._server, error) from error
            self.was_open = True
        return self._connection


def _was_cut_off(outcome: Outcome) -> bool:
    return outcome.state is State.DEFERRED and (outcome.reply is None or outcome.reply.code == 421)
