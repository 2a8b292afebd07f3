"""OpenSMTPD, which has a limit of messages for a session, and tells it to MAIL."""

from __future__ import annotations

from typing import Any

from .mta import ScriptedMTA, ScriptedSession

SESSION_MAX_MAILS = 100
SESSION_MAX_RCPT = 1000


class OpenSMTPD(ScriptedMTA):
    """OpenSMTPD's server: `452 4.5.3` to every MAIL once a session has brought 100 messages, while
    the connection stays open; `451 4.5.3` to RCPT from the 1001st recipient of a message on.

    It has neither PIPELINING nor CHUNKING, and a client that sends a command before it has the
    reply to the last one hears 500, and is thrown out. A second EHLO hears 503 (`Already
    identified`). `pipelining` has it offer PIPELINING all the same, as a server with such a limit
    may.

    Source: usr.sbin/smtpd/smtp_session.c of OpenBSD, smtp_check_mail_from(), smtp_check_rcpt_to(),
    smtp_check_ehlo() and smtp_io(); config.c for the limits.
    """

    def __init__(
        self,
        *,
        max_mails: int = SESSION_MAX_MAILS,
        max_rcpt: int = SESSION_MAX_RCPT,
        pipelining: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(pipelining=pipelining, chunking=False, **options)
        self.max_mails = max_mails
        self.max_rcpt = max_rcpt

    def session(self) -> OpenSMTPDSession:
        return OpenSMTPDSession(self, self.max_mails, self.max_rcpt)


class OpenSMTPDSession(ScriptedSession):
    extensions = ("8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 36700160", "DSN", "HELP")

    def __init__(self, server: OpenSMTPD, max_mails: int, max_rcpt: int) -> None:
        super().__init__(server)
        self._max_mails = max_mails
        self._max_rcpt = max_rcpt
        self._is_identified = False

    def mail(self) -> str | None:
        if self._connection.messages >= self._max_mails:
            return self._refuse("452 4.5.3 Too many recipients: Too many messages sent")
        return super().mail()

    def rcpt(self, recipient: str) -> str | None:
        if len(self._recipients) >= self._max_rcpt:
            return self._refuse("451 4.5.3 Too many recipients: Too many recipients")
        return super().rcpt(recipient)

    def _hello(self) -> None:
        if self._is_identified:
            self._say("503 5.5.1 Invalid command: Already identified")
        else:
            self._is_identified = True
            super()._hello()

    def _take_command(self, position: int) -> int | None:
        if not self._pipelining and self._pipelined(position):
            self.end("500 5.5.1 Invalid command: Pipelining not supported")
            return None
        return super()._take_command(position)
