"""Both pipelines stay equal whatever is done to them, and neither ever waits for itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from csmtplib.kernel.transaction import Mode, Phase, Stage, Step, Want

from .conftest import TWINS, compares_twins
from .talking import Core, Talk, envelope

texts = st.sampled_from(
    [b"", b"ok", b"no", b"a longer text, " * 20, b"\0\xff", b" \t padded \t", b"2.1.5 ok"]
)
codes = st.sampled_from(
    [b"250"] * 8
    + [b"354"] * 4
    + [b"550", b"450", b"451", b"452", b"552", b"554", b"251", b"503", b"500", b"504"]
    + [b"503 5.5.1", b"501 5.1.3", b"554 5.5.3", b"554 5.5.30", b"502 5.0.0", b"503 4.5.1"]
    + [b"421", b"220", b"252", b"200", b"299", b"300", b"399", b"400", b"599", b"600", b"999"]
    + [b"000", b"100", b"199", b"+25", b"2500", b"25", b"", b"abc", b"HTTP/1.1 400"]
)
line_ends = st.sampled_from([b"\r\n"] * 6 + [b"\n", b"", b"\r"])
replies = st.tuples(codes, st.sampled_from([b" "] * 8 + [b"-", b""]), texts, line_ends).map(
    b"".join
)
said = st.lists(replies, max_size=4).map(b"".join) | st.binary(max_size=10)
contents = st.lists(
    st.sampled_from([b"", b".", b"a\r\n", b"a\n", b"a\r", b"\n.\n", b"x" * 300, b"\xff\0"]),
    max_size=4,
)

# The replies of a server that accepts everything.
WELCOME = {Phase.COMMAND: b"250 ok", Phase.DATA: b"354 go", Phase.CONTENT: b"250 queued"}


class BothPipelines(RuleBasedStateMachine):
    talks: list[Talk]
    pushed = 0
    has_failed = False

    @initialize(
        mode=st.sampled_from(Mode),
        lmtp=st.booleans(),
        strict=st.sampled_from([True, True, False]),
        proved=st.booleans(),
        large=st.sampled_from([0, 5, 10_000]),
    )
    def connect(self, mode: Mode, lmtp: bool, strict: bool, proved: bool, large: int) -> None:
        self.talks = [
            Talk(core, mode, lmtp=lmtp, strict=strict, proved=proved, large=large) for core in TWINS
        ]

    def same(self, ask: Callable[[Talk], Any]) -> Any:
        answers = [ask(talk) for talk in self.talks]
        assert answers[0] == answers[-1]
        return answers[0]

    @rule(recipients=st.integers(1, 4), chunks=contents)
    def push(self, recipients: int, chunks: list[bytes]) -> None:
        self.pushed += 1
        commands = envelope(f"s{self.pushed}", [f"r{index}" for index in range(recipients)])
        for talk in self.talks:
            talk.pipeline.push(self.pushed, commands, talk.content(*chunks))

    @rule(limit=st.integers(0, 40))
    def write_some(self, limit: int) -> None:
        self.same(lambda talk: talk.sent(limit))

    @rule()
    def write_all(self) -> None:
        self.same(lambda talk: talk.sent())

    @precondition(lambda self: self.pushed > 1)
    @rule(limit=st.integers(0, 40), often=st.integers(0, 3))
    def interrupt(self, limit: int, often: int) -> None:
        """T1: nobody reports how many of the pulled bytes were sent."""
        if often == 0:
            self.same(lambda talk: talk.pipeline.pull(limit))
            error = InterruptedError("interrupted")
            for talk in self.talks:
                talk.pipeline.lose(error)

    @rule(data=said, cuts=st.lists(st.integers(0, 1000), max_size=3))
    def hear(self, data: bytes, cuts: list[int]) -> None:
        borders = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        for talk in self.talks:
            for start, stop in itertools.pairwise(borders):
                talk.hear(data[start:stop])

    @rule(count=st.integers(1, 8), twist=st.integers(0, 20))
    def welcome(self, count: int, twist: int) -> None:
        """Go on with the transaction; refuse something now and then."""
        for _ in range(count):
            answer = WELCOME.get(self.same(lambda talk: talk.pipeline.phase()))
            if answer is None or self.has_failed:
                return
            if twist % 7 == count:
                answer = b"550-no\r\n550 not now"
            for talk in self.talks:
                talk.hear(answer + b"\r\n")

    @precondition(lambda self: not self.has_failed)
    @rule()
    def release(self) -> None:
        for talk in self.talks:
            talk.pipeline.send_content()

    @rule(proof=st.sampled_from(Step), limit=st.sampled_from([*Step, Step.NEXT, Step.NEXT]))
    def learn(self, proof: Step, limit: Step) -> None:
        for talk in self.talks:
            talk.pipeline.learn(proof, limit)

    @rule()
    def take(self) -> None:
        told = self.same(lambda talk: talk.told())
        for _, stage, reply, others in told:
            assert type(stage) is int
            for _, answer in [(stage, reply), *others.values()]:
                assert answer is None or tuple(map(type, answer)) == (int, bytes)

    @precondition(lambda self: self.pushed > 3)
    @rule(often=st.integers(0, 3))
    def lose(self, often: int) -> None:
        error = TimeoutError("late") if often else OSError("reset")
        for talk in self.talks[: len(self.talks) * (often < 2)]:
            talk.pipeline.lose(error)

    @precondition(lambda self: self.pushed > 1)
    @rule(often=st.integers(0, 3))
    def end_of_stream(self, often: int) -> None:
        for talk in self.talks[: len(self.talks) * (not often)]:
            talk.pipeline.end_of_stream()

    @invariant()
    def stay_equal(self) -> None:
        for name in ("byte_count", "booked", "proof", "limit", "doubts"):
            self.same(attrgetter(f"pipeline.{name}"))
        for limit in (0, 1, 17, 100_000):
            pulled = [talk.pipeline.pull(limit) for talk in self.talks]
            # As much as there is, up to the limit; or less if that would be many pieces.
            shortest = min(map(len, pulled))
            assert pulled[0][:shortest] == pulled[-1][:shortest]
            assert shortest or not any(pulled)
        for talk in self.talks:
            talk.pipeline.wrote(0)
        want, _ = self.same(lambda talk: (talk.pipeline.want(), talk.pipeline.phase()))
        count = self.same(lambda talk: len(talk.pipeline))
        self.same(lambda talk: len(talk.replies))
        failure = self.same(lambda talk: (type(talk.pipeline.failure), str(talk.pipeline.failure)))
        self.has_failed = self.talks[0].pipeline.failure is not None
        if self.has_failed:
            assert (want, count) == (Want.NOTHING, 0)
            assert failure[0] is not MemoryError


ANSWERS = {
    b"MAIL": b"250 ok\r\n",
    b"RCPT": b"250 ok\r\n",
    b"DATA": b"354 go\r\n",
    b".": b"250 queued\r\n",
}

BothPipelines.TestCase.settings = settings(max_examples=300, stateful_step_count=40)


TestBothPipelines = compares_twins(BothPipelines.TestCase)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("window", [1, 7, 100])
def test_ten_thousand_recipients_through_a_tiny_window(core: Core, mode: Mode, window: int) -> None:
    # Cases 62 and 63: the server reads only when all its replies were read, and no more than the
    # window; and it sends replies only when its client reads.
    recipients = [f"r{number}" for number in range(10_000 if window > 1 else 300)]
    talk = Talk(core, mode, proved=mode == Mode.CHUNKING)
    talk.push(recipients=recipients)
    line, unread = b"", b""
    while want := talk.pipeline.want():
        received = talk.sent(window) if want & Want.WRITE and not unread else b""
        assert received or (want & Want.READ and unread), "each waits for the other"
        *lines, line = (line + received).split(b"\r\n")
        unread += b"".join(ANSWERS.get(each[:4], b"") for each in lines)
        if mode == Mode.CHUNKING and b"text" in lines:
            unread += b"250 queued\r\n"
        if unread:
            talk.hear(unread[:window])
            unread = unread[window:]
    assert talk.pipeline.failure is None
    assert talk.told() == [("m", Stage.CONTENT, (250, b"queued"), {})]
    assert talk.pipeline.booked == len(recipients) + (2 if mode == Mode.CHUNKING else 3)
