"""The faces of the package behind one interface, so that one scripted case tests them all."""

from __future__ import annotations

import abc
import contextlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Protocol

import trustme

import csmtplib
from csmtplib.drive.sock import Connection, connect
from csmtplib.protocol.flows import farewell
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import Outcome, Reply, State
from csmtplib.protocol.result import Result
from csmtplib.protocol.server_url import TLS, Server

from .server import WHOLE, Delivery, Script, ScriptedServer

# Seconds: more than any answer here takes on a busy machine, and what a test of silence waits for.
TIMEOUT = 5.0
SHORT_TIMEOUT = 0.5

SENDER = "sender@x.test"
RECIPIENT = "recipient@x.test"
BODY = b"Subject: test\r\n\r\nhello\r\n"

SERVER_ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Certificates:
    """An authority that clients trust, and contexts of servers that deserve it or not."""

    cafile: Path
    good: ssl.SSLContext
    bad: dict[str, ssl.SSLContext]

    def trusting(self) -> ssl.SSLContext:
        """A client's context."""
        return ssl.create_default_context(cafile=self.cafile)


def issue_certificates(directory: Path) -> Certificates:
    """New certificates; the authority's is written into the directory."""
    authority = trustme.CA()
    cafile = directory / "authority.pem"
    authority.cert_pem.write_to_path(cafile)
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    expired = authority.issue_cert(
        SERVER_ADDRESS, not_before=yesterday - timedelta(days=1), not_after=yesterday
    )
    return Certificates(
        cafile=cafile,
        good=_server_context(authority.issue_cert(SERVER_ADDRESS)),
        bad={
            "unknown-authority": _server_context(trustme.CA().issue_cert(SERVER_ADDRESS)),
            "wrong-host": _server_context(authority.issue_cert("elsewhere.test")),
            "expired": _server_context(expired),
        },
    )


def _server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class Transport(Enum):
    """How a client and the scripted server talk."""

    CLEAR = "clear"
    TLS = "tls"  # from the first byte
    UNIX = "unix"  # LMTP over a unix socket


class Session(Protocol):
    """A session that was opened, ready for messages."""

    def sendmail(self, sender: str, recipients: Sequence[str], body: bytes, /) -> object:
        """Sends a message; raises an exception of smtplib's where no recipient was accepted."""


