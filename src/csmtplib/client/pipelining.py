"""One transaction where a server takes several commands at once (RFC 2920).

A pipeline runs it instead of mail(), rcpt() and data(), with the same result.
"""

from __future__ import annotations

from functools import partial

from .. import kernel
from ..drive import transactions
from ..kernel.transaction import ALONE, CHUNKING
from ..protocol import limits
from .public import public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel import BytesLike
    from ..kernel.transaction import Completed, Mode
    from .owner import Channel

# A placeholder for a message that is not encoded yet; it is held, and never sent.
_NOT_ENCODED = kernel.Content([b"\r\n"], True, b".\r\n")


def transact(
    channel: Channel, mode: Mode, commands: list[bytes], data: BytesLike
) -> tuple[Completed, Exception | None, bool]:
    """Run one transaction. Return its result; why the connection can't be used any more, or None;
    and whether it was refused, perhaps only because its commands came together."""
    host, audit = channel.policy.host, channel.audit
    proof = host.proof(mode)
    before_content: Callable[[], kernel.Content | None]
    # Each audit event is raised before its bytes are sent; there is one for each write of the
    # stdlib.
    for each in commands:
        audit(each)
    if mode == CHUNKING:
        body = bytes(data)
        end = b"" if body.endswith(b"\r\n") else b"\r\n"
        content = kernel.Content([body], False, end)
        before_content = partial(_audit_chunk, audit, body, end)
        if proof > ALONE:
            before_content()
    else:
        # Encoded only once a recipient is accepted, as encoding a large message takes time.
        content = _NOT_ENCODED
        audit(b"data\r\n")
        before_content = partial(_encode, audit, data)
    replies, sock, is_lmtp = channel.replies, channel.sock, channel.is_lmtp
    try:
        pipeline = kernel.Pipeline(replies, mode, is_lmtp, False, proof, limits.LARGE_MESSAGE_BYTES)
        pipeline.push(None, commands, content)
        allowed = limits.at_least(sock.gettimeout())
        gap = transactions.run(pipeline, replies, sock, 0, allowed, before_content=before_content)
        host.learn_message(mode, pipeline, proof, len(commands) - 1, None if is_lmtp else gap)
        failure = pipeline.failure
        (completed,) = pipeline.take()
        return completed, failure, failure is None and pipeline.doubts > 0
    except BaseException:
        channel.close()  # see Connection.getreply()
        raise


def _audit_chunk(audit: Callable[[bytes], object], body: bytes, end: bytes) -> None:
    audit(b"BDAT %d LAST\r\n" % (len(body) + len(end)))
    audit(body + end)


def _encode(audit: Callable[[bytes], object], data: BytesLike) -> kernel.Content:
    body, end = encoded(data)
    audit(body + end)
    return kernel.Content([body], True, end)


def encoded(data: BytesLike) -> tuple[bytes, bytes]:
    """Return a message as it is sent after DATA, with doubled dots, and its terminator."""
    body: bytes = public._quote_periods(data)
    return body, b".\r\n" if body.endswith(b"\r\n") else b"\r\n.\r\n"
