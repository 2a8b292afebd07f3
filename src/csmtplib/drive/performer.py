"""Performs the operations of a dialogue on a blocking socket, plain or TLS."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from ..protocol import limits
from ..protocol.dialogue import Operation, Operations, Receive, Result, Send, Wrap
from ..protocol.failures import ConnectionLost
from . import acks
from .pump import nothing_yet

if TYPE_CHECKING:
    from typing import Any


class Waiting(NamedTuple):
    """A wait. what: follows "waiting for". since: by the monotonic clock. most: seconds that it may
    take, None if there is no fixed limit."""

    what: str
    since: float
    most: float | None


class Wait:
    """Shows other threads what a connection waits for: `now`, None for nothing."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now: Waiting | None = None

    def begin(self, what: str, most: float | None = None) -> None:
        """Note what is awaited from now on."""
        self.now = Waiting(what, time.monotonic(), most)

    def end(self) -> None:
        """Note that nothing is awaited any more."""
        self.now = None


class Performer:
    """Sends and receives on a connected socket, which somebody else wraps and closes.

    sock: None once the connection is closed.
    """

    def __init__(self, sock: Any, wait: Wait | None = None) -> None:
        self.sock = sock
        self.wait = Wait() if wait is None else wait
        self._deadline = 0.0

    def close(self) -> None:
        """Close the connection, if that is up to this object."""

    def encrypt(self, operation: Wrap) -> None:
        """Wrap the socket in TLS."""
        raise NotImplementedError

    def perform(self, operations: Operations[Result]) -> Result:
        """Perform operations to their end; return their result, or raise what they raise."""
        try:
            operation = next(operations)
            while True:
                try:
                    answer = self._perform(operation)
                except OSError as error:
                    operation = operations.throw(error)
                except BaseException:
                    # Interrupted: nobody knows where the session is.
                    self.close()
                    raise
                else:
                    operation = operations.send(answer)
        except StopIteration as done:
            result: Result = done.value
            return result

    def _perform(self, operation: Operation) -> bytes | None:
        if isinstance(operation, Send):
            self._send(operation)
        elif isinstance(operation, Receive):
            return self._receive(operation)
        elif isinstance(operation, Wrap):
            self.encrypt(operation)
        else:
            self.close()
        return None

    def _send(self, operation: Send) -> None:
        sock = self._open_socket()
        self.wait.begin(operation.awaits, operation.seconds)
        sock.settimeout(operation.seconds)
        sock.sendall(operation.data)

    def _receive(self, operation: Receive) -> bytes | None:
        seconds = operation.seconds
        if seconds is None:
            # The next line of the reply may be waiting for that.
            acks.acknowledge(self.sock)
            seconds = max(self._deadline - time.monotonic(), 0.0)
        elif seconds > 0:
            self.wait.begin(operation.awaits, seconds)
            self._deadline = time.monotonic() + seconds
        return self.receive(seconds)

    def receive(self, seconds: float) -> bytes | None:
        """Wait for bytes: b"" at the end of the stream, None if there are none in time."""
        sock = self._open_socket()
        sock.settimeout(seconds)
        try:
            received: bytes = sock.recv(limits.RECEIVE_BYTES)
            return received
        except TimeoutError:
            return None
        except nothing_yet():
            return None

    def _open_socket(self) -> Any:
        if self.sock is None:
            raise ConnectionLost("the connection is closed")
        return self.sock
