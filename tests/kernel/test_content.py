"""The bytes of a message, as a pipeline sends them: compiled = pure = BodyEncoder = stdlib."""

from __future__ import annotations

import itertools
import smtplib
import sys
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csmtplib.kernel import _python_pipeline
from csmtplib.kernel.transaction import Mode

from ..requirements import needs_reference_counts
from .talking import Core, Talk
from .test_body import bodies, fix_eols, on_the_wire

SHORT = [bytes(data) for length in range(7) for data in itertools.product(b"\r\n.a", repeat=length)]


def chunkings(text: bytes) -> Iterator[list[bytes]]:
    """Return every way to cut a text."""
    inner = range(1, len(text))
    for count in range(len(text) or 1):
        for cuts in itertools.combinations(inner, count):
            yield [text[start:stop] for start, stop in itertools.pairwise((0, *cuts, len(text)))]


def whole_lines(text: bytes) -> bytes:
    """Return a text with CR LF at the end of each line, including the last one."""
    data: bytes = fix_eols(text.decode("latin-1")).encode("latin-1")
    return data if not data or data.endswith(b"\r\n") else data + b"\r\n"


def encoded(core: Core, text: bytes, dots: bool) -> bytes:
    encoder = core.kernels.BodyEncoder(dots)
    data: bytes = encoder.encode(text) + encoder.finish()
    return data


def facts(content: Any) -> tuple[int, int, int, bool, bool]:
    """Return everything that is known of a content except its bytes."""
    return (
        content.byte_count,
        content.size,
        content.longest_line,
        content.has_nul,
        content.has_8bit,
    )


def expected_facts(core: Core, text: bytes, dots: bool) -> tuple[int, int, int, bool, bool]:
    byte_count = len(on_the_wire(text) if dots else whole_lines(text))
    return byte_count, len(whole_lines(text)), *core.kernels.scan(text)


def sent(core: Core, *contents: Any) -> list[bytes]:
    """Return what a pipeline sends of contents, in the mode that streams: there it sends content
    unasked, announces the size, and leaves dots to the caller."""
    talk = Talk(core, Mode.CHUNKING, proved=True)
    for content in contents:
        talk.pipeline.push(None, [b"M", b"R"], content)
    stream, found = talk.sent(), []
    for number, content in enumerate(contents):
        command = b"MRBDAT %d LAST\r\n" % content.byte_count
        head = b"RSET\r\n" + command if number else command
        assert stream.startswith(head)
        found.append(stream[len(head) : len(head) + content.byte_count])
        stream = stream[len(head) + content.byte_count :]
    assert not stream
    return found


@pytest.mark.parametrize("dots", [True, False])
def test_short_texts_in_every_chunking(core: Core, dots: bool) -> None:
    for text in SHORT:
        wire = on_the_wire(text) if dots else whole_lines(text)
        assert encoded(core, text, dots) == wire
        contents = [core.pipelines.Content(chunks, dots) for chunks in chunkings(text)]
        wanted = expected_facts(core, text, dots)
        assert {facts(content) for content in contents} == {wanted}, text
        assert set(sent(core, *contents)) == {wire}, text


@pytest.mark.parametrize(
    ("text", "byte_count", "size", "terminator"),
    [
        # RFC 1870 section 5 counts neither the dots that are added nor the terminator.
        (b"", 3, 0, 0),
        (b".", 7, 3, 2),
        (b"a", 6, 3, 1),
        (b"a\r", 6, 3, 2),
        (b"a\n", 6, 3, 3),
        (b"a\r\n", 6, 3, 3),
        (b"a\n\n.b", 13, 9, 8),
    ],
)
def test_size_with_dots(
    core: Core, text: bytes, byte_count: int, size: int, terminator: int
) -> None:
    content = core.pipelines.Content([text], True)
    assert (content.byte_count, content.size, content.terminator) == (byte_count, size, terminator)
    # Everything from there on ends the message, and nothing before.
    wire = on_the_wire(text)
    assert wire[terminator:] in (b".\r\n", b"\n.\r\n", b"\r\n.\r\n")


@pytest.mark.parametrize("text", [b"", b".", b"a", b"a\r", b"a\n", b"a\r\n", b"\0" * 50])
def test_size_without_dots(core: Core, text: bytes) -> None:
    content = core.pipelines.Content([text], False)
    assert content.byte_count == content.size == len(whole_lines(text))
    # Its size is announced, so it is complete with its last byte; an empty one before its first.
    assert content.terminator == content.byte_count - 1


