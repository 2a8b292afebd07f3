"""protocol/dialogue.py: steps as operations, driven by hand."""

from __future__ import annotations

from typing import TypeAlias

import pytest

from csmtplib import kernel
from csmtplib.protocol.dialogue import (
    Close,
    Dialogue,
    Exchange,
    Flow,
    Operation,
    Receive,
    Send,
    StartTLS,
    Wrap,
)
from csmtplib.protocol.failures import ConnectionLost
from csmtplib.protocol.outcome import Reply
from csmtplib.protocol.server_url import TLS, Server

SERVER = Server("mx.test", tls=TLS.IMPLICIT)

NOOP = Exchange(b"NOOP\r\n", 7.0)
SENT = Send(b"NOOP\r\n", 180.0, "the answer of mx.test:25 to AUTH")
REPLY = Receive(7.0, "the answer of mx.test:25 to AUTH")
MORE = Receive(None, "the answer of mx.test:25 to AUTH")
PEEK = Receive(0)

# An operation that is expected, and what comes of it.
Turn: TypeAlias = "tuple[Operation, bytes | OSError | None]"


def flow(*steps: Exchange | StartTLS | Close) -> Flow[list[Reply]]:
    """Takes these steps; returns what they were sent."""
    replies = []
    for step in steps:
        replies.append((yield step))
    return replies


def perform(flow: Flow[list[Reply]], *turns: Turn, timeout: float | None = None) -> list[Reply]:
    """Return the result of a flow, whose operations have to be these."""
    operations = Dialogue(kernel.ReplyBuffer(100, 1000), timeout, SERVER).operations(flow)
    left = list(turns)
    try:
        operation = next(operations)
        while True:
            assert left, f"it goes on with {operation}"
            expected, answer = left.pop(0)
            assert operation == expected
            if isinstance(answer, OSError):
                operation = operations.throw(answer)
            else:
                operation = operations.send(answer)
    except StopIteration as done:
        result: list[Reply] = done.value
        return result
    finally:
        assert not left, f"it ended before {left}"


def test_a_command_and_its_reply() -> None:
    said = perform(flow(NOOP), (PEEK, None), (SENT, None), (REPLY, b"250 ok\r\n"))
    assert said == [(250, b"ok")]


def test_a_reply_in_pieces_has_one_deadline() -> None:
    said = perform(
        flow(NOOP),
        (PEEK, None),
        (SENT, None),
        (REPLY, b"250-o"),
        (MORE, b"k\r\n"),
        (MORE, b"250 ok\r\n"),
    )
    assert said == [(250, b"ok\nok")]


def test_a_greeting_has_no_command() -> None:
    receive = Receive(9.0, "the greeting of mx.test:25")
    assert perform(flow(Exchange(b"", 9.0)), (receive, b"220 hi\r\n")) == [(220, b"hi")]


def test_replies_that_come_together_are_surplus() -> None:
    with pytest.raises(ConnectionLost, match="answers no command: b'250 more"):
        perform(
            flow(NOOP, NOOP),
            (PEEK, None),
            (SENT, None),
            (REPLY, b"250 ok\r\n250 more\r\n"),
            (PEEK, None),
            (Close(), None),
        )


@pytest.mark.parametrize("surplus", [b"2", b"250 ok\r\n", b"421 bye\r\n"])
def test_whatever_comes_before_a_command_is_surplus(surplus: bytes) -> None:
    with pytest.raises(ConnectionLost, match="answers no command"):
        perform(flow(NOOP), (PEEK, surplus), (Close(), None))


def test_a_late_reply_may_be_there() -> None:
    late = Exchange(b"NOOP\r\n", 7.0, is_late=True)
    receive = Receive(7.0, "the greeting of mx.test:25")
    said = perform(
        flow(late, Exchange(b"", 7.0)),
        (SENT, None),
        (REPLY, b"250 late\r\n"),
        (receive, b"250 ok\n"),
    )
    assert said == [(250, b"late"), (250, b"ok")]


def test_timeout_of_the_caller() -> None:
    said = perform(
        flow(NOOP, StartTLS()),
        (PEEK, None),
        (Send(b"NOOP\r\n", 5.0, SENT.awaits), None),
        (Receive(5.0, SENT.awaits), b"250 ok\r\n"),
        (Wrap(5.0, "the TLS handshake with mx.test:25"), None),
        timeout=5.0,
    )
    assert [code for code, _ in said] == [250, 0]


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ([(PEEK, b"")], "the connection was lost: the server closed it"),
        ([(PEEK, ConnectionResetError("reset"))], "the connection was lost: reset"),
        ([(PEEK, None), (SENT, BrokenPipeError("pipe"))], "the connection was lost: pipe"),
        ([(PEEK, None), (SENT, None), (REPLY, None)], "sent no reply within 7 s"),
        ([(PEEK, None), (SENT, None), (REPLY, b"250-"), (MORE, None)], "no reply within 7 s"),
        ([(PEEK, None), (SENT, None), (REPLY, b"")], "the server closed it"),
        ([(PEEK, None), (SENT, None), (REPLY, OSError("no route"))], "was lost: no route"),
        ([(PEEK, None), (SENT, None), (REPLY, b"250x ok\r\n")], "reply can't be read"),
        ([(PEEK, None), (SENT, None), (REPLY, b"what?\r\n")], "no SMTP reply"),
        ([(PEEK, None), (SENT, None), (REPLY, b"150 wait\r\n")], "no SMTP reply"),
        ([(PEEK, None), (SENT, None), (REPLY, b"250 " + b"a" * 100)], "reply can't be read"),
    ],
)
def test_what_closes_the_connection(turns: list[Turn], fault: str) -> None:
    with pytest.raises(ConnectionLost, match=fault):
        perform(flow(NOOP), *turns, (Close(), None))


def test_a_flow_may_go_on_after_a_loss() -> None:
    def hardened() -> Flow[list[Reply]]:
        with pytest.raises(ConnectionLost):
            yield NOOP
        return [(yield Close())]

    assert perform(hardened(), (PEEK, b""), (Close(), None), (Close(), None)) == [(0, b"")]


def test_starttls() -> None:
    wrap = Wrap(300.0, "the TLS handshake with mx.test:25")
    said = perform(
        flow(NOOP, StartTLS(), NOOP),
        (PEEK, None),
        (SENT, None),
        (REPLY, b"220 go\r\n"),
        (wrap, None),
        (PEEK, None),
        (SENT, None),
        (REPLY, b"250 ok\r\n"),
    )
    assert [code for code, _ in said] == [220, 0, 250]


@pytest.mark.parametrize("injected", [b"2", b"250 injected\r\n"])
def test_text_injected_before_the_handshake(injected: bytes) -> None:
    with pytest.raises(ConnectionLost, match="in the clear: b'2"):
        perform(
            flow(NOOP, StartTLS()),
            (PEEK, None),
            (SENT, None),
            (REPLY, b"220 go\r\n" + injected),
            (Close(), None),
        )


def test_a_handshake_that_fails_is_no_affair_of_the_flow() -> None:
    failed = OSError("certificate verify failed")
    with pytest.raises(OSError, match="certificate verify failed") as caught:
        perform(flow(StartTLS()), (Wrap(300.0, "the TLS handshake with mx.test:25"), failed))
    assert caught.value is failed
