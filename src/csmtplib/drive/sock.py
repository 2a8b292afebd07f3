"""Connections over blocking sockets, plain or TLS: their sessions, and their messages."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from typing import TYPE_CHECKING

from .. import kernel
from ..protocol import extension_policy, flows, limits
from ..protocol.dialogue import Dialogue, Flow, Result, Wrap
from ..protocol.features import Features
from ..protocol.mail_object import MailObject
from ..protocol.result import Result as MessageResult
from ..protocol.server_url import TLS, Server
from ..protocol.submission import Submission
from . import tls, transactions
from .hostname import local_hostname
from .performer import Performer, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# As long as systems take to give up on their own, and no longer.
CONNECT_SECONDS = 120.0

# How often send() asks is_given_up() while it waits for the server.
_ASKING_SECONDS = 0.1


def connect(server: Server, wait: Wait | None = None) -> Connection:
    """Opens a session with a server, ready for messages. wait: shows what is waited for meanwhile.

    Raises OSError and what protocol.flows.open_session raises.
    """
    wait = Wait() if wait is None else wait
    try:
        return _connect(server, wait)
    finally:
        wait.end()


def _connect(server: Server, wait: Wait) -> Connection:
    connection = Connection(server, wait)
    try:
        name = server.name if server.name is not None else local_hostname()
        connection.features = connection.run(flows.open_session(server, name))
        return connection
    except BaseException:
        connection.close()
        raise


def tls_context(server: Server) -> ssl.SSLContext:
    """Return a context that verifies the server, unless its description says otherwise.

    Raises OSError (ssl.SSLError among them) for certificate files that can't be loaded.
    """
    files = (server.cafile, server.certfile, server.keyfile)
    return tls.context(server.verify, *files, with_system=server.cafile is None)


class Connection(Performer):
    """A connection to a server: it performs flows, and sends messages.

    Whatever goes wrong on the wire closes the connection. run() and send() are for one thread at a
    time: they raise RuntimeError while another one is in either.

    features: what the server offers, once the session is open.
    """

    def __init__(self, server: Server, wait: Wait | None = None) -> None:
        """Connect. wait: shows what is waited for. Raises OSError if that fails (ssl.SSLError for
        implicit TLS)."""
        super().__init__(None, wait)
        self._server = server
        self.features = Features()
        self._submission: Submission | None = None
        port: object = server.port if server.unix_path is None else server.unix_path
        self._policy = extension_policy.policy(server.host, port)
        self._in_use = threading.Lock()
        self._buffer = kernel.ReplyBuffer(limits.REPLY_LINE_BYTES, limits.REPLY_BYTES)
        self._dialogue = Dialogue(self._buffer, server.timeout, server)
        seconds = self._dialogue.seconds(CONNECT_SECONDS)
        self.wait.begin(f"a connection to {server}", seconds)
        if server.unix_path is not None:
            if not hasattr(socket, "AF_UNIX"):
                raise OSError(errno.EAFNOSUPPORT, "Python has no Unix sockets on this system")
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(seconds)
            with self._closing_on_error():
                self.sock.connect(server.unix_path)
        else:
            self.sock = socket.create_connection((server.host, server.port), seconds)
            transactions.prepare(self.sock)
        if server.tls is TLS.IMPLICIT:
            self.encrypt(self._dialogue.encrypt())

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the connection can still be used."""
        return self.sock is not None

    def close(self) -> None:
        """Close the connection without sending QUIT."""
        sock, self.sock = self.sock, None
        if sock is not None:
            tls.remember(sock)
            sock.close()

    def encrypt(self, operation: Wrap) -> None:
        """Wrap the socket in TLS; a handshake that fails closes the connection."""
        with self._closing_on_error():
            self.wait.begin(operation.awaits, operation.seconds)
            self.sock.settimeout(operation.seconds)
            self.sock = tls.wrap(tls_context(self._server), self.sock, self._server.host)

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def run(self, flow: Flow[Result]) -> Result:
        """Perform the steps of a flow; return its result, or raise what it raises."""
        with self._alone():
            return self.perform(self._dialogue.operations(flow))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("two threads use one connection: give each thread its own")
        try:
            yield
        finally:
            self._in_use.release()

    def send(
        self, mail: MailObject, *, is_given_up: Callable[[], bool] | None = None
    ) -> MessageResult:
        """Send a message; return its result. The connection is closed if it was lost.

        is_given_up: called several times a second; returns whether to stop waiting for the server.
        If so, the message is in doubt if its end may have been sent, else deferred, and the
        connection is closed. Raises what a signal handler raises; it is then unknown whether the
        message was sent.
        """
        with self._alone():
            return self._send_mail(mail, is_given_up)

    def _send_mail(self, mail: MailObject, is_given_up: Callable[[], bool] | None) -> MessageResult:
        self._open_socket()
        if self._submission is None:
            self._submission = self.open_submission(max_in_flight=1)
        submission = self._submission
        submission.add(mail)
        runnable = self.runnable(submission)
        results: list[MessageResult] = []
        try:
            # Recipients that were too many for one transaction get another.
            while not results:
                transactions.run_together([runnable], _ASKING_SECONDS)
                if is_given_up is not None and is_given_up():
                    submission.give_up(InterruptedError("interrupted"))
                results.extend(submission.results())
        except BaseException:
            self.close()
            raise
        (result,) = results
        if submission.pipeline.failure is not None:
            self.close()
        return result

    def open_submission(self, max_in_flight: int, *, chunking: bool = True) -> Submission:
        """Return a submission over this connection, in the best mode that may be used."""
        policy = self._policy
        mode = policy.best_mode(self.features.extensions, chunking=chunking)
        return Submission(
            self._buffer,
            self.features,
            mode,
            lmtp=self._server.lmtp,
            host=policy.host,
            max_in_flight=max_in_flight,
        )

    def runnable(self, submission: Submission) -> transactions.Connection:
        """Return the connection as one to be run with others. Raises ConnectionLost if it is
        closed."""
        sock = self._open_socket()
        allowed = limits.at_most(self._server.timeout)
        return transactions.Connection(submission.pipeline, self._buffer, sock, allowed)

    def peek_first(self, submission: Submission) -> None:
        """Read what the server has sent while nothing was in progress, without waiting. If it has
        sent anything, or closed the connection, the pipeline fails."""
        if self.sock is None:
            return
        try:
            data = self.receive(0)
        except OSError as error:
            submission.pipeline.lose(error)
            return
        if data is None:
            return
        if data:
            self._buffer.feed(data)
            submission.pipeline.receive()
        else:
            submission.pipeline.lose(ConnectionResetError("the server closed it"))
