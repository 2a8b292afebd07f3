"""Tasks that are cancelled after each step of their event loop, and a server in the same loop, so
that every run of the same program takes the same steps.

The server records what it is told, and each message whose end it has received, with its replies:
what a client says of a message can be held against that.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import sys
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from csmtplib.protocol.outcome import State
from csmtplib.protocol.result import Result

# Seconds that a test may take, and turns of the loop that something in it may.
LIMIT = 60.0
MANY_TURNS = 5000

# Turns of the loop in which a cancelled task has to end: nothing is awaited in it.
FEW_TURNS = 2

NO_RECIPIENT = b"554 no valid recipients"


@dataclass
class Copy:
    """A message whose end the server has received. replies: codes that were said by now, by
    recipient."""

    text: bytes
    recipients: list[str]
    replies: dict[str, int] = field(default_factory=dict)

    def may_be_kept(self, recipient: str) -> bool:
        """Whether the server has not refused it for a recipient."""
        return recipient in self.recipients and self.replies.get(recipient, 0) < 400


@dataclass
class Server:
    """A server of an event loop.

    turns: of the loop, before each reply. is_split: whether replies come in two pieces. piece: how
    many bytes are read at once, after which a turn passes; 0 for all. refused: recipients. verdict:
    the reply to each message.
    """

    offers: Sequence[str] = ()
    turns: int = 0
    is_split: bool = False
    piece: int = 0
    refused: frozenset[str] = frozenset()
    verdict: bytes = b"250 queued"
    is_lmtp: bool = False
    tls: ssl.SSLContext | None = None
    has_implicit_tls: bool = False
    port: int = 0
    sessions: list[ServerSession] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    faults: list[bytes] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    has_invited: bool = False  # whether it has said 354, or may have been sent a message without

    def forget(self) -> None:
        """Forget what was received."""
        self.copies, self.commands = [], []
        self.has_invited = "CHUNKING" in self.offers

    def paced(self, turns: int, is_split: bool = False) -> None:
        """Take so many turns for each reply from now on."""
        self.turns, self.is_split = turns, is_split

    @property
    def open_sessions(self) -> list[ServerSession]:
        """Those that have not ended."""
        return [each for each in self.sessions if not each.is_lost]

    async def all_closed(self) -> None:
        """Wait until no client has a connection."""
        await until(lambda: not self.open_sessions)
        self.sessions.clear()


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    """Have a server listen on loopback."""
    listener = await asyncio.get_running_loop().create_server(
        lambda: ServerSession(server),
        "127.0.0.1",
        0,
        ssl=server.tls if server.has_implicit_tls else None,
        backlog=100,
    )
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for each in server.sessions:
            each.transport.abort()
        for task in server.tasks:
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)


class ServerSession(asyncio.Protocol):
    """One connection of a server."""

    transport: Any

    def __init__(self, server: Server) -> None:
        self.is_lost = False
        self.is_invited = False  # whether 354 was said
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._replies: deque[tuple[bytes, Callable[[], object] | None]] = deque()
        self._is_pacing = False
        self._is_encrypting = False
        self._reads: Callable[[], bool] = self._read_command
        self._sender = False
        self._recipients: list[str] = []
        self._text = bytearray()
        self._searched = 0
        self._chunk = 0
        self._is_last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._server.sessions.append(self)
        if self._server.piece and hasattr(transport, "max_size"):
            transport.max_size = self._server.piece
        self._say(b"220 mx.test ready")

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self._replies.clear()

    # What is said

    def _say(self, reply: bytes, then: Callable[[], object] | None = None) -> None:
        self._replies.append((reply + b"\r\n", then))
        if not self._is_pacing:
            self._is_pacing = True
            self._pace(self._server.turns)

    def _pace(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._pace, turns - 1)
            return
        while self._replies:
            reply, then = self._replies.popleft()
            if self._server.is_split:
                self.transport.write(reply[:2])
                self._loop.call_soon(self._finish, reply[2:], then)
                return
            self._finish_now(reply, then)
            if self._replies and self._server.turns:
                self._loop.call_soon(self._pace, self._server.turns - 1)
                return
        self._is_pacing = False

    def _finish(self, rest: bytes, then: Callable[[], object] | None) -> None:
        self._finish_now(rest, then)
        self._pace(self._server.turns)

    def _finish_now(self, data: bytes, then: Callable[[], object] | None) -> None:
        if self.is_lost or self.transport.is_closing():
            return
        self.transport.write(data)
        if then is not None:
            then()

    # What is received

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._server.piece:
            self.transport.pause_reading()
            self._loop.call_soon(self._loop.call_soon, self._go_on)
        self._read()

    def _read(self) -> None:
        while self._received and not self._is_encrypting and self._reads():
            pass

    def _go_on(self) -> None:
        if not self.is_lost and not self.transport.is_closing():
            self.transport.resume_reading()

    def _read_command(self) -> bool:
        line, end, rest = bytes(self._received).partition(b"\r\n")
        if not end:
            return False
        self._received[:] = rest
        self._server.commands.append(line)
        verb, _, argument = line.partition(b" ")
        method = getattr(self, f"_{verb.decode('latin-1').lower()}", None)
        if method is None:
            self._fault(b"500 unknown: " + line)
        else:
            method(argument)
        return True

    def _fault(self, reply: bytes) -> None:
        self._server.faults.append(reply)
        self._say(reply)

    def _ehlo(self, name: bytes) -> None:
        self._reset()
        lines = ["mx.test", *self._server.offers]
        parts = [f"250-{each}" for each in lines[:-1]]
        self._say("\r\n".join([*parts, f"250 {lines[-1]}"]).encode())

    _lhlo = _ehlo

    def _helo(self, name: bytes) -> None:
        self._reset()
        self._say(b"250 mx.test")

    def _mail(self, argument: bytes) -> None:
        if self._sender:
            self._fault(b"503 nested MAIL")
            return
        self._sender = True
        self._say(b"250 sender ok")

    def _rcpt(self, argument: bytes) -> None:
        if not self._sender:
            self._fault(b"503 RCPT without MAIL")
            return
        recipient = argument.partition(b"<")[2].partition(b">")[0].decode()
        if recipient in self._server.refused:
            self._say(b"550 5.1.1 unknown")
            return
        self._recipients.append(recipient)
        self._say(b"250 recipient ok")

    def _data(self, argument: bytes) -> None:
        if not self._recipients:
            self._say(NO_RECIPIENT)
            return
        self.is_invited = False
        self._reads = self._read_content
        self._say(b"354 go on", self._invite)

    def _invite(self) -> None:
        self.is_invited = self._server.has_invited = True

    def _read_content(self) -> bool:
        if not self.is_invited:
            self._fault(b"500 content before 354")
        end = self._received.find(b"\r\n.\r\n", max(0, self._searched - 5))
        self._searched = len(self._received)
        if end < 0:
            return False
        self._searched = 0
        text = bytes(self._received[: end + 2])
        del self._received[: end + 5]
        self._reads = self._read_command
        self._take(text.replace(b"\r\n..", b"\r\n."))
        return True

    def _bdat(self, argument: bytes) -> None:
        count, _, last = argument.partition(b" ")
        self._chunk, self._is_last = int(count), last == b"LAST"
        self._reads = self._read_chunk
        if not self._chunk:
            self._read_chunk()

    def _read_chunk(self) -> bool:
        if len(self._received) < self._chunk:
            return False
        self._text += self._received[: self._chunk]
        del self._received[: self._chunk]
        self._reads = self._read_command
        if not self._is_last:
            self._say(b"250 chunk")
        elif not self._recipients:
            self._reset()
            self._say(NO_RECIPIENT)
        else:
            self._take(bytes(self._text))
        return True

    def _take(self, text: bytes) -> None:
        copy = Copy(text, list(self._recipients))
        self._server.copies.append(copy)
        code = int(self._server.verdict[:3])
        if self._server.is_lmtp:
            for each in self._recipients:
                self._say(self._server.verdict, lambda each=each: copy.replies.update({each: code}))  # type: ignore[misc]
        else:
            codes = dict.fromkeys(self._recipients, code)
            self._say(self._server.verdict, lambda: copy.replies.update(codes))
        self._reset()

    def _reset(self) -> None:
        self._sender = False
        self._recipients, self._text = [], bytearray()

    def _rset(self, argument: bytes) -> None:
        self._reset()
        self._say(b"250 reset")

    def _noop(self, argument: bytes) -> None:
        self._say(b"250 ok")

    def _help(self, argument: bytes) -> None:
        self._say(b"214 help yourself")

    def _vrfy(self, argument: bytes) -> None:
        self._say(b"252 perhaps")

    _expn = _noop

    def _quit(self, argument: bytes) -> None:
        self._say(b"221 bye", lambda: self.transport.close())

    def _auth(self, argument: bytes) -> None:
        if argument.upper().startswith(b"PLAIN"):
            self._say(b"535 try another")
        else:
            self._reads = self._read_answer
            self._say(b"334 PDEyMzRAbXgudGVzdD4=")

    def _read_answer(self) -> bool:
        line, end, rest = bytes(self._received).partition(b"\r\n")
        if not end:
            return False
        self._received[:] = rest
        self._server.commands.append(line)
        self._reads = self._read_command
        self._say(b"235 welcome")
        return True

    def _starttls(self, argument: bytes) -> None:
        self._is_encrypting = True
        self._say(b"220 go on", self._begin_tls)

    def _begin_tls(self) -> None:
        task = self._loop.create_task(self._encrypt())
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _encrypt(self) -> None:
        assert self._server.tls is not None
        if self.transport.is_closing():
            return
        try:
            self.transport = await self._loop.start_tls(
                self.transport, self, self._server.tls, server_side=True
            )
        except OSError:
            self.is_lost = True
            return
        # By then the client may have said something.
        self._is_encrypting = False
        self._read()


# Cancelling


async def until(is_so: Callable[[], bool]) -> None:
    """Wait, for some turns of the loop, until something is so."""
    for _ in range(MANY_TURNS):
        if is_so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def cancelled_after(steps: int, program: Coroutine[Any, Any, object]) -> BaseException | None:
    """Run a program as a task, and cancel it after so many steps of the loop. Return what ended it
    then; None if it had ended before."""
    task = asyncio.ensure_future(program)
    if await is_done_after(steps, task):
        task.result()
        return None
    task.cancel()
    await ended(task)
    return await reason_of(task)


async def is_done_after(steps: int, *tasks: asyncio.Task[Any]) -> bool:
    """Let the loop take so many steps; return whether tasks have all ended before."""
    for _ in range(steps):
        if all(each.done() for each in tasks):
            break
        await asyncio.sleep(0)
    return all(each.done() for each in tasks)


async def ended(task: asyncio.Task[Any], few: int = FEW_TURNS) -> None:
    """Wait until a task that was cancelled has ended, which is at once."""
    for turns in range(MANY_TURNS):
        if task.done():
            assert turns <= few, f"the cancelled task ended after {turns} turns"
            return
        await asyncio.sleep(0)
    raise AssertionError("the cancelled task did not end")


async def reason_of(task: asyncio.Task[Any]) -> asyncio.CancelledError:
    """Return the exception that ended a task that was cancelled."""
    try:
        result = await task
    except asyncio.CancelledError as error:
        return error
    raise AssertionError(f"the cancellation was swallowed, and the task returned {result!r}")


def run(main: Callable[[], Awaitable[None]], *, debug: bool = False) -> None:
    """Run a test in an event loop; it leaves no task when it returns."""

    async def watched() -> None:
        before = asyncio.all_tasks()
        await main()
        for _ in range(3):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - before
        assert not left, left

    run_to_end(watched(), debug=debug)


def run_to_end(main: Coroutine[Any, Any, None], *, debug: bool = False) -> None:
    """Run a test in an event loop that must have nothing to complain of."""
    complaints: list[object] = []

    async def limited() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(context))
        await asyncio.wait_for(main, LIMIT)

    hook = sys.unraisablehook
    sys.unraisablehook = lambda about: complaints.append((about.exc_value, about.object))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            if sys.version_info < (3, 11):
                # There start_tls() leaves its transport open when it is cancelled.
                warnings.filterwarnings("ignore", "unclosed transport <asyncio.sslproto")
            warnings.simplefilter("error", RuntimeWarning)
            asyncio.run(limited(), debug=debug)
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not complaints, complaints


async def nothing_is_left(server: Server, before: set[asyncio.Task[Any]]) -> None:
    """No task of a client, and no connection of one, is left."""
    for _ in range(5):
        await server.all_closed()
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - server.tasks - before
    assert not left, left
    assert server.faults == []


# What was told, and what is so


def check(
    result: Result | None, text: bytes, recipients: Iterable[str], server: Server
) -> set[str]:
    """Hold what was told of a message against what the server has; return the states that were
    told, or "nothing"."""
    copies = [each for each in server.copies if each.text == text]
    if result is None:
        assert copies == [], "nothing was told of a message that the server has"
        return {"nothing"}
    told = {each.recipient: each for each in result.outcomes}
    assert set(told) == set(recipients)
    for recipient, outcome in told.items():
        kept = [each for each in copies if each.may_be_kept(recipient)]
        assert len(kept) <= 1, "the server has it twice"
        state = outcome.state
        if state is State.ACCEPTED:
            assert len(kept) == 1
            assert kept[0].replies[recipient] == 250
        elif state is State.IN_DOUBT:
            assert server.has_invited, "the end of a message can't have left before 354"
        else:
            assert kept == [], f"{outcome} although the server has it"
            assert state is State.DEFERRED or outcome.reply is not None
    return {each.state.value for each in result.outcomes}
