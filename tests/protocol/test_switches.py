"""protocol/switches.py: what is left alone although a server offers it."""

from __future__ import annotations

from collections.abc import Container
from types import SimpleNamespace
from typing import Any

import pytest

from csmtplib.kernel.errors import ChunkingRefused, SessionClosed
from csmtplib.kernel.transaction import Gear, Phase
from csmtplib.protocol import switches
from csmtplib.protocol.switches import best_gear, is_pix, learn, usable

LOCKSTEP, PIPELINED, CHUNKED = Gear

EVERYTHING = {"pipelining": "", "chunking": ""}


def gear_for(host: str, offered: Container[str] = EVERYTHING, *, chunking: bool = True) -> Gear:
    return best_gear(offered, usable(host), chunking=chunking)


@pytest.fixture(autouse=True)
def nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "_failed", set())
    monkeypatch.delenv("CSMTPLIB_NO_PIPELINING", raising=False)
    monkeypatch.delenv("CSMTPLIB_NO_CHUNKING", raising=False)


@pytest.mark.parametrize(
    ("offered", "without_chunking", "with_chunking"),
    [
        ([], LOCKSTEP, LOCKSTEP),
        # RFC 3030 goes without PIPELINING, and gains nothing then.
        (["chunking"], LOCKSTEP, LOCKSTEP),
        (["pipelining"], PIPELINED, PIPELINED),
        (["chunking", "pipelining", "size"], PIPELINED, CHUNKED),
    ],
)
def test_what_is_offered(offered: list[str], without_chunking: Gear, with_chunking: Gear) -> None:
    assert gear_for("mx.test", offered, chunking=False) == without_chunking
    assert gear_for("mx.test", offered, chunking=True) == with_chunking


HERE, ELSEWHERE = "mx.test", "mx.other"


@pytest.mark.parametrize(
    ("value", "is_off", "is_off_elsewhere"),
    [
        ("", False, False),
        ("*", True, True),
        ("mx.test", True, False),
        ("MX.Test", True, False),
        ("mx.other, mx.test", True, True),
        ("mx.a,mx.test,mx.b", True, False),
        (" , mx.test ,", True, False),
        ("mx.a *", True, True),
        # Names, not patterns, and not parts of names.
        ("*.test", False, False),
        ("test", False, False),
        ("amx.test", False, False),
    ],
)
def test_environment(
    value: str, is_off: bool, is_off_elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host, off in ((HERE, is_off), (HERE.upper(), is_off), (ELSEWHERE, is_off_elsewhere)):
        monkeypatch.setenv("CSMTPLIB_NO_PIPELINING", value)
        assert gear_for(host) == (LOCKSTEP if off else CHUNKED)
        monkeypatch.delenv("CSMTPLIB_NO_PIPELINING")
        monkeypatch.setenv("CSMTPLIB_NO_CHUNKING", value)
        assert gear_for(host) == (PIPELINED if off else CHUNKED)
        assert gear_for(host, chunking=False) == PIPELINED
        monkeypatch.delenv("CSMTPLIB_NO_CHUNKING")


def a_pipeline(
    failure: Exception | None,
    *,
    proved: bool = False,
    booked: int = 1,
    phase: Phase = Phase.COMMAND,
) -> Any:
    return SimpleNamespace(failure=failure, proved=proved, booked=booked, phase=lambda: phase)


def test_chunking_that_was_offered_and_is_not_there() -> None:
    learn("MX.test", CHUNKED, a_pipeline(ChunkingRefused("no BDAT", b"500 what?")))
    assert gear_for("mx.test") == PIPELINED
    assert gear_for("mx.TEST") == PIPELINED
    assert gear_for("mx.other") == CHUNKED


@pytest.mark.parametrize("gear", [PIPELINED, CHUNKED])
def test_server_that_loses_commands(gear: Gear) -> None:
    """It has answered the first and not the others."""
    learn("mx.test", gear, a_pipeline(TimeoutError("no reply")))
    assert gear_for("mx.test") == LOCKSTEP
    assert gear_for("mx.other") == CHUNKED


@pytest.mark.parametrize(
    ("gear", "pipeline"),
    [
        (PIPELINED, a_pipeline(None)),
        # It is but slow, or the network is.
        (LOCKSTEP, a_pipeline(TimeoutError("no reply"))),
        (PIPELINED, a_pipeline(TimeoutError("no reply"), proved=True)),
        (PIPELINED, a_pipeline(TimeoutError("no reply"), booked=0)),
        (PIPELINED, a_pipeline(TimeoutError("no reply"), phase=Phase.CONTENT)),
        (PIPELINED, a_pipeline(TimeoutError("no reply"), phase=Phase.BLOCK)),
        (PIPELINED, a_pipeline(EOFError("closed"))),
        (PIPELINED, a_pipeline(ConnectionResetError("reset"))),
        (CHUNKED, a_pipeline(SessionClosed("closed", 421, b"bye"))),
    ],
)
def test_what_says_nothing_about_an_extension(gear: Gear, pipeline: Any) -> None:
    learn("mx.test", gear, pipeline)
    assert gear_for("mx.test") == CHUNKED


@pytest.mark.parametrize(
    "greeting", [b"****************2******0***0***", b"**********", b"2 * 0 *", b"\t*200*"]
)
def test_greeting_through_a_firewall(greeting: bytes) -> None:
    assert is_pix(greeting)


@pytest.mark.parametrize(
    "greeting", [b"", b"mx.test ESMTP", b"***mx.test***", b"2 0", b"220", b"200 200"]
)
def test_other_greetings(greeting: bytes) -> None:
    assert not is_pix(greeting)
