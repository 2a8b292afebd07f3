"""Conversations with a server around the messages, as generators: each yields steps, and is sent
the replies (dialogue.py).

These flows are strict where the drop-in class follows the stdlib: any reply that is not one of RFC
5321's ends the session, only 235 is a login, and nothing secret is sent in the clear.
"""

from __future__ import annotations

import base64
import contextlib
from smtplib import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPResponseException,
)

from . import envelope, extension_policy, limits, sasl
from .dialogue import Close, Exchange, Flow, StartTLS
from .failures import ConnectionLost, NoGreeting
from .features import Features, parse_ehlo
from .server_url import TLS, Server


def open_session(server: Server, name: str) -> Flow[Features]:
    """Open a session as the server's description asks (greeting, EHLO, STARTTLS, AUTH); return what
    the server then offers.

    Raises SMTPConnectError, SMTPHeloError, SMTPResponseException for a refused STARTTLS,
    SMTPNotSupportedError for what is required and not offered, SMTPAuthenticationError; and
    ConnectionLost, or NoGreeting if there was no greeting.
    """
    try:
        greeting = yield Exchange(b"", limits.GREETING_SECONDS)
    except ConnectionLost as lost:
        raise NoGreeting(f"no greeting: {lost}") from lost
    if greeting.code != 220:
        yield Close()
        raise SMTPConnectError(*greeting)
    features = yield from begin_session(server, name)
    if extension_policy.is_pix(greeting.text):
        features.extensions.pop("pipelining", None)
    return features


def begin_session(server: Server, name: str) -> Flow[Features]:
    """Do what the server's description asks for after the greeting (EHLO, STARTTLS, AUTH); return
    what the server then offers, and raise what open_session() does."""
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
    """Send EHLO, then HELO if that is refused; LHLO alone for LMTP. Raises SMTPHeloError."""
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
    """Send STARTTLS and encrypt (RFC 3207). Raises SMTPNotSupportedError, SMTPResponseException."""
    if "starttls" not in features:
        raise SMTPNotSupportedError("TLS is required, and the server does not offer STARTTLS")
    reply = yield Exchange(b"STARTTLS\r\n")
    if reply.code != 220:
        raise SMTPResponseException(*reply)
    yield StartTLS()


def login(features: Features, user: str, password: str, only: str | None = None) -> Flow[None]:
    """Authenticate (RFC 4954) by the best mechanism that the server offers, or by one alone.

    One mechanism is tried, once: a password that a strong one has kept secret must not be sent by a
    weak one. Raises SMTPNotSupportedError for no mechanism in common, SMTPAuthenticationError.
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
            answer = mechanism.answer(mechanism.decode(reply.text))
            reply = yield Exchange(base64.b64encode(answer) + b"\r\n")
        if reply.code == 334:
            raise sasl.AuthError("too many challenges")
        if reply.code == 235:
            mechanism.check_complete()
            return
    except ValueError as error:
        if reply.code == 334:
            reply = yield Exchange(b"*\r\n")
        yield Close()
        raise SMTPAuthenticationError(reply.code, f"{name}: {error}".encode()) from error
    raise SMTPAuthenticationError(*reply)


def farewell() -> Flow[None]:
    """Send QUIT; whatever the server answers, the session is over."""
    with contextlib.suppress(ConnectionLost):
        yield Exchange(b"QUIT\r\n", limits.QUIT_SECONDS)
    yield Close()
