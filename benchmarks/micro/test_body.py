"""A message of 100 kB on its way into DATA."""

from __future__ import annotations

import smtplib
from typing import Any

import pytest

from .conftest import IMPLEMENTATIONS

SIZE = 100_000
LINE = b"It was a bright cold day in April, and the clocks were striking thirteen; he ran"
BODIES = {
    "CRLF text": (LINE + b"\r\n") * (SIZE // (len(LINE) + 2)),
    "LF-only text": (LINE + b"\n") * (SIZE // (len(LINE) + 1)),
    "CRLF text, every tenth line with a dot": ((LINE + b"\r\n") * 9 + b"." + LINE[:-1] + b"\r\n")
    * (SIZE // (len(LINE) + 2) // 10),
}


def stdlib(text: str) -> bytes:
    fixed: str = smtplib._fix_eols(text)  # type: ignore[attr-defined]
    quoted: bytes = smtplib._quote_periods(fixed.encode("ascii"))  # type: ignore[attr-defined]
    return quoted


@pytest.mark.parametrize("kind", BODIES)
def test_drop_in(benchmark: Any, side: str, kind: str) -> None:
    """From a str, by the two functions that sendmail() and data() call."""
    benchmark.group = f"_fix_eols, then _quote_periods: {kind}"
    text = BODIES[kind].decode()
    if side == "stdlib":
        result = benchmark(stdlib, text)
    else:
        kernels = IMPLEMENTATIONS[side]
        result = benchmark(lambda: kernels.quote_periods(kernels.fix_eols(text).encode("ascii")))
    assert result == stdlib(text)


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("side", ["stdlib", *IMPLEMENTATIONS, "memcpy"])
def test_strict(benchmark: Any, side: str, kind: str) -> None:
    """From bytes to bytes in one pass; memcpy is the bound."""
    benchmark.group = f"stuffing in one pass: {kind}"
    body = BODIES[kind]
    if side == "memcpy":
        benchmark(bytearray, body)
        return
    if side == "stdlib":
        text = body.decode()
        result = benchmark(stdlib, text)
    else:
        encoder = IMPLEMENTATIONS[side].BodyEncoder
        result = benchmark(lambda: encoder().encode(body))
    assert result == stdlib(body.decode())
