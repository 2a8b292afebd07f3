"""drive/replyfile.py: replies from a socket, and the same stream as a file."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csmtplib.drive import replyfile
from csmtplib.drive.replyfile import ReplyFile
from csmtplib.kernel.errors import ReplyTooLong
from csmtplib.protocol import limits


class Segments:
    """A socket that receives these segments one by one, then the end of the stream."""

    def __init__(self, *segments: bytes | Exception, timeout: float | None = None) -> None:
        self.segments = list(segments)
        self.timeout = timeout

    def recv(self, size: int) -> bytes:
        segment = self.segments.pop(0) if self.segments else b""
        if isinstance(segment, Exception):
            raise segment
        if len(segment) > size:
            self.segments.insert(0, segment[size:])
        return segment[:size]

    def gettimeout(self) -> float | None:
        return self.timeout


def reply_file(*segments: bytes | Exception) -> ReplyFile:
    return ReplyFile(Segments(*segments), 8192)


def test_replies_however_they_are_cut() -> None:
    data = b"250-a\r\n250 b\r\n354 go on\r\n"
    for size in range(1, len(data) + 1):
        file = reply_file(*[data[i : i + size] for i in range(0, len(data), size)])
        assert [file.read_reply(), file.read_reply()] == [(250, b"a\nb"), (354, b"go on")]
        with pytest.raises(EOFError):
            file.read_reply()


def test_last_line_may_lack_its_end() -> None:
    assert reply_file(b"221 b", b"ye").read_reply() == (221, b"bye")


def test_stream_that_ends_within_a_reply() -> None:
    with pytest.raises(EOFError):
        reply_file(b"250-a\r\n").read_reply()


def test_error_of_the_socket() -> None:
    file = reply_file(b"250 a", ConnectionResetError("reset"), b"b\r\n")
    with pytest.raises(ConnectionResetError):
        file.read_reply()
    assert file.peek() == b"250 a"


@pytest.mark.parametrize("segments", [[b"250 "] * 3000, [b"250-more\r\n"] * 10_000])
def test_limits(segments: list[bytes]) -> None:
    with pytest.raises(ReplyTooLong):
        reply_file(*segments).read_reply()


@pytest.mark.parametrize(
    ("timeout", "allowed"), [(None, 600), (10.0, 600), (3600.0, 3600)], ids=str
)
def test_reply_has_to_come_to_its_end(
    timeout: float | None, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte a second, by a clock that this test moves."""
    assert limits.TERMINATOR_SECONDS == 600
    now = 0.0

    class Dribble(Segments):
        def recv(self, size: int) -> bytes:
            nonlocal now
            now += 1
            return b"2"

    monkeypatch.setattr(replyfile.time, "monotonic", lambda: now)  # type: ignore[attr-defined]
    with pytest.raises(TimeoutError):
        ReplyFile(Dribble(timeout=timeout), 8192).read_reply()
    assert allowed <= now <= allowed + 3


def test_waiting_for_a_reply_to_begin_is_the_sockets_business(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    class Late(Segments):
        def recv(self, size: int) -> bytes:
            nonlocal now
            now += 10_000
            return b"250 at last\r\n"

    monkeypatch.setattr(replyfile.time, "monotonic", lambda: now)  # type: ignore[attr-defined]
    assert ReplyFile(Late(), 8192).read_reply() == (250, b"at last")


def test_peek_neither_waits_nor_takes() -> None:
    file = reply_file(b"250 a\r\n250 b\r\n", AssertionError("nobody should wait for this"))
    assert file.peek() == b""
    file.read_reply()
    assert file.peek() == file.peek() == b"250 b\r\n"
    assert file.peek(3) == b"250"
    assert file.read_reply() == (250, b"b")


CALLS: list[tuple[str, Callable[[Any], bytes]]] = [
    *[(f"readline({size})", lambda f, n=size: f.readline(n)) for size in (0, 1, 2, 5)],
    ("readline()", lambda file: file.readline()),
    ("readline(None)", lambda file: file.readline(None)),
    *[(f"read({size})", lambda f, n=size: f.read(n)) for size in (0, 1, 2, 5)],
]


@given(
    segments=st.lists(st.sampled_from([b"a", b"\n", b"ab\ncd", b"\r\n", b"\n\n"])),
    calls=st.lists(st.sampled_from(CALLS)),
)
def test_stream_as_a_file(
    segments: list[bytes], calls: list[tuple[str, Callable[[Any], bytes]]]
) -> None:
    """As any other file in binary mode, whatever the sizes of what is received."""
    ours, other = reply_file(*segments), io.BytesIO(b"".join(segments))
    for _, call in calls:
        assert call(ours) == call(other)
    assert ours.read() == other.read()


def test_iterating_and_reading_what_is_there() -> None:
    assert list(reply_file(b"a\nb", b"\nc")) == [b"a\n", b"b\n", b"c"]
    file = reply_file(b"abc", b"d")
    assert [file.read1(2), file.read1(0), file.read1(), file.read1()] == [b"ab", b"", b"c", b"d"]
    assert file.read1() == b""
    assert file.readable()
    buffer = bytearray(2)
    assert reply_file(b"xyz").readinto(buffer) == 2
    assert buffer == b"xy"
