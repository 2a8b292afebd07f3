"""LMTP: delivery to mailboxes, with a reply for each recipient."""

from __future__ import annotations

from .. import fastpath
from ..protocol.verdict import is_taken, keep_reply, refused_after_content, reply_for_all
from .connection import DEFAULT_TIMEOUT
from .public import public
from .smtp import SMTP
from .steps import Direct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.transaction import Reply
    from ..protocol.verdict import Refusals
    from .connection import SourceAddress

LMTP_PORT = 2003


class DirectInLMTP(Direct):
    """Steps without LMTP's methods, if none is overridden; they note the recipients as those do."""

    _connection: LMTP

    def mail(self) -> Reply:
        self._connection._forget_recipients()
        return super().mail()

    def rcpt(self, recipient: str) -> Reply:
        reply = super().rcpt(recipient)
        self._connection._note_recipient(recipient, reply)
        return reply

    def _reply_to_content(self, content: bytes) -> Reply:
        self._connection._send_checked(content)
        return self._connection._reply_to_message()


@fastpath.original
class LMTP(SMTP):
    """Local Mail Transfer Protocol (RFC 2033), as `smtplib.LMTP`.

    A host that begins with "/" is the path of a Unix socket. After the message the server replies
    once for each recipient that it accepted; `recipient_replies` has these replies for the last
    message, by recipient. sendmail() also returns the recipients that are refused then.
    """

    ehlo_msg: str = "lhlo"
    _is_lmtp: bool = True
    _direct_steps: type[Direct] = DirectInLMTP

    def __init__(
        self,
        host: str = "",
        port: int = LMTP_PORT,
        local_hostname: str | None = None,
        source_address: SourceAddress | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self.recipient_replies: Refusals = {}
        self._accepted: list[str] = []
        super().__init__(host, port, local_hostname, timeout, source_address)

    def connect(
        self, host: str = "localhost", port: int = 0, source_address: SourceAddress | None = None
    ) -> Reply:
        """Connects to a server, by TCP or by a Unix socket, and returns its greeting."""
        if not host.startswith("/"):
            return super().connect(host, port, source_address)
        if self.timeout is not None and not self.timeout:
            raise ValueError("Non-blocking socket (timeout=0) is not supported")
        sock = public.socket.socket(public.socket.AF_UNIX, public.socket.SOCK_STREAM)
        try:
            if self.timeout is not DEFAULT_TIMEOUT:
                sock.settimeout(self.timeout)
            sock.connect(host)
        except OSError:
            if self.debuglevel > 0:
                self._print_debug("connect fail:", host)
            sock.close()
            raise
        self._remember_host("localhost", host)  # for TLS: a certificate can't name a path
        return self._greeted_by(sock)

    def mail(self, sender: str, options: Sequence[str] = ()) -> Reply:
        """Sends MAIL, as in SMTP."""
        self._forget_recipients()
        return super().mail(sender, options)

    def _forget_recipients(self) -> None:
        self._accepted = []
        self.recipient_replies = {}

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> Reply:
        """Sends RCPT, as in SMTP."""
        reply = super().rcpt(recip, options)
        self._note_recipient(recip, reply)
        return reply

    def _note_recipient(self, recipient: str, reply: Reply) -> None:
        if is_taken(reply[0]):
            self._accepted.append(recipient)

    def _reply_to_message(self) -> Reply:
        # One reply per recipient, which the stdlib does not know: it takes the second for the next
        # command's. The reply that stands for all is 250 if any recipient has the message.
        self.recipient_replies = {}
        reply: Reply | None = None
        for each in self._accepted or [""]:
            if reply is None or reply[0] != 421:  # after which none follows
                self._lock.awaited_replies = 1
                reply = super()._reply_to_message()
            keep_reply(self.recipient_replies, each, reply)
        if reply is not None and reply[0] == 421:
            self.close()
        return reply_for_all(self.recipient_replies)

    def _keep_replies(self, replies: Refusals) -> None:
        self.recipient_replies = replies

    def _refused_after_data(self) -> Refusals:
        return refused_after_content(self.recipient_replies)
