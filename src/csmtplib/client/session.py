"""The commands between connecting and sending mail: EHLO, AUTH, STARTTLS and the small ones."""

from __future__ import annotations

import contextlib
from smtplib import (
    SMTPAuthenticationError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from .. import fastpath
from ..drive import tls
from ..drive.replyfile import ReplyFile
from ..protocol.failures import injected_text
from ..protocol.features import check_name, parse_ehlo
from ..protocol.sasl import asks_for_user_name, decode_challenge, decode_prompt
from .connection import Connection
from .public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from os import PathLike
    from typing import TypeAlias, overload

    from ..kernel import BytesLike
    from ..kernel.transaction import Reply

    StrOrBytesPath: TypeAlias = str | bytes | PathLike[str] | PathLike[bytes]


@fastpath.original
class Session(Connection):
    """A session on a connection: names, extensions, and login."""

    user: str
    password: str

    def helo(self, name: str = "") -> Reply:
        """Sends HELO with this name, or the local host's (RFC 5321 section 4.1.1.1)."""
        code, text = self._command("helo", self._name(name, "helo"))
        self.helo_resp = text
        return code, text

    def ehlo(self, name: str = "") -> Reply:
        """Sends EHLO with this name, or the local host's; fills esmtp_features from the reply."""
        self.esmtp_features = {}
        code, text = self._command(self.ehlo_msg, self._name(name, self.ehlo_msg))
        if code == -1 and not text:
            # Some servers hang up on EHLO, and not all of them cleanly.
            self.close()
            raise SMTPServerDisconnected("Server not connected")
        self.ehlo_resp = text
        if code == 250:
            self.does_esmtp = True
            self.esmtp_features = parse_ehlo(text)
        return code, text

    def _name(self, name: str, verb: str) -> str:
        argument, name = ("name", name) if name else ("local_hostname", self.local_hostname)
        check_name(argument, str(name), verb, self.command_encoding)
        return name

    def ehlo_or_helo_if_needed(self) -> None:
        """Sends EHLO, then HELO if that is refused, unless one was sent already on this connection.

        Raises SMTPHeloError if both are refused.
        """
        if self.helo_resp is not None or self.ehlo_resp is not None:
            return
        if 200 <= self.ehlo()[0] <= 299:
            return
        code, text = self.helo()
        if not 200 <= code <= 299:
            raise SMTPHeloError(code, text)

    def has_extn(self, opt: str) -> bool:
        """Returns whether the server offered an extension in reply to EHLO; case does not
        matter."""
        return opt.lower() in self.esmtp_features

    def has_option(self, opt: str) -> bool:
        """Returns has_extn(), under its older name."""
        return self.has_extn(opt)

    def help(self, args: str = "") -> bytes:
        """Sends HELP (RFC 5321 section 4.1.1.8); returns the text of the reply alone."""
        self.putcmd("help", args)
        return self.getreply()[1]

    def rset(self) -> Reply:
        """Sends RSET, which drops the transaction that was begun (RFC 5321 section 4.1.1.5)."""
        self.command_encoding = "ascii"
        return self.docmd("rset")

    def _rset(self) -> None:
        # Called after another error, which is what the caller gets. If the connection is lost by
        # now, the next command says so.
        with contextlib.suppress(SMTPServerDisconnected):
            self.rset()

    def noop(self) -> Reply:
        """Sends NOOP (RFC 5321 section 4.1.1.9)."""
        return self.docmd("noop")

    def verify(self, address: str) -> Reply:
        """Sends VRFY, which asks whether an address exists (RFC 5321 section 4.1.1.6)."""
        self.putcmd("vrfy", public._addr_only(address))
        return self.getreply()

    vrfy = verify

    def expn(self, address: str) -> Reply:
        """Sends EXPN, which asks who is on a list (RFC 5321 section 4.1.1.7)."""
        self.putcmd("expn", public._addr_only(address))
        return self.getreply()

    def quit(self) -> Reply:
        """Sends QUIT, and closes the connection (RFC 5321 section 4.1.1.10)."""
        reply = self.docmd("quit")
        self._forget_session()
        self.close()
        return reply

    # AUTH (RFC 4954)

    def auth(
        self,
        mechanism: str,
        authobject: Callable[..., str | None],
        *,
        initial_response_ok: bool = True,
    ) -> Reply:
        """Authenticates by one mechanism; returns the reply, whose code is 235 or 503.

        `authobject(challenge: bytes)` answers each challenge with an ASCII str, without base64.
        Called with no argument it returns the initial response, or None for none; with
        initial_response_ok=False it is not asked. Raises SMTPAuthenticationError for any other
        reply and, except in LOGIN and PLAIN, for a challenge that is not base64; SMTPException for
        endless challenges.
        """
        mechanism = mechanism.upper()
        is_read = mechanism not in ("LOGIN", "PLAIN")
        decode = decode_challenge if is_read else decode_prompt
        initial_response = authobject() if initial_response_ok else None
        if initial_response is not None:
            response = public.encode_base64(initial_response.encode("ascii"), eol="")
            # An empty response is sent as "=" (section 4); the stdlib sends nothing.
            code, text = self.docmd("AUTH", f"{mechanism} {response or '='}")
            self._auth_challenge_count = 1
        else:
            code, text = self.docmd("AUTH", mechanism)
            self._auth_challenge_count = 0
        while code == 334:
            self._auth_challenge_count += 1
            try:
                challenge = decode(text)
            except ValueError:
                raise SMTPAuthenticationError(*self.docmd("*")) from None
            answer = authobject(challenge)
            assert answer is not None, f"{mechanism}: no answer to a challenge"
            code, text = self.docmd(public.encode_base64(answer.encode("ascii"), eol=""))
            if self._auth_challenge_count > public._MAXCHALLENGE:
                raise SMTPException(
                    f"Server AUTH mechanism infinite loop. Last response: {(code, text)!r}"
                )
        if code in (235, 503):
            return code, text
        raise SMTPAuthenticationError(code, text)

    if TYPE_CHECKING:

        @overload
        def auth_cram_md5(self, challenge: None = None) -> None: ...
        @overload
        def auth_cram_md5(self, challenge: BytesLike) -> str: ...

    def auth_cram_md5(self, challenge: BytesLike | None = None) -> str | None:
        """Answers for CRAM-MD5 (RFC 2195), with self.user and self.password; an authobject."""
        if challenge is None:
            return None
        if not public._have_cram_md5_support:
            raise SMTPException("CRAM-MD5 is not supported")
        digest = public.hmac.HMAC(self.password.encode("ascii"), challenge, "md5")
        return f"{self.user} {digest.hexdigest()}"

    def auth_plain(self, challenge: BytesLike | None = None) -> str:
        """Answers for PLAIN (RFC 4616), with self.user and self.password; an authobject."""
        return f"\0{self.user}\0{self.password}"

    def auth_login(self, challenge: BytesLike | None = None) -> str:
        """Answers for LOGIN (never standardised), with self.user and self.password; an
        authobject."""
        # The stdlib only counts: it sends the password even if the second prompt is for a user
        # name.
        if challenge is None or self._auth_challenge_count < 2:
            return self.user
        return self.user if asks_for_user_name(bytes(challenge)) else self.password

    def login(self, user: str, password: str, *, initial_response_ok: bool = True) -> Reply:
        """Authenticates by the best of CRAM-MD5, PLAIN and LOGIN that the server offers.

        Sends EHLO or HELO first if needed. Raises SMTPHeloError; SMTPNotSupportedError if the
        server does not offer AUTH; SMTPException if it offers none of these mechanisms; and
        SMTPAuthenticationError for the last refusal.
        """
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("auth"):
            raise SMTPNotSupportedError("SMTP AUTH extension not supported by server.")
        offered = self.esmtp_features["auth"].split()
        mechanisms = ["CRAM-MD5"] if public._have_cram_md5_support else []
        mechanisms = [each for each in [*mechanisms, "PLAIN", "LOGIN"] if each in offered]
        if not mechanisms:
            raise SMTPException("No suitable authentication method found.")

        self.user, self.password = user, password
        for mechanism in mechanisms:
            authobject = getattr(self, f"auth_{mechanism.lower().replace('-', '_')}")
            try:
                return self.auth(mechanism, authobject, initial_response_ok=initial_response_ok)
            except SMTPAuthenticationError as error:
                # Some servers offer mechanisms that they don't have, so the next one is tried. But
                # 535 is about the credentials: unlike the stdlib, do not send them again by a
                # weaker mechanism.
                if error.smtp_code == 535 or mechanism == mechanisms[-1]:
                    raise
        raise AssertionError("unreachable")

    # STARTTLS (RFC 3207)

    def starttls(
        self,
        keyfile: StrOrBytesPath | None = None,
        certfile: StrOrBytesPath | None = None,
        context: ssl.SSLContext | None = None,
    ) -> Reply:
        """Encrypts the connection; returns the reply of code 220.

        Without a `context` the server's certificate is not verified, as in the stdlib: pass
        `ssl.create_default_context()`. keyfile and certfile name the client's key and certificate,
        in PEM, if there is no `context`. What the server offered before is forgotten.

        Raises SMTPNotSupportedError if the server does not offer STARTTLS, SMTPResponseException if
        it refuses, SMTPServerDisconnected if more follows its reply (which an attacker may have
        added), ssl.SSLError and OSError if the handshake fails. The last three close the
        connection.
        """
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("starttls"):
            raise SMTPNotSupportedError("STARTTLS extension not supported by server.")
        context = tls_context(keyfile, certfile, context)
        lock = self._lock
        is_outermost = lock.begin_step()
        try:
            return self._starttls(context)
        finally:
            if is_outermost:
                lock.release()

    def _starttls(self, context: ssl.SSLContext) -> Reply:
        code, text = self.docmd("STARTTLS")
        if code != 220:
            raise SMTPResponseException(code, text)
        file = self.file
        if type(file) is ReplyFile and (injected := injected_text(file.buffer)):
            self.close()
            raise SMTPServerDisconnected(f"Connection closed: {injected}")
        assert self.sock is not None
        try:
            self.sock = tls.wrap(context, self.sock, self._host or None)
        except BaseException:
            self.close()
            raise
        self.file = None
        self._forget_session()
        return code, text


def tls_context(
    keyfile: StrOrBytesPath | None, certfile: StrOrBytesPath | None, context: ssl.SSLContext | None
) -> ssl.SSLContext:
    if not public._have_ssl:
        raise RuntimeError("No SSL support included in this Python")
    if context is not None:
        if keyfile is not None or certfile is not None:
            raise ValueError(
                "context can't be combined with keyfile or certfile: load them into it"
            )
        return context
    make: Callable[..., ssl.SSLContext] = public.ssl._create_stdlib_context
    return make(certfile=certfile, keyfile=keyfile)
