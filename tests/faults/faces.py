"""The faces of the package behind one interface, so that one scripted case tests them all."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import smtplib
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar
from unittest import mock

import trustme

import csmtplib
from csmtplib import aio
from csmtplib.aio import connection as aio_connection
from csmtplib.drive.event_loop import LoopConnection
from csmtplib.drive.sock import Connection, connect
from csmtplib.protocol.extension_policy import Host
from csmtplib.protocol.flows import farewell
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.outcome import Outcome, Reply, State
from csmtplib.protocol.result import Result
from csmtplib.protocol.server_url import TLS, Server

from .server import DEADLINE, WHOLE, Delivery, Script, ScriptedServer

Item = TypeVar("Item")

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
    """A connection whose messages go by send_many()."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: Exception | None = None
        """The exception that the last send_many() raised after all results."""

    @property
    @abc.abstractmethod
    def host(self) -> Host:
        """The server, as far as it is known."""

    @abc.abstractmethod
    def send_many(self, mails: Iterable[MailObject]) -> list[Result]:
        """Sends messages as they are asked for; what became of each."""

    def results(self, *mails: MailObject) -> list[Result]:
        return self.send_many(mails)


class DropInStreamSession(StreamSession):
    """Of the drop-in classes."""

    def __init__(self, smtp: csmtplib.SMTP) -> None:
        super().__init__()
        self.smtp = smtp

    @property
    def host(self) -> Host:
        return self.smtp._policy().host

    def send_many(self, mails: Iterable[MailObject]) -> list[Result]:
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
    ) -> DropInStreamSession:
        return DropInStreamSession(
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


class AsyncFace(Face):
    """csmtplib.aio.SMTP and LMTP. Their event loop runs while something is awaited.

    At the end of the with block nothing is left in it, and it has had nothing to complain about.
    """

    def __init__(self, certificates: Certificates, transport: Transport) -> None:
        super().__init__(certificates, transport)
        self._opened: list[aio.SMTP] = []
        self._connections: list[LoopConnection] = []
        self._complaints: list[dict[str, Any]] = []
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> AsyncFace:
        connections = self._connections

        class Watched(LoopConnection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connections.append(self)
                super().connection_made(transport)

        self._loop = self._exit.enter_context(contextlib.closing(asyncio.new_event_loop()))
        self._loop.set_exception_handler(lambda _, context: self._complaints.append(context))
        self._exit.enter_context(mock.patch.object(aio_connection, "LoopConnection", Watched))
        return self

    def __exit__(self, *exception: object) -> None:
        with self._exit:
            self.close()
            if exception[0] is None:
                assert not [each for each in self._connections if each.transport is not None]
                assert not asyncio.all_tasks(self._loop)
                assert not self._complaints
            self._opened.clear()
            self._connections.clear()

    def run(self, coroutine: Coroutine[Any, Any, Item]) -> Item:
        """Run a coroutine to its end, and until what it closes is closed, as in a program whose
        loop goes on. Fails the test if it hangs."""
        return self._loop.run_until_complete(self._run(coroutine))

    async def _run(self, coroutine: Coroutine[Any, Any, Item]) -> Item:
        task = asyncio.ensure_future(coroutine)
        done, _ = await asyncio.wait([task], timeout=2 * DEADLINE)
        if not done:
            task.cancel()
            await asyncio.wait([task])
        assert done, f"{coroutine} was not over after {2 * DEADLINE} s"
        end = self._loop.time() + TIMEOUT
        while any(each.transport and each.transport.is_closing() for each in self._connections):
            assert self._loop.time() < end, "a connection that is closed stays open"
            await asyncio.sleep(0.001)
        return task.result()

    def connect(
        self,
        server: ScriptedServer,
        *,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
        timeout: float = TIMEOUT,
        kind: type[aio.SMTP] = aio.SMTP,
        context: ssl.SSLContext | None = None,
    ) -> aio.SMTP:
        """A client that has connected, by settings as aiosmtplib has them. kind: its class, but for
        LMTP. context: by default one that trusts the certificates."""
        is_lmtp = self.transport is Transport.UNIX
        if context is None and (starttls or self.transport is Transport.TLS):
            context = self.certificates.trusting()
        user, password = login or (None, None)
        client = (aio.LMTP if is_lmtp else kind)(
            hostname=None if is_lmtp else server.host,
            port=None if is_lmtp else server.port,
            socket_path=server.host if is_lmtp else None,
            username=user,
            password=password,
            local_hostname="client.test",
            timeout=timeout,
            use_tls=self.transport is Transport.TLS,
            start_tls=True if starttls else None,
            tls_context=context,
        )
        self._opened.append(client)
        try:
            self.run(client.connect())
            if client.is_ehlo_or_helo_needed:
                self.run(client.ehlo())
        except aio.SMTPException as error:
            raise as_smtplib(error) from error
        return client

    @property
    def is_closed(self) -> bool:
        return not any(client.is_connected for client in self._opened)

    @property
    def sock(self) -> socket.socket:
        sock: socket.socket = self._opened[-1].get_transport_info("socket")
        return sock

    def close(self) -> None:
        async def close() -> None:
            for client in self._opened:
                client.close()

        self.run(close())


class Async(AsyncFace):
    """SMTP.sendmail(), and LMTP's."""

    def open(
        self,
        server: ScriptedServer,
        *,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> AsyncSession:
        client = self.connect(server, starttls=starttls, login=login, timeout=timeout)
        return AsyncSession(self, client)


class AsyncSession:
    """A connection whose messages go by csmtplib.aio.SMTP.sendmail()."""

    def __init__(self, face: AsyncFace, client: aio.SMTP) -> None:
        self.client = client
        self.outcomes: list[Outcome] = []
        """By the last exception of sendmail()."""
        self._face = face

    def sendmail(
        self,
        sender: str,
        recipients: Sequence[str],
        body: str | bytes,
        mail_options: Sequence[str] = (),
    ) -> dict[str, Reply]:
        """Return or raise what smtplib's sendmail() would; outcomes tells more."""
        self.outcomes = []
        sending = self.client.sendmail(sender, recipients, body, mail_options=mail_options)
        try:
            refused, _ = self._face.run(sending)
        except aio.SMTPException as error:
            if error.csmtplib_result is not None:
                self.outcomes = list(error.csmtplib_result.outcomes)
            raise as_smtplib(error) from error
        return {
            recipient: Reply(code, text.encode("utf-8", "surrogateescape"))
            for recipient, (code, text) in refused.items()
        }

    def quit(self) -> None:
        """Says QUIT; raises what smtplib's quit() would."""
        try:
            self._face.run(self.client.quit())
        except aio.SMTPException as error:
            raise as_smtplib(error) from error


class AsyncStreamSession(StreamSession):
    """A connection whose messages go by csmtplib.aio.SMTP.send_many()."""

    def __init__(self, face: AsyncStream, client: aio.SMTP) -> None:
        super().__init__()
        self.client = client
        self._face = face

    @property
    def host(self) -> Host:
        return self.client._policy.host

    def send_many(self, mails: Iterable[MailObject]) -> list[Result]:
        results: list[Result] = []
        self.ended = None

        async def source() -> AsyncIterator[MailObject]:
            for mail in mails:
                yield mail

        async def collect() -> None:
            messages = source() if self._face.by_async_source else mails
            async for result in self.client.send_many(messages):
                results.append(result)

        try:
            self._face.run(collect())
        except aio.SMTPException as error:
            self.ended = error
        return results

    def quit(self) -> None:
        with contextlib.suppress(aio.SMTPServerDisconnected):
            self._face.run(self.client.quit())


class AsyncStream(AsyncFace):
    """csmtplib.aio.SMTP.send_many(), and LMTP's."""

    def __init__(
        self, certificates: Certificates, transport: Transport, *, by_async_source: bool = False
    ) -> None:
        """by_async_source: messages come from an asynchronous iterable."""
        super().__init__(certificates, transport)
        self.by_async_source = by_async_source

    def open(
        self,
        server: ScriptedServer,
        *,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> AsyncStreamSession:
        client = self.connect(server, starttls=starttls, login=login, timeout=timeout)
        return AsyncStreamSession(self, client)


def as_smtplib(error: aio.SMTPException) -> Exception:
    """Return what smtplib has for an exception of csmtplib.aio, whose names and attributes are
    aiosmtplib's."""
    if isinstance(error, aio.SMTPRecipientsRefused):
        return csmtplib.SMTPRecipientsRefused(
            {each.recipient: (each.code, _text(each)) for each in error.recipients}
        )
    if isinstance(error, aio.SMTPConnectError) and isinstance(error.__cause__, ssl.SSLError):
        return error.__cause__
    is_unreadable = type(error) is aio.SMTPResponseException and error.code == -1
    is_lost = isinstance(error, (aio.SMTPServerDisconnected, aio.SMTPTimeoutError))
    no_greeting = type(error) is aio.SMTPConnectError
    if is_unreadable or is_lost or no_greeting:
        return csmtplib.SMTPServerDisconnected(error.message)
    kind: type[smtplib.SMTPException] = next(
        each for each in type(error).__mro__ if each.__module__ == smtplib.__name__
    )
    if isinstance(error, aio.SMTPSenderRefused):
        return kind(error.code, _text(error), error.sender)
    if isinstance(error, aio.SMTPResponseException):
        return kind(error.code, _text(error))
    return kind(*error.args)


def _text(error: aio.SMTPResponseException) -> bytes:
    text = error.smtp_error
    assert isinstance(text, bytes)
    return text
