"""LMTP: delivery to mailboxes, with an answer for each recipient."""

from __future__ import annotations

import csmtplib as public

from .. import fastpath
from ..kernel.transaction import CONTENT, DATA
from .connection import DEFAULT_TIMEOUT
from .smtp import SMTP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.transaction import Settled
    from .types import Refusals, Reply, SourceAddress

LMTP_PORT = 2003


@fastpath.genuine
class LMTP(SMTP):
    """Local Mail Transfer Protocol (RFC 2033), as `smtplib.LMTP`.

    A host that begins with "/" is the path of a Unix socket. After the message the server answers
    once for each recipient that it accepted; `recipient_replies` keeps what it said, by recipient,
    for the last message. sendmail() counts those that it refused then among the refused.
    """

    ehlo_msg: str = "lhlo"
    _is_lmtp: bool = True

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
        self._remember_host("localhost")  # for TLS: a certificate can't name a path
        return self._greeted_by(sock)

    def mail(self, sender: str, options: Sequence[str] = ()) -> Reply:
        """MAIL, as in SMTP."""
        self._accepted = []
        return super().mail(sender, options)

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> Reply:
        """RCPT, as in SMTP."""
        code, text = super().rcpt(recip, options)
        if code in (250, 251):
            self._accepted.append(recip)
        return code, text

    def _reply_to_message(self) -> Reply:
        # One reply a recipient, which the stdlib does not know: it takes the second for the next
        # command's. What stands for all of them is 250 if anybody has the message.
        self.recipient_replies = {}
        reply: Reply | None = None
        for each in self._accepted or [""]:
            if reply is None or reply[0] != 421:  # behind which there is nothing more
                self._awaited_replies = 1
                reply = super()._reply_to_message()
            self._keep_reply(each, reply)
        if reply is not None and reply[0] == 421:
            self.close()
        replies = self.recipient_replies.values()
        return next((each for each in replies if each[0] == 250), next(iter(replies)))

    def _refused_by_content(self, settled: Settled, recipients: list[str]) -> Refusals:
        if settled[1] == DATA:
            return super()._refused_by_content(settled, recipients)
        self._keep_replies(settled, recipients)
        if all(code != 250 for code, _ in self.recipient_replies.values()):
            first = next(iter(self.recipient_replies.values()))
            return super()._refused_by_content((None, CONTENT, first, {}), recipients)
        return self._refused_after_data()

    def _keep_replies(self, settled: Settled, recipients: list[str]) -> None:
        _, stage, reply, others = settled
        self.recipient_replies = {}
        for index, recipient in enumerate(recipients):
            its_stage, its_reply = others.get(index, (stage, reply))
            if its_stage == CONTENT and its_reply is not None:
                self._keep_reply(recipient, its_reply)

    def _keep_reply(self, recipient: str, reply: Reply) -> None:
        # Who was named twice has the message if it was accepted once.
        if self.recipient_replies.get(recipient, reply)[0] != 250 or reply[0] == 250:
            self.recipient_replies[recipient] = reply

    def _refused_after_data(self) -> Refusals:
        return {each: reply for each, reply in self.recipient_replies.items() if reply[0] != 250}
