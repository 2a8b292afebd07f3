"""Where mail goes: the server that a URL names, the embedded one, and why there is no session."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from smtplib import SMTPAuthenticationError, SMTPResponseException

from ..drive.sock import tls_context
from ..protocol import server_url
from ..protocol.outcome import Reply
from ..protocol.server_url import Server
from .conventions import DEFAULT_SINK, Exit, Failure

SINK = "sink:"


class NoSession(Exception):
    """No session with the server is to be had; the text says why, `code` is the exit code."""

    def __init__(self, code: Exit, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def destination(url: str) -> tuple[AbstractContextManager[Server], str]:
    """The server, for as long as the context, and how a summary names it.

    Raises Failure for a URL that names none, and so does the context where there can't be a sink.
    """
    if url.startswith(SINK):
        directory = url.removeprefix(SINK)
        if not directory:
            raise Failure(Exit.CONFIG, f"{url} lacks a directory: {DEFAULT_SINK}")
        try:
            from . import sink
        except ImportError as error:
            raise Failure(
                Exit.UNAVAILABLE,
                "the sink needs aiosmtpd: pip install 'csmtplib[cli]', or name a --server",
            ) from error
        return _sink(
            url, sink.running(Path(directory))
        ), f"into the Maildir {directory}, and no further,"
    try:
        server = server_url.parse(url, os.environ)
        if server.cafile or server.certfile or server.keyfile:
            tls_context(server)
    except server_url.ServerURLError as error:
        raise Failure(Exit.CONFIG, f"--server {error}") from error
    except OSError as error:
        raise Failure(Exit.CONFIG, f"--server: cafile, certfile or keyfile: {error}") from error
    return nullcontext(server), f"to {server}"


@contextmanager
def _sink(url: str, running: AbstractContextManager[Server]) -> Iterator[Server]:
    with ExitStack() as resources:
        try:
            server = resources.enter_context(running)
        except OSError as error:
            raise Failure(Exit.CONFIG, f"{url}: {error.strerror}") from error
        yield server


def no_session(server: Server, error: OSError | ValueError) -> NoSession:
    """Why no session was to be had, of what opening it has raised."""
    # smtplib's exceptions are OSErrors.
    if isinstance(error, SMTPAuthenticationError):
        reply = _reply(error)
        # 454 and its like are about the server's state, not about who logs in.
        code = Exit.UNAVAILABLE if 400 <= reply.code <= 499 else Exit.NOPERM
        return NoSession(code, f"{server} refuses the login of {server.user}: {reply}")
    if isinstance(error, SMTPResponseException):
        return NoSession(Exit.UNAVAILABLE, f"{server} refuses the session: {_reply(error)}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoSession(
            Exit.UNAVAILABLE,
            f"{server} has no valid certificate: {error.verify_message}; if it is right, name its "
            "authority by ?cafile=FILE",
        )
    if isinstance(error, OSError):
        return NoSession(Exit.UNAVAILABLE, f"{server}: {error.strerror or error}")
    # A host that is no name, or what EHLO is to say.
    return NoSession(Exit.CONFIG, f"--server: {error}")


def _reply(error: SMTPResponseException) -> Reply:
    text = error.smtp_error
    return Reply(error.smtp_code, text if isinstance(text, bytes) else text.encode())
