"""Conversations with a server, as generators: each yields what to do and is sent what came of it.

Nothing here does I/O; a driver (`drive/`) performs the steps. These flows are strict where the
drop-in class follows the stdlib: any reply that is not one of RFC 5321's ends the session, only 235
is a login, and nothing secret is said in the clear.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from smtplib import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPResponseException,
    SMTPServerDisconnected,
)
from typing import TypeAlias, TypeVar

from .. import kernel
from . import auth, envelope, limits, sasl
from .features import Features, parse_ehlo
from .outcome import Outcome, Reply, State, answered
from .server_url import TLS, Server


@dataclass(frozen=True, slots=True)
class Exchange:
    """Step: send octets (none for the greeting), then read one reply within so many seconds.

    The answer is the Reply; ConnectionLost is thrown in where there is none.
    """

    octets: bytes
    seconds: float = limits.COMMAND_SECONDS


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Step: encrypt the connection. Whatever the server said behind its last reply is an attack."""


@dataclass(frozen=True, slots=True)
class Close:
    """Step: close the connection."""


Step: TypeAlias = Exchange | StartTLS | Close
Result = TypeVar("Result")
Flow: TypeAlias = Generator[Step, Reply, Result]


class ConnectionLost(SMTPServerDisconnected):
    """The connection is closed, by the server or because of what it sent.

    everything_sent: whether all octets of the step had been handed to the network by then.
    """

    def __init__(self, fault: str, *, everything_sent: bool = False) -> None:
        super().__init__(fault)
        self.everything_sent = everything_sent


class Unsendable(ValueError):
    """A message that can't be sent as it is. Nothing of it was."""


def open_session(server: Server, name: str) -> Flow[Features]:
    """Greeting, EHLO, STARTTLS and AUTH, as the server's description asks; what it offers then.

    Raises SMTPConnectError, SMTPHeloError, SMTPResponseException for a refused STARTTLS,
    SMTPNotSupportedError for what is required and not offered, SMTPAuthenticationError.
    """
    greeting = yield Exchange(b"", limits.GREETING_SECONDS)
    if greeting.code != 220:
        yield Close()
        raise SMTPConnectError(*greeting)
    features = yield from hello(name, lmtp=server.lmtp)
    encrypted = server.tls is TLS.IMPLICIT
    if server.tls is TLS.REQUIRED or (server.tls is TLS.IF_OFFERED and "starttls" in features):
        yield from starttls(features)
        encrypted = True
        features = yield from hello(name, lmtp=server.lmtp)
    if server.user is not None:
        if not encrypted and not server.cleartext_auth:
            raise SMTPNotSupportedError(
                f"{server} offers no TLS, so the password would be sent in the clear; use "
                "submission:// or smtps://, or allow it by ?cleartext-auth=yes"
            )
        yield from login(features, server.user, server.password, server.auth)
    return features


def hello(name: str, *, lmtp: bool) -> Flow[Features]:
    """EHLO, then HELO if that is refused; LHLO alone for LMTP. Raises SMTPHeloError."""
    reply = yield Exchange(envelope.command(f"{'LHLO' if lmtp else 'EHLO'} {name}"))
    if reply.code == 250:
        return Features(parse_ehlo(reply.text))
    if not lmtp and reply.code != 421:
        reply = yield Exchange(envelope.command(f"HELO {name}"))
        if reply.code == 250:
            return Features()
    yield Close()
    raise SMTPHeloError(*reply)


def starttls(features: Features) -> Flow[None]:
    """STARTTLS (RFC 3207). Raises SMTPNotSupportedError, SMTPResponseException."""
    if "starttls" not in features:
        raise SMTPNotSupportedError("TLS is required, and the server does not offer STARTTLS")
    reply = yield Exchange(b"STARTTLS\r\n")
    if reply.code != 220:
        raise SMTPResponseException(*reply)
    yield StartTLS()


