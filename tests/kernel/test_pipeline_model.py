"""A pipeline against a server that does anything that a server may do, at any time: what senders
are told is what has happened."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from csmtplib.kernel.errors import ChunkingRefused, ReplyUnexpected, SessionClosed
from csmtplib.kernel.transaction import Gear, Phase, Stage, Want

from .conftest import CORES
from .talking import EVERYTHING, Core, Talk, envelope

# How a server may refuse a command or a message, and how it may leave: with or without a word.
REFUSALS = ["451", "452", "550", "552", "554"]
LEAVES = ["421", "close"]

Choose = Callable[[list[str]], str]


class Delivery(NamedTuple):
    sender: bytes
    recipients: list[bytes]
    text: bytes


@dataclass
class Server:
    """A session of SMTP (RFC 5321, RFC 3030) or LMTP (RFC 2033)."""

    lmtp: bool
    choose: Choose
    inbox: bytes = b""
    outbox: bytes = b""
    sender: bytes | None = None
    recipients: list[bytes] = field(default_factory=list)
    is_in_data: bool = False
    chunk: int | None = None
    is_deaf: bool = False  # what remains of the message was refused already
    is_closed: bool = False
    refused_early: bool = False
    refused_chunks: bool = False
    deliveries: list[Delivery] = field(default_factory=list)

    def say(self, code: str) -> None:
        more = f"{code}-one line\r\n" if self.choose(["one line"] * 5 + ["two"]) == "two" else ""
        self.outbox += f"{more}{code} said\r\n".encode()

    def answer(self, *accepting: str, refusals: tuple[str, ...] = (), bias: int = 25) -> str:
        """Says one of what may be said; tells what."""
        answer = self.choose([*accepting * bias, *(refusals or REFUSALS), *LEAVES])
        if answer in LEAVES:
            self.is_closed = True
        if answer != "close":
            self.say(answer)
        return answer

    def forget(self) -> None:
        self.sender, self.recipients = None, []

    def work(self) -> bool:
        """Does the next thing; False where there is nothing to do."""
        if self.is_closed:
            return False
        if self.is_in_data:
            return self.work_on_data()
        if self.chunk is not None:
            return self.work_on_chunk(self.chunk)
        line, end, rest = self.inbox.partition(b"\r\n")
        if end:
            self.inbox = rest
            self.obey(line)
        return bool(end)

    def obey(self, line: bytes) -> None:
        if line == b"RSET":
            # It can't be refused.
            if self.answer("250", refusals=("421",)) == "250":
                self.forget()
        elif found := re.fullmatch(rb"MAIL FROM:<(.*)>", line):
            if self.sender is not None:
                self.say("503")
            elif self.answer("250") == "250":
                self.sender = found[1]
        elif found := re.fullmatch(rb"RCPT TO:<(.*)>", line):
            if self.sender is None:
                self.say("503")
            elif self.answer("250", "251", "550") in ("250", "251"):
                self.recipients.append(found[1])
        elif line == b"DATA":
            if self.sender is None or (self.lmtp and not self.recipients):
                self.say("503")
            elif self.recipients:
                self.is_in_data = self.answer("354") == "354"
            else:
                # It may say so now, or when it has the message.
                self.is_in_data = self.answer("354", "503", "554") == "354"
        elif found := re.fullmatch(rb"BDAT (\d+) LAST", line):
            self.chunk = int(found[1])
            if self.choose(["wait"] * (9 if self.recipients else 1) + ["at once"]) == "at once":
                self.refuse_early(*(["552", "451"] if self.recipients else ["503"]))
        else:
            raise AssertionError(f"the server is sent {line!r}")

    def refuse_early(self, *codes: str) -> None:
        self.refused_early = self.is_deaf = True
        code = self.choose([*codes, *LEAVES])
        if code in LEAVES:
            self.is_closed = True
        # A server of LMTP owes one answer to each recipient.
        for _ in self.recipients if self.lmtp and self.recipients and code not in LEAVES else "1":
            if code != "close":
                self.say(code)

    def work_on_data(self) -> bool:
        text, end, rest = (b"\r\n" + self.inbox).partition(b"\r\n.\r\n")
        if end:
            self.inbox = rest
            self.is_in_data = False
            self.finish((text + b"\r\n")[2:].replace(b"\r\n.", b"\r\n").removeprefix(b"."))
        elif not self.is_deaf and self.choose(["listen"] * 9 + ["refuse"]) == "refuse":
            self.refuse_early("552", "451")
        else:
            return False
        return True

    def work_on_chunk(self, count: int) -> bool:
        if len(self.inbox) < count:
            return False
        text, self.inbox = self.inbox[:count], self.inbox[count:]
        self.chunk = None
        self.finish(text, is_chunk=True)
        return True

    def finish(self, text: bytes, is_chunk: bool = False) -> None:
        """What becomes of a message that is there. If a chunk is refused, the transaction may stay
        open (RFC 3030 section 2), for the next message if nothing resets it."""
        keeps_open = is_chunk and self.choose(["close", "keep open"]) == "keep open"
        is_accepted = False
        if self.is_deaf:
            self.is_deaf = False
        elif not self.recipients:
            self.say("503" if is_chunk else "554")
        elif self.lmtp:
            is_accepted = self.finish_lmtp(text)
        else:
            refusals = ("500", "503", *REFUSALS) if is_chunk else ()
            answer = self.answer("250", refusals=refusals, bias=8)
            is_accepted = answer == "250" or self.takes_silently(answer)
            self.refused_chunks |= answer in ("500", "503")
            if is_accepted:
                self.deliver(self.recipients, text)
        if is_accepted or not keeps_open:
            self.forget()

    def takes_silently(self, answer: str) -> bool:
        """Whether a server that closes without a word has taken the message before."""
        return answer == "close" and self.choose(["taken", "not taken"]) == "taken"

    def finish_lmtp(self, text: bytes) -> bool:
        for recipient in self.recipients:
            answer = "close" if self.is_closed else self.answer("250")
            if answer == "421":
                break
            if answer == "250" or self.takes_silently(answer):
                self.deliver([recipient], text)
        return self.choose(["done", "open"]) == "done"

    def deliver(self, recipients: list[bytes], text: bytes) -> None:
        assert self.sender is not None
        self.deliveries.append(Delivery(self.sender, list(recipients), text))


@dataclass
class Sent:
    """What was pushed, and what was told of it."""

    number: int
    recipients: list[str]
    text: bytes
    content: Any
    stage: int | None = None
    outcomes: list[tuple[int, int | None]] = field(default_factory=list)

    @property
    def sender(self) -> bytes:
        return b"s%d" % self.number


# Of messages: how many recipients, and how the text ends, if there is any.
shapes = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(["", "t", ".\r\n.a\r\n", "x" * 30])),
    min_size=1,
    max_size=4,
)


class Model(RuleBasedStateMachine):
    core: Core

    @initialize(
        gear=st.sampled_from(Gear),
        lmtp=st.booleans(),
        proved=st.booleans(),
        large=st.sampled_from([0, 20, 10_000]),
        shapes=shapes,
    )
    def connect(
        self, gear: Gear, lmtp: bool, proved: bool, large: int, shapes: list[tuple[int, str]]
    ) -> None:
        self.talk = Talk(self.core, gear, lmtp=lmtp, proved=proved, large=large)
        self.data: Any = None
        self.server = Server(lmtp, self.choose)
        self.messages: list[Sent] = []
        self.told = 0
        self.stream = b""
        self.is_lost = False
        self.push(shapes)

    def choose(self, choices: list[str]) -> str:
        # Nothing is drawn any more when the machine is taken down; all that can be is accepted.
        if self.data is None:
            return choices[0]
        return str(self.data.draw(st.sampled_from(choices)))

    # What the client's side does

    @rule(shapes=shapes)
    def push(self, shapes: list[tuple[int, str]]) -> None:
        for recipients, body in shapes:
            self.push_one(recipients, body)

    def push_one(self, recipients: int, body: str) -> None:
        number = len(self.messages)
        text = f"{number}\r\n{body}".encode() if body else b""
        names = [f"r{number}.{index}" for index in range(recipients)]
        sent = Sent(number, names, text, self.talk.content(text))
        self.messages.append(sent)
        self.talk.pipeline.push(number, envelope(f"s{number}", names), sent.content)

    @rule(limit=st.sampled_from([1, 5, 30, EVERYTHING, EVERYTHING]))
    def write(self, limit: int) -> None:
        octets = self.talk.sent(limit)
        self.stream += octets
        self.server.inbox += octets

    @rule(limit=st.sampled_from([1, 3, 30, EVERYTHING, EVERYTHING]))
    def read(self, limit: int) -> None:
        said, self.server.outbox = self.server.outbox[:limit], self.server.outbox[limit:]
        if said:
            self.talk.hear(said)
        elif self.server.is_closed:
            self.talk.pipeline.end_of_stream()

    @rule()
    def take(self) -> None:
        for tag, stage, reply, others in self.talk.told():
            message = self.messages[self.told]
            assert tag == message.number
            self.told += 1
            message.stage = stage
            for index in range(len(message.recipients)):
                what, answer = others.get(index, (stage, reply))
                message.outcomes.append((what, answer and answer[0]))

    # What the server's side does

    @rule(data=st.data(), steps=st.integers(1, 12))
    def serve(self, data: Any, steps: int) -> None:
        self.data = data
        while steps and self.server.work():
            steps -= 1

    @rule(data=st.data(), rounds=st.integers(1, 4))
    def exchange(self, data: Any, rounds: int) -> None:
        for _ in range(rounds):
            self.write(EVERYTHING)
            self.serve(data, 20)
            self.read(EVERYTHING)

    @precondition(lambda self: len(self.messages) > 3)
    @rule(often=st.integers(0, 5))
    def shut_down(self, often: int) -> None:
        if often == 0 and not self.server.is_closed:
            self.server.is_closed = self.server.refused_early = True
            self.server.outbox += b"421 shutting down\r\n"

    @rule(often=st.integers(0, 3))
    def lose(self, often: int) -> None:
        if often == 0:
            self.is_lost = True
            self.talk.pipeline.lose(TimeoutError())

    # What holds at any time

    @invariant()
    def goes_on(self) -> None:
        pipeline = self.talk.pipeline
        if pipeline.failure is not None:
            assert (pipeline.want(), len(pipeline), pipeline.octets) == (Want.NOTHING, 0, 0)
            return
        want = pipeline.want()
        assert want or not len(pipeline)
        if want & Want.READ and not want & Want.WRITE:
            assert pipeline.phase() != Phase.BLOCK

    @invariant()
    def fails_for_a_reason(self) -> None:
        failure = self.talk.pipeline.failure
        if isinstance(failure, ReplyUnexpected):
            assert self.server.refused_early, failure
        elif isinstance(failure, ChunkingRefused):
            assert self.server.refused_chunks
        elif isinstance(failure, (SessionClosed, EOFError)):
            assert self.server.is_closed
        elif failure is not None:
            assert isinstance(failure, TimeoutError)
            assert self.is_lost

    @invariant()
    def delivers_what_was_sent(self) -> None:
        for delivery in self.server.deliveries:
            message = self.messages[int(delivery.sender[1:])]
            assert {each.decode() for each in delivery.recipients} <= {*message.recipients}
            text = message.text
            assert delivery.text == (text if text[-2:] in (b"", b"\r\n") else text + b"\r\n")

    # And at the end

    def teardown(self) -> None:
        if not hasattr(self, "server"):
            return
        self.data = None
        self.finish()
        if self.talk.pipeline.failure is None:
            # The session is as good as new.
            self.push_one(2, "again")
            self.finish()
            assert self.messages[-1].outcomes == [(Stage.CONTENT, 250)] * 2
        # The server goes on with what it has, also where nobody listens.
        while self.server.work():
            pass
        self.delivers_what_was_sent()
        assert self.told == len(self.messages)
        for message in self.messages:
            for recipient, (stage, code) in zip(message.recipients, message.outcomes, strict=True):
                self.check(message, recipient.encode(), stage, code)

    def finish(self) -> None:
        """Goes on until all is answered; from now on the server takes what it can."""
        for _ in range(20 * (len(self.messages) + 1)):
            self.write(EVERYTHING)
            while self.server.work():
                pass
            self.read(EVERYTHING)
            self.fails_for_a_reason()
            self.goes_on()
            if self.talk.pipeline.want() == Want.NOTHING:
                break
        assert (len(self.talk.pipeline), self.talk.pipeline.want()) == (0, Want.NOTHING)
        self.take()

    def check(self, message: Sent, recipient: bytes, stage: int, code: int | None) -> None:
        got = [
            each
            for each in self.server.deliveries
            if each.sender == message.sender and recipient in each.recipients
        ]
        if stage == Stage.IN_DOUBT:
            assert self.has_left(message)
            assert len(got) <= 1
        elif stage == Stage.CONTENT and code == 250:
            assert len(got) == 1
        else:
            assert code is None or 400 <= code <= 599
            assert (code is None) == (stage == Stage.LOST)
            assert not got

    def has_left(self, message: Sent) -> bool:
        """Whether what ends a message was written, or some of it."""
        envelope_end = self.stream.index(b"RCPT TO:<%b>\r\n" % message.recipients[-1].encode())
        begins = self.stream.index(b"DAT", envelope_end)
        begins = self.stream.index(b"\r\n", begins) + 2
        return len(self.stream) > begins + int(message.content.terminator)


Model.TestCase.settings = settings(max_examples=600, stateful_step_count=40)


def model_of(name: str) -> Any:
    machine: Any = type(f"Model_{name}", (Model,), {"core": CORES[name]})
    machine.TestCase.settings = Model.TestCase.settings
    return machine.TestCase


TestPython = model_of("python")
if "c" in CORES:
    TestCompiled = model_of("c")
