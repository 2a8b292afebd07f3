"""Runs the flows of `protocol` over a blocking socket, plain or TLS."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from .. import kernel
from ..kernel.errors import ReplyError
from ..protocol import flows, limits, switches
from ..protocol.features import Features
from ..protocol.flows import Close, ConnectionLost, Exchange, Flow, Result, StartTLS, Step
from ..protocol.mail_object import MailObject
from ..protocol.outcome import Reply
from ..protocol.server_url import TLS, Server
from ..protocol.submission import Result as Settlement
from ..protocol.submission import Submission
from . import tls, transactions
from .hostname import local_hostname

if TYPE_CHECKING:
    from collections.abc import Iterator

# As long as systems take to give up on their own, and no longer.
CONNECT_SECONDS = 120.0

# The answer to a step that the server does not answer.
_NO_REPLY = Reply(0, b"")


def connect(server: Server) -> Connection:
    """Opens a session with a server, ready for messages.

    Raises OSError and what protocol.flows.open_session raises.
    """
    connection = Connection(server)
    try:
        name = server.name if server.name is not None else local_hostname()
        connection.features = connection.run(flows.open_session(server, name))
        return connection
    except BaseException:
        connection.close()
        raise


def tls_context(server: Server) -> ssl.SSLContext:
    """A context that verifies the server, unless its description says otherwise.

    Raises OSError (ssl.SSLError among them) for certificate files that can't be loaded.
    """
    if server.verify and server.cafile is None and server.certfile is None:
        return tls.default_context()
    context = ssl.create_default_context(cafile=server.cafile)
    if server.certfile is not None:
        context.load_cert_chain(server.certfile, server.keyfile)
    if not server.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Connection:
    """A connection to a server, and the runner of its flows and of messages.

    A reply has a deadline as a whole, and so has each block that is sent. Whatever goes wrong on
    the wire closes the connection, and the flow is told by ConnectionLost. run() and send() are for
    one thread at a time: they raise RuntimeError while another one is in either.

    features: what the server offers, once the session is open.
    """

    def __init__(self, server: Server) -> None:
        """Connects. Raises OSError where that fails, and ssl.SSLError for implicit TLS."""
        self._server = server
        self.features = Features()
        self._submission: Submission | None = None
        self._in_use = threading.Lock()
        self._buffer = kernel.ReplyBuffer(limits.REPLY_LINE_OCTETS, limits.REPLY_OCTETS)
        seconds = self._seconds(CONNECT_SECONDS)
        self._sock: socket.socket | None
        if server.unix_path is not None:
            if not hasattr(socket, "AF_UNIX"):
                raise OSError(errno.EAFNOSUPPORT, "Python has no Unix sockets on this system")
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sock.settimeout(seconds)
            with self._closing_on_error():
                self._sock.connect(server.unix_path)
        else:
            self._sock = socket.create_connection((server.host, server.port), seconds)
            transactions.prepare(self._sock)
        if server.tls is TLS.IMPLICIT:
            self._encrypt()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the connection can be used on."""
        return self._sock is not None

    def close(self) -> None:
        """Closes the connection without a word to the server."""
        sock, self._sock = self._sock, None
        if sock is not None:
            tls.remember(sock)
            sock.close()

    def run(self, flow: Flow[Result]) -> Result:
        """Performs the steps of a flow; its result, or what it raises."""
        with self._alone():
            return self._run(flow)

    def _run(self, flow: Flow[Result]) -> Result:
        try:
            step = next(flow)
            while True:
                try:
                    reply = self._perform(step)
                except ConnectionLost as lost:
                    self.close()
                    step = flow.throw(lost)
                except BaseException:
                    # Interrupted in the middle of a step: nobody knows where the session is.
                    self.close()
                    raise
                else:
                    step = flow.send(reply)
        except StopIteration as done:
            result: Result = done.value
            return result

    def send(self, mail: MailObject) -> Settlement:
        """Sends a message; what became of it. The connection is closed where it was lost.

        Raises what a signal handler raises; nobody knows then whether the message was sent.
        """
        with self._alone():
            return self._send_mail(mail)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError("two threads use one connection: give each its own")
        try:
            yield
        finally:
            self._in_use.release()

    def _send_mail(self, mail: MailObject) -> Settlement:
        if self._sock is None:
            raise ConnectionLost("the connection is closed")
        if self._submission is None:
            self._submission = self.open_submission(max_in_flight=1)
        submission = self._submission
        submission.add(mail)
        allowed = limits.at_most(self._server.timeout)
        results: list[Settlement] = []
        try:
            # Recipients that were too many for one transaction have another.
            while not results:
                transactions.run(submission.pipeline, self._buffer, self._sock, 0, allowed)
                results.extend(submission.results())
        except BaseException:
            self.close()
            raise
        (result,) = results
        switches.learn(self._server.host, submission.gear, submission.pipeline)
        if submission.pipeline.failure is not None:
            self.close()
        return result

    def open_submission(
        self, max_in_flight: int, *, proved: bool = False, chunking: bool = True
    ) -> Submission:
        """Mail objects on their way over this connection, by the best gear that may be used.

        proved: the server has shown that it has what it offers.
        """
        usable = switches.usable(self._server.host)
        gear = switches.best_gear(self.features.extensions, usable, chunking=chunking)
        return Submission(
            self._buffer,
            self.features,
            gear,
            lmtp=self._server.lmtp,
            proved=proved,
            max_in_flight=max_in_flight,
        )

    def line(self, submission: Submission) -> transactions.Line:
        """The connection, to be run together with others. Raises ConnectionLost if it is closed."""
        if self._sock is None:
            raise ConnectionLost("the connection is closed")
        allowed = limits.at_most(self._server.timeout)
        return transactions.Line(submission.pipeline, self._buffer, self._sock, allowed)

    def _perform(self, step: Step) -> Reply:
        if isinstance(step, Exchange):
            return self._exchange(step)
        if isinstance(step, StartTLS):
            if len(self._buffer):
                raise ConnectionLost(
                    "there was more behind the server's reply to STARTTLS, in the clear: "
                    f"{self._buffer.peek(200)!r}"
                )
            self._encrypt()
        else:
            assert isinstance(step, Close)
            self.close()
        return _NO_REPLY

    def _seconds(self, phase: float) -> float:
        timeout = self._server.timeout
        return phase if timeout is None else min(phase, timeout)

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _encrypt(self) -> None:
        assert self._sock is not None
        with self._closing_on_error():
            self._sock.settimeout(self._seconds(limits.COMMAND_SECONDS))
            self._sock = tls.wrap(tls_context(self._server), self._sock, self._server.host)

    def _exchange(self, step: Exchange) -> Reply:
        if self._sock is None:
            raise ConnectionLost("the connection is closed")
        if step.octets:
            self._refuse_surplus(self._sock)
            self._send(self._sock, step.octets)
        return self._receive_reply(self._sock, self._seconds(step.seconds))

    def _refuse_surplus(self, sock: socket.socket) -> None:
        """What the server says unasked would be taken for the answer to the next command."""
        try:
            self._receive(sock, 0)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            raise ConnectionLost(f"the connection was lost: {error}") from error
        if len(self._buffer):
            said = self._buffer.peek(200)
            raise ConnectionLost(f"the server sent what answers no command: {said!r}")

    def _send(self, sock: socket.socket, octets: bytes) -> None:
        sock.settimeout(self._seconds(limits.BODY_SECONDS))
        try:
            sock.sendall(octets)
        except OSError as error:
            raise ConnectionLost(f"the connection was lost: {error}") from error

    def _receive_reply(self, sock: socket.socket, seconds: float) -> Reply:
        deadline = time.monotonic() + seconds
        try:
            while (reply := self._buffer.reply()) is None:
                self._receive(sock, max(deadline - time.monotonic(), 0.0))
        except (BlockingIOError, ssl.SSLWantReadError, TimeoutError):
            fault = f"the server sent no reply within {seconds:g} seconds"
        except OSError as error:
            fault = f"the connection was lost: {error}"
        except ReplyError as error:
            fault = f"the server's reply can't be read: {error}"
        else:
            if 200 <= reply[0] <= 599:
                return Reply(*reply)
            fault = f"the server sent no reply of SMTP's: {reply}"
        raise ConnectionLost(fault)

    def _receive(self, sock: socket.socket, seconds: float) -> None:
        """Waits for octets; not at all for 0 seconds, which raises BlockingIOError for none."""
        sock.settimeout(seconds)
        octets = sock.recv(limits.RECEIVE_OCTETS)
        if not octets:
            raise ConnectionResetError("the server closed it")
        self._buffer.feed(octets)
