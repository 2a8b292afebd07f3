"""The receive buffer and its replies: compiled = pure = stdlib, unless a code is malformed."""

from __future__ import annotations

import io
import itertools
import re
import smtplib
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from csmtplib.kernel.errors import ReplyError, ReplyMalformed, ReplyTooLong

from .conftest import TWINS, compares_twins

# RFC 5321 section 4.2, and the bare LF that the stdlib accepts.
LINE = re.compile(rb"(\d{3})(?:([ -])[^\n]*|\r?)\n")

# Pieces of lines that have no code, so that longer ones show no more, and pieces of replies.
SHORT = [
    bytes(data)
    for alphabet, longest in ((b"\r\n.a", 6), (b"\r\n2- ", 7))
    for length in range(longest + 1)
    for data in itertools.product(alphabet, repeat=length)
]

line_heads = st.sampled_from(
    [b"250", b"250 ", b"250-", b"550 ", b"550-", b"25", b"+25 ", b"2_5-", b" 25 ", b"2500 ", b"-"]
) | st.binary(max_size=5)
line_ends = st.sampled_from([b"\r\n", b"\n", b"\r", b"", b" \t\r\n"])
lines = st.tuples(line_heads, st.binary(max_size=20), line_ends).map(b"".join)
streams = st.lists(lines, max_size=8).map(b"".join)


def stdlib_reply(stream: bytes) -> tuple[int, bytes] | str:
    """Return what the stdlib's getreply() makes of a stream that ends after these bytes."""
    client = smtplib.SMTP(local_hostname="client.example")
    client.file = io.BytesIO(stream)
    try:
        return client.getreply()
    except smtplib.SMTPServerDisconnected:
        return "disconnected"
    except smtplib.SMTPResponseException:
        return "too long"


def reply(kernels: ModuleType, *chunks: bytes) -> tuple[int, bytes] | str:
    """Return the same from a ReplyBuffer."""
    buffer = kernels.ReplyBuffer(8192, 65536)
    found: tuple[int, bytes] | None = None
    try:
        for chunk in chunks:
            buffer.feed(chunk)
            found = buffer.reply()
            if found is not None:
                return found
        buffer.end_of_stream()
        found = buffer.reply()
    except ReplyTooLong:
        return "too long"
    except ReplyMalformed:
        return "malformed"
    return "disconnected" if found is None else found


def is_malformed(stream: bytes) -> bool:
    """Return whether the stdlib reads a code from the stream's first reply that is not there."""
    code = None
    if not stream.endswith(b"\n"):
        stream += b"\n"
    for line in [line + b"\n" for line in stream.split(b"\n")[:-1]]:
        found = LINE.fullmatch(line)
        if found is None:
            try:
                int(line[:3])
            except ValueError:
                return False
            return True
        if code is not None and found[1] != code:
            return True
        code = found[1]
        if found[2] != b"-":
            return False
    return False


def test_short_streams_split_everywhere(kernels: ModuleType) -> None:
    for stream in SHORT:
        expected = "malformed" if is_malformed(stream) else stdlib_reply(stream)
        for split in range(len(stream) + 1):
            assert reply(kernels, stream[:split], stream[split:]) == expected, (stream, split)


@given(stream=streams)
def test_any_stream(kernels: ModuleType, stream: bytes) -> None:
    expected = "malformed" if is_malformed(stream) else stdlib_reply(stream)
    assert reply(kernels, stream) == expected
    assert reply(kernels, *(stream[i : i + 1] for i in range(len(stream)))) == expected


@pytest.mark.parametrize(
    "stream",
    [
        b"2500 x\r\n",
        b"+25 x\r\n",
        b"2_5 x\r\n",
        b" 25 x\r\n",
        b"25 x\r\n",
        b"250xhi\r\n",
        b"25\r\n",
    ],
)
def test_malformed_codes(kernels: ModuleType, stream: bytes) -> None:
    assert reply(kernels, stream) == "malformed"
    assert reply(kernels, b"250-first\r\n" + stream) == "malformed"


