"""The one connection of `csmtplib send`, reopened when the server has closed it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from smtplib import SMTPNotSupportedError

from ..drive.performer import Wait, Waiting
from ..drive.sock import Connection, connect
from ..protocol.flows import farewell
from ..protocol.mail_object import MailObject, Unsendable
from ..protocol.outcome import Outcome, State
from ..protocol.server_url import Server
from .destination import NoSession, no_session
from .interrupt import Interrupt


class Session:
    """Sends messages over one connection at a time. was_open: whether there has been one.

    The message in progress is aborted once `interrupt.insisted` is set.
    """

    def __init__(self, server: Server, interrupt: Interrupt) -> None:
        self._server = server
        self._interrupt = interrupt
        self._connection: Connection | None = None
        self._wait = Wait()
        self.was_open = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._connection is not None:
            if exception[0] is None and self._connection.is_open:
                # Nothing depends on QUIT: Ctrl-C may interrupt it.
                with suppress(KeyboardInterrupt):
                    self._interrupt.is_idle = True
                    self._connection.run(farewell())
            self._connection.close()

    def waits(self) -> list[Waiting]:
        """Return the current wait, if any. May be called in other threads."""
        wait = self._wait.now
        return [] if wait is None else [wait]

    def send(self, sender: str, recipients: Sequence[str], message: bytes) -> list[Outcome]:
        """Send a message, and return an outcome for each recipient, in order.

        If the connection is lost before the whole message has left, or the server closes it with
        421, the recipients without any other reply are retried once on a new connection. If this
        raises NoSession, or an error about the message, nothing was sent.
        """
        outcomes = self._transact(sender, recipients, message)
        again = [outcome.recipient for outcome in outcomes if _was_cut_off(outcome)]
        if not again or self._interrupt.insisted:
            return outcomes
        try:
            second = iter(self._transact(sender, again, message))
        except (NoSession, Unsendable, SMTPNotSupportedError, KeyboardInterrupt):
            # They stay deferred, and the outcomes of the other recipients are kept. If there is no
            # session, the next message raises that.
            return outcomes
        return [next(second) if _was_cut_off(outcome) else outcome for outcome in outcomes]

    def _transact(self, sender: str, recipients: Sequence[str], message: bytes) -> list[Outcome]:
        connection = self._open()
        self._wait.begin(f"{self._server} to take a message")
        try:
            result = connection.send(
                MailObject(sender, recipients, message),
                is_given_up=lambda: self._interrupt.insisted,
            )
        except KeyboardInterrupt:
            # How much of it the server has is unknown.
            return [Outcome(each, State.IN_DOUBT, fault="interrupted") for each in recipients]
        finally:
            self._wait.end()
        if result.error is not None:
            raise result.error
        return list(result.outcomes)

    def _open(self) -> Connection:
        if self._connection is None or not self._connection.is_open:
            self._interrupt.is_idle = True
            try:
                self._connection = connect(self._server, self._wait)
            except (OSError, ValueError) as error:
                raise no_session(self._server, error) from error
            finally:
                self._interrupt.is_idle = False
            self.was_open = True
        return self._connection


def _was_cut_off(outcome: Outcome) -> bool:
    return outcome.state is State.DEFERRED and (outcome.reply is None or outcome.reply.code == 421)
