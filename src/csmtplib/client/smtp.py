"""SMTP, and sending mail with it."""

from __future__ import annotations

import sys
from smtplib import (
    SMTPDataError,
    SMTPNotSupportedError,
    SMTPRecipientsRefused,
    SMTPSenderRefused,
)

import csmtplib as public

from .. import fastpath, kernel
from ..kernel.errors import SessionClosed
from ..kernel.transaction import CONTENT, DATA, IN_DOUBT, LOCKSTEP, LOST, MAIL, RCPT
from ..protocol import envelope, limits, message
from . import pipelining
from .session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from email.message import Message
    from typing import Any

    from ..kernel.transaction import Settled
    from ..protocol.submission import Result
    from .types import Octets, Refusals, Reply

# Commands have been written in lower case since Python 3.13; servers and tests see the difference.
_FROM, _TO = ("from:", "to:") if sys.version_info >= (3, 13) else ("FROM:", "TO:")


@fastpath.genuine
class SMTP(Session):
    """A connection to an SMTP or ESMTP server (RFC 5321), as `smtplib.SMTP`.

    With a `host` the object connects at once, and raises SMTPConnectError for an answer other than
    220. `port` 0 is the default port; it may also stand behind the host ("mail.example:2525",
    "[::1]:2525"). `timeout` is in seconds. `local_hostname` is what EHLO and HELO say; left out, it
    is looked up when one of them first needs it. `source_address` is the (host, port) to connect
    from.

    A reply is a tuple of code and text, the text's lines joined by LF. Every method that talks to
    the server raises SMTPServerDisconnected where there is no connection, where it is lost, and
    where the server sends what is no reply; the connection is then closed.

    debuglevel: above 0 the dialogue is printed to stderr, above 1 with the time.
    sock, file: the socket, and the file that replies are read from; None while not connected. A
      program may set both.
    helo_resp, ehlo_resp: text of the last answer to HELO and EHLO, None before.
    does_esmtp: whether the server answered EHLO with 250.
    esmtp_features: what it offers then: lower-case keyword to its parameters.
    ehlo_msg: the verb for that, "ehlo", or "lhlo" in LMTP.
    command_encoding: of commands given as str: "ascii", "utf-8" within an SMTPUTF8 transaction.
    user, password: what login() was given.
    default_port: where to connect to if no port is given.
    pipelining: whether sendmail() may send MAIL, RCPT and DATA at once where the server offers
      PIPELINING (RFC 2920). It does so on sockets of the standard library, unless a program has
      overridden one of the methods that would be called otherwise. The environment variable
      CSMTPLIB_NO_PIPELINING turns it off as well: "*", or names of hosts with commas between.
    chunking: whether it may then send the message by BDAT where the server offers CHUNKING (RFC
      3030); likewise CSMTPLIB_NO_CHUNKING.
    """

    pipelining: bool = True
    chunking: bool = False
    _is_lmtp: bool = False

    def mail(self, sender: str, options: Sequence[str] = ()) -> Reply:
        """MAIL: begins a transaction (RFC 5321 section 4.1.1.2).

        Options are sent where the server does ESMTP. Raises SMTPNotSupportedError for SMTPUTF8
        where the server does not offer that.
        """
        parameters = ""
        if options and self.does_esmtp:
            if _asks_for_smtputf8(options):
                if not self.has_extn("smtputf8"):
                    raise SMTPNotSupportedError("SMTPUTF8 not supported by server")
                self.command_encoding = "utf-8"
            parameters = f" {' '.join(options)}"
        self.putcmd("mail", f"{_FROM}{public.quoteaddr(sender)}{parameters}")
        return self.getreply()

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> Reply:
        """RCPT: names one recipient (RFC 5321 section 4.1.1.3); options as in mail()."""
        parameters = f" {' '.join(options)}" if options and self.does_esmtp else ""
        self.putcmd("rcpt", f"{_TO}{public.quoteaddr(recip)}{parameters}")
        return self.getreply()

    def data(self, msg: str | Octets) -> Reply:
        """DATA and the message; returns the reply to its end (RFC 5321 section 4.1.1.4).

        A str must be ASCII, and all its line ends become CR LF; octets stay as they are. Dots at
        the start of lines are doubled in both. Raises SMTPDataError for a reply to DATA other than
        354, UnicodeEncodeError before anything is sent.
        """
        octets = _ascii_octets(msg)
        body: bytes = public._quote_periods(octets)
        end = b".\r\n" if body.endswith(b"\r\n") else b"\r\n.\r\n"
        self.putcmd("data")
        code, text = self.getreply()
        if self.debuglevel > 0:
            self._print_debug("data:", (code, text))
        if code != 354:
            raise SMTPDataError(code, text)
        self.send(body + end)
        self._awaited_replies = 1
        return self._reply_to_message()

    def _reply_to_message(self) -> Reply:
        code, text = self.getreply()
        if self.debuglevel > 0:
            self._print_debug("data:", (code, text))
        return code, text

    def _refused_after_data(self) -> Refusals:
        """Recipients that the server refused once it had the message."""
        return {}

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Iterable[str],
        msg: str | Octets,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> Refusals:
        """Sends one message in a transaction of its own; returns the recipients that were refused,
        each with code and text.

        A str recipient is one address. A str message must be ASCII; its line ends become CR LF.
        mail_options and rcpt_options are ESMTP parameters, sent where the server does ESMTP, as is
        the size where it offers SIZE. Says EHLO or HELO first if needed.

        Raises SMTPHeloError; SMTPSenderRefused; SMTPRecipientsRefused where all recipients are
        refused; SMTPDataError where the message is; SMTPNotSupportedError for SMTPUTF8 where the
        server does not offer that; ValueError and UnicodeEncodeError for what can't be sent, before
        the transaction begins. The connection stays open, but for 421, which closes it.
        """
        octets = _ascii_octets(msg)
        recipients = [to_addrs] if isinstance(to_addrs, str) else list(to_addrs)
        rcpt_options = tuple(rcpt_options)
        self.ehlo_or_helo_if_needed()
        options: list[str] = []
        if self.does_esmtp:
            if self.has_extn("size"):
                options.append(f"size={memoryview(octets).nbytes}")
            options.extend(mail_options)
        gear = pipelining.gear_of(self) if recipients else LOCKSTEP
        if gear != LOCKSTEP:
            commands = self._envelope(from_addr, recipients, options, rcpt_options)
            settled, failure = pipelining.transact(self, gear, commands, octets)
            return self._refusals(settled, failure, from_addr, recipients)

        # mail() and rcpt() check again, but by then a transaction may be open. Where they are not
        # ours, what they would send is theirs to know.
        if fastpath.untouched(self, "mail", "rcpt", "putcmd", "send"):
            self._envelope(from_addr, recipients, options, rcpt_options)
        encoding = self.command_encoding
        is_outermost = self._begin_step()
        try:
            return self._transaction(from_addr, recipients, octets, options, rcpt_options)
        finally:
            # mail() may have changed it, for this transaction; the stdlib leaves it so.
            self.command_encoding = encoding
            if is_outermost:
                self._let_go()

    def _envelope(
        self,
        from_addr: str,
        recipients: list[str],
        mail_options: Sequence[str],
        rcpt_options: Sequence[str],
    ) -> list[bytes]:
        """The command lines of the envelope; raises what mail() and rcpt() would for them."""
        encoding = self.command_encoding
        mail_parameters = rcpt_parameters = ""
        if self.does_esmtp:
            if mail_options:
                mail_parameters = f" {' '.join(mail_options)}"
                if _asks_for_smtputf8(mail_options):
                    if not self.has_extn("smtputf8"):
                        raise SMTPNotSupportedError("SMTPUTF8 not supported by server")
                    encoding = "utf-8"
            if rcpt_options:
                rcpt_parameters = f" {' '.join(rcpt_options)}"
        if public.quoteaddr is envelope.quoteaddr:
            lines = kernel.envelope_lines(
                f"mail {_FROM}<",
                from_addr,
                mail_parameters,
                f"rcpt {_TO}<",
                recipients,
                rcpt_parameters,
            )
            if lines is not None:
                return lines
        mail = f"mail {_FROM}{public.quoteaddr(from_addr)}{mail_parameters}"
        commands = [envelope.command(mail, encoding)]
        for each in recipients:
            rcpt = f"rcpt {_TO}{public.quoteaddr(each)}{rcpt_parameters}"
            commands.append(envelope.command(rcpt, encoding))
        return commands

    def _refusals(
        self,
        settled: Settled,
        failure: Exception | None,
        from_addr: str,
        recipients: list[str],
    ) -> Refusals:
        """What sendmail() returns or raises for a transaction that a pipeline has run."""
        _, stage, reply, others = settled
        if failure is not None:
            self.close()
        if stage == MAIL:
            assert reply is not None
            self._end_transaction(reply[0])
            raise SMTPSenderRefused(*reply, from_addr)
        refused: Refusals = {}
        for index, (its_stage, its_reply) in others.items():
            if its_stage == RCPT:
                refused[recipients[index]] = its_reply
        if failure is not None and stage in (LOST, IN_DOUBT):
            if isinstance(failure, SessionClosed) and len(refused) < len(others):
                # LMTP, in the midst of its answers: it stands for those that are missing.
                last = (None, int(CONTENT), failure.reply, others)
                return {**refused, **self._refused_by_content(last, recipients)}
            self._keep_replies(settled, recipients)
            if not isinstance(failure, SessionClosed):
                raise pipelining.disconnected(failure) from failure
            if not refused:
                # Said before the transaction: the answer to its first command, in the stdlib.
                raise SMTPSenderRefused(*failure.reply, from_addr)
            raise SMTPRecipientsRefused(refused)
        if stage == RCPT:
            self._rset()
            raise SMTPRecipientsRefused(refused)
        refused.update(self._refused_by_content(settled, recipients))
        return refused

    def _keep_replies(self, settled: Settled, recipients: list[str]) -> None:
        """Keeps what the server has answered to the content for each recipient."""

    def _refused_by_content(self, settled: Settled, recipients: list[str]) -> Refusals:
        """Recipients that the server refused once it had the message. Raises SMTPDataError where
        it refused the message itself."""
        reply = settled[2]
        assert reply is not None
        if settled[1] == DATA or reply[0] != 250:
            self._end_transaction(reply[0])
            raise SMTPDataError(*reply)
        return {}

    def _transaction(
        self,
        from_addr: str,
        recipients: list[str],
        octets: Octets,
        mail_options: Sequence[str],
        rcpt_options: Sequence[str],
    ) -> Refusals:
        code, text = self.mail(from_addr, mail_options)
        if code != 250:
            self._end_transaction(code)
            raise SMTPSenderRefused(code, text, from_addr)

        refused: Refusals = {}
        accepted = 0
        for each in recipients:
            try:
                code, text = self.rcpt(each, rcpt_options)
            except ValueError:
                self._rset()
                raise
            if code in (250, 251):
                accepted += 1
            else:
                refused[each] = (code, text)
            if code == 421:
                self.close()
                raise SMTPRecipientsRefused(refused)
        if not accepted:
            self._rset()
            raise SMTPRecipientsRefused(refused)

        try:
            code, text = self.data(octets)
            if code != 250:
                raise SMTPDataError(code, text)
        except SMTPDataError as error:
            # Also for a refused DATA, which the stdlib leaves without RSET, or open after 421.
            self._end_transaction(error.smtp_code)
            raise
        refused.update(self._refused_after_data())
        return refused

    def _end_transaction(self, code: int) -> None:
        if code == 421:
            self.close()
        else:
            self._rset()

    def send_many(
        self,
        messages: Iterable[object],
        *,
        max_in_flight: int = limits.MAX_IN_FLIGHT,
        chunking: bool | None = None,
    ) -> Iterator[Result]:
        """Sends many messages, each in a transaction of its own, without a wait between them where
        the server allows that; a result for each, in order.

        messages: tuples in the order of sendmail()'s arguments, csmtplib.MailObject, which has DSN
        parameters beside, or email.message.Message with the envelope of their headers. They are
        taken as they are needed, and so are memory and results: at most `max_in_flight` are under
        way at once, and so in doubt where the connection is lost. Line ends become CR LF. Where the
        server offers PIPELINING, the next envelope is sent with the message before it; where it
        offers CHUNKING too, and `chunking` is not False, whole transactions stream. Recipients that
        are too many for one transaction (452, or RCPTMAX of RFC 9422) get another.

        A result tells of each recipient whether it was accepted, rejected, deferred or is in doubt,
        and what the server said. A message that can't be sent as it is has an `error` in its
        result, and the others go on.

        Raises SMTPHeloError before the first, and SMTPServerDisconnected when the results of all
        that was taken are told, where the connection was lost or the server takes no more (RFC
        9422, MAILMAX): connect again, and go on with the same iterator and with what was deferred.
        What the iterable raises is raised again by then. Leaving the loop before its end closes the
        connection. While the iterable has nothing to give, nothing is read: a message may wait for
        the next one to leave. Raises ValueError for max_in_flight below 1.
        """
        if max_in_flight < 1:
            raise ValueError("max_in_flight is at least 1")
        from .streaming import send_many

        return send_many(self, messages, max_in_flight, chunking is not False)

    def send_message(
        self,
        msg: Message[Any, Any],
        from_addr: str | None = None,
        to_addrs: str | Iterable[str] | None = None,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> Refusals:
        """sendmail() of an email.message.Message; see there for what is returned and raised.

        Sender and recipients that are not given come from the headers: Sender, else From; To, Cc
        and Bcc; those of the Resent- block where there is one. Bcc is not transmitted. Where an
        address is not ASCII, headers go as UTF-8 with SMTPUTF8. Octets above 127 are announced by
        BODY=8BITMIME where the server offers that, and sent all the same where it does not.

        Raises ValueError for two Resent- blocks and for no sender; SMTPNotSupportedError where an
        address needs SMTPUTF8 and the server does not offer it; email.errors.HeaderWriteError
        (ValueError on Pythons without that) for line breaks in a header that would begin another.
        """
        self.ehlo_or_helo_if_needed()
        if to_addrs is not None and not isinstance(to_addrs, str):
            to_addrs = list(to_addrs)
        from_addr, to_addrs = message.envelope_addresses(msg, from_addr, to_addrs)
        utf8 = message.needs_smtputf8(from_addr, to_addrs)
        if utf8 and not self.has_extn("smtputf8"):
            raise SMTPNotSupportedError(
                "One or more source or delivery addresses require internationalized email support, "
                "but the server does not advertise the required SMTPUTF8 capability"
            )
        octets = message.flatten(msg, utf8=utf8)
        if utf8:
            mail_options = (*mail_options, "SMTPUTF8", "BODY=8BITMIME")
        elif not octets.isascii() and self.has_extn("8bitmime") and not _names_body(mail_options):
            mail_options = (*mail_options, "BODY=8BITMIME")
        return self.sendmail(from_addr, to_addrs, octets, mail_options, rcpt_options)


def _asks_for_smtputf8(options: Sequence[str]) -> bool:
    # SIZE alone, most of the time.
    if len(options) == 1 and options[0].startswith("size="):
        return False
    return any(option.lower() == "smtputf8" for option in options)


def _names_body(options: Sequence[str]) -> bool:
    return any(option.lower().startswith("body=") for option in options)


def _ascii_octets(msg: str | Octets) -> Octets:
    if isinstance(msg, str):
        octets: bytes = public._fix_eols(msg).encode("ascii")
        return octets
    memoryview(msg)  # raises TypeError for what is no octets, before a transaction is open
    return msg
