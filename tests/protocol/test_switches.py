"""protocol/switches.py: how far a server's extensions may be used."""

from __future__ import annotations

import itertools
from collections.abc import Container
from types import SimpleNamespace
from typing import Any

import pytest

from csmtplib.kernel.errors import ChunkingRefused, SessionClosed
from csmtplib.kernel.transaction import LAST_STEP, Gear, Step
from csmtplib.protocol import switches
from csmtplib.protocol.switches import Host, is_pix, no_extensions, policy

LOCKSTEP, PIPELINED, CHUNKED = Gear

EVERYTHING = {"pipelining": "", "chunking": ""}
PORT = 25


def gear_for(
    name: str, offered: Container[str] = EVERYTHING, *, port: object = PORT, chunking: bool = True
) -> Gear:
    return policy(name, port).best_gear(offered, chunking=chunking)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_no_extensions() -> None:
    assert no_extensions().best_gear(EVERYTHING, chunking=True) == LOCKSTEP


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


# What a process learns


def a_pipeline(
    failure: Exception | None = None, *, proof: Step = Step.SEQUENTIAL, limit: Step = Step.NEXT
) -> Any:
    return SimpleNamespace(failure=failure, proof=proof, limit=limit)


def known(gear: Gear, name: str = "mx.test", port: object = PORT) -> tuple[int, int]:
    host = policy(name, port).host
    return host.proof(gear), host.limit(gear)


def test_nothing_is_known_at_first() -> None:
    assert [known(gear) for gear in Gear] == [(Step.SEQUENTIAL, LAST_STEP[gear]) for gear in Gear]


@pytest.mark.parametrize("gear", [PIPELINED, CHUNKED])
def test_proof_serves_all_connections_to_the_server(gear: Gear) -> None:
    (other,) = {PIPELINED, CHUNKED} - {gear}
    host = policy("MX.test", PORT).host
    host.learn(gear, a_pipeline(proof=Step.FLIGHT, limit=LAST_STEP[gear]))
    assert known(gear) == (Step.FLIGHT, LAST_STEP[gear])
    # Less than is known already is no news.
    host.learn(gear, a_pipeline(limit=LAST_STEP[gear]))
    assert known(gear) == (Step.FLIGHT, LAST_STEP[gear])
    # What was proved of DATA is not proved of BDAT, and one server is not another.
    assert known(other) == (Step.SEQUENTIAL, LAST_STEP[other])
    assert known(gear, "mx.other") == known(gear, port=26) == (Step.SEQUENTIAL, LAST_STEP[gear])


def test_bad_news_outweigh_proof() -> None:
    host = policy("mx.test", PORT).host
    host.learn(PIPELINED, a_pipeline(proof=Step.NEXT, limit=Step.NEXT))
    host.learn(PIPELINED, a_pipeline(proof=Step.FLIGHT, limit=Step.FLIGHT))
    assert known(PIPELINED) == (Step.FLIGHT, Step.FLIGHT)
    # A connection that has not heard of it yet.
    host.learn(PIPELINED, a_pipeline(proof=Step.NEXT, limit=Step.NEXT))
    assert known(PIPELINED) == (Step.FLIGHT, Step.FLIGHT)


def test_the_version_tells_of_news() -> None:
    host = Host()
    news = [
        a_pipeline(proof=Step.FLIGHT),
        a_pipeline(proof=Step.FLIGHT),
        a_pipeline(proof=Step.NEXT),
        a_pipeline(proof=Step.FLIGHT, limit=Step.FLIGHT),
        a_pipeline(proof=Step.FLIGHT, limit=Step.FLIGHT),
    ]
    versions = [host.version]
    for each in news:
        host.learn(CHUNKED, each)
        versions.append(host.version)
    assert [before != after for before, after in itertools.pairwise(versions)] == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_chunking_that_was_offered_and_is_not_there() -> None:
    policy("MX.test", PORT).host.learn(CHUNKED, a_pipeline(ChunkingRefused("no BDAT", b"500 ?")))
    assert gear_for("mx.test") == gear_for("mx.TEST") == PIPELINED
    assert gear_for("mx.other") == CHUNKED


def test_transactions_that_may_not_stream() -> None:
    """BDAT without a stream gains nothing over DATA."""
    policy("mx.test", PORT).host.learn(CHUNKED, a_pipeline(limit=Step.FLIGHT))
    assert gear_for("mx.test") == PIPELINED
    assert known(PIPELINED) == (Step.SEQUENTIAL, Step.NEXT)


@pytest.mark.parametrize("gear", [PIPELINED, CHUNKED])
def test_commands_that_may_not_come_together(gear: Gear) -> None:
    policy("mx.test", PORT).host.learn(gear, a_pipeline(limit=Step.SEQUENTIAL))
    assert gear_for("mx.test") == LOCKSTEP
    assert gear_for("mx.other") == CHUNKED
    assert known(CHUNKED)[1] == known(PIPELINED)[1] == Step.SEQUENTIAL


def test_lockstep_says_nothing_about_extensions() -> None:
    policy("mx.test", PORT).host.learn(LOCKSTEP, a_pipeline(limit=Step.SEQUENTIAL))
    assert gear_for("mx.test") == CHUNKED


@pytest.mark.parametrize(
    "failure", [EOFError("closed"), SessionClosed("closed", 421, b"bye"), InterruptedError("^C")]
)
def test_what_says_nothing_about_an_extension(failure: Exception) -> None:
    policy("mx.test", PORT).host.learn(CHUNKED, a_pipeline(failure))
    assert gear_for("mx.test") == CHUNKED


def test_an_interrupt_in_the_midst_of_a_try_says_nothing() -> None:
    interrupted = a_pipeline(InterruptedError("^C"), limit=Step.FLIGHT)
    policy("mx.test", PORT).host.learn(CHUNKED, interrupted)
    assert gear_for("mx.test") == CHUNKED


def test_a_connection_without_a_name_shares_nothing() -> None:
    one = policy("", 0)
    one.host.learn(CHUNKED, a_pipeline(limit=Step.SEQUENTIAL))
    assert one.best_gear(EVERYTHING, chunking=True) == LOCKSTEP
    assert gear_for("", port=0) == CHUNKED


def test_the_number_of_servers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "_MOST_HOSTS", 3)
    hosts = [policy(f"mx{number}.test", PORT).host for number in range(3)]
    assert policy("mx0.test", PORT).host is hosts[0]
    policy("mx3.test", PORT)
    # The one that was used last longest ago is forgotten.
    assert [name for name, _ in switches._hosts] == ["mx2.test", "mx0.test", "mx3.test"]


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
