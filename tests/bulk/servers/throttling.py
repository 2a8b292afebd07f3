"""An SMTP server that slows its clients down the way providers do, and keeps a log of it.

    with ThrottlingServer(messages_per_connection=10, greylist_seconds=0.2) as server:
        ...  # send to server.url
    assert len(server.log.connections) == 2

It runs in a thread of its own. Times in its log are those of time.monotonic(), and what it logs of
a command stands there before the reply leaves.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple

from .session import Session

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
BACKLOG = 1000
STOPPING_SECONDS = 10.0


@dataclass
class Connection:
    """A connection that was accepted. closed: None while it lasts. messages: that it brought."""

    number: int
    opened: float
    closed: float | None = None
    messages: int = 0


class Accepted(NamedTuple):
    """A message that was taken; message with CR LF, and no stuffed dots."""

    time: float
    connection: int
    sender: str
    recipients: Sequence[str]
    message: bytes


class Refusal(NamedTuple):
    """A reply other than 2xx; command: what it is the reply to, "" for a greeting, for a message
    and for silence."""

    time: float
    connection: int
    command: str
    reply: str


@dataclass
class Log:
    """Events, in their order. attempts: when each recipient was tried."""

    connections: list[Connection] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    attempts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def deliveries(self) -> Counter[str]:
        """How many messages each recipient has got."""
        return Counter(recipient for each in self.accepted for recipient in each.recipients)

    def most_connections(self) -> int:
        """How many of them there were at once, at most; those refused in the greeting too."""
        # A connection that closes in the same moment made room for the other.
        changes = sorted(
            [(each.opened, 1) for each in self.connections]
            + [(each.closed, -1) for each in self.connections if each.closed is not None]
        )
        most = now = 0
        for _, change in changes:
            now += change
            most = max(most, now)
        return most

    def busiest(self, seconds: float) -> int:
        """How many recipients were taken within so many seconds, at most."""
        window: deque[Accepted] = deque()
        most = now = 0
        for each in self.accepted:
            window.append(each)
            now += len(each.recipients)
            while window[0].time <= each.time - seconds:
                now -= len(window.popleft().recipients)
            most = max(most, now)
        return most


class ThrottlingServer:
    """A server on `port` of 127.0.0.1, for as long as the with block.

    messages_per_connection: the next MAIL hears 421. mails_per_connection: each MAIL after so many
    messages hears 452, and the connection stays open (OpenSMTPD). refuse_mail: the reply to MAIL
    from a sender, None to take it; the connection knows how many messages it has brought.
    idle_seconds: silence for so long ends the session with 451 (Amazon SES).
    recipients_per_transaction: the next RCPT hears 452.
    greylist_seconds: each recipient hears 451 until so much time has passed since its first try.
    max_connections: at once; the next one hears 421 for a greeting. refuse: the reply to RCPT of a
    recipient, None to take it. rate_limit: so many messages in so many seconds; the next one hears
    450 at MAIL, or 454 for its content (rate_limit_at). pipelining, chunking: what EHLO offers.
    """

    def __init__(
        self,
        *,
        messages_per_connection: int | None = None,
        mails_per_connection: int | None = None,
        refuse_mail: Callable[[str, Connection], str | None] | None = None,
        idle_seconds: float | None = None,
        recipients_per_transaction: int | None = None,
        greylist_seconds: float | None = None,
        max_connections: int | None = None,
        refuse: Callable[[str], str | None] | None = None,
        rate_limit: tuple[int, float] | None = None,
        rate_limit_at: Literal["mail", "content"] = "mail",
        pipelining: bool = True,
        chunking: bool = True,
    ) -> None:
        self.messages_per_connection = messages_per_connection
        self.mails_per_connection = mails_per_connection
        self.refuse_mail = refuse_mail
        self.idle_seconds = idle_seconds
        self.recipients_per_transaction = recipients_per_transaction
        self.greylist_seconds = greylist_seconds
        self.max_connections = max_connections
        self.refuse = refuse
        self.rate_limit = rate_limit
        self.rate_limit_at = rate_limit_at
        self.pipelining = pipelining
        self.chunking = chunking
        self.log = Log()
        self.port = 0
        self.open: set[ThrottlingSession] = set()
        """The sessions that are not over."""
        self.numbers = count(1)
        self._granted: deque[float] = deque()
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="throttling server", daemon=True)

    @property
    def url(self) -> str:
        return f"smtp://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop, self._stop, self.port = self._started.result(STOPPING_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOPPING_SECONDS)
        # What the test saw is often but the echo of this.
        if self._errors:
            raise self._errors[0]

    def session(self) -> ThrottlingSession:
        """Return the session of the next connection; a subclass may have its own."""
        return ThrottlingSession(self)

    def is_too_fast(self) -> bool:
        """Whether a message that came now would be one too many; if not, it is counted."""
        if self.rate_limit is None:
            return False
        messages, seconds = self.rate_limit
        now = time.monotonic()
        while self._granted and self._granted[0] <= now - seconds:
            self._granted.popleft()
        if len(self._granted) >= messages:
            return True
        self._granted.append(now)
        return False

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                self._errors.append(error)
            else:
                self._started.set_exception(error)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._note_error)
        stop = asyncio.Event()
        server = await loop.create_server(self.session, HOST, 0, backlog=BACKLOG)
        self._started.set_result((loop, stop, server.sockets[0].getsockname()[1]))
        await stop.wait()
        server.close()
        for session in tuple(self.open):
            session.abort()
        # Connections that are aborted are told so in the loop's next round.
        await asyncio.sleep(0)

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        is_error = isinstance(error, BaseException)
        # A client that is gone is no fault of the server.
        if is_error and not isinstance(error, OSError):
            assert isinstance(error, BaseException)
            self._errors.append(error)


class ThrottlingSession(Session):
    """A connection to that server."""

    def __init__(self, server: ThrottlingServer) -> None:
        super().__init__(pipelining=server.pipelining, chunking=server.chunking)
        self._server = server
        self._log = server.log
        self._connection = Connection(next(server.numbers), time.monotonic())
        self._recipients_taken = 0
        self._last_heard = self._connection.opened
        self._idle: asyncio.TimerHandle | None = None

    def greet(self) -> str | None:
        server = self._server
        self._log.connections.append(self._connection)
        server.open.add(self)
        if server.max_connections is not None and len(server.open) > server.max_connections:
            return self._refuse("421 4.7.0 too many connections", "")
        if server.idle_seconds is not None:
            self._wait_for_silence(server.idle_seconds)
        return None

    def mail(self) -> str | None:
        server = self._server
        self._recipients_taken = 0
        limit = server.messages_per_connection
        if limit is not None and self._connection.messages >= limit:
            return self._refuse("421 4.7.0 too many messages in this session")
        limit = server.mails_per_connection
        if limit is not None and self._connection.messages >= limit:
            return self._refuse("452 4.5.3 Too many recipients: Too many messages sent")
        if server.refuse_mail is not None:
            sender = self.command.partition(b"<")[2].partition(b">")[0].decode()
            if (reply := server.refuse_mail(sender, self._connection)) is not None:
                return self._refuse(reply)
        if server.rate_limit_at == "mail" and server.is_too_fast():
            return self._refuse("450 4.7.1 too much mail, slow down")
        return None

    def rcpt(self, recipient: str) -> str | None:
        server = self._server
        now = time.monotonic()
        attempts = self._log.attempts[recipient]
        attempts.append(now)
        refusal = None if server.refuse is None else server.refuse(recipient)
        if refusal is not None:
            return self._refuse(refusal)
        if server.recipients_per_transaction == self._recipients_taken:
            return self._refuse("452 4.5.3 too many recipients")
        if server.greylist_seconds is not None and now < attempts[0] + server.greylist_seconds:
            return self._refuse("451 4.7.1 greylisted, try again later")
        self._recipients_taken += 1
        return None

    def message(self, sender: str, recipients: list[str], message: bytes) -> str | None:
        if self._server.rate_limit_at == "content" and self._server.is_too_fast():
            return self._refuse("454 4.7.0 Throttling failure: Maximum sending rate exceeded", "")
        connection = self._connection
        connection.messages += 1
        self._log.accepted.append(
            Accepted(time.monotonic(), connection.number, sender, recipients, message)
        )
        return None

    def data_received(self, data: bytes) -> None:
        self._last_heard = time.monotonic()
        super().data_received(data)

    def closed(self) -> None:
        self._connection.closed = time.monotonic()
        self._server.open.discard(self)
        if self._idle is not None:
            self._idle.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def _refuse(self, reply: str, command: str | None = None) -> str:
        if command is None:
            command = self.command.decode("utf-8", "backslashreplace")
        number = self._connection.number
        self._log.refusals.append(Refusal(time.monotonic(), number, command, reply))
        return reply

    def _wait_for_silence(self, seconds: float) -> None:
        # One timer that looks again, for one that starts anew with all that is heard is slow.
        silent = time.monotonic() - self._last_heard
        if silent >= seconds:
            self.end(self._refuse("451 4.4.2 timeout waiting for data from client", ""))
        else:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(seconds - silent, self._wait_for_silence, seconds)
