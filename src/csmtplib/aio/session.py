"""The session: EHLO and HELO, STARTTLS, AUTH, and commands outside of transactions."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from ..drive.loop_transport import TLS
from ..protocol import limits, sasl
from ..protocol.features import parse_ehlo
from . import errors
from .address import address_of
from .connection import Connection, checked_hostname
from .response import SMTPResponse, SMTPStatus, reply_text
from .typing import Default, Timeout

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

    from ..protocol.result import Result

_HELP_CODES = (SMTPStatus.system_status_ok, SMTPStatus.help_message, SMTPStatus.completed)
_VRFY_CODES = (SMTPStatus.completed, SMTPStatus.will_forward, SMTPStatus.cannot_vrfy)


class Session(Connection):
    """A session with a server.

    esmtp_extensions: what the server offers, by keyword in lower case, with the parameters.
    server_auth_methods: its AUTH mechanisms, in lower case. last_helo_response: None before HELO.
    left_results: the results of the messages that the last send_many() had taken, but not yielded
    when it was left.
    """

    # Best first. A mechanism "some-name" is the method auth_somename().
    AUTH_METHODS: tuple[str, ...] = ("cram-md5", "plain", "login")

    esmtp_extensions: dict[str, str]
    server_auth_methods: list[str]
    supports_esmtp: bool
    last_helo_response: SMTPResponse | None
    left_results: Sequence[Result] = ()
    _last_ehlo_response: SMTPResponse | None

    def _forget_session(self) -> None:
        self.last_helo_response = None
        self._last_ehlo_response = None
        self.esmtp_extensions = {}
        self.server_auth_methods = []
        self.supports_esmtp = False

    async def _begin_session(self) -> None:
        if self._start_tls_on_connect:
            await self.starttls()
        elif self._start_tls_on_connect is None and not self._is_encrypted:
            await self._ehlo_or_helo_if_needed()
            if self.supports_extension("starttls"):
                await self.starttls()
        await self._maybe_login_on_connect()

    async def _maybe_login_on_connect(self) -> None:
        user, generator = self._login_username, self._oauth_token_generator
        if generator is None:
            if user is not None:
                password = "" if self._login_password is None else self._login_password
                await self.login(user, password)
            return
        if user is None:
            raise errors.SMTPException("username is required when using oauth_token_generator")
        await self._ehlo_or_helo_if_needed()
        if "xoauth2" not in self.server_auth_methods:
            raise errors.SMTPNotSupported(
                "oauth_token_generator was given, but the server does not support XOAUTH2"
            )
        await self.auth_xoauth2(user, await generator())

    @property
    def _is_encrypted(self) -> bool:
        return self.protocol is not None and self.protocol.is_encrypted

    # What the server offers

    @property
    def last_ehlo_response(self) -> SMTPResponse | None:
        """The reply to EHLO, None if there was none. Setting it sets what the server offers."""
        return self._last_ehlo_response

    @last_ehlo_response.setter
    def last_ehlo_response(self, response: SMTPResponse) -> None:
        self._last_ehlo_response = response
        self.esmtp_extensions = extensions = parse_ehlo(reply_text(response.message))
        if "auth" in extensions:
            # smtplib has a space before the first mechanism.
            extensions["auth"] = extensions["auth"].strip()
        self.server_auth_methods = extensions.get("auth", "").lower().split()
        self.supports_esmtp = True

    @property
    def is_ehlo_or_helo_needed(self) -> bool:
        """Whether neither EHLO nor HELO has been answered."""
        return self._last_ehlo_response is None and self.last_helo_response is None

    @property
    def supported_auth_methods(self) -> list[str]:
        """The mechanisms that both sides have, best first, in lower case."""
        return [each for each in self.AUTH_METHODS if each in self.server_auth_methods]

    def supports_extension(self, extension: str, /) -> bool:
        """Return whether the server offers an extension; case does not matter."""
        return extension.lower() in self.esmtp_extensions

    async def ehlo(
        self, *, hostname: str | None = None, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Send EHLO (LHLO to LMTP servers) with this name, by default local_hostname. Raises
        SMTPHeloError if the reply is not 250."""
        verb = "LHLO" if self._is_lmtp else "EHLO"
        response = await self._introduce(verb, hostname, timeout)
        self.last_ehlo_response = response
        return response

    async def helo(
        self, *, hostname: str | None = None, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Send HELO with this name, by default local_hostname. Raises SMTPHeloError if the reply is
        not 250."""
        response = await self._introduce("HELO", hostname, timeout)
        self.last_helo_response = response
        return response

    async def _introduce(self, verb: str, hostname: str | None, timeout: Timeout) -> SMTPResponse:
        if hostname is not None:
            hostname = checked_hostname(hostname)
        elif self.local_hostname is not None:
            hostname = self.local_hostname
        else:
            hostname = await self._get_default_local_hostname()
        response = await self.execute_command(
            verb.encode(), hostname.encode("ascii"), timeout=timeout
        )
        if response.code != SMTPStatus.completed:
            raise errors.SMTPHeloError(response.code, response.message)
        return response

    async def _ehlo_or_helo_if_needed(self) -> None:
        if not self.is_ehlo_or_helo_needed:
            return
        try:
            await self.ehlo()
        except errors.SMTPHeloError:
            if self._is_lmtp or not self.is_connected:
                raise
            await self.helo()

    # STARTTLS

    async def starttls(
        self,
        *,
        server_hostname: str | None = None,
        validate_certs: bool | None = None,
        client_cert: str | Default | None = Default.token,
        client_key: str | Default | None = Default.token,
        cert_bundle: str | Default | None = Default.token,
        tls_context: ssl.SSLContext | Default | None = Default.token,
        timeout: Timeout = Default.token,
    ) -> SMTPResponse:
        """Encrypt the connection (RFC 3207); return the reply. EHLO has to follow, and is sent when
        it is needed.

        server_hostname: the name that the certificate has to have, by default `hostname`. The other
        arguments are those of the class, and are kept.

        Raises SMTPException if TLS is in use, SMTPNotSupported if it is not offered;
        SMTPResponseException for a reply other than 220; ssl.SSLError, SMTPTimeoutError and
        SMTPServerDisconnected if the handshake fails, which closes the connection; ValueError for
        arguments that contradict each other.
        """
        if self.protocol is None:
            raise errors.SMTPServerDisconnected("Server not connected")
        if self._is_encrypted:
            raise errors.SMTPException("Connection already using TLS")
        self._update_settings(
            {
                "validate_certs": validate_certs,
                "client_cert": client_cert,
                "client_key": client_key,
                "cert_bundle": cert_bundle,
                "tls_context": tls_context,
            }
        )
        self._check_settings()
        await self._ehlo_or_helo_if_needed()
        context = await self._tls_context()
        if not self.supports_extension("starttls"):
            raise errors.SMTPNotSupported("SMTP STARTTLS extension not supported by server.")
        name = self.hostname if server_hostname is None else server_hostname
        response = await self._encrypt(TLS(context, name, self._seconds(timeout)))
        if response.code != SMTPStatus.ready:
            raise errors.SMTPResponseException(response.code, response.message)
        # What was offered in the clear may not be what the server said (RFC 3207 section 4.2).
        self._forget_session()
        return response

    # AUTH

    async def login(
        self, username: str | bytes, password: str | bytes, /, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Log in by the mechanisms that both sides have, one after the other, best first; return
        the reply.

        Raises SMTPAuthenticationError, of the last one tried; SMTPNotSupported if the server does
        not offer AUTH, or no mechanism that is known.
        """
        await self._ehlo_or_helo_if_needed()
        if not self.supports_extension("auth"):
            is_plain = self.is_connected and not self._is_encrypted
            hint = " Try connecting via TLS (or STARTTLS)." if is_plain else ""
            raise errors.SMTPNotSupported(
                f"The SMTP AUTH extension is not supported by this server.{hint}"
            )
        failure: errors.SMTPAuthenticationError | None = None
        for name in self.supported_auth_methods:
            method = getattr(self, f"auth_{name.replace('-', '')}", None)
            if method is None:
                raise RuntimeError(f"AUTH_METHODS has {name}, and there is no method for it")
            try:
                response: SMTPResponse = await method(username, password, timeout=timeout)
                return response
            except errors.SMTPAuthenticationError as error:
                failure = error
        raise failure or errors.SMTPNotSupported("No suitable authentication method found.")

    async def auth_crammd5(
        self, username: str | bytes, password: str | bytes, /, *, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Log in by CRAM-MD5 (RFC 2195). Raises SMTPAuthenticationError."""
        return await self._authenticate("CRAM-MD5", sasl.CramMD5, username, password, timeout)

    async def auth_plain(
        self, username: str | bytes, password: str | bytes, /, *, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Log in by PLAIN (RFC 4616). Raises SMTPAuthenticationError."""
        return await self._authenticate("PLAIN", sasl.Plain, username, password, timeout)

    async def auth_login(
        self, username: str | bytes, password: str | bytes, /, *, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        """Log in by LOGIN. Raises SMTPAuthenticationError."""
        return await self._authenticate("LOGIN", sasl.LoginAtOnce, username, password, timeout)

    async def auth_xoauth2(
        self,
        username: str | bytes,
        access_token: str | bytes,
        /,
        *,
        timeout: Timeout = Default.token,
    ) -> SMTPResponse:
        """Log in by XOAUTH2, with an OAuth 2 access token. Raises SMTPAuthenticationError."""
        await self._ehlo_or_helo_if_needed()
        return await self._authenticate("XOAUTH2", sasl.XOAuth2, username, access_token, timeout)

    async def _authenticate(
        self,
        name: str,
        kind: type[sasl.Plain | sasl.LoginAtOnce | sasl.CramMD5 | sasl.XOAuth2],
        username: str | bytes,
        secret: str | bytes,
        timeout: Timeout,
    ) -> SMTPResponse:
        mechanism = kind(username, secret)
        words = [b"AUTH", name.encode()]
        initial = mechanism.initial_response()
        if initial is not None:
            words.append(base64.b64encode(initial) or b"=")
        response = await self.execute_command(*words, timeout=timeout)
        for _ in range(limits.AUTH_CHALLENGES):
            if response.code != SMTPStatus.auth_continue:
                break
            challenge = reply_text(response.message)
            try:
                answer = mechanism.answer(mechanism.decode(challenge))
            except ValueError as error:
                # Otherwise the server would take the next command for the answer.
                await self.execute_command(b"*", timeout=timeout)
                raise errors.SMTPAuthenticationError(response.code, f"{name}: {error}") from error
            response = await self.execute_command(base64.b64encode(answer), timeout=timeout)
        if response.code == SMTPStatus.auth_continue:
            await self.execute_command(b"*", timeout=timeout)
        if response.code != SMTPStatus.auth_successful:
            raise errors.SMTPAuthenticationError(response.code, response.message)
        return response

    # Others

    async def help(self, *, timeout: Timeout = Default.token) -> str:
        """Send HELP; return its text. Raises SMTPResponseException if the reply is not 211, 214 or
        250."""
        return (await self._ask(b"HELP", timeout=timeout, codes=_HELP_CODES)).message

    async def rset(self, *, timeout: Timeout = Default.token) -> SMTPResponse:
        """Send RSET, which ends a transaction. Raises SMTPResponseException if the reply is not
        250."""
        return await self._ask(b"RSET", timeout=timeout)

    async def noop(self, *, timeout: Timeout = Default.token) -> SMTPResponse:
        """Send NOOP. Raises SMTPResponseException if the reply is not 250."""
        return await self._ask(b"NOOP", timeout=timeout)

    async def vrfy(
        self,
        address: str,
        /,
        *,
        options: Iterable[str] | None = None,
        timeout: Timeout = Default.token,
    ) -> SMTPResponse:
        """Send VRFY, which asks whether an address is valid. Raises SMTPResponseException if the
        reply is not 250, 251 or 252; SMTPNotSupported for SMTPUTF8; ValueError for no address."""
        return await self._ask_about(b"VRFY", address, options, timeout, _VRFY_CODES)

    async def expn(
        self,
        address: str,
        /,
        *,
        options: Iterable[str] | None = None,
        timeout: Timeout = Default.token,
    ) -> SMTPResponse:
        """Send EXPN, which expands a mailing list. Raises SMTPResponseException if the reply is not
        250; SMTPNotSupported for SMTPUTF8; ValueError for no address."""
        return await self._ask_about(b"EXPN", address, options, timeout)

    async def _ask_about(
        self,
        verb: bytes,
        address: str,
        options: Iterable[str] | None,
        timeout: Timeout,
        codes: tuple[int, ...] = (SMTPStatus.completed,),
    ) -> SMTPResponse:
        await self._ehlo_or_helo_if_needed()
        words = list(options or ())
        encoding = self._encoding_for(words)
        what = address_of(address).encode(encoding)
        more = (each.encode("ascii") for each in words)
        return await self._ask(verb, what, *more, timeout=timeout, codes=codes)

    def _encoding_for(self, options: Iterable[str]) -> str:
        """Return the encoding of addresses with these options. Raises SMTPNotSupported."""
        if not any(each.lower() == "smtputf8" for each in options):
            return "ascii"
        if not self.supports_extension("smtputf8"):
            raise errors.SMTPNotSupported("SMTPUTF8 is not supported by this server")
        return "utf-8"

    async def _ask(
        self,
        *words: bytes,
        timeout: Timeout,
        codes: tuple[int, ...] = (SMTPStatus.completed,),
    ) -> SMTPResponse:
        await self._ehlo_or_helo_if_needed()
        response = await self.execute_command(*words, timeout=timeout)
        if response.code not in codes:
            raise errors.SMTPResponseException(response.code, response.message)
        return response
