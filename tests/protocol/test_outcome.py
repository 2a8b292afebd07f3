"""protocol/outcome.py: what a reply means for a recipient."""

from __future__ import annotations

import pytest

from csmtplib.protocol.outcome import Outcome, Reply, State, answered


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (200, State.ACCEPTED),
        (250, State.ACCEPTED),
        (299, State.ACCEPTED),
        (300, State.DEFERRED),
        (354, State.DEFERRED),
        (421, State.DEFERRED),
        (499, State.DEFERRED),
        (500, State.REJECTED),
        (552, State.REJECTED),
        (599, State.REJECTED),
    ],
)
def test_state_by_code(code: int, state: State) -> None:
    reply = Reply(code, b"text")
    assert answered("a@b", reply) == Outcome("a@b", state, reply)


def test_552_to_rcpt_is_about_the_number_of_recipients() -> None:
    """RFC 5321 section 4.5.3.1.10: it stands for 452."""
    assert answered("a@b", Reply(552, b"too many"), to_rcpt=True).state is State.DEFERRED
    assert answered("a@b", Reply(550, b"who?"), to_rcpt=True).state is State.REJECTED


@pytest.mark.parametrize(
    ("code", "text", "enhanced"),
    [
        (250, b"2.1.5 recipient ok", "2.1.5"),
        (550, b"5.7.26  no DMARC", "5.7.26"),
        (452, b"4.5.3", "4.5.3"),
        (250, b"2.1.5\nmore", None),
        (250, b"ok 2.1.5", None),
        (250, b"5.1.1 contradicts its code", None),
        (250, b"2.1.5x", None),
        (354, b"3.0.0 no class of RFC 3463", None),
        (250, b"2.1.1234 too long", None),
        (250, b"", None),
    ],
)
def test_enhanced_code(code: int, text: bytes, enhanced: str | None) -> None:
    assert Reply(code, text).enhanced == enhanced


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"ok", "250 ok"),
        (b"", "250"),
        (b"one\ntwo", "250 one / two"),
        (b"\x1b[31m\xff\r\0", "250 \\x1b[31m\\xff\\x0d\\x00"),
    ],
)
def test_reply_as_text_is_safe_for_terminals(text: bytes, shown: str) -> None:
    assert str(Reply(250, text)) == shown


def test_outcome_as_text() -> None:
    assert str(answered("a@b", Reply(550, b"no"))) == "rejected a@b (550 no)"
    in_doubt = Outcome("a@b", State.IN_DOUBT, fault="the connection was lost")
    assert str(in_doubt) == "in doubt a@b (the connection was lost)"
