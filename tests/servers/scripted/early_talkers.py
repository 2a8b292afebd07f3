"""Servers that watch for clients that talk before it is their turn: before the greeting, or behind
a command whose reply they have to wait for."""

from __future__ import annotations

from typing import Any

from .mta import LateGreeting, ScriptedMTA, ScriptedSession

# Those behind which a client may send more (RFC 2920 section 3.1).
GROUPED = (b"MAIL", b"RCPT", b"RSET", b"NOOP", b"BDAT")


class Sendmail(ScriptedMTA):
    """sendmail with FEATURE(greet_pause): the greeting comes after a while, and is 554 for a client
    that has sent something before it; of such a client's commands EHLO, HELO, NOOP, RSET and QUIT
    are answered as always, everything else with `550 5.0.0 Command rejected`. The connection stays
    open. To everyone else PIPELINING is offered, and whatever is sent early carried out.

    Source: sendmail/srvrsmtp.c of sendmail 8, smtp(): greetcode and nullserver.
    """

    def __init__(self, *, greet_seconds: float = 0.2, **options: Any) -> None:
        super().__init__(chunking=False, **options)
        self.greet_seconds = greet_seconds

    def session(self) -> SendmailSession:
        return SendmailSession(self, self.greet_seconds)


class SendmailSession(LateGreeting):
    extensions = ("ENHANCEDSTATUSCODES", "8BITMIME", "SIZE", "DSN", "ETRN", "DELIVERBY", "HELP")

    def greeted(self) -> None:
        if self.is_early_talker:
            self._say(self._refuse("554 mx.test ESMTP not accepting messages", ""))
            self._flush()
        else:
            super().greeted()

    def _take_command(self, position: int) -> int | None:
        verb = bytes(self._buffer[position : position + 4]).upper()
        end = self._buffer.find(b"\r\n", position)
        if end < 0 or not self.is_early_talker or verb in (b"EHLO", b"HELO", b"NOOP", b"RSET"):
            return super()._take_command(position)
        if verb == b"QUIT":
            return super()._take_command(position)
        self.command = bytes(self._buffer[position:end])
        self._say(self._refuse("550 5.0.0 Command rejected"))
        return end + 2


class EximEnforceSync(ScriptedMTA):
    """Exim with smtp_enforce_sync, its default, where it does not offer PIPELINING: a command
    behind which there is more hears `554 SMTP synchronization error`, and the connection is
    closed; so does a client that talks before the greeting.

    There is one exception: behind the last byte of a chunk the connection stays open, the message
    is not taken, and everything hears `503 only RSET accepted now` until RSET. What stands behind
    the final dot of a message is carried out.

    Source: Exim 4.96, whose behaviour is measured in test_sent_early.py, and doc/spec, "Checking
    for synchronization", smtp_enforce_sync; src/smtp_in.c, bdat_getc().
    """

    def __init__(self, *, greet_seconds: float = 0.0, **options: Any) -> None:
        super().__init__(pipelining=False, **options)
        self.greet_seconds = greet_seconds

    def session(self) -> EximSession:
        return EximSession(self, self.greet_seconds)


class EximSession(LateGreeting):
    extensions = ("SIZE 104857600", "8BITMIME", "SMTPUTF8", "HELP")

    def __init__(self, server: ScriptedMTA, greet_seconds: float) -> None:
        super().__init__(server, greet_seconds)
        self._only_rset = False

    def talked_early(self) -> None:
        self.end(self._refuse("554 SMTP synchronization error", ""))

    def _take_command(self, position: int) -> int | None:
        verb = bytes(self._buffer[position : position + 4]).upper()
        # Of BDAT the chunk stands behind it, and is no command.
        if verb != b"BDAT" and self._pipelined(position):
            self.end(self._refuse("554 SMTP synchronization error", ""))
            return None
        end = self._buffer.find(b"\r\n", position)
        if self._only_rset and end >= 0 and verb not in (b"RSET", b"QUIT"):
            self._say("503 only RSET accepted now")
            return end + 2
        # Replies that have not left yet are those to the end of a message.
        self._flush()
        return super()._take_command(position)

    def _take_chunk(self, position: int) -> int | None:
        if len(self._buffer) > position + self._chunk_bytes:
            self._refusal = self._refuse("554 SMTP synchronization error", "")
            self._only_rset = True
        return super()._take_chunk(position)

    def _reset(self) -> None:
        self._only_rset = False
        super()._reset()


