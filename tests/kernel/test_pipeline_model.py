"""Pipelines against a server that does anything that a server may do, at any time: what senders are
told is what has happened. No message is lost, or there twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from csmtplib.kernel.errors import ChunkingRefused, ReplyUnexpected, SessionClosed
from csmtplib.kernel.transaction import Mode, Phase, Stage, Step, Want

from .conftest import TWINS
from .talking import EVERYTHING, Talk, envelope

# How a server may refuse a command or a message, and how it may close: with or without a reply.
REFUSALS = ["451", "452", "550", "552", "554"]
LEAVES = ["421", "close"]

# How it may refuse a command for coming early, and how a session that is spent refuses MAIL.
EARLY = ["503", "503 5.5.1", "500", "501 5.5.4", "502 5.5.0", "554 5.5.0", "451 4.5.0"]
SPENT = ["452 4.5.3", "451 4.7.0", "450"]


class Habit(Enum):
    """Behaviour of servers that RFC 5321 and RFC 2920 do not have."""

    NONE = "none"
    # It refuses what has come behind the end of a message by the time of its reply (Haraka, T5).
    REFUSES_BEHIND = "refuses behind a message"
    # It discards what it has read with the end of a message (Courier, T6).
    DISCARDS_BEHIND = "discards behind a message"
    # After so many messages it refuses each MAIL, and the session goes on (OpenSMTPD, T8).
    QUOTA = "quota"
    # It refuses, or discards, what has come behind a MAIL by the time of its reply.
    REFUSES_FLIGHTS = "refuses flights"
    DISCARDS_FLIGHTS = "discards flights"


IN_FLIGHTS = (Habit.REFUSES_FLIGHTS, Habit.DISCARDS_FLIGHTS)
DISCARDING = (Habit.DISCARDS_BEHIND, Habit.DISCARDS_FLIGHTS)

Choose = Callable[[list[str]], str]

# What is told of a recipient: a stage, and the reply that decided.
Outcome = tuple[int, "tuple[int, bytes] | None"]


class Delivery(NamedTuple):
    sender: bytes
    recipients: list[bytes]
    text: bytes


@dataclass
class Server:
    """A session of SMTP (RFC 5321, RFC 3030) or LMTP (RFC 2033)."""

    lmtp: bool
    choose: Choose
    habit: Habit = Habit.NONE
    quota: int = 1
    wire: bytes = b""  # that was sent to it, and that it has not read yet
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
    is_refusing: bool = False  # what comes before the client has the reply to what came before
    was_early: bool = False  # something came early, as the habit sees it
    has_discarded: bool = False
    messages: int = 0
    deliveries: list[Delivery] = field(default_factory=list)

    def say(self, code: str, about: bytes = b"", why: str = "said") -> None:
        """Says something about a sender or a recipient."""
        code, _, enhanced = code.partition(" ")
        text = " ".join(filter(None, [enhanced, about.decode(), why]))
        more = f"{code}-{text}\r\n" if self.choose(["one line"] * 5 + ["two"]) == "two" else ""
        self.outbox += f"{more}{code} {text}\r\n".encode()

    def answer(
        self,
        *accepting: str,
        about: bytes = b"",
        refusals: tuple[str, ...] = (),
        bias: int = 25,
    ) -> str:
        """Says one of what may be said; tells what."""
        answer = self.choose([*accepting * bias, *(refusals or REFUSALS), *LEAVES])
        if answer in LEAVES:
            self.is_closed = True
        if answer != "close":
            self.say(answer, about)
        return answer

    def forget(self) -> None:
        self.sender, self.recipients = None, []

    def work(self) -> bool:
        """Does the next thing, and reads where it needs more for that; False where there is
        nothing to do."""
        if self.is_closed:
            return False
        if self.go_on():
            return True
        count = {"all": len(self.wire), "one": 1, "some": 40}[
            self.choose(["all"] * 3 + ["some", "one"])
        ]
        self.inbox, self.wire = self.inbox + self.wire[:count], self.wire[count:]
        return bool(self.wire) or self.go_on()

    def take(self, data: bytes) -> None:
        """Bytes come over the wire. If the client has all replies, it is not early."""
        if not (self.wire or self.inbox or self.outbox):
            self.is_refusing = False
        self.wire += data

    def go_on(self) -> bool:
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
        if self.is_refusing:
            self.refuse_for_order(line)
        elif line == b"RSET":
            # It can't be refused.
            if self.answer("250", refusals=("421",)) == "250":
                self.forget()
        elif found := re.fullmatch(rb"MAIL FROM:<(.*)>", line):
            if self.sender is not None:
                self.say("503", found[1])
            elif self.habit is Habit.QUOTA and self.messages >= self.quota:
                self.say(self.choose(SPENT), found[1], "spent")
            elif self.answer("250", about=found[1]) == "250":
                self.sender = found[1]
            if self.habit in IN_FLIGHTS:
                self.look_behind()
        elif found := re.fullmatch(rb"RCPT TO:<(.*)>", line):
            if self.sender is None:
                self.say("503", found[1])
            elif self.answer("250", "251", "550", about=found[1]) in ("250", "251"):
                self.recipients.append(found[1])
        elif line == b"DATA":
            if self.sender is None or (self.lmtp and not self.recipients):
                self.say("503")
            elif self.recipients:
                self.is_in_data = self.answer("354", about=self.sender) == "354"
            else:
                # It may say so now, or when it has the message.
                answer = self.answer("354", "503", "554", about=self.sender)
                self.is_in_data = answer == "354"
        elif found := re.fullmatch(rb"BDAT (\d+) LAST", line):
            self.chunk = int(found[1])
            if self.choose(["wait"] * (9 if self.recipients else 1) + ["at once"]) == "at once":
                self.refuse_early(*(["552", "451"] if self.recipients else ["503"]))
        elif self.has_discarded:
            # It may be the rest of a line.
            self.say("500")
        else:
            raise AssertionError(f"the server is sent {line!r}")

    def look_behind(self) -> None:
        """Deals with what has come behind, as its habit is."""
        if not self.inbox or self.is_closed:
            return
        self.was_early = True
        if self.habit not in DISCARDING:
            self.is_refusing = True
            return
        self.has_discarded = True
        # Courier cuts commands; to a half of one among others that were taken, in a flight, 500
        # could not be told from what is about its recipient.
        whole = len(self.inbox) if self.habit is Habit.DISCARDS_BEHIND else self.inbox.rfind(b"\n")
        self.inbox = self.inbox[whole + 1 :]

    def refuse_for_order(self, line: bytes) -> None:
        if found := re.fullmatch(rb"BDAT (\d+) LAST", line):
            # It knows how much to skip.
            self.chunk = int(found[1])
            self.is_deaf = True
        self.say(self.choose(EARLY), why="early")
        self.is_closed = self.choose(["stay"] * 9 + ["leave"]) == "leave"

    def refuse_early(self, *codes: str) -> None:
        self.refused_early = self.is_deaf = True
        code = self.choose([*codes, *LEAVES])
        if code in LEAVES:
            self.is_closed = True
        # A server of LMTP owes one answer to each recipient.
        abouts = [self.sender or b""]
        if self.lmtp and self.recipients and code not in LEAVES:
            abouts = self.recipients
        for about in abouts:
            if code != "close":
                self.say(code, about)

    def work_on_data(self) -> bool:
        text, end, rest = (b"\r\n" + self.inbox).partition(b"\r\n.\r\n")
        if end:
            self.inbox = rest
            self.is_in_data = False
            self.finish((text + b"\r\n")[2:].replace(b"\r\n.", b"\r\n").removeprefix(b"."))
            if self.habit in (Habit.REFUSES_BEHIND, Habit.DISCARDS_BEHIND):
                self.look_behind()
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
        was_refused = self.is_refusing
        self.finish(text, is_chunk=True)
        if self.habit is Habit.REFUSES_BEHIND and not was_refused:
            self.look_behind()
        return True

    def finish(self, text: bytes, is_chunk: bool = False) -> None:
        """Decide about a message that is complete. If a chunk is refused, the transaction may stay
        open (RFC 3030 section 2), for the next message if nothing resets it."""
        keeps_open = is_chunk and self.choose(["close", "keep open"]) == "keep open"
        # One that refuses RSET there has nothing to be reset.
        keeps_open = keeps_open and self.habit is not Habit.REFUSES_BEHIND
        is_accepted = False
        if self.is_deaf:
            self.is_deaf = False
        elif not self.recipients:
            self.say("503" if is_chunk else "554")
        elif self.lmtp:
            is_accepted = self.finish_lmtp(text)
        else:
            refusals = ("500", "503", *REFUSALS) if is_chunk else ()
            assert self.sender is not None
            answer = self.answer("250", about=self.sender, refusals=refusals, bias=8)
            is_accepted = answer == "250" or self.takes_silently(answer)
            self.refused_chunks |= answer in ("500", "503")
            if is_accepted:
                self.deliver(self.recipients, text)
        if is_accepted or not keeps_open:
            self.forget()

    def takes_silently(self, answer: str) -> bool:
        """Return whether a server that closes without a reply has accepted the message before."""
        return answer == "close" and self.choose(["taken", "not taken"]) == "taken"

    def finish_lmtp(self, text: bytes) -> bool:
        for recipient in self.recipients:
            answer = "close" if self.is_closed else self.answer("250", about=recipient)
            if answer == "421":
                break
            if answer == "250" or self.takes_silently(answer):
                self.deliver([recipient], text)
        return self.choose(["done", "open"]) == "done"

    def deliver(self, recipients: list[bytes], text: bytes) -> None:
        assert self.sender is not None
        self.messages += 1
        self.deliveries.append(Delivery(self.sender, list(recipients), text))


@dataclass
class Sent:
    """A message that was pushed, and its results: for each recipient, a stage and a reply."""

    number: int
    recipients: list[str]
    text: bytes
    content: Any
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def sender(self) -> bytes:
        return b"s%d" % self.number


# Of hosts: the habit, the mode, and whether it is LMTP. Habits only where they can show.
hosts = st.sampled_from(
    [
        *[(Habit.NONE, mode, lmtp) for mode in Mode for lmtp in (False, True)],
        *[(Habit.QUOTA, mode, False) for mode in Mode],
        *[(Habit.REFUSES_BEHIND, Mode.PIPELINING, False)] * 2,
        *[(Habit.REFUSES_BEHIND, Mode.CHUNKING, False)] * 2,
        *[(Habit.DISCARDS_BEHIND, Mode.PIPELINING, False)] * 3,
        (Habit.REFUSES_FLIGHTS, Mode.PIPELINING, False),
        (Habit.REFUSES_FLIGHTS, Mode.CHUNKING, False),
        (Habit.REFUSES_FLIGHTS, Mode.CHUNKING, True),
        (Habit.DISCARDS_FLIGHTS, Mode.PIPELINING, False),
        (Habit.DISCARDS_FLIGHTS, Mode.CHUNKING, False),
    ]
)

# Of messages: how many recipients, and how the text ends, if there is any.
shapes = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(["", "t", ".\r\n.a\r\n", "x" * 30])),
    min_size=1,
    max_size=4,
)


class Model(RuleBasedStateMachine):
    @initialize(
        host=hosts,
        proved=st.booleans(),
        large=st.sampled_from([0, 20, 10_000]),
        quota=st.integers(1, 4),
        shapes=shapes,
    )
    def connect(
        self,
        host: tuple[Habit, Mode, bool],
        proved: bool,
        large: int,
        quota: int,
        shapes: list[tuple[int, str]],
    ) -> None:
        self.habit, self.mode, self.lmtp = host
        self.large, self.quota = large, quota
        proved = proved and self.habit not in IN_FLIGHTS
        self.data: Any = None
        self.texts: list[tuple[list[str], bytes]] = []
        self.deliveries: list[Delivery] = []
        self.fates: dict[tuple[bytes, bytes], Outcome] = {}
        self.open(proved)
        self.push(shapes)

    def open(self, proved: bool) -> None:
        """A connection to the host."""
        self.talk = self.new_talk(proved)
        self.server = Server(self.lmtp, self.choose, self.habit, self.quota)
        self.server.deliveries = self.deliveries
        self.messages: list[Sent] = []
        self.told = 0
        self.stream = b""
        self.is_lost = self.was_silent = False
        self.known_limit = Step.NEXT

    def new_talk(self, proved: bool) -> Talk:
        return Talk(TWINS[-1], self.mode, lmtp=self.lmtp, proved=proved, large=self.large)

    def choose(self, choices: list[str]) -> str:
        # During teardown nothing can be drawn any more; everything possible is accepted.
        if self.data is None:
            return choices[0]
        return str(self.data.draw(st.sampled_from(choices)))

    # Rules of the client

    @rule(shapes=shapes)
    def push(self, shapes: list[tuple[int, str]]) -> None:
        for recipients, body in shapes:
            self.push_one(recipients, body)

    def push_one(self, recipients: int, body: str) -> None:
        number = len(self.texts)
        text = f"{number}\r\n{body}".encode() if body else b""
        names = [f"r{number}.{index}" for index in range(recipients)]
        self.texts.append((names, text))
        self.push_to(number, names)

    def push_to(self, number: int, names: list[str]) -> None:
        text = self.texts[number][1]
        sent = Sent(number, names, text, self.talk.content(text))
        self.messages.append(sent)
        self.talk.pipeline.push(number, envelope(f"s{number}", names), sent.content)

    @rule(limit=st.sampled_from([1, 5, 30, EVERYTHING, EVERYTHING]))
    def write(self, limit: int) -> None:
        data = self.talk.sent(limit)
        self.stream += data
        self.server.take(data)

    @rule(limit=st.sampled_from([1, 3, 30, EVERYTHING, EVERYTHING]))
    def read(self, limit: int) -> None:
        said, self.server.outbox = self.server.outbox[:limit], self.server.outbox[limit:]
        if said:
            self.talk.hear(said)
        elif self.server.is_closed:
            self.talk.end_of_stream()

    @rule()
    def take(self) -> None:
        for tag, stage, reply, others in self.talk.told():
            message = self.messages[self.told]
            assert tag == message.number
            self.told += 1
            for index in range(len(message.recipients)):
                message.outcomes.append(others.get(index, (stage, reply)))

    # Rules of the server

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
            self.talk.lose(TimeoutError())

    @rule(limit=st.sampled_from([1, 5, 30, EVERYTHING]), often=st.integers(0, 2), data=st.data())
    def interrupt(self, limit: int, often: int, data: Any) -> None:
        """T1: an interrupt between the socket's send() and wrote(). Some of the pulled bytes were
        sent, and nobody reports how many."""
        if often == 0:
            pulled = self.talk.pipeline.pull(limit)
            self.stream += pulled
            self.server.take(pulled[: data.draw(st.integers(0, len(pulled)))])
            self.is_lost = True
            self.talk.pipeline.lose(TimeoutError())

    @precondition(lambda self: self.talk.pipeline.failure and not self.is_hopeless())
    @rule()
    def go_on(self) -> None:
        """On another connection."""
        self.data = None
        self.end()
        self.reconnect()

    # What holds at any time

    @invariant()
    def goes_on(self) -> None:
        pipeline = self.talk.pipeline
        if pipeline.failure is not None:
            assert (pipeline.want(), len(pipeline), pipeline.byte_count) == (Want.NOTHING, 0, 0)
            return
        want = pipeline.want()
        assert want or not len(pipeline)
        if want & Want.READ and not want & Want.WRITE:
            assert pipeline.phase() != Phase.BLOCK

    @invariant()
    def fails_for_a_reason(self) -> None:
        failure = self.talk.pipeline.failure
        if isinstance(failure, ReplyUnexpected):
            # What is discarded has no reply, and the next one seems to be it.
            assert self.server.refused_early or self.server.has_discarded, failure
        elif isinstance(failure, ChunkingRefused):
            assert self.server.refused_chunks
        elif isinstance(failure, (SessionClosed, EOFError)):
            assert self.server.is_closed
        elif failure is not None:
            assert isinstance(failure, TimeoutError)
            assert self.is_lost

    @invariant()
    def delivers_what_was_sent(self) -> None:
        for delivery in self.deliveries:
            recipients, text = self.texts[int(delivery.sender[1:])]
            assert {each.decode() for each in delivery.recipients} <= {*recipients}
            assert delivery.text == (text if text[-2:] in (b"", b"\r\n") else text + b"\r\n")

    # The end

    def teardown(self) -> None:
        if not hasattr(self, "server"):
            return
        self.data = None
        self.end()
        while (again := self.to_send_again()) and not self.is_hopeless():
            mode, limit = self.mode, self.talk.pipeline.limit
            self.reconnect()
            self.end()
            # It has taken some, or shown what it does not take; and it is not waited for again.
            has_shown = (self.mode, self.talk.pipeline.limit) != (mode, limit)
            assert has_shown or len(self.to_send_again()) < len(again)
            assert has_shown or not self.was_silent or self.is_hopeless()
        for (sender, recipient), (stage, reply) in self.fates.items():
            self.check(sender, recipient, stage, reply)
            assert stage != Stage.LOST or self.is_hopeless()

    def is_hopeless(self) -> bool:
        """Whether flights were taken, by chance, and are now lost each time. A host that has been
        seen to take them may as well be down, and is asked again."""
        proof = self.talk.pipeline.proof
        return self.habit is Habit.DISCARDS_FLIGHTS and proof >= Step.FLIGHT

    def to_send_again(self) -> list[tuple[int, list[str]]]:
        """Messages that were not sent, or refused by a session that was spent."""
        again = []
        for message in self.messages:
            outcomes = zip(message.recipients, message.outcomes, strict=True)
            names = [
                name
                for name, (stage, reply) in outcomes
                if stage == Stage.LOST or (reply and reply[1].endswith(b"spent"))
            ]
            if names:
                again.append((message.number, names))
        return again

    def reconnect(self) -> None:
        """Another connection to the host, by what is known of it now, for what is left."""
        before, again = self.talk.pipeline, self.to_send_again()
        if isinstance(before.failure, ChunkingRefused):
            self.mode = Mode.PIPELINING
        self.open(proved=False)
        self.talk.pipeline.learn(before.proof, before.limit)
        self.known_limit = before.limit
        for number, names in again:
            self.push_to(number, names)

    def end(self) -> None:
        """The end of a connection, and what was told by then."""
        self.finish()
        if self.talk.pipeline.failure is None and not self.is_spent():
            # The session is as good as new.
            self.push_one(2, "again")
            self.finish()
            if self.talk.pipeline.failure is None:
                assert [
                    (stage, reply and reply[0]) for stage, reply in self.messages[-1].outcomes
                ] == [(Stage.CONTENT, 250)] * 2
        if self.known_limit <= (Step.ALONE if self.habit in IN_FLIGHTS else Step.WHOLE):
            # The host is known not to take it.
            assert not self.server.was_early
        # The server goes on with what it has, also where nobody listens.
        while self.server.work():
            pass
        self.delivers_what_was_sent()
        assert self.told == len(self.messages)
        for message in self.messages:
            for recipient, (stage, reply) in zip(message.recipients, message.outcomes, strict=True):
                assert stage != Stage.IN_DOUBT or self.has_left(message)
                self.check(message.sender, recipient.encode(), stage, reply)
                self.fates[message.sender, recipient.encode()] = stage, reply

    def is_spent(self) -> bool:
        return self.habit is Habit.QUOTA and self.server.messages >= self.quota

    def finish(self) -> None:
        """Go on until everything is answered; from now on the server accepts what it can."""
        for _ in range(20 * (len(self.messages) + 1)):
            self.write(EVERYTHING)
            while self.server.work():
                pass
            self.read(EVERYTHING)
            self.fails_for_a_reason()
            self.goes_on()
            if self.talk.pipeline.want() == Want.NOTHING:
                break
            if self.talk.pipeline.want() == Want.READ and self.is_silent():
                self.is_lost = self.was_silent = True
                self.talk.lose(TimeoutError())
        assert (len(self.talk.pipeline), self.talk.pipeline.want()) == (0, Want.NOTHING)
        self.take()

    def is_silent(self) -> bool:
        """Whether a reply is waited for in vain: to what the server has discarded."""
        server = self.server
        return server.has_discarded and not (server.outbox or server.wire or server.is_closed)

    def check(
        self, sender: bytes, recipient: bytes, stage: int, reply: tuple[int, bytes] | None
    ) -> None:
        got = [
            each
            for each in self.deliveries
            if each.sender == sender and recipient in each.recipients
        ]
        if stage == Stage.IN_DOUBT:
            assert len(got) <= 1
        elif stage == Stage.LOST:
            assert reply is None
            assert not got
        elif stage == Stage.CONTENT and reply and reply[0] == 250:
            assert len(got) == 1
        else:
            assert reply is not None
            code, text = reply
            assert 400 <= code <= 599
            assert not got
            if code != 421:
                # It was not about the order of commands, nor about somebody else.
                about, why = text.split()[-2:]
                assert why in (b"said", b"spent")
                assert about == recipient or (about == sender and stage != Stage.RCPT)

    def has_left(self, message: Sent) -> bool:
        """Whether what ends a message was written, or some of it."""
        envelope_end = self.stream.rindex(b"RCPT TO:<%b>\r\n" % message.recipients[-1].encode())
        begins = self.stream.index(b"DAT", envelope_end)
        begins = self.stream.index(b"\r\n", begins) + 2
        return len(self.stream) > begins + int(message.content.terminator)


Model.TestCase.settings = settings(max_examples=600, stateful_step_count=40)


TestModel = Model.TestCase
