"""csmtplib.aio.SMTP: transactions, in a flight where the server takes that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .. import fastpath, kernel
from ..kernel.transaction import CHUNKING, CONTENT, IN_DOUBT, LOST, MAIL, RCPT, SEQUENTIAL
from ..protocol import envelope, limits
from ..protocol.mail_object import MailObject
from ..protocol.message import envelope_addresses, flatten, needs_smtputf8
from ..protocol.result import Result
from ..protocol.verdict import CLOSE, NOTHING, judge
from . import errors
from .address import address_of
from .response import SMTPResponse, SMTPStatus, reply_text, response_of, response_text
from .session import Session
from .transaction import Transaction
from .typing import Default, Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
    from email.message import EmailMessage, Message
    from typing import TypeAlias

    from ..drive.event_loop import LoopConnection
    from ..kernel.transaction import Mode
    from ..protocol.mail_object import Sendable

    # Recipients that were refused, and the text of the reply to the message.
    Sent: TypeAlias = tuple[dict[str, SMTPResponse], str]

# What sendmail() calls, and leaves out if none of it is overridden.
_METHODS = ("mail", "rcpt", "data", "rset", "execute_command")


@fastpath.original
class SMTP(Session):
    """A client of one server, with the surface of aiosmtplib.SMTP.

        async with SMTP(hostname="mail.example.org") as client:
            await client.send_message(message)

    Tasks can share it: transactions wait for each other, and so do commands. If a task is cancelled
    while it waits for the server, the connection is closed; between messages it stays open.
    csmtplib.aio.result_of() has the result of the message then.

    pipelining: whether MAIL, RCPT and DATA may be sent together, if the server offers that.
    chunking: whether sendmail() uses BDAT if the server offers CHUNKING: with PIPELINING, and once
    the server has shown that it can, a message then takes a single round trip.
    """

    pipelining: bool = True
    chunking: bool = False

    # The last message that was sent: its transaction, or its result.
    _last: Transaction | Result | None = None

    @property
    def last_result(self) -> Result | None:
        """The result of the last message that sendmail() has sent, with an outcome for each
        recipient; None before that."""
        last = self._last
        return last.result if isinstance(last, Transaction) else last

    # The commands of a transaction

    async def mail(
        self,
        sender: str,
        /,
        *,
        options: Iterable[str] | None = None,
        encoding: str = "ascii",
        timeout: Timeout = Default.token,
    ) -> SMTPResponse:
        """Send MAIL, which begins a transaction; return the reply. Raises SMTPSenderRefused if it
        is not 250, ValueError for what is no address."""
        await self._ehlo_or_helo_if_needed()
        path = f"FROM:<{address_of(sender)}>".encode(encoding)
        response = await self.execute_command(
            b"MAIL", path, *(each.encode("ascii") for each in options or ()), timeout=timeout
        )
        if response.code != SMTPStatus.completed:
            raise errors.SMTPSenderRefused(response.code, response.message, sender)
        return response

    async def rcpt(
        self,
        recipient: str,
        /,
        *,
        options: Iterable[str] | None = None,
        encoding: str = "ascii",
        timeout: Timeout = Default.token,
    ) -> SMTPResponse:
        """Send RCPT, which names a recipient; return the reply. Raises SMTPRecipientRefused if it
        is not 250 or 251, ValueError for what is no address."""
        await self._ehlo_or_helo_if_needed()
        path = f"TO:<{address_of(recipient)}>".encode(encoding)
        response = await self.execute_command(
            b"RCPT", path, *(each.encode("ascii") for each in options or ()), timeout=timeout
        )
        if response.code not in (SMTPStatus.completed, SMTPStatus.will_forward):
            raise errors.SMTPRecipientRefused(response.code, response.message, recipient)
        return response

    async def data(
        self, message: str | bytes, /, *, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Send DATA and a message; return the reply. Line ends become CR LF, and leading dots are
        doubled.

        Raises SMTPDataError if either is refused; SMTPServerDisconnected; SMTPReadTimeoutError.
        """
        protocol, _, lock = self._connected()
        await self._ehlo_or_helo_if_needed()
        encoder = kernel.BodyEncoder()
        body = encoder.encode(_bytes(message)) + encoder.finish()
        seconds = self._seconds(timeout)
        async with lock:
            self._check_still(protocol)
            response = await self._exchange(b"DATA\r\n", seconds)
            if response.code == SMTPStatus.start_input:
                response = await self._exchange(body, seconds)
        if response.code == SMTPStatus.domain_unavailable:
            self._drop(protocol)
        if response.code != SMTPStatus.completed:
            raise errors.SMTPDataError(response.code, response.message)
        return response

    # Messages

    async def sendmail(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: str | bytes,
        /,
        *,
        mail_options: Iterable[str] | None = None,
        rcpt_options: Iterable[str] | None = None,
        timeout: Timeout = Default.token,
    ) -> Sent:
        """Send one message in a transaction of its own. Return the recipients that were refused,
        each with the reply, and the text of the reply to the message.

        A str recipient is one address. A str message must be ASCII; line ends become CR LF.
        mail_options and rcpt_options are ESMTP parameters; SIZE is added if the server offers it.
        Sends EHLO or HELO first if needed.

        Raises SMTPSenderRefused; SMTPRecipientsRefused if all recipients are refused;
        SMTPDataError; SMTPServerDisconnected and SMTPReadTimeoutError if the connection is lost;
        SMTPNotSupported for SMTPUTF8; ValueError and UnicodeEncodeError for what can't be sent,
        before anything is. If the transaction had begun, csmtplib.aio.result_of() has the result of
        the message, also if the task is cancelled.
        """
        addresses = [recipients] if isinstance(recipients, str) else list(recipients)
        options = list(mail_options or ())
        more_options = list(rcpt_options or ())
        utf8 = any(each.lower() == "smtputf8" for each in options)
        for each in (sender, *addresses):
            if not kernel.is_plain_address(each):
                address_of(each)
        data = _bytes(message)
        protocol, lock, _ = self._connected()
        async with lock:
            self._check_still(protocol)
            if self.is_ehlo_or_helo_needed:
                await self._ehlo_or_helo_if_needed()
            if utf8:
                self._encoding_for(options)
            if not addresses or fastpath.is_overridden(self, *_METHODS):
                return await self._by_methods(
                    sender, addresses, data, options, more_options, utf8, timeout
                )
            mail = MailObject(sender, addresses, message, options, more_options)
            mode = self._mode_for(len(addresses))
            content = kernel.Content(data, mode != CHUNKING)
            if self.supports_extension("size"):
                options.insert(0, f"size={content.size}")
            commands = _envelope(sender, addresses, options, more_options, utf8)
            return await self._transact(mode, mail, commands, content, self._seconds(timeout))

    async def _transact(
        self,
        mode: Mode,
        mail: MailObject,
        commands: list[bytes],
        content: kernel.Content,
        seconds: float | None,
    ) -> Sent:
        (protocol, _, command_lock), policy = self._connected(), self._policy
        async with command_lock:
            self._check_still(protocol)
            transaction = Transaction(protocol, policy.host, mail, lmtp=self._is_lmtp)
            allowed = limits.at_most(seconds)
            try:
                await transaction.run(mode, commands, content, allowed)
                if transaction.is_doubtful and await self._is_reset(seconds):
                    # It may have been refused because its commands came together. Sending them one
                    # by one shows whether it was.
                    refused_at = transaction.stage
                    if mode == CHUNKING:
                        content = kernel.Content(_bytes(mail.msg), True)  # type: ignore[arg-type]
                    await transaction.run(SEQUENTIAL, commands, content, allowed)
                    if transaction.result.accepted:
                        policy.host.blame(mode, refused_at)
                return await self._sent(protocol, transaction, seconds)
            except BaseException as error:
                if transaction.is_known:
                    attach(error, transaction.result)
                if not isinstance(error, errors.SMTPException) and not transaction.is_complete:
                    # Cancelled: nobody knows what the next reply answers.
                    self._drop(protocol)
                raise

    def _mode_for(self, recipients: int) -> Mode:
        if not self.pipelining:
            return SEQUENTIAL
        return self._policy.mode_for_message(
            self.esmtp_extensions, recipients, chunking=self.chunking, lmtp=self._is_lmtp
        )

    async def _sent(
        self, protocol: LoopConnection, transaction: Transaction, seconds: float | None
    ) -> Sent:
        """Do what the verdict on a transaction asks for; return what sendmail() returns."""
        verdict = judge(
            transaction.completed,
            transaction.failure,
            transaction.mail.from_addr,
            transaction.mail.to_addrs,
            lmtp=self._is_lmtp,
        )
        if verdict.ending is CLOSE:
            self._drop(protocol)
        elif verdict.ending is not NOTHING:
            await self._is_reset(seconds)
        if verdict.error is not None:
            raise errors.translated(verdict.error, transaction.refused)
        self._last = transaction
        refused = {each: response_of(reply) for each, reply in verdict.refused.items()}
        return refused, response_text(transaction.text)

    async def _is_reset(self, seconds: float | None) -> bool:
        """Return whether RSET has ended the transaction; else the connection is closed. For the
        owner of the command lock."""
        protocol = self.protocol
        if protocol is None:
            return False
        try:
            response = await self._exchange(b"RSET\r\n", seconds)
        except errors.SMTPException:
            return False
        if response.code == SMTPStatus.completed:
            return True
        self._drop(protocol)
        return False

    async def _by_methods(
        self,
        sender: str,
        recipients: Sequence[str],
        data: bytes,
        options: list[str],
        rcpt_options: list[str],
        utf8: bool,
        timeout: Timeout,
    ) -> Sent:
        """Send a message by the methods, as programs override them."""
        encoding = "utf-8" if utf8 else "ascii"
        mail = MailObject(sender, recipients, data, tuple(options), tuple(rcpt_options))
        if self.supports_extension("size"):
            options.insert(0, f"size={kernel.Content(data, True).size}")
        protocol, _, _ = self._connected()
        refused: list[errors.SMTPRecipientRefused] = []
        stage = LOST
        try:
            await self.mail(sender, options=options, encoding=encoding, timeout=timeout)
            for each in recipients:
                try:
                    await self.rcpt(each, options=rcpt_options, encoding=encoding, timeout=timeout)
                except errors.SMTPRecipientRefused as error:
                    refused.append(error)
            if len(refused) == len(recipients):
                raise errors.SMTPRecipientsRefused(refused)
            stage = IN_DOUBT  # from here on, the end of the message may be sent
            response = await self.data(data, timeout=timeout)
        except BaseException as error:
            attach(error, result_by_methods(mail, stage, refused, error))
            is_refusal = isinstance(
                error, (errors.SMTPResponseException, errors.SMTPRecipientsRefused, ValueError)
            )
            if is_refusal and protocol is self.protocol:
                try:
                    await self.rset(timeout=timeout)
                except (ConnectionError, errors.SMTPException):
                    # The refusal is what the caller has to know.
                    self._drop(protocol)
            else:
                self._drop(protocol)
            raise
        self._last = result_by_methods(mail, CONTENT, refused, None, response)
        return (
            {each.recipient: SMTPResponse(each.code, each.message) for each in refused},
            response.message,
        )

    async def send_message(
        self,
        message: EmailMessage | Message,
        /,
        *,
        sender: str | None = None,
        recipients: str | Sequence[str] | None = None,
        mail_options: Iterable[str] | None = None,
        rcpt_options: Iterable[str] | None = None,
        timeout: Timeout = Default.token,
    ) -> Sent:
        """Send an email.message.Message by sendmail(); return and raise what that does.

        Sender and recipients that are not given come from the headers: Sender, else From; To, Cc
        and Bcc; those of the Resent- block if there is one. Bcc is not transmitted. If an address
        is not ASCII, headers are sent as UTF-8 with SMTPUTF8. Without 8BITMIME, parts are encoded
        in 7 bits.

        Raises ValueError for two Resent- blocks, for no sender and for no recipient.
        """
        sender, addresses = envelope_of(message, sender, recipients)
        options = list(mail_options or ())
        named = [each.lower() for each in options]
        await self._ehlo_or_helo_if_needed()
        utf8 = needs_smtputf8(sender, addresses)
        if utf8:
            if not self.supports_extension("smtputf8"):
                raise errors.SMTPNotSupported(
                    "An address containing non-ASCII characters was provided, but SMTPUTF8 is not "
                    "supported by this server"
                )
            if "smtputf8" not in named:
                options.append("SMTPUTF8")
        cte_type = "7bit"
        if self.supports_extension("8bitmime"):
            cte_type = "8bit"
            if "body=8bitmime" not in named:
                options.append("BODY=8BITMIME")
        return await self.sendmail(
            sender,
            addresses,
            flatten(message, utf8=utf8, cte_type=cte_type),
            mail_options=options,
            rcpt_options=rcpt_options,
            timeout=timeout,
        )

    def send_many(
        self,
        messages: Iterable[Sendable] | AsyncIterable[Sendable],
        *,
        max_in_flight: int = limits.MAX_IN_FLIGHT,
        chunking: bool | None = None,
    ) -> AsyncGenerator[Result, None]:
        """Send many messages, each in a transaction of its own, without waiting between them if the
        server allows that; yield a result for each, in order, as it comes.

        messages: any iterable, also an asynchronous one, of what csmtplib.SMTP.send_many() takes:
        tuples in the order of sendmail()'s arguments, csmtplib.MailObject,
        email.message.Message. They are taken as needed: at most `max_in_flight` messages are in
        progress at once. If the server offers PIPELINING, the next envelope is sent with the
        message before it; if it also offers CHUNKING, and `chunking` is not False, whole
        transactions are sent without waiting.

        A result has an outcome for each recipient: accepted, rejected, deferred or in doubt, with
        the server's reply. If a message can't be sent as it is, its result has an `error`, and the
        others go on.

        If the connection is lost, or the server takes no more messages on it, raises
        SMTPServerDisconnected after the results of all messages that were taken. What the iterable
        raises is raised then, too. Leaving the loop early, or a cancellation, closes the
        connection. Nothing is sent before the first result is asked for. Raises at once TypeError
        for one message instead of several, ValueError for max_in_flight below 1.
        """
        from .streaming import stream

        return stream(self, messages, max_in_flight, chunking, pipelining=self.pipelining)

    def sendmail_sync(self, *args: Any, **kwargs: Any) -> Sent:
        """Connect, sendmail() and close, in an event loop of its own."""

        async def send() -> Sent:
            async with self:
                return await self.sendmail(*args, **kwargs)

        check_no_loop("sendmail")
        return asyncio.run(send())

    def send_message_sync(self, *args: Any, **kwargs: Any) -> Sent:
        """Connect, send_message() and close, in an event loop of its own."""

        async def send() -> Sent:
            async with self:
                return await self.send_message(*args, **kwargs)

        check_no_loop("send_message")
        return asyncio.run(send())


