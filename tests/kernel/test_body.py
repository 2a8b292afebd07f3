"""Line ends and transparency: compiled = pure = stdlib."""

from __future__ import annotations

import itertools
import smtplib
import threading
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .conftest import TWINS, compares_twins

# The stdlib's functions are the specification.
fix_eols = smtplib._fix_eols  # type: ignore[attr-defined]
quote_periods = smtplib._quote_periods  # type: ignore[attr-defined]

SHORT = [bytes(data) for length in range(9) for data in itertools.product(b"\r\n.a", repeat=length)]
pieces = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b".", b"a", b"\r\n.\r\n", b"x" * 80, b"\xff", b"\0"]
)
bodies = st.lists(pieces, max_size=200).map(b"".join) | st.binary(max_size=500)


def on_the_wire(body: bytes) -> bytes:
    """Encode a body with the functions of the stdlib."""
    data: bytes = quote_periods(fix_eols(body.decode("latin-1")).encode("latin-1"))
    return data + (b".\r\n" if not data or data.endswith(b"\r\n") else b"\r\n.\r\n")


def encode(kernels: ModuleType, *chunks: bytes) -> bytes:
    encoder = kernels.BodyEncoder()
    return b"".join([*map(encoder.encode, chunks), encoder.finish()])


def test_short_bodies_whole(kernels: ModuleType) -> None:
    for body in SHORT:
        assert kernels.fix_eols(body.decode()) == fix_eols(body.decode())
        assert kernels.quote_periods(body) == quote_periods(body)


def test_short_bodies_split_everywhere(kernels: ModuleType) -> None:
    for body in SHORT:
        expected = on_the_wire(body)
        for split in range(len(body) + 1):
            assert encode(kernels, body[:split], body[split:]) == expected, (body, split)


@given(body=bodies)
def test_fix_eols(kernels: ModuleType, body: bytes) -> None:
    text = body.decode("latin-1")
    assert kernels.fix_eols(text) == fix_eols(text)


@given(text=st.text(alphabet=st.sampled_from("\r\n.aä€\U0001f600"), max_size=50))
def test_fix_eols_of_any_text(kernels: ModuleType, text: str) -> None:
    fixed = kernels.fix_eols(text)
    assert fixed == fix_eols(text)
    assert fixed.encode() == fix_eols(text).encode()


@given(body=bodies)
def test_quote_periods(kernels: ModuleType, body: bytes) -> None:
    assert kernels.quote_periods(body) == quote_periods(body)


@given(body=bodies, cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_encoder_in_chunks(kernels: ModuleType, body: bytes, cuts: list[int]) -> None:
    borders = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    chunks = [body[start:stop] for start, stop in itertools.pairwise(borders)]
    assert encode(kernels, *chunks) == on_the_wire(body)


def test_an_encoder_can_be_used_again(kernels: ModuleType) -> None:
    encoder = kernels.BodyEncoder()
    for body in (b"a", b".\r", b".", b"", b".a\r\n", b"."):
        assert encoder.encode(body) + encoder.finish() == on_the_wire(body)


@compares_twins
@given(body=bodies, cut=st.integers(0, 10_000))
def test_both_implementations_encode_chunks_alike(body: bytes, cut: int) -> None:
    border = cut % (len(body) + 1)
    encoded = []
    for twin in TWINS:
        encoder = twin.kernels.BodyEncoder()
        encoded.append((encoder.encode(body[:border]), encoder.encode(body[border:])))
    assert encoded[0] == encoded[-1]


@given(body=bodies)
def test_scan(kernels: ModuleType, body: bytes) -> None:
    lines = body.replace(b"\r", b"\n").split(b"\n")
    assert kernels.scan(body) == (max(map(len, lines)), b"\0" in body, max(body, default=0) > 127)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_type_of_buffer(kernels: ModuleType, kind: type) -> None:
    body = b".a\r\n..b\n.\r"
    assert kernels.quote_periods(kind(body)) == quote_periods(body)
    assert encode(kernels, kind(body)) == on_the_wire(body)
    assert kernels.scan(kind(body)) == kernels.scan(body)


@pytest.mark.parametrize("wrong", ["text", 5, None])
def test_other_types_than_buffers_are_refused(kernels: ModuleType, wrong: object) -> None:
    for function in (kernels.quote_periods, kernels.scan, kernels.BodyEncoder().encode):
        with pytest.raises(TypeError):
            function(wrong)


def test_str_is_refused(kernels: ModuleType) -> None:
    with pytest.raises((TypeError, AttributeError)):
        kernels.fix_eols(5)


def test_large_bodies_while_other_threads_run(kernels: ModuleType) -> None:
    # Large enough for the compiled kernels to release the GIL.
    body = b"." + b"line\r\n.dot\nend\r" * 20_000
    expected = on_the_wire(body)
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(encode(kernels, body))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
    assert kernels.fix_eols(body.decode()) == fix_eols(body.decode())
    assert kernels.quote_periods(body) == quote_periods(body)
    assert kernels.scan(body) == (5, False, False)
