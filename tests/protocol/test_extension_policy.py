"""protocol/extension_policy.py: how far a server's extensions may be used."""

from __future__ import annotations

import itertools
from collections.abc import Container
from types import SimpleNamespace
from typing import Any

import pytest

from csmtplib.kernel.errors import ChunkingRefused, SessionClosed
from csmtplib.kernel.transaction import LAST_STEP, Mode, Step
from csmtplib.protocol import extension_policy
from csmtplib.protocol.extension_policy import Host, is_pix, no_extensions, policy

SEQUENTIAL, PIPELINING, CHUNKING = Mode

EVERYTHING = {"pipelining": "", "chunking": ""}
PORT = 25


def mode_for(
    name: str, offered: Container[str] = EVERYTHING, *, port: object = PORT, chunking: bool = True
) -> Mode:
    return policy(name, port).best_mode(offered, chunking=chunking)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CSMTPLIB_NO_PIPELINING", raising=False)
    monkeypatch.delenv("CSMTPLIB_NO_CHUNKING", raising=False)


@pytest.mark.parametrize(
    ("offered", "without_chunking", "with_chunking"),
    [
        ([], SEQUENTIAL, SEQUENTIAL),
        # RFC 3030 goes without PIPELINING, and gains nothing then.
        (["chunking"], SEQUENTIAL, SEQUENTIAL),
        (["pipelining"], PIPELINING, PIPELINING),
        (["chunking", "pipelining", "size"], PIPELINING, CHUNKING),
    ],
)
def test_what_is_offered(offered: list[str], without_chunking: Mode, with_chunking: Mode) -> None:
    assert mode_for("mx.test", offered, chunking=False) == without_chunking
    assert mode_for("mx.test", offered, chunking=True) == with_chunking


def test_no_extensions() -> None:
    assert no_extensions().best_mode(EVERYTHING, chunking=True) == SEQUENTIAL


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
        assert mode_for(host) == (SEQUENTIAL if off else CHUNKING)
        monkeypatch.delenv("CSMTPLIB_NO_PIPELINING")
        monkeypatch.setenv("CSMTPLIB_NO_CHUNKING", value)
        assert mode_for(host) == (PIPELINING if off else CHUNKING)
        assert mode_for(host, chunking=False) == PIPELINING
        monkeypatch.delenv("CSMTPLIB_NO_CHUNKING")


# What a process learns


def a_pipeline(
    failure: Exception | None = None, *, proof: Step = Step.ALONE, limit: Step = Step.NEXT
) -> Any:
    return SimpleNamespace(failure=failure, proof=proof, limit=limit)


def known(mode: Mode, name: str = "mx.test", port: object = PORT) -> tuple[int, int]:
    host = policy(name, port).host
    return host.proof(mode), host.limit(mode)


def test_nothing_is_known_at_first() -> None:
    assert [known(mode) for mode in Mode] == [(Step.ALONE, LAST_STEP[mode]) for mode in Mode]


@pytest.mark.parametrize("mode", [PIPELINING, CHUNKING])
def test_proof_serves_all_connections_to_the_server(mode: Mode) -> None:
    (other,) = {PIPELINING, CHUNKING} - {mode}
    host = policy("MX.test", PORT).host
    host.learn(mode, a_pipeline(proof=Step.FLIGHT, limit=LAST_STEP[mode]))
    assert known(mode) == (Step.FLIGHT, LAST_STEP[mode])
    # Less than is known already is no news.
    host.learn(mode, a_pipeline(limit=LAST_STEP[mode]))
    assert known(mode) == (Step.FLIGHT, LAST_STEP[mode])
    # What was proved of DATA is not proved of BDAT, and one server is not another.
    assert known(other) == (Step.ALONE, LAST_STEP[other])
    assert known(mode, "mx.other") == known(mode, port=26) == (Step.ALONE, LAST_STEP[mode])


def test_bad_news_outweigh_proof() -> None:
    host = policy("mx.test", PORT).host
    host.learn(PIPELINING, a_pipeline(proof=Step.NEXT, limit=Step.NEXT))
    host.learn(PIPELINING, a_pipeline(proof=Step.FLIGHT, limit=Step.FLIGHT))
    assert known(PIPELINING) == (Step.FLIGHT, Step.FLIGHT)
    # A connection that has not heard of it yet.
    host.learn(PIPELINING, a_pipeline(proof=Step.NEXT, limit=Step.NEXT))
    assert known(PIPELINING) == (Step.FLIGHT, Step.FLIGHT)


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
        host.learn(CHUNKING, each)
        versions.append(host.version)
    assert [before != after for before, after in itertools.pairwise(versions)] == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_chunking_that_was_offered_and_is_not_there() -> None:
    policy("MX.test", PORT).host.learn(CHUNKING, a_pipeline(ChunkingRefused("no BDAT", b"500 ?")))
    assert mode_for("mx.test") == mode_for("mx.TEST") == PIPELINING
    assert mode_for("mx.other") == CHUNKING


def test_transactions_that_may_not_stream() -> None:
    """BDAT without a stream gains nothing over DATA."""
    policy("mx.test", PORT).host.learn(CHUNKING, a_pipeline(limit=Step.FLIGHT))
    assert mode_for("mx.test") == PIPELINING
    assert known(PIPELINING) == (Step.ALONE, Step.NEXT)


@pytest.mark.parametrize("mode", [PIPELINING, CHUNKING])
def test_commands_that_may_not_come_together(mode: Mode) -> None:
    policy("mx.test", PORT).host.learn(mode, a_pipeline(limit=Step.ALONE))
    assert mode_for("mx.test") == SEQUENTIAL
    assert mode_for("mx.other") == CHUNKING
    assert known(CHUNKING)[1] == known(PIPELINING)[1] == Step.ALONE


def test_sequential_says_nothing_about_extensions() -> None:
    policy("mx.test", PORT).host.learn(SEQUENTIAL, a_pipeline(limit=Step.ALONE))
    assert mode_for("mx.test") == CHUNKING


@pytest.mark.parametrize(
    "failure", [EOFError("closed"), SessionClosed("closed", 421, b"bye"), InterruptedError("^C")]
)
def test_what_says_nothing_about_an_extension(failure: Exception) -> None:
    policy("mx.test", PORT).host.learn(CHUNKING, a_pipeline(failure))
    assert mode_for("mx.test") == CHUNKING


def test_an_interrupt_in_the_midst_of_a_try_says_nothing() -> None:
    interrupted = a_pipeline(InterruptedError("^C"), limit=Step.FLIGHT)
    policy("mx.test", PORT).host.learn(CHUNKING, interrupted)
    assert mode_for("mx.test") == CHUNKING


def test_a_connection_without_a_name_shares_nothing() -> None:
    one = policy("", 0)
    one.host.learn(CHUNKING, a_pipeline(limit=Step.ALONE))
    assert one.best_mode(EVERYTHING, chunking=True) == SEQUENTIAL
    assert mode_for("", port=0) == CHUNKING


def test_the_number_of_servers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension_policy, "_MOST_HOSTS", 3)
    hosts = [policy(f"mx{number}.test", PORT).host for number in range(3)]
    assert policy("mx0.test", PORT).host is hosts[0]
    policy("mx3.test", PORT)
    # The one that was used last longest ago is forgotten.
    assert [name for name, _ in extension_policy._hosts] == ["mx2.test", "mx0.test", "mx3.test"]


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