class Face(abc.ABC):
    """One way to use the package. At the end of its with block it closes all that it opened."""

    def __init__(self, certificates: Certificates, transport: Transport) -> None:
        self.certificates = certificates
        self.transport = transport

    def __enter__(self) -> Face:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def serve(
        self, *scripts: Script, delivery: Delivery = WHOLE, window: int | None = None
    ) -> ScriptedServer:
        """A server for the face's transport, with a good certificate."""
        return ScriptedServer(
            *scripts,
            delivery=delivery,
            window=window,
            tls=self.certificates.good if self.transport is Transport.TLS else None,
            unix=self.transport is Transport.UNIX,
        )

    @abc.abstractmethod
    def open(
        self,
        server: ScriptedServer,
        *,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> Session:
        """Connects, says EHLO or LHLO, starts TLS and logs in where that is asked for."""

    @property
    @abc.abstractmethod
    def is_closed(self) -> bool:
        """Whether no connection that it opened can be used any more."""

    @property
    @abc.abstractmethod
    def sock(self) -> socket.socket:
        """The socket of the connection that it opened last."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes what it opened, without a word to the server."""


class _PrintingSMTP(csmtplib.SMTP):
    debuglevel = 1


class DropIn(Face):
    """SMTP, SMTP_SSL and LMTP, used as those of the standard library are."""

    def __init__(
        self, certificates: Certificates, transport: Transport, *, debug: bool = False
    ) -> None:
        """debug: prints the dialogue; its replies are then read by other code."""
        super().__init__(certificates, transport)
        self.debug = debug
        self._opened: list[csmtplib.SMTP] = []

    def connect(self, server: ScriptedServer, *, timeout: float = TIMEOUT) -> csmtplib.SMTP:
        """Connects and reads the greeting."""
        smtp: csmtplib.SMTP
        if self.transport is Transport.TLS:
            smtp = csmtplib.SMTP_SSL(
                server.host,
                server.port,
                "client.test",
                timeout=timeout,
                context=self.certificates.trusting(),
            )
        elif self.transport is Transport.UNIX:
            smtp = csmtplib.LMTP(server.host, local_hostname="client.test", timeout=timeout)
        else:
            smtp_class = _PrintingSMTP if self.debug else csmtplib.SMTP
            smtp = smtp_class(server.host, server.port, "client.test", timeout=timeout)
        self._opened.append(smtp)
        return smtp

    def open(
        self,
        server: ScriptedServer,
        *,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> csmtplib.SMTP:
        smtp = self.connect(server, timeout=timeout)
        smtp.ehlo_or_helo_if_needed()
        if starttls:
            smtp.starttls(context=self.certificates.trusting())
        if login is not None:
            smtp.login(*login)
        return smtp

    @property
    def is_closed(self) -> bool:
        return all(smtp.sock is None for smtp in self._opened)

    @property
    def sock(self) -> socket.socket:
        sock: socket.socket | None = self._opened[-1].sock
        assert sock is not None
        return sock

    def close(self) -> None:
        for smtp in self._opened:
            smtp.close()


class ResultSession(abc.ABC):
    """A connection that tells by results what became of messages."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        """Of the last message that sendmail() sent."""

    @abc.abstractmethod
    def results(self, *mails: MailObject) -> list[Result]:
        """Sends messages; what became of each."""

    @abc.abstractmethod
    def quit(self) -> None:
        """Says QUIT and closes the connection, whatever the server answers."""

    def sendmail(self, sender: str, recipients: Sequence[str], body: bytes) -> dict[str, Reply]:
        """Return or raise what smtplib's sendmail() would; outcomes tells more."""
        (result,) = self.results(MailObject(sender, recipients, body))
        if result.error is not None:
            raise result.error
        self.outcomes = list(result.outcomes)
        refusals = {}
        for outcome in self.outcomes:
            if outcome.fault is not None:
                raise csmtplib.SMTPServerDisconnected(outcome.fault)
            if outcome.state is not State.ACCEPTED and outcome.reply is not None:
                refusals[outcome.recipient] = outcome.reply
        if len(refusals) == len(recipients):
            raise csmtplib.SMTPRecipientsRefused({**refusals})
        return refusals


class StrictSession(ResultSession):
    """A connection of the strict flows, which tell by outcomes what smtplib tells by exceptions."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection

    def results(self, *mails: MailObject) -> list[Result]:
        return [self.connection.send(mail) for mail in mails]

    def quit(self) -> None:
        self.connection.run(farewell())


class Strict(Face):
    """The flows by which `csmtplib send` talks to its server."""

    def __init__(self, certificates: Certificates, transport: Transport) -> None:
        super().__init__(certificates, transport)
        self._opened: list[Connection] = []

    def open(
        self,
        server: ScriptedServer,
        *,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
        timeout: float = TIMEOUT,
        name: str = "client.test",
        auth: str | None = None,
        cleartext_auth: bool = False,
    ) -> StrictSession:
        """name: for EHLO. auth: the one mechanism to use. cleartext_auth: also without TLS."""
        user, password = login or (None, "")
        lmtp = self.transport is Transport.UNIX
        tls = {Transport.CLEAR: TLS.IF_OFFERED, Transport.TLS: TLS.IMPLICIT}
        connection = connect(
            Server(
                host=server.host,
                port=server.port,
                unix_path=server.host if lmtp else None,
                lmtp=lmtp,
                tls=TLS.REQUIRED if starttls else tls.get(self.transport, TLS.NEVER),
                user=user,
                password=password,
                cafile=str(self.certificates.cafile),
                auth=auth,
                cleartext_auth=cleartext_auth,
                timeout=timeout,
                name=name,
            )
        )
        self._opened.append(connection)
        return StrictSession(connection)

    @property
    def is_closed(self) -> bool:
        return not any(connection.is_open for connection in self._opened)

    @property
    def sock(self) -> socket.socket:
        sock: socket.socket | None = self._opened[-1].sock
        assert sock is not None
        return sock

    def close(self) -> None:
        for connection in self._opened:
            connection.close()


class StreamSession(ResultSession):
    """A connection of the drop-in classes whose messages go by send_many()."""

    def __init__(self, smtp: csmtplib.SMTP) -> None:
        super().__init__()
        self.smtp = smtp
        self.ended: Exception | None = None
        """The exception that the last send_many() raised after all results."""

    def results(self, *mails: MailObject) -> list[Result]:
        results: list[Result] = []
        self.ended = None
        try:
            for result in self.smtp.send_many(mails):
                results.append(result)
        except csmtplib.SMTPException as error:
            self.ended = error
        return results

    def quit(self) -> None:
        with contextlib.suppress(csmtplib.SMTPServerDisconnected):
            self.smtp.quit()


class Stream(Face):
    """SMTP.send_many(), and LMTP's."""

    def __init__(self, certificates: Certificates, transport: Transport) -> None:
        super().__init__(certificates, transport)
        self._drop_in = DropIn(certificates, transport)

    def open(
        self,
        server: ScriptedServer,
        *,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> StreamSession:
        return StreamSession(
            self._drop_in.open(server, starttls=starttls, login=login, timeout=timeout)
        )

    @property
    def is_closed(self) -> bool:
        return self._drop_in.is_closed

    @property
    def sock(self) -> socket.socket:
        return self._drop_in.sock

    def close(self) -> None:
        self._drop_in.close()
