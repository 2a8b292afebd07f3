"""protocol/stream.py: a stream of messages, driven by hand."""

from __future__ import annotations

from typing import Any

import pytest

from csmtplib import kernel
from csmtplib.kernel.transaction import Mode, Phase
from csmtplib.protocol import extension_policy
from csmtplib.protocol.dialogue import Exchange
from csmtplib.protocol.features import Features
from csmtplib.protocol.outcome import State
from csmtplib.protocol.result import Result
from csmtplib.protocol.stream import Stream

from .playing import LOST, Turn, play
from .serving import Host, show_all

MESSAGE = ("a@x", "b@x", b"text")
BOTH = {"pipelining": "", "chunking": ""}
EHLO = b"EHLO client.test\r\n"


class Session:
    """A stream and the server that it talks to, without a network between."""

    def __init__(
        self,
        host: Host | None = None,
        *,
        proved: bool = True,
        max_in_flight: int = 10,
        chunking: bool = True,
        **extensions: Any,
    ) -> None:
        self.replies = kernel.ReplyBuffer(8192, 65536)
        self.host = host or Host()
        self.policy = extension_policy.policy("mx.test", 25)
        if proved:
            for mode in Mode:
                show_all(self.policy.host, mode)
        self.stream = Stream(
            self.replies,
            Features(BOTH | extensions),
            self.policy,
            lmtp=False,
            max_in_flight=max_in_flight,
            chunking=chunking,
        )

    def step(self) -> None:
        """One flight, and what comes back."""
        pipeline = self.stream.submission.pipeline
        data = pipeline.pull(1 << 20)
        pipeline.wrote(len(data))
        self.replies.feed(self.host.take(data))
        pipeline.receive()

    def add(self, count: int) -> None:
        for _ in range(count):
            assert self.stream.wants_message()
            self.stream.submission.add(MESSAGE)

    def results(self) -> list[Result]:
        return list(self.stream.submission.results())


@pytest.mark.parametrize("chunking", [False, True])
def test_the_mode(chunking: bool) -> None:
    mode = Session(chunking=chunking).stream.submission.mode
    assert mode == (Mode.CHUNKING if chunking else Mode.PIPELINING)


def test_messages_are_taken_while_there_is_room() -> None:
    session = Session(max_in_flight=3)
    session.add(3)
    assert not session.stream.wants_message()
    session.step()
    assert len(session.results()) == 3
    assert session.stream.wants_message()
    session.stream.has_more = False
    assert not session.stream.wants_message()


def test_half_a_window_stays_in_progress() -> None:
    session = Session(max_in_flight=10)
    assert session.stream.target() == 0
    session.add(1)
    # At least one is waited for.
    assert session.stream.target() == 0
    session.add(3)
    assert session.stream.target() == 3
    session.add(6)
    assert session.stream.target() == 5
    # At the end of the source, all are waited for.
    session.stream.has_more = False
    assert session.stream.target() == 0
    assert not session.stream.is_done
    session.step()
    assert len(session.results()) == 10
    assert session.stream.is_done


def test_when_to_send() -> None:
    session = Session()
    session.add(1)
    assert not session.stream.must_send(0.0, is_slow=False)
    assert session.stream.must_send(0.0, is_slow=True)
    # What waits long enough leaves, if there is anything that may.
    assert session.stream.must_send(1.0, is_slow=False)
    session.step()
    assert not session.stream.must_send(1.0, is_slow=False)


def test_a_server_that_has_shown_nothing_gets_each_message_at_once() -> None:
    session = Session(proved=False)
    session.add(1)
    assert session.stream.must_send(0.0, is_slow=False)


def test_a_limit_of_messages() -> None:
    session = Session(limits="MAILMAX=2")
    session.add(2)
    assert not session.stream.wants_message()
    assert session.stream.target() == 0
    assert not session.stream.is_over
    session.step()
    assert len(session.results()) == 2
    assert session.stream.is_over


def test_a_lost_connection_ends_the_stream() -> None:
    session = Session()
    session.add(2)
    session.stream.submission.pipeline.lose(ConnectionResetError("reset"))
    assert session.stream.target() == 0
    assert not session.stream.wants_message()
    assert len(session.results()) == 2
    assert session.stream.is_over


# Renewal


def silent_in_a_try() -> Session:
    """With a server that has answered the first of two messages, and not what was sent behind it to
    see whether it would."""
    session = Session(proved=False, chunking=False)
    session.add(2)
    pipeline = session.stream.submission.pipeline
    while pipeline.phase() != Phase.PROBE:
        data = pipeline.pull(1 << 20)
        pipeline.wrote(len(data))
        said = session.host.take(data)
        if data.endswith(b"RSET\r\n"):
            said = said[: said.index(b"\n") + 1]
        session.replies.feed(said)
        pipeline.receive()
    pipeline.lose(TimeoutError("the server sent no reply"))
    assert [each.accepted for each in session.results()] == [True]
    assert session.stream.submission.must_renew
    return session


def hello() -> bytes:
    return EHLO


def test_a_server_that_has_lost_a_command_goes_on() -> None:
    session = silent_in_a_try()
    play(session.stream.renewal(hello), (EHLO, "250 mx.test\nPIPELINING"))
    assert not session.stream.is_over
    while session.stream.submission.pipeline.want():
        session.step()
    (result,) = session.results()
    assert result.accepted
    assert len(session.host.deliveries) == 2


def test_a_server_that_is_late_goes_on() -> None:
    session = silent_in_a_try()
    play(
        session.stream.renewal(hello),
        (EHLO, "250 the answer to RSET"),
        (b"", "250 mx.test\nPIPELINING"),
    )
    assert session.stream.submission.pipeline.failure is None


@pytest.mark.parametrize(
    "turns",
    [
        [(EHLO, LOST)],
        [(EHLO, "250 ok"), (b"", LOST)],
        [(EHLO, "250 ok"), (b"", "250 what?")],
        [(EHLO, "500 what?"), (b"", "221 PIPELINING\nPIPELINING")],
    ],
)
def test_a_server_that_is_lost(turns: list[Turn]) -> None:
    """Where it is in the dialogue can't be known: the rest is sent on another connection."""
    session = silent_in_a_try()
    play(session.stream.renewal(hello), *turns)
    assert session.stream.submission.is_over
    (result,) = session.results()
    assert [each.state for each in result.outcomes] == [State.DEFERRED]
    assert session.stream.is_over


def test_replies_to_earlier_commands_are_no_surplus() -> None:
    step = next(silent_in_a_try().stream.renewal(hello))
    assert isinstance(step, Exchange)
    assert step.is_late