@pytest.mark.parametrize("dots", [True, False])
@pytest.mark.parametrize("nothing", [[], [b""], [b"", bytearray(), memoryview(b"")]])
def test_an_empty_text(core: Core, nothing: list[bytes], dots: bool) -> None:
    content = core.pipelines.Content(nothing, dots)
    assert facts(content) == (3 if dots else 0, 0, 0, False, False)
    assert sent(core, content) == [b".\r\n" if dots else b""]


@pytest.mark.parametrize("end", [b".\r\n", b"\r\n.\r\n"])
def test_bytes_that_are_sent_as_they_are(core: Core, end: bytes) -> None:
    chunks = [b"\n.a\r", b"", b"\n\0\xff", b"."]
    content = core.pipelines.Content(chunks, True, end)
    text = b"".join(chunks)
    assert sent(core, content) == [text + end]
    assert content.byte_count == len(text) + len(end)
    assert content.terminator == len(text)
    # Not determined.
    assert facts(content)[1:] == (0, 0, False, False)


def test_a_chunk_that_is_sent_as_it_is(core: Core) -> None:
    content = core.pipelines.Content([b".a\r", b"b"], False, b"")
    assert sent(core, content) == [b".a\rb"]
    assert (content.byte_count, content.terminator) == (4, 3)


@pytest.mark.parametrize("dots", [True, False])
@settings(max_examples=150)
@given(text=bodies, cuts=st.lists(st.integers(0, 10_000), max_size=8), repeat=st.integers(1, 40))
def test_texts_in_chunks(core: Core, dots: bool, text: bytes, cuts: list[int], repeat: int) -> None:
    text *= repeat
    borders = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    chunks = [text[start:stop] for start, stop in itertools.pairwise(borders)]
    content = core.pipelines.Content(chunks, dots)
    assert facts(content) == expected_facts(core, text, dots)
    assert sent(core, content) == [on_the_wire(text) if dots else whole_lines(text)]


def test_the_stdlib_sends_the_same(core: Core) -> None:
    class Recorder(smtplib.SMTP):
        sent = b""

        def send(self, s: object) -> None:
            self.sent += s if isinstance(s, bytes) else str(s).encode()

        def getreply(self) -> tuple[int, bytes]:
            return 354, b""

    for text in SHORT[1:400]:
        stdlib = Recorder(local_hostname="client.example")
        stdlib.data(text.decode())
        content = core.pipelines.Content([text], True)
        assert stdlib.sent == b"data\r\n" + sent(core, content)[0]


@pytest.mark.parametrize("raw", [True, False])
def test_a_buffer_that_its_owner_changes_later(core: Core, raw: bool) -> None:
    text = bytearray(b"line\r\n" * 100)
    wanted = bytes(text) + b".\r\n"
    buffers = [text, memoryview(text)]
    end = (b".\r\n",) if raw else ()
    contents = [core.pipelines.Content([buffer], True, *end) for buffer in buffers]
    text[:] = b"\n" * len(text)
    assert sent(core, *contents) == [wanted, wanted]
    buffers.clear()
    text.clear()  # nor is it held
    assert sent(core, *contents) == [wanted, wanted]


def test_buffers_of_any_shape(core: Core) -> None:
    buffers = [memoryview(b"a.b.c.")[::2], memoryview(array("H", [0x6161, 0x6161]))]
    content = core.pipelines.Content(iter(buffers), False)
    assert sent(core, content) == [b"abcaaaa\r\n"]


@needs_reference_counts
@pytest.mark.parametrize("dots", [True, False])
@pytest.mark.parametrize("end", [None, b".\r\n"])
def test_what_needs_no_change_is_not_copied(core: Core, dots: bool, end: bytes | None) -> None:
    if core.pipelines is _python_pipeline and end is None:
        pytest.skip("the pure implementation has to copy the text to find out")
    text = b"line\r\n" * 1000
    before = sys.getrefcount(text)
    content = core.pipelines.Content([text, text], dots, end)
    assert sys.getrefcount(text) == before + 2
    del content
    assert sys.getrefcount(text) == before


@pytest.mark.parametrize("wrong", ["text", 5, None])
@pytest.mark.parametrize("end", [None, b""])
def test_other_types_than_buffers_are_refused(core: Core, wrong: object, end: bytes | None) -> None:
    with pytest.raises(TypeError):
        core.pipelines.Content([b"a", wrong], True, end)
    with pytest.raises(TypeError):
        core.pipelines.Content(5, True, end)
