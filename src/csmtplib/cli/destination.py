"""The destination of mail: the server of a URL, or the embedded one; why a session failed."""

from __future__ import annotations

import os
import shlex
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from smtplib import SMTPAuthenticationError, SMTPResponseException

from ..bulk.refusals import RunRefused
from ..drive.sock import tls_context
from ..protocol import server_url
from ..protocol.failures import NoGreeting
from ..protocol.outcome import Reply
from ..protocol.server_url import TLS, Server
from .conventions import DEFAULT_SINK, Exit, Failure

SINK = "sink:"

# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH; not yet valid, and expired.
_OTHER_NAME = (62, 64)
_OUT_OF_DATE = (9, 10)

# How OpenSSL versions report a greeting in place of a handshake.
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "UNKNOWN_PROTOCOL",
)

# The advice after the reason if the first results were all the same refusal.
_ALIKE = "; --max-failed N continues regardless; resume --retry-rejected retries these"


class NoSession(Exception):
    """There is no session with the server: the text says why. code: the exit code."""

    def __init__(self, code: Exit, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def destination(url: str) -> tuple[AbstractContextManager[Server], str]:
    """Return a context that gives the server, and its name for a summary.

    Raises Failure for an invalid URL; the context raises it if the sink can't be started.
    """
    if url.startswith(SINK):
        directory = url.removeprefix(SINK)
        if not directory:
            raise Failure(
                Exit.CONFIG, f"--server {url}: the directory is missing; write {DEFAULT_SINK}"
            )
        try:
            from . import sink
        except ImportError as error:
            raise Failure(
                Exit.UNAVAILABLE,
                "the sink needs aiosmtpd: pip install 'csmtplib[cli]', or give a --server",
            ) from error
        return _sink(url, sink.running(Path(directory))), f"into the Maildir {directory} only,"
    try:
        server = server_url.parse(url, os.environ)
    except server_url.UnknownScheme as error:
        raise Failure(Exit.CONFIG, f"--server {error}, or {SINK}DIRECTORY") from error
    except server_url.ServerURLError as error:
        raise Failure(Exit.CONFIG, f"--server {error}") from error
    _check_files(server)
    return nullcontext(server), f"to {server}"


def sink_advice(url: str, *, can_resume: bool) -> list[str]:
    """Return what to do after a run into the embedded server, as lines; none for other servers.

    can_resume: whether to suggest an interruption.
    """
    if not url.startswith(SINK):
        return []
    letters = os.path.join(url.removeprefix(SINK), "new")
    practice = "kill a run and resume it, or " if can_resume else ""
    return [
        f"no mail left this machine: to read a letter, open a file in {shlex.quote(letters)}",
        f"next: {practice}send for real: --server submission://USER@HOST",
    ]


def _check_files(server: Server) -> None:
    """Raise Failure for files of certificates and keys that can't be used."""
    files = [
        (name, path)
        for name, path in (
            ("cafile", server.cafile),
            ("certfile", server.certfile),
            ("keyfile", server.keyfile),
        )
        if path is not None
    ]
    if not files:
        return
    for name, path in files:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise Failure(Exit.CONFIG, f"--server: {name}={path}: {reason}") from error
    try:
        tls_context(server)
    except OSError as error:
        # Neither ssl nor OpenSSL says which file it is.
        named = ", ".join(f"{name}={path}" for name, path in files)
        raise Failure(
            Exit.CONFIG,
            f"--server: {named}: not valid PEM files, or the key does not match the "
            f"certificate ({_reason(error)})",
        ) from error


@contextmanager
def _sink(url: str, running: AbstractContextManager[Server]) -> Iterator[Server]:
    with ExitStack() as resources:
        try:
            server = resources.enter_context(running)
        except OSError as error:
            raise Failure(Exit.CONFIG, f"{url}: {error.strerror}") from error
        yield server


def no_session(server: Server, error: OSError | ValueError) -> NoSession:
    """Return why there is no session, from the exception that opening it raised."""
    # smtplib's exceptions are OSErrors.
    if isinstance(error, RunRefused):
        code = Exit.NOPERM if error.needs_login else Exit.UNAVAILABLE
        return NoSession(code, f"{error}{_ALIKE if error.rejected else ''}")
    if isinstance(error, SMTPAuthenticationError):
        reply = _reply(error)
        # 4xx replies, such as 454, are about the server's state, not about the user.
        code = Exit.UNAVAILABLE if 400 <= reply.code <= 499 else Exit.NOPERM
        return NoSession(code, f"{server} refuses the login of {server.user}: {reply}")
    if isinstance(error, SMTPResponseException):
        return NoSession(Exit.UNAVAILABLE, f"{server} refuses the session: {_reply(error)}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoSession(Exit.UNAVAILABLE, _of_certificate(server, error))
    if isinstance(error, ssl.SSLError):
        return NoSession(Exit.UNAVAILABLE, _of_handshake(server, error))
    if isinstance(error, NoGreeting) and server.tls is not TLS.IMPLICIT and not server.unix_path:
        return NoSession(
            Exit.UNAVAILABLE,
            f"{server}: {error}; if it expects TLS from the start, write smtps://{server}",
        )
    if isinstance(error, OSError):
        return NoSession(Exit.UNAVAILABLE, f"{server}: {error.strerror or error}")
    # An invalid host name, or an invalid name for EHLO.
    return NoSession(Exit.CONFIG, f"--server: {error}")


def _of_certificate(server: Server, error: ssl.SSLCertVerificationError) -> str:
    """Return what is wrong with a server's certificate, and what to do about it."""
    said = error.verify_message.rstrip(".")
    if error.verify_code in _OTHER_NAME:
        advice = "use a host name in --server that the certificate contains"
    elif error.verify_code in _OUT_OF_DATE:
        advice = "check this machine's clock; if it is right, the server needs a new certificate"
    else:
        advice = "if it is the right server, name the authority that issued it: ?cafile=FILE"
    return f"{server} has no valid certificate: {said}; {advice}"


def _of_handshake(server: Server, error: ssl.SSLError) -> str:
    """Return why there is no TLS with a server, and what to do about it."""
    if server.tls is TLS.IMPLICIT and error.reason in _NOT_TLS:
        return (
            f"{server} does not use TLS from the start: try submission://{server}, which uses "
            "STARTTLS"
        )
    return f"{server}: the TLS handshake failed: {_reason(error)}"


def _reason(error: OSError) -> str:
    """Return the reason in words, without OpenSSL's names and source lines."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error)


def _reply(error: SMTPResponseException) -> Reply:
    text = error.smtp_error
    return Reply(error.smtp_code, text if isinstance(text, bytes) else text.encode())
