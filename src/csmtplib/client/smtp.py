"""SMTP, and sending mail with it."""

from __future__ import annotations

import sys
from contextlib import suppress
from smtplib import (
    SMTPDataError,
    SMTPException,
    SMTPNotSupportedError,
    SMTPServerDisconnected,
)

from .. import fastpath, kernel
from ..drive import transactions
from ..drive.replyfile import ReplyFile
from ..kernel.transaction import SEQUENTIAL
from ..protocol import envelope, limits, message
from ..protocol.verdict import CLOSE, RESET, Verdict, is_taken, judge
from .pipelining import transact
from .public import public
from .session import Session
from .steps import ByMethods, Direct, encoded_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from email.message import Message
    from typing import Any

    from ..kernel import BytesLike
    from ..kernel.transaction import Mode, Reply
    from ..protocol.mail_object import Sendable
    from ..protocol.result import Result
    from ..protocol.verdict import Refusals

# smtplib has written these in lower case since Python 3.13; servers and tests see the difference.
_FROM, _TO = ("from:", "to:") if sys.version_info >= (3, 13) else ("FROM:", "TO:")


# The methods that the stdlib's sendmail() calls, directly or not. One that is overridden must be
# called here, too.
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


@fastpath.original
class SMTP(Session):
    """A connection to an SMTP or ESMTP server (RFC 5321), as `smtplib.SMTP`.

    If `host` is given, the object connects at once, and raises SMTPConnectError for a reply other
    than 220. `port` 0 is the default port; it may also follow the host ("mail.example:2525",
    "[::1]:2525"). `timeout` is in seconds. `local_hostname` is what EHLO and HELO say; if it is
    None, it is looked up when one of them first needs it. `source_address` is the (host, port) to
    connect from.

    A reply is a tuple of code and text, the text's lines joined by LF. Every method that talks to
    the server raises SMTPServerDisconnected if there is no connection, if it is lost, or if the
    server sends something that is not a reply; the connection is then closed.

    debuglevel: 1 prints the dialogue to stderr, 2 adds the time.
    sock, file: the socket, and the file that replies are read from; None while not connected. A
      program may set both.
    helo_resp, ehlo_resp: text of the last reply to HELO and EHLO, None before.
    does_esmtp: whether the server answered EHLO with 250.
    esmtp_features: what it offers: each keyword, in lower case, with its parameters.
    ehlo_msg: the command for that: "ehlo", or "lhlo" in LMTP.
    command_encoding: of commands given as str: "ascii", or "utf-8" in an SMTPUTF8 transaction.
    user, password: what login() was given.
    default_port: where to connect to if no port is given.
    pipelining: whether sendmail() may send MAIL, RCPT and DATA at once if the server offers
      PIPELINING (RFC 2920). It does so on sockets of the standard library, unless a program has
      overridden one of the methods that would be called otherwise. The environment variable
      CSMTPLIB_NO_PIPELINING turns it off, too: "*", or host names separated by commas.
    chunking: whether it may then send the message by BDAT if the server offers CHUNKING (RFC
      3030). CSMTPLIB_NO_CHUNKING turns it off in the same way.
    """

    pipelining: bool = True
    chunking: bool = False

    _direct_steps: type[Direct] = Direct

    def mail(self, sender: str, options: Sequence[str] = ()) -> Reply:
        """Sends MAIL, which begins a transaction (RFC 5321 section 4.1.1.2).

        Options are sent if the server supports ESMTP. Raises SMTPNotSupportedError for SMTPUTF8 if
        the server does not offer it.
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
        """Sends RCPT, which names one recipient (RFC 5321 section 4.1.1.3); options as in
        mail()."""
        parameters = f" {' '.join(options)}" if options and self.does_esmtp else ""
        self.putcmd("rcpt", f"{_TO}{public.quoteaddr(recip)}{parameters}")
        return self.getreply()

    def data(self, msg: str | BytesLike) -> Reply:
        """Sends DATA and the message; returns the final reply (RFC 5321 section 4.1.1.4).

        A str must be ASCII, and its line ends become CR LF; those of bytes are not changed. Dots at
        the start of lines are doubled in both. Raises SMTPDataError for a reply to DATA other than
        354, UnicodeEncodeError before anything is sent.
        """
        data = _ascii_bytes(msg)
        self.putcmd("data")
        code, text = self.getreply()
        if self.debuglevel > 0:
            self._print_debug("data:", (code, text))
        if code != 354:
            raise SMTPDataError(code, text)
        self.send(encoded_for(self, data))
        self._lock.awaited_replies = 1
        return self._reply_to_message()

    def _reply_to_message(self) -> Reply:
        code, text = self.getreply()
        if self.debuglevel > 0:
            self._print_debug("data:", (code, text))
        return code, text

    def _refused_after_data(self) -> Refusals:
        """Return the recipients that the server refused once it had the message."""
        return {}

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Iterable[str],
        msg: str | BytesLike,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> Refusals:
        """Sends one message in a transaction of its own; returns the recipients that were refused,
        each with code and text.

        A str recipient is one address. A str message must be ASCII; its line ends become CR LF.
        mail_options and rcpt_options are ESMTP parameters, sent if the server supports ESMTP, as is
        the size if it offers SIZE. Sends EHLO or HELO first if needed.

        Raises SMTPHeloError; SMTPSenderRefused; SMTPRecipientsRefused if all recipients are
        refused; SMTPDataError if the message is; SMTPNotSupportedError for SMTPUTF8 if the server
        does not offer it; ValueError and UnicodeEncodeError for what can't be sent, before the
        transaction begins. The connection stays open, except after 421.
        """
        data = _ascii_bytes(msg)
        recipients = [to_addrs] if isinstance(to_addrs, str) else list(to_addrs)
        rcpt_options = tuple(rcpt_options)
        self.ehlo_or_helo_if_needed()
        options: list[str] = []
        if self.does_esmtp:
            if self.has_extn("size"):
                options.append(f"size={memoryview(data).nbytes}")
            options.extend(mail_options)
        is_open = bool(recipients) and self._is_gate_open()
        # mail() and rcpt() check again, but by then a transaction may be open. If they are
        # overridden, what they would send is unknown here.
        if is_open or not fastpath.is_overridden(self, "mail", "rcpt", "putcmd", "send"):
            commands = self._envelope(from_addr, recipients, options, rcpt_options)
        mode = self._mode_for(len(recipients)) if is_open else SEQUENTIAL
        doubted: Verdict | None = None
        if mode != SEQUENTIAL:
            channel = self._acquire()
            try:
                completed, failure, is_doubtful = transact(channel, mode, commands, data)
            finally:
                channel.lock.release()
            verdict = judge(completed, failure, from_addr, recipients, lmtp=self._is_lmtp)
            if not is_doubtful:
                return self._execute(verdict)
            # It may have been refused because its commands came together. Sending them one by one
            # shows whether it was.
            doubted = verdict
            if not self._is_reset():
                return self._execute(verdict)
        steps: Direct | ByMethods
        if is_open:
            steps = self._direct_steps(self, commands, data)
        else:
            steps = ByMethods(self, from_addr, data, options, rcpt_options)
        encoding = self.command_encoding
        lock = self._lock
        is_outermost = lock.begin_step()
        try:
            refused = self._transaction(from_addr, recipients, steps)
        except SMTPException:
            raise
        except BaseException:
            if is_open:
                # An interrupt: the next command could get a reply that is not its own, or be taken
                # for the text of the message. Overridden methods may raise what they like.
                self.close()
            raise
        finally:
            # mail() may have changed it for this transaction; the stdlib does not change it back.
            self.command_encoding = encoding
            if is_outermost:
                lock.release()
        if doubted is not None:
            self._policy().host.blame(mode, completed[1])
        return refused

    def _is_gate_open(self) -> bool:
        """Return whether a transaction may be run without calling the methods."""
        sock = self.sock
        return not (
            self.debuglevel > 0
            or self._lock.awaited_replies
            or type(sock) not in transactions.ORIGINAL
            or (self.file is not None and type(self.file) is not ReplyFile)
            or sock.gettimeout() == 0  # type: ignore[union-attr]
            or fastpath.is_overridden(self, *_METHODS)
        )

    def _mode_for(self, recipients: int) -> Mode:
        """Return the mode for a transaction with so many recipients if the gate is open."""
        if not self.pipelining:
            return SEQUENTIAL
        return self._policy().mode_for_message(
            self.esmtp_features, recipients, chunking=self.chunking, lmtp=self._is_lmtp
        )

    def _envelope(
        self,
        from_addr: str,
        recipients: list[str],
        mail_options: Sequence[str],
        rcpt_options: Sequence[str],
    ) -> list[bytes]:
        """Return the command lines of the envelope; raise what mail() and rcpt() would for them."""
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

    def _execute(self, verdict: Verdict) -> Refusals:
        """Do what a verdict asks for; return the recipients that were refused, or raise its
        error."""
        if verdict.ending is CLOSE:
            self.close()
        elif verdict.ending is RESET:
            self._rset()
        if verdict.replies is not None:
            self._keep_replies(verdict.replies)
        error, verdict.error = verdict.error, None
        if error is not None:
            try:
                raise error
            finally:
                # Its traceback refers to this frame, and to those that hold the message.
                del error
        return verdict.refused

    def _keep_replies(self, replies: Refusals) -> None:
        """Keep the reply to the content for each recipient."""

    def _transaction(
        self, from_addr: str, recipients: list[str], steps: Direct | ByMethods
    ) -> Refusals:
        verdict = Verdict()
        reply = steps.mail()
        if reply[0] != 250:
            verdict.refuse_sender(reply, from_addr)
            return self._execute(verdict)

        accepted = 0
        for each in recipients:
            try:
                reply = steps.rcpt(each)
            except ValueError:
                self._rset()
                raise
            if is_taken(reply[0]):
                accepted += 1
            elif verdict.refuse_recipient(each, reply):
                return self._execute(verdict)
        if not accepted:
            verdict.refuse_all()
            return self._execute(verdict)

        try:
            reply = steps.data()
        except SMTPDataError as error:
            verdict.refuse_message(error)
            return self._execute(verdict)
        if reply[0] != 250:
            verdict.refuse_message(SMTPDataError(*reply))
        else:
            verdict.refused.update(self._refused_after_data())
        return self._execute(verdict)

    def _is_reset(self) -> bool:
        """Return whether RSET has ended a transaction; else the connection is closed."""
        with suppress(SMTPServerDisconnected):
            if self.rset()[0] == 250:
                return True
            self.close()
        return False

    def send_many(
        self,
        messages: Iterable[Sendable],
        *,
        max_in_flight: int = limits.MAX_IN_FLIGHT,
        chunking: bool | None = None,
    ) -> Iterator[Result]:
        """Sends many messages, each in a transaction of its own, without waiting between them if
        the server allows that; yields a result for each, in order.

        messages: tuples in the order of sendmail()'s arguments; csmtplib.MailObject, which can have
        DSN parameters in addition; or email.message.Message, whose envelope comes from its headers.
        They are taken as needed: at most `max_in_flight` messages are in progress at once, which
        bounds memory, and how many are in doubt if the connection is lost. Line ends become CR LF.
        If the server offers PIPELINING, the next envelope is sent with the message before it; if it
        also offers CHUNKING, and `chunking` is not False, whole transactions are sent without
        waiting. If there are too many recipients for one transaction (452, or RCPTMAX of RFC 9422),
        the rest get another one.

        A result has an outcome for each recipient: accepted, rejected, deferred or in doubt, with
        the server's reply. If a message can't be sent as it is, its result has an `error`, and the
        others go on.

        Raises SMTPHeloError before the first result. If the connection is lost or the server takes
        no more messages (RFC 9422, MAILMAX), raises SMTPServerDisconnected after the results of all
        messages that were taken: connect again, and go on with the same iterator and with what was
        deferred. What the iterable raises is raised again at that point, too. Leaving the loop
        early closes the connection. While the iterable waits for something itself, a thread of
        csmtplib sends what it has given so far, within 50 ms; results are yielded when it gives the
        next message, or ends. Nothing is sent until the first result is asked for; if that never
        happens, a RuntimeWarning says so. Raises at once TypeError for one message instead of
        several and for arguments of the wrong type, ValueError for max_in_flight below 1.
        """
        # Importing them takes longer than importing smtplib does.
        from ..protocol.arguments import check_count, check_flag
        from ..protocol.mail_object import iterator_of
        from ..protocol.result import Lazy

        max_in_flight = check_count("max_in_flight", max_in_flight)
        if chunking is not None:
            check_flag("chunking", chunking)
        iterator = iterator_of("messages", messages)
        results = self._stream(iterator, max_in_flight, chunking is not False)
        return Lazy(results, "SMTP.send_many()")

    def _stream(
        self, messages: Iterator[Sendable], max_in_flight: int, chunking: bool
    ) -> Generator[Result, None, None]:
        from .streaming import Streaming

        self.ehlo_or_helo_if_needed()
        channel = self._acquire()
        try:
            if not self.pipelining:
                channel.policy = channel.policy.without_pipelining()
            streaming = Streaming(self, channel, messages, max_in_flight, chunking)
            yield from streaming.results()
        except BaseException:
            # The loop over the results was left before its end.
            self.close()
            raise
        finally:
            channel.lock.release()
        error = streaming.error
        if streaming.is_lost:
            self.close()
        elif error is not None and streaming.has_more:
            self.quit()
        if error is not None:
            raise error

    def send_message(
        self,
        msg: Message[Any, Any],
        from_addr: str | None = None,
        to_addrs: str | Iterable[str] | None = None,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> Refusals:
        """Sends an email.message.Message by sendmail(); returns and raises what that does.

        Sender and recipients that are not given come from the headers: Sender, else From; To, Cc
        and Bcc; those of the Resent- block if there is one. Bcc is not transmitted. If an address
        is not ASCII, headers are sent as UTF-8 with SMTPUTF8. Bytes above 127 are announced by
        BODY=8BITMIME if the server offers that, and sent even if it does not.

        Raises ValueError for two Resent- blocks and for no sender; SMTPNotSupportedError if an
        address needs SMTPUTF8 and the server does not offer it; email.errors.HeaderWriteError
        (ValueError on Pythons without that) for a line break in a header that would begin another
        one.
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
        data = message.flatten(msg, utf8=utf8 or None)
        if utf8:
            mail_options = (*mail_options, "SMTPUTF8", "BODY=8BITMIME")
        elif not data.isascii() and self.has_extn("8bitmime") and not _names_body(mail_options):
            mail_options = (*mail_options, "BODY=8BITMIME")
        return self.sendmail(from_addr, to_addrs, data, mail_options, rcpt_options)


def _asks_for_smtputf8(options: Sequence[str]) -> bool:
    # SIZE alone, most of the time.
    if len(options) == 1 and options[0].startswith("size="):
        return False
    return any(option.lower() == "smtputf8" for option in options)


def _names_body(options: Sequence[str]) -> bool:
    return any(option.lower().startswith("body=") for option in options)


def _ascii_bytes(msg: str | BytesLike) -> BytesLike:
    if isinstance(msg, str):
        data: bytes = public._fix_eols(msg).encode("ascii")
        return data
    memoryview(msg)  # raises TypeError unless it is bytes, before a transaction is open
    return msg