class LMTP(SMTP):
    """A client of an LMTP server (RFC 2033), by default on port 24. It answers a message for each
    recipient; recipients that are refused then are among those that sendmail() returns."""

    default_port = 24
    _is_lmtp = True


def check_no_loop(method: str) -> None:
    """Raises RuntimeError if an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"an event loop is running in this thread: await {method}() instead")


def attach(error: BaseException, result: Result) -> None:
    """Have an exception say what has become of a message: in `csmtplib_result`, and where it is
    printed."""
    error.csmtplib_result = result  # type: ignore[attr-defined]
    if not isinstance(error, Exception) and hasattr(error, "add_note"):
        error.add_note(f"the message was: {'; '.join(map(str, result.outcomes))}")


def result_by_methods(
    mail: MailObject,
    stage: int,
    refused: Sequence[errors.SMTPRecipientRefused],
    error: BaseException | None,
    response: SMTPResponse | None = None,
) -> Result:
    """Return the result of a message whose transaction has ended, perhaps with an exception.

    stage: LOST before the message could be sent, IN_DOUBT afterwards. refused: by RCPT. response:
    to the message.
    """
    reply = None if response is None else (response.code, reply_text(response.message))
    if isinstance(error, errors.SMTPResponseException) and error.code >= 0:
        reply = (error.code, reply_text(error.message))
        stage = MAIL if stage == LOST else CONTENT
    places = {recipient: place for place, recipient in enumerate(mail.to_addrs)}
    others = {
        places[each.recipient]: (int(RCPT), (each.code, reply_text(each.message)))
        for each in refused
        if each.recipient in places
    }
    result = Result(mail, [(None, int(stage), reply, others, str(error) or type(error).__name__)])
    result.recipients = mail.to_addrs
    return result


def envelope_of(
    msg: EmailMessage | Message, sender: str | None, recipients: str | Sequence[str] | None
) -> tuple[str, list[str]]:
    """Return sender and recipients of a message: those given, else those of its headers. Raises
    ValueError if there is none."""
    if isinstance(recipients, str):
        recipients = [recipients]
    sender, found = envelope_addresses(msg, sender, recipients, every_field=True)
    if not found:
        raise ValueError(
            "No recipient headers provided in message: add To, Cc or Bcc, or give recipients"
        )
    return sender, list(found)


def _bytes(text: str | bytes) -> bytes:
    """Return the text of a message, which has at least an empty line."""
    # Not what the caller could change meanwhile.
    data = text.encode("ascii") if isinstance(text, str) else bytes(text)
    return data or b"\r\n"


def _envelope(
    sender: str,
    recipients: Sequence[str],
    options: Sequence[str],
    rcpt_options: Sequence[str],
    utf8: bool,
) -> list[bytes]:
    """Return MAIL and each RCPT as they are sent. Raises ValueError."""
    mail_parameters = "".join(f" {each}" for each in options)
    rcpt_parameters = "".join(f" {each}" for each in rcpt_options)
    lines = kernel.envelope_lines(
        "MAIL FROM:<", sender, mail_parameters, "RCPT TO:<", recipients, rcpt_parameters
    )
    if lines is not None:
        return lines
    encoding = "utf-8" if utf8 else "ascii"
    return [
        envelope.command(f"MAIL FROM:<{address_of(sender)}>{mail_parameters}", encoding),
        *(
            envelope.command(f"RCPT TO:<{address_of(each)}>{rcpt_parameters}", encoding)
            for each in recipients
        ),
    ]