class PostfixUnauthPipelining(ScriptedMTA):
    """Postfix with `smtpd_data_restrictions = reject_unauth_pipelining`: DATA hears `503 5.5.0` if
    anything stands behind it, and after a command behind which none may. The connection stays open.

    forbid: `smtpd_forbid_unauth_pipelining = yes` (the default since Postfix 3.9), where such a
    client hears `554 5.5.0` and is thrown out.

    Source: Postfix 3.7.11, whose behaviour was measured; postconf(5), reject_unauth_pipelining and
    smtpd_forbid_unauth_pipelining; src/smtpd/smtpd_check.c, reject_unauth_pipelining().
    """

    def __init__(self, *, forbid: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.forbid = forbid

    def session(self) -> PostfixSession:
        return PostfixSession(self, self.forbid)


class PostfixSession(ScriptedSession):
    def __init__(self, server: ScriptedMTA, forbid: bool) -> None:
        super().__init__(server)
        self._forbid = forbid
        self._has_pipelined = False

    def _take_command(self, position: int) -> int | None:
        verb = self._pipelined(position)
        if verb is not None and verb not in GROUPED:
            if self._forbid:
                self.end(self._refuse("554 5.5.0 Error: SMTP protocol synchronization", ""))
                return None
            self._has_pipelined = True
        if self._has_pipelined and bytes(self._buffer[position : position + 6]) == b"DATA\r\n":
            self.command = b"DATA"
            improper = "Data command rejected: Improper use of SMTP command pipelining"
            self._say(self._refuse(f"503 5.5.0 <DATA>: {improper}"))
            return position + 6
        return super()._take_command(position)


class Postscreen(ScriptedMTA):
    """Postfix's postscreen with all its tests set to "enforce": the first session of a client's
    address is a test. The greeting begins with a line of its own, and ends after a while;
    PIPELINING is not offered. Each RCPT hears `450 4.3.2`, and `550 5.5.1` once the client has
    talked before the end of the greeting, or sent a command behind another one. DATA and BDAT hear
    554, and the connection is closed. A client that has broken no rule passes: from the next
    session on it talks to Postfix.

    Source: Postfix 3.7.11, whose behaviour was measured; POSTSCREEN_README, "Tests after the 220
    SMTP server greeting"; src/postscreen/postscreen_smtpd.c.
    """

    def __init__(self, *, greet_seconds: float = 0.2, **options: Any) -> None:
        super().__init__(**options)
        self.greet_seconds = greet_seconds
        self.has_passed = False
        """Whether this address has passed; there is one address, that of the tests."""

    def session(self) -> ScriptedSession:
        return ScriptedSession(self) if self.has_passed else PostscreenSession(self)


class PostscreenSession(LateGreeting):
    extensions = ("SIZE", "VRFY", "ETRN", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8")

    def __init__(self, server: Postscreen) -> None:
        super().__init__(server, server.greet_seconds)
        self._screen = server
        self._pipelining = False
        self._has_failed = False
        self._was_tested = False

    def talked_early(self) -> None:
        self._has_failed = True

    def greeted(self) -> None:
        if not self.is_early_talker:
            super().greeted()

    def rcpt(self, recipient: str) -> str | None:
        self._was_tested = True
        if self._has_failed:
            return self._refuse("550 5.5.1 Protocol error")
        return self._refuse("450 4.3.2 Service currently unavailable")

    def end(self, reply: str | None = None) -> None:
        # Before the client can know that it is over.
        self._judge()
        super().end(reply)

    def closed(self) -> None:
        self._judge()
        super().closed()

    def _judge(self) -> None:
        if self._was_tested and not self._has_failed:
            self._screen.has_passed = True

    def _begin(self) -> None:
        self._transport.write(b"220-mx.test\r\n")
        super()._begin()

    def _take_command(self, position: int) -> int | None:
        if self._pipelined(position):
            self._has_failed = True
        # It answers all the same, one command after the other.
        self._flush()
        return super()._take_command(position)

    def _data(self) -> None:
        self.end(self._refuse("554 5.5.1 Error: no valid recipients"))

    def _bdat(self) -> None:
        self._data()
