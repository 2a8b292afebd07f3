"""SMTPPool: many tasks that send, over a few connections to one server."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from ..drive.loop_transport import TLS
from ..drive.sock import tls_context
from ..protocol import flows, server_url
from ..protocol.arguments import check_count, check_flag, check_kind, check_seconds, refuse_type
from ..protocol.features import Features
from ..protocol.outcome import State
from ..protocol.server_url import Server
from . import errors
from .api import check_envelope, send_by
from .connection import DEFAULT_TIMEOUT
from .response import SMTPResponse, SMTPStatus
from .smtp import SMTP

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence
    from email.message import EmailMessage, Message
    from types import TracebackType

    from .smtp import Sent
    from .typing import SMTPTokenGenerator

# After a session could not be opened: seconds until the next try, at first and at most.
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0

# How long a number of connections counts as the most that the server takes.
_LIMIT_SECONDS = 60.0


class SMTPPool:
    """Sends messages for any number of tasks, over at most `size` connections.

        async with SMTPPool("submission://user:password@mail.example.org") as pool:
            await pool.send(message)

    Connections are opened when they are needed, and stay open between messages; a login happens
    once for each. Tasks get them in the order in which they came. While the server can't be
    reached, send() raises at once what the last try has met, and the next try comes after a pause.
    """

    def __init__(
        self,
        server: str | Server,
        *,
        size: int = 10,
        timeout: float | None = None,
        max_age: float | None = None,
        max_messages: int | None = None,
        idle: float = 30.0,
        tokens: SMTPTokenGenerator | None = None,
        chunking: bool = True,
    ) -> None:
        """server: a URL, such as submission://user:password@host, or a Server. Certificates are
        verified, and passwords are never sent in the clear, unless the server says otherwise.

        size: how many connections there may be. timeout: seconds that send() waits for a connection
        to be free, and for each reply; by default the server's, or 60. max_age, max_messages: a
        connection is replaced after so many seconds, or messages. idle: seconds without a message
        after which a connection is closed. tokens: returns an OAuth 2 access token, for the login
        of the server's user by XOAUTH2. chunking: whether BDAT is used if the server offers it.

        Raises TypeError for an argument of the wrong type, ValueError for one that is out of range,
        and ServerURLError.
        """
        self.server = _server_of(server)
        self.size = check_count("size", size)
        if timeout is None:
            timeout = DEFAULT_TIMEOUT if self.server.timeout is None else self.server.timeout
        self.timeout = check_seconds("timeout", timeout)
        self._max_age = None if max_age is None else check_seconds("max_age", max_age)
        self._max_messages = (
            None if max_messages is None else check_count("max_messages", max_messages)
        )
        self._idle_seconds = check_seconds("idle", idle)
        if tokens is not None and not callable(tokens):
            refuse_type("tokens", tokens, "a function that returns an awaitable token, or None")
        if tokens is not None and self.server.user is None:
            raise ValueError("tokens needs a user in the server's URL: submission://user@host")
        self._tokens = tokens
        check_flag("chunking", chunking)
        self._chunking = chunking
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: deque[PooledClient] = deque()  # least recently used first
        self._working: set[PooledClient] = set()
        self._opening = 0  # or about to be opened, by a task whose turn has come
        self._waiters: deque[asyncio.Future[PooledClient | None]] = deque()
        self._is_closed = False
        self._all_done: asyncio.Event | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        # While no session can be opened: why, and when the next try comes.
        self._failure: str | None = None
        self._pause = _PAUSE_SECONDS
        self._next_try = 0.0
        # While the server takes fewer connections than `size`: how many, and until when.
        self._limit: int | None = None
        self._unlimiting: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> SMTPPool:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            # Cancelled: nothing is awaited then.
            self.abort()
        else:
            await self.close()

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._idle) + len(self._working)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a connection."""
        return sum(not each.done() for each in self._waiters)

    async def send(
        self,
        message: EmailMessage | Message | str | bytes,
        /,
        *,
        sender: str | None = None,
        recipients: str | Sequence[str] | None = None,
        mail_options: Iterable[str] | None = None,
        rcpt_options: Iterable[str] | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Send a message. Return the recipients that were refused, each with the reply, and the
        text of the reply to the message.

        The arguments are those of csmtplib.aio.send(). timeout: as for the class, if it is given.

        If a connection that was open before turns out to be dead, and the end of the message was
        not sent, the message is sent once more over another one. Raises what SMTP.sendmail() and
        SMTP.connect() raise; SMTPTimeoutError if no connection is free in time; RuntimeError if the
        pool is closed. If the transaction had begun, csmtplib.aio.result_of() has the result of the
        message, also if the task is cancelled.
        """
        check_envelope(message, sender, recipients)
        seconds = self.timeout if timeout is None else check_seconds("timeout", timeout)
        options = None if mail_options is None else list(mail_options)
        more_options = None if rcpt_options is None else list(rcpt_options)
        may_retry = True
        while True:
            client = await self._acquire(seconds, fresh=not may_retry)
            was_used = client.messages > 0
            try:
                client.messages += 1
                client.timeout = seconds
                return await send_by(client, message, sender, recipients, options, more_options)
            except (errors.SMTPException, OSError) as error:
                if not (may_retry and was_used and _has_not_left(error)):
                    raise
                may_retry = False
            finally:
                self._release(client)

    async def close(self) -> None:
        """Close the pool: tasks that wait for a connection get a RuntimeError, messages in progress
        finish, and then the connections are closed."""
        self._refuse_waiters()
        if self._working:
            if self._all_done is None:
                self._all_done = asyncio.Event()
            try:
                await self._all_done.wait()
            except BaseException:
                self.abort()
                raise
        self.abort()

    def abort(self) -> None:
        """Close the pool and its connections at once. The tasks with messages in progress learn
        what has become of them."""
        self._refuse_waiters()
        for each in self._working:
            each.close()
        while self._idle:
            self._idle.pop().leave()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        if self._unlimiting is not None:
            self._unlimiting.cancel()
            self._unlimiting = None

    def _refuse_waiters(self) -> None:
        self._is_closed = True
        self._fail_waiters(partial(RuntimeError, "the pool is closed"))

    # Which task gets which connection

    async def _acquire(self, seconds: float, *, fresh: bool) -> PooledClient:
        """Return a connection for one message. fresh: one that was not open before."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError("the pool is in use in another event loop: make one for each")
        end = monotonic() + seconds
        while True:
            if self._is_closed:
                raise RuntimeError("the pool is closed")
            is_first = not self._has_waiters()
            client = self._take_idle(fresh=fresh) if is_first else None
            if client is None and not (is_first and self._places() > 0):
                client = await self._wait_for_one(loop, end, seconds)
            elif client is None:
                self._opening += 1
            if client is not None and await self._is_alive(client):
                return client
            if client is not None:
                self._release(client)
            elif (client := await self._open(seconds)) is not None:
                return client

    def _take_idle(self, *, fresh: bool) -> PooledClient | None:
        while self._idle:
            client = self._idle.pop()
            if not fresh and self._is_fit(client):
                self._working.add(client)
                return client
            client.leave()
        return None

    def _has_waiters(self) -> bool:
        """Return whether a task waits. Those that gave up are left where they are, which costs less
        than looking for them, until they are first."""
        while self._waiters and self._waiters[0].done():
            self._waiters.popleft()
        return bool(self._waiters)

    def _places(self) -> int:
        """Return how many more connections may be opened now."""
        most = self.size if self._limit is None else self._limit
        return most - self.open_connections - self._opening

    async def _wait_for_one(
        self, loop: asyncio.AbstractEventLoop, end: float, seconds: float
    ) -> PooledClient | None:
        """Wait in the queue for a connection, or, if the result is None, for a place."""
        self._check_health()
        waiter: asyncio.Future[PooledClient | None] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(max(end - monotonic(), 0.0), _expire, waiter, seconds)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Cancelled just when its turn came.
                client = waiter.result()
                if client is None:
                    self._opening -= 1
                    self._serve_waiters()
                else:
                    self._release(client)
            raise
        finally:
            timer.cancel()

    async def _is_alive(self, client: PooledClient) -> bool:
        """Return whether the server has not closed the connection, nor said anything since, as far
        as this host knows."""
        protocol = client.protocol
        if protocol is None:
            return False
        try:
            await protocol.catch_up()
        except BaseException:
            self._release(client)
            raise
        if protocol.is_connected and not protocol.has_received:
            return True
        client.close()
        return False

    def _release(self, client: PooledClient) -> None:
        """Take back a connection, or its place."""
        if client not in self._working:
            return
        self._working.discard(client)
        if self._is_fit(client) and not self._is_closed:
            client.idle_since = monotonic()
            self._idle.append(client)
            self._sweep_later()
        else:
            client.leave()
        self._serve_waiters()
        if not self._working and self._all_done is not None:
            self._all_done.set()

    def _serve_waiters(self) -> None:
        """Give what is free to the tasks that have waited longest."""
        while self._has_waiters():
            client = self._take_idle(fresh=False)
            if client is None:
                if self._places() <= 0:
                    return
                self._opening += 1
            self._waiters.popleft().set_result(client)

    def _is_fit(self, client: PooledClient) -> bool:
        now = monotonic()
        return (
            client.is_connected
            and (self._max_messages is None or client.messages < self._max_messages)
            and (self._max_age is None or now - client.opened_at < self._max_age)
            and (client.idle_since is None or now - client.idle_since < self._idle_seconds)
        )

    # Opening, and whether it makes sense to try

    async def _open(self, seconds: float) -> PooledClient | None:
        """Return a new connection, for whose place the caller has been counted; None if the server
        takes no more than there are."""
        try:
            self._check_health()
        except errors.SMTPConnectError:
            self._opening -= 1
            raise
        client = PooledClient(self.server, seconds, self._tokens)
        client.chunking = self._chunking
        try:
            await client.connect()
        except (errors.SMTPException, OSError) as error:
            self._opening -= 1
            if self.open_connections + self._opening:
                self._limit_to(self.open_connections + self._opening)
                return None
            self._note_failure(error)
            raise
        except BaseException:
            self._opening -= 1
            self._serve_waiters()
            raise
        self._opening -= 1
        self._working.add(client)
        if self._is_closed:
            self._release(client)
            raise RuntimeError("the pool is closed")
        self._failure, self._pause = None, _PAUSE_SECONDS
        return client

    def _limit_to(self, most: int) -> None:
        """Open no more connections than the server takes, for a while."""
        assert self._loop is not None
        self._limit = most
        if self._unlimiting is not None:
            self._unlimiting.cancel()
        self._unlimiting = self._loop.call_later(_LIMIT_SECONDS, self._unlimit)

    def _unlimit(self) -> None:
        self._unlimiting = self._limit = None
        self._serve_waiters()

    def _check_health(self) -> None:
        """Raise why no session can be opened, until it is time for the next try."""
        failure = self._failure
        if failure is None or self.open_connections:
            return
        left = self._next_try - monotonic()
        if left > 0:
            raise errors.SMTPConnectError(
                f"{self.server} could not be reached: {failure}; the next try is in {left:.1f} s"
            )

    def _note_failure(self, failure: Exception) -> None:
        # Not the exception itself, which refers to the message by its traceback.
        self._failure = str(failure)
        self._next_try = monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        self._fail_waiters(partial(errors.SMTPConnectError, self._failure))

    def _fail_waiters(self, error: Callable[[], Exception]) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                # One for each, as a traceback belongs to one task.
                waiter.set_exception(error())

    # Connections that nobody needs

    def _sweep_later(self) -> None:
        if self._sweeping is None and self._loop is not None and self._idle:
            first = self._idle[0].idle_since or 0.0
            seconds = max(first + self._idle_seconds - monotonic(), 0.01)
            self._sweeping = self._loop.call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        """Close the connections that were idle too long."""
        self._sweeping = None
        while self._idle and not self._is_fit(self._idle[0]):
            self._idle.popleft().leave()
        self._sweep_later()


class PooledClient(SMTP):
    """A connection of a pool: its session is opened as the server's description asks.

    messages: how many it was used for. opened_at, idle_since: by the monotonic clock.
    """

    def __init__(self, server: Server, timeout: float, tokens: SMTPTokenGenerator | None) -> None:
        is_unix = server.unix_path is not None
        super().__init__(
            hostname=server.host,
            port=None if is_unix else server.port,
            socket_path=server.unix_path,
            local_hostname=server.name,
            timeout=timeout,
            use_tls=server.tls is server_url.TLS.IMPLICIT,
        )
        self._is_lmtp = server.lmtp
        self._server = server
        self._tokens = tokens
        self.messages = 0
        self.opened_at = monotonic()
        self.idle_since: float | None = None

    async def _tls_context(self) -> ssl.SSLContext:
        return await asyncio.to_thread(tls_context, self._server)

    async def _begin_session(self) -> None:
        server = self._server

        async def encryption() -> TLS:
            return TLS(await self._tls_context(), server.host, self.timeout)

        if self._tokens is not None:
            server = replace(server, password=await self._tokens(), auth="XOAUTH2")
        assert self.local_hostname is not None
        try:
            features = await self._run(
                flows.begin_session(server, self.local_hostname), encryption, self.timeout
            )
        except ConnectionError as error:
            raise errors.lost(error) from error
        self._offer(features)

    def _offer(self, features: Features) -> None:
        self.transport = None if self.protocol is None else self.protocol.transport
        self._last_ehlo_response = SMTPResponse(SMTPStatus.completed, "")
        self.esmtp_extensions = features.extensions
        self.supports_esmtp = True

    def leave(self) -> None:
        """Send QUIT, and close the connection without waiting for the reply."""
        if self.is_connected and self.transport is not None:
            self.transport.write(b"QUIT\r\n")
        self.close()


def _server_of(server: str | Server) -> Server:
    if isinstance(server, Server):
        return server
    check_kind("server", server, str, "a URL such as submission://user@mail.example.org")
    return server_url.parse(server, os.environ)


def _expire(waiter: asyncio.Future[PooledClient | None], seconds: float) -> None:
    if not waiter.done():
        waiter.set_exception(
            errors.SMTPTimeoutError(
                f"no connection of the pool was free within {seconds:g} s: give it more time, or "
                "the pool a larger size"
            )
        )


def _has_not_left(error: BaseException) -> bool:
    """Return whether a message can be sent again: the connection was lost, or closed by 421, before
    its end had left."""
    result = errors.result_of(error)
    if isinstance(error, errors.SMTPResponseException):
        is_lost = error.code == SMTPStatus.domain_unavailable
    else:
        is_lost = isinstance(error, errors.SMTPServerDisconnected)
    return is_lost and (
        result is None or all(each.state is State.DEFERRED for each in result.outcomes)
    )