def test_mixed_codes(kernels: ModuleType) -> None:
    assert reply(kernels, b"250-a\r\n550 b\r\n") == "malformed"


def test_joining(kernels: ModuleType) -> None:
    stream = b"250-\t one \r\n250-\r\n250-two\0\xff\n250\r\n"
    assert reply(kernels, stream) == (250, b"one\n\ntwo\0\xff\n")


def test_unreadable_code_is_minus_one(kernels: ModuleType) -> None:
    assert reply(kernels, b"HTTP/1.1 400 Bad Request\r\n") == (-1, b"/1.1 400 Bad Request")
    assert reply(kernels, b"250-a\r\nwhat is this\r\n") == (-1, b"a\nis this")


def test_line_cap(kernels: ModuleType) -> None:
    longest = b"250 " + b"x" * (8192 - 6) + b"\r\n"
    assert reply(kernels, longest) == stdlib_reply(longest) == (250, longest[4:-2])
    too_long = b"250 " + b"x" * (8193 - 6) + b"\r\n"
    assert reply(kernels, too_long) == stdlib_reply(too_long) == "too long"
    assert reply(kernels, b"x" * 8193) == "too long"


def test_reply_cap(kernels: ModuleType) -> None:
    line = b"250-" + b"x" * 58 + b"\r\n"  # 64 bytes
    fits = line * 1023 + line.replace(b"-", b" ")
    assert len(fits) == 65536
    assert reply(kernels, fits) == (250, b"\n".join([b"x" * 58] * 1024))
    assert reply(kernels, line * 1024 + b"250 \r\n") == "too long"


def test_two_replies_and_what_follows(kernels: ModuleType) -> None:
    buffer = kernels.ReplyBuffer(8192, 65536)
    buffer.feed(b"250 one\r\n354-two\r\n354 three\r\nrest")
    assert buffer.reply() == (250, b"one")
    assert buffer.reply() == (354, b"two\nthree")
    assert buffer.reply() is None
    assert buffer.peek(2) == b"re"
    assert len(buffer) == 4
    assert buffer.take(100) == b"rest"
    assert len(buffer) == 0


def test_replies_larger_than_what_is_received_at_once(kernels: ModuleType) -> None:
    buffer = kernels.ReplyBuffer(8192, 65536)
    for number in range(1000):
        buffer.feed(b"220 before\r\n" if number % 2 else b"250-x\r\n" * 20 + b"250 y\r\n")
    for number in range(1000):
        whole = (250, b"\n".join([b"x"] * 20 + [b"y"]))
        assert buffer.reply() == ((220, b"before") if number % 2 else whole)
    assert buffer.reply() is None


class BothBuffers(RuleBasedStateMachine):
    """Both buffers stay equal whatever is done to them."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers = [twin.kernels.ReplyBuffer(100, 400) for twin in TWINS]

    def same(self, method: str, *arguments: int) -> None:
        results: list[object] = []
        for buffer in self.buffers:
            try:
                results.append(getattr(buffer, method)(*arguments))
            except ReplyError as error:
                results.append((type(error), error.reason, error.data))
        assert results[0] == results[-1]
        assert len(self.buffers[0]) == len(self.buffers[-1])

    @rule(data=streams)
    def feed(self, data: bytes) -> None:
        for buffer in self.buffers:
            buffer.feed(data)

    @rule()
    def reply(self) -> None:
        self.same("reply")

    @rule(limit=st.integers(-1, 60))
    def readline(self, limit: int) -> None:
        self.same("readline", limit)

    @rule(count=st.integers(-1, 60))
    def take(self, count: int) -> None:
        self.same("take", count)

    @rule(count=st.integers(-1, 60))
    def peek(self, count: int) -> None:
        self.same("peek", count)

    @rule()
    def end_of_stream(self) -> None:
        self.same("end_of_stream")


TestBothBuffers = compares_twins(BothBuffers.TestCase)
