"""The dialogue with a server around the messages, without I/O and without a clock.

A flow (flows.py) is a conversation as a generator: each step is sent its reply. A Dialogue turns
the steps into operations (connect first; then send, receive, wrap, close), which is all that a
driver does. Messages are the pipeline's (submission.py).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ..kernel.errors import MALFORMED_CODE, ReplyError, ReplyMalformed
from . import limits
from .failures import ConnectionLost, injected_text, surplus_reply
from .outcome import Reply
from .server_url import TLS

if TYPE_CHECKING:
    from ..kernel import ReplyBuffer
    from .server_url import Server

# What a flow does


@dataclass(frozen=True, slots=True)
class Exchange:
    """Step: send bytes (none for the greeting), then read one reply within so many seconds.

    The result is the Reply; if there is none, ConnectionLost is thrown into the flow. is_late:
    replies to earlier commands may still come, so what was received is no surplus.
    """

    data: bytes
    seconds: float = limits.COMMAND_SECONDS
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Step: encrypt the connection. Anything received after the server's last reply is an
    attack."""


@dataclass(frozen=True, slots=True)
class Close:
    """Step and operation: close the connection."""


Step: TypeAlias = Exchange | StartTLS | Close
Result = TypeVar("Result")
Flow: TypeAlias = Generator[Step, Reply, Result]

# What a driver does. awaits: what the program may report that it waits for.


@dataclass(frozen=True, slots=True)
class Send:
    """Operation: send all of this. Each block must be sent within so many seconds."""

    data: bytes
    seconds: float
    awaits: str


@dataclass(frozen=True, slots=True)
class Receive:
    """Operation: wait for bytes. The result is these bytes, b"" at the end of the stream, or None
    if none come in time.

    seconds: from now on; 0 to take what is there. None: until the deadline of the previous Receive.
    """

    seconds: float | None
    awaits: str = ""


@dataclass(frozen=True, slots=True)
class Wrap:
    """Operation: encrypt the connection, within so many seconds."""

    seconds: float
    awaits: str


Operation: TypeAlias = Send | Receive | Wrap | Close
Operations: TypeAlias = Generator[Operation, bytes | None, Result]

# The result of a step that the server does not answer.
_NO_REPLY = Reply(0, b"")

# Commands around the messages.
_VERBS = ("EHLO", "HELO", "LHLO", "STARTTLS", "AUTH", "QUIT")


class Dialogue:
    """One side of a connection outside of transactions.

    A reply has a deadline as a whole, and so has each block that is sent. Whatever goes wrong on
    the wire closes the connection, and throws ConnectionLost into the flow.
    """

    def __init__(
        self, replies: ReplyBuffer, timeout: float | None, server: Server | None = None
    ) -> None:
        """replies: the receive buffer. timeout: in seconds, for phases for which RFC 5321 allows
        more. server: its name is shown while it is awaited."""
        self._replies = replies
        self._timeout = timeout
        self._server = server

    def seconds(self, phase: float) -> float:
        """Return the limit of a phase: RFC 5321's, or the server's timeout if that is shorter."""
        return phase if self._timeout is None else min(phase, self._timeout)

    def encrypt(self) -> Wrap:
        """Return the operation that begins TLS."""
        seconds = self.seconds(limits.COMMAND_SECONDS)
        return Wrap(seconds, f"the TLS handshake with {self._server}")

    def operations(self, flow: Flow[Result]) -> Operations[Result]:
        """Run a flow; return its result, or raise what it raises.

        If an operation fails with an OSError, the driver throws it in. After any other exception
        within an operation the driver must close the connection: the state of the session is
        unknown.
        """
        try:
            step = next(flow)
            while True:
                try:
                    reply = yield from self._perform(step)
                except ConnectionLost as lost:
                    yield Close()
                    step = flow.throw(lost)
                else:
                    step = flow.send(reply)
        except StopIteration as done:
            result: Result = done.value
            return result

    def _perform(self, step: Step) -> Operations[Reply]:
        if isinstance(step, Exchange):
            return (yield from self._exchange(step))
        if isinstance(step, StartTLS):
            if injected := injected_text(self._replies):
                raise ConnectionLost(injected)
            yield self.encrypt()
        else:
            yield step
        return _NO_REPLY

    def _exchange(self, step: Exchange) -> Operations[Reply]:
        awaits = "" if self._server is None else awaited(step, self._server)
        try:
            if step.data:
                if not step.is_late:
                    yield from self._refuse_surplus()
                yield Send(step.data, self.seconds(limits.BODY_SECONDS), awaits)
            return (yield from self._receive_reply(self.seconds(step.seconds), awaits))
        except OSError as error:
            # ConnectionLost is one, too.
            if isinstance(error, ConnectionLost):
                raise
            raise ConnectionLost(f"the connection was lost: {error}") from error

    def _refuse_surplus(self) -> Operations[None]:
        data = yield Receive(0)
        if data is not None:
            self._feed(data)
        if surplus := surplus_reply(self._replies):
            raise ConnectionLost(surplus)

    def _receive_reply(self, seconds: float, awaits: str) -> Operations[Reply]:
        left: float | None = seconds
        try:
            while (reply := self._replies.reply()) is None:
                data = yield Receive(left, awaits)
                if data is None:
                    late = f"the server sent no reply within {seconds:g} s"
                    raise ConnectionLost(late) from TimeoutError(late)
                self._feed(data)
                left = None
        except ReplyError as error:
            raise ConnectionLost(f"the server's reply can't be read: {error}") from error
        if 200 <= reply[0] <= 599:
            return Reply(*reply)
        code, text = reply
        malformed = ReplyMalformed(MALFORMED_CODE, text if code < 0 else b"%d %b" % reply)
        raise ConnectionLost(f"the server sent no SMTP reply: {reply}") from malformed

    def _feed(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("the server closed it")
        self._replies.feed(data)


def awaited(step: Exchange, server: Server) -> str:
    """Return what an exchange waits for: it follows "waiting for"."""
    if not step.data:
        hint = ""
        if server.tls is not TLS.IMPLICIT and server.unix_path is None:
            hint = f" (if it expects TLS from the start, write smtps://{server})"
        return f"the greeting of {server}{hint}"
    # The lines after AUTH are secret or empty, and have no verb.
    verb = step.data.partition(b" ")[0].strip().decode("ascii", "replace")
    return f"the answer of {server} to {verb if verb in _VERBS else 'AUTH'}"
