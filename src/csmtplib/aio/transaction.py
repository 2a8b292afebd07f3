"""One transaction over a connection of an event loop, and what has become of its message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import kernel
from ..kernel.errors import MALFORMED_CODE, ReplyMalformed, ReplyUnexpected
from ..kernel.transaction import CONTENT, IN_DOUBT, LOST, RCPT, SEQUENTIAL
from ..protocol import limits
from ..protocol.failures import describe
from ..protocol.result import Result

if TYPE_CHECKING:
    from ..drive.event_loop import LoopConnection
    from ..kernel.transaction import Completed, Mode
    from ..protocol.extension_policy import Host
    from ..protocol.limits import Limits
    from ..protocol.mail_object import MailObject


class Transaction:
    """A message that is sent, at most twice: the second time only if it was refused.

    failure: why the connection can't be used any more, or None. is_doubtful: whether it was
    refused, perhaps only because its commands came together.
    """

    completed: Completed = (None, LOST, None, {})
    failure: Exception | None = None
    is_doubtful = False
    is_known = False  # whether the transaction has begun, and its end is known

    def __init__(
        self, connection: LoopConnection, host: Host, mail: MailObject, *, lmtp: bool
    ) -> None:
        self.mail = mail
        self._connection = connection
        self._host = host
        self._lmtp = lmtp

    async def run(
        self, mode: Mode, commands: list[bytes], content: kernel.Content, allowed: Limits
    ) -> None:
        """Run the transaction; afterwards, also if this is cancelled, its end is known."""
        connection, host = self._connection, self._host
        if connection.is_readable:
            await connection.catch_up()
        proof = host.proof(mode)
        pipeline = kernel.Pipeline(
            connection.replies, mode, self._lmtp, False, proof, limits.LARGE_MESSAGE_BYTES
        )
        pipeline.push(None, commands, content)
        connection.begin(pipeline, allowed, one_by_one=mode == SEQUENTIAL)
        try:
            await connection.run()
        except BaseException:
            if len(pipeline):
                pipeline.lose(InterruptedError("the task was cancelled"))
            raise
        finally:
            gap = connection.end()
            (self.completed,) = pipeline.take()
            self.failure = pipeline.failure
            self._refuse_malformed()
            self.is_doubtful = self.failure is None and pipeline.doubts > 0
            self.is_known = True
            host.learn_message(
                mode, pipeline, proof, len(commands) - 1, None if self._lmtp else gap
            )

    def _refuse_malformed(self) -> None:
        """Take a reply whose code SMTP does not use as the end of the connection: nobody knows what
        the next one answers."""
        tag, stage, reply, others = self.completed
        if not others and (reply is None or _is_reply(reply)):
            return
        malformed = [each for _, each in others.values() if not _is_reply(each)]
        if malformed and stage == RCPT:
            # Nobody was accepted; but what the server thinks of these is unknown.
            others = {index: each for index, each in others.items() if _is_reply(each[1])}
            stage = LOST
        if reply is not None and not _is_reply(reply):
            malformed.append(reply)
            stage, reply = (IN_DOUBT if stage == CONTENT else LOST), None
        if malformed:
            self.completed = (tag, stage, reply, others)
            if self.failure is None or isinstance(self.failure, ReplyUnexpected):
                # It is the cause of what follows.
                code, text = malformed[-1]
                said = text if code < 0 else b"%d %b" % (code, text)
                self.failure = ReplyMalformed(MALFORMED_CODE, said)

    @property
    def refused(self) -> list[tuple[str, tuple[int, bytes]]]:
        """The recipients that were refused by RCPT, in order, with the replies."""
        return [
            (self.mail.to_addrs[index], reply)
            for index, (stage, reply) in sorted(self.completed[3].items())
            if stage == RCPT
        ]

    @property
    def is_complete(self) -> bool:
        """Whether the server has answered all of it, and accepted the message: the next transaction
        can begin."""
        return self.is_known and self.failure is None and self.result.accepted

    @property
    def stage(self) -> int:
        """The command whose reply decided."""
        return self.completed[1]

    @property
    def text(self) -> bytes:
        """The text of the reply that decided; of several (LMTP), of the first that accepts."""
        _, _, reply, others = self.completed
        if reply is not None:
            return reply[1]
        replies = [each for _, each in others.values()]
        return next((text for code, text in replies if code == 250), b"")

    @property
    def result(self) -> Result:
        """The result of the message."""
        _, stage, reply, others = self.completed
        fault = None if reply is not None else describe(self.failure)
        result = Result(self.mail, [(None, stage, reply, others, fault)])
        result.recipients = self.mail.to_addrs
        return result


def _is_reply(reply: tuple[int, bytes]) -> bool:
    return 200 <= reply[0] <= 599