def login(features: Features, user: str, password: str, only: str | None = None) -> Flow[None]:
    """AUTH (RFC 4954) by the best mechanism that the server offers, or by one alone.

    One mechanism is tried, once: what is refused by a strong one is not told by a weak one. Raises
    SMTPNotSupportedError for no mechanism in common, SMTPAuthenticationError.
    """
    known = sasl.MECHANISMS if only is None else sasl.MECHANISMS | sasl.TOKEN_MECHANISMS
    wanted = list(known) if only is None else [only]
    name = next((each for each in wanted if each in features.auth_mechanisms), None)
    if name is None:
        raise SMTPNotSupportedError(
            f"the server offers {' '.join(features.auth_mechanisms) or 'no AUTH'}, and none of "
            f"{' '.join(wanted)}"
        )
    try:
        mechanism = known[name](user, password)
        initial = mechanism.initial_response()
    except sasl.AuthError as error:
        raise SMTPAuthenticationError(535, str(error).encode()) from error
    command = f"AUTH {name}"
    if initial is not None:
        command += f" {base64.b64encode(initial).decode() or '='}"
    reply = yield Exchange(envelope.command(command))
    try:
        for _ in range(limits.AUTH_CHALLENGES):
            if reply.code != 334:
                break
            answer = mechanism.answer(auth.decode_challenge(reply.text))
            reply = yield Exchange(base64.b64encode(answer) + b"\r\n")
        if reply.code == 334:
            raise sasl.AuthError("challenges without end")
        if reply.code == 235:
            mechanism.check_complete()
            return
    except ValueError as error:
        if reply.code == 334:
            reply = yield Exchange(b"*\r\n")
        yield Close()
        raise SMTPAuthenticationError(reply.code, f"{name}: {error}".encode()) from error
    raise SMTPAuthenticationError(*reply)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One message, ready for the wire."""

    recipients: Sequence[str]
    mail: bytes
    rcpts: Sequence[bytes]
    body: bytes  # encoded, terminator included


def prepare(
    sender: str, recipients: Sequence[str], message: bytes, features: Features
) -> Transaction:
    """Encodes a message for a server; after that nothing about it can be wrong on this side.

    Line ends become CR LF. Raises Unsendable for control characters in the envelope, NUL and lines
    of more than 998 octets in the message, and one that is larger than the server takes;
    SMTPNotSupportedError for addresses that need SMTPUTF8 where the server lacks it.
    """
    if not recipients:
        raise Unsendable("the message has no recipient")
    longest_line, has_nul, has_8bit = kernel.survey(message)
    if has_nul:
        raise Unsendable("the message holds a NUL octet, which SMTP does not carry")
    if longest_line > limits.MESSAGE_LINE_OCTETS:
        raise Unsendable(
            f"line {_first_long_line(message)} of the message is longer than "
            f"{limits.MESSAGE_LINE_OCTETS} octets (RFC 5321 section 4.5.3.1.6): encode its part as "
            "quoted-printable or base64"
        )
    encoder = kernel.BodyEncoder()
    body = encoder.encode(message) + encoder.finish()
    # Neither the dots that lines have gained count, nor the terminator (RFC 1870 section 5).
    size = len(body) - len(b".\r\n") - body.count(b"\n..") - body.startswith(b"..")
    if features.size_limit is not None and size > features.size_limit:
        raise Unsendable(
            f"the message has {size} octets, and the server takes {features.size_limit}"
        )

    parameters = f" SIZE={size}" if "size" in features else ""
    utf8 = not all(each.isascii() for each in (sender, *recipients))
    if utf8 and "smtputf8" not in features:
        raise SMTPNotSupportedError(
            "the envelope has an address that is not ASCII, and the server does not offer SMTPUTF8"
        )
    if utf8:
        parameters += " SMTPUTF8"
    if (utf8 or has_8bit) and "8bitmime" in features:
        parameters += " BODY=8BITMIME"
    encoding = "utf-8" if utf8 else "ascii"
    try:
        for address in (sender, *recipients):
            envelope.check_command(address)
            path = envelope.quoteaddr(address)[1:-1]
            # Else the parser has left something out, or the server would read it otherwise.
            if path not in address or _STRAY.search(_QUOTED.sub("", path)):
                raise ValueError(f"{address!r} is no address: write user@domain")
        mail = envelope.command(f"MAIL FROM:{envelope.quoteaddr(sender)}{parameters}", encoding)
        rcpts = [
            envelope.command(f"RCPT TO:{envelope.quoteaddr(each)}", encoding) for each in recipients
        ]
    except ValueError as error:
        raise Unsendable(str(error)) from error
    return Transaction(recipients, mail, rcpts, body)


# What may stand in a path within quotes alone (RFC 5321 section 4.1.2).
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_STRAY = re.compile(r"[<>\s]")


def _first_long_line(message: bytes) -> int:
    lines = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return next(
        number for number, line in enumerate(lines, 1) if len(line) > limits.MESSAGE_LINE_OCTETS
    )


def transact(transaction: Transaction, *, lmtp: bool) -> Flow[list[Outcome]]:
    """MAIL, RCPT, DATA and the message, each when the one before is answered; an outcome for every
    recipient, in order. The session can be used on, but where the connection was closed meanwhile.
    """
    outcomes: dict[int, Outcome] = {}
    pending = list(range(len(transaction.recipients)))
    message_begun = False

    def settle(numbers: Sequence[int], reply: Reply, *, to_rcpt: bool = False) -> None:
        if reply.code < 400 and not (message_begun and 200 <= reply.code <= 299):
            # A success that nothing succeeded by: it answers something else, and so will the next.
            # To book it would be to call a message accepted that was never sent.
            raise ConnectionLost(
                f"the server answers another command: {reply}", everything_sent=message_begun
            )
        for number in numbers:
            recipient = transaction.recipients[number]
            outcomes[number] = answered(recipient, reply, to_rcpt=to_rcpt)

    try:
        reply = yield Exchange(transaction.mail)
        if reply.code != 250:
            settle(pending, reply)
            pending = []
        for number in tuple(pending):
            reply = yield Exchange(transaction.rcpts[number])
            if reply.code in (250, 251):
                continue
            settle([number], reply, to_rcpt=True)
            pending.remove(number)
            if reply.code == 421:
                raise ConnectionLost(f"the server closed the session: {reply}")
        if pending:
            reply = yield Exchange(b"DATA\r\n", limits.DATA_SECONDS)
            if reply.code != 354:
                settle(pending, reply)
                pending = []
        if not pending:
            yield Close() if reply.code == 421 else Exchange(b"RSET\r\n")
            return [outcomes[number] for number in range(len(outcomes))]

        message_begun = True
        reply = yield Exchange(transaction.body, limits.TERMINATOR_SECONDS)
        # LMTP answers for each recipient (RFC 2033 section 4.2), SMTP once for all.
        while lmtp and len(pending) > 1 and reply.code != 421:
            settle(pending[:1], reply)
            del pending[0]
            reply = yield Exchange(b"", limits.TERMINATOR_SECONDS)
        settle(pending, reply)
        if reply.code == 421:
            yield Close()
    except ConnectionLost as lost:
        yield Close()
        in_doubt = message_begun and lost.everything_sent
        for number, recipient in enumerate(transaction.recipients):
            if number not in outcomes:
                state = State.IN_DOUBT if in_doubt else State.DEFERRED
                outcomes[number] = Outcome(recipient, state, fault=str(lost))
    return [outcomes[number] for number in range(len(outcomes))]


def farewell() -> Flow[None]:
    """QUIT; whatever the server answers, the session is over."""
    with contextlib.suppress(ConnectionLost):
        yield Exchange(b"QUIT\r\n", limits.QUIT_SECONDS)
    yield Close()
