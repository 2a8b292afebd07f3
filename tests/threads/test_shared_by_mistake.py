"""Objects for one user at a time, in the hands of several: some are refused, none is mixed up."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import csmtplib
from csmtplib import kernel
from csmtplib.bulk import BulkSender, Job
from csmtplib.kernel.errors import ReplyError
from csmtplib.kernel.transaction import LAST_STEP, PIPELINING

from .site import Site
from .test_own_connections import MODES, in_threads, letters, told

SECONDS = 0.4
# The compiled kernels say so, or find no reply in what others have garbled. Their twins raise
# whatever Python does; they can't do worse.
REFUSALS = (RuntimeError, ReplyError) if csmtplib.implementation == "c" else (Exception,)


def use(smtp: csmtplib.SMTP, how: str, name: str, accepted: list[Any], refused: list[Any]) -> None:
    """Sends what it can over a connection that it does not have for itself."""
    for letter in letters(name):
        try:
            if how == "sendmail":
                assert smtp.sendmail(*letter) == {}
            else:
                (result,) = smtp.send_many([letter])
                if not result.accepted:
                    continue
            accepted.append(letter[1:])
        except RuntimeError as error:
            refused.append(error)
            time.sleep(0.0005)
        except (csmtplib.SMTPException, OSError) as error:
            refused.append(error)
            if smtp.sock is None:
                return


@pytest.mark.parametrize("how", ["sendmail", "send_many", "both"])
@pytest.mark.parametrize("extensions", MODES, ids=" ".join)
def test_one_connection(extensions: tuple[str, ...], how: str) -> None:
    """Each message that the server has is whole, and has its own recipient; each that was told to
    be accepted is there."""
    accepted: list[Any] = []
    refused: list[Any] = []
    ways = itertools.cycle(["sendmail", "send_many"] if how == "both" else [how])

    def answer(_: str) -> str:
        time.sleep(0.001)
        return "250 ok"

    with Site(*extensions, mail=answer) as site:
        smtp = csmtplib.SMTP(*site.address)
        smtp.ehlo()
        in_threads(lambda name: use(smtp, next(ways), name, accepted, refused), 4)
        smtp.close()
    assert refused
    there = told(site)
    assert set(there) <= {letter[1:] for n in range(4) for letter in letters(f"t{n}")}
    assert set(there.values()) <= {1}
    assert set(accepted) <= set(there)


def test_one_bulk_sender() -> None:
    refused: list[Any] = []

    def work(name: str) -> None:
        jobs = (Job(letter[1], csmtplib.MailObject(*letter)) for letter in letters(name))
        try:
            states = [delivery.state for delivery in sender.send(jobs)]
        except RuntimeError as error:
            refused.append(error)
        else:
            assert set(states) == {csmtplib.State.ACCEPTED}

    with Site("PIPELINING") as site:
        host, port = site.address
        with BulkSender(f"smtp://{host}:{port}", connections=2) as sender:
            in_threads(work, 4)
    there = told(site)
    assert len(there) == (4 - len(refused)) * len(letters("t0"))


def shake(*uses: Callable[[], object]) -> None:
    """Does each of these again and again, each in two threads at once."""
    end = time.monotonic() + SECONDS

    def work(name: str) -> None:
        do = uses[int(name[1:]) % len(uses)]
        while time.monotonic() < end:
            with contextlib.suppress(*REFUSALS):
                do()

    in_threads(work, 2 * len(uses))


def test_one_reply_buffer() -> None:
    buffer = kernel.ReplyBuffer(8192, 1 << 16)

    def feed() -> None:
        if len(buffer) < 1 << 16:
            buffer.feed(b"250-one\r\n250 two\r\n" * 20)

    shake(
        feed,
        buffer.reply,
        lambda: buffer.take(7),
        lambda: buffer.peek(7),
        buffer.readline,
        buffer.end_of_stream,
    )


def test_one_pipeline() -> None:
    replies = kernel.ReplyBuffer(8192, 1 << 16)
    pipeline = kernel.Pipeline(replies, PIPELINING, False, True, LAST_STEP[PIPELINING], 1 << 20)
    content = kernel.Content([b".text\n" * 100], True)
    commands = [b"MAIL FROM:<a@x>\r\n", *(b"RCPT TO:<%d@y>\r\n" % number for number in range(20))]
    completed: list[Any] = []

    def push() -> None:
        if len(pipeline) < 100:
            pipeline.push(object(), commands, content)

    def write() -> None:
        pipeline.wrote(len(pipeline.pull(1000)))

    def receive() -> None:
        replies.feed(b"250 ok\r\n" * 21 + b"354 go\r\n250 done\r\n")
        pipeline.receive()

    def look() -> None:
        assert pipeline.byte_count >= 0
        assert pipeline.booked >= 0
        assert isinstance(pipeline.failure, Exception | None)
        pipeline.want()
        pipeline.phase()

    shake(push, write, receive, look, lambda: completed.extend(pipeline.take()))
    pipeline.lose(OSError("over"))
    completed += pipeline.take()
    assert len(pipeline) == 0


def test_one_encoder() -> None:
    encoder = kernel.BodyEncoder()
    body = b"\n.text\r" * 20_000  # long enough to be encoded without the GIL
    longest = len(body) * 2

    def encode() -> None:
        assert len(body) <= len(encoder.encode(body)) <= longest

    shake(encode, encoder.finish)


def test_one_content() -> None:
    content = kernel.Content([b".text\n" * 1000], True)
    end = threading.Event()

    def work(_: str) -> None:
        for _number in range(200):
            replies = kernel.ReplyBuffer(8192, 1 << 16)
            pipeline = kernel.Pipeline(
                replies, PIPELINING, False, True, LAST_STEP[PIPELINING], 1 << 20
            )
            pipeline.push(end, [b"MAIL FROM:<a@x>\r\n", b"RCPT TO:<b@y>\r\n"], content)
            pipeline.wrote(len(pipeline.pull(1 << 20)))
            replies.feed(b"250 ok\r\n250 ok\r\n354 go\r\n")
            pipeline.receive()
            assert pipeline.pull(1 << 20) == b"..text\r\n" * 1000 + b".\r\n"

    in_threads(work)
