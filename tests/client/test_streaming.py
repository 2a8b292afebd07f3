"""client/streaming.py: send_many() over real sockets."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest

import csmtplib
from csmtplib import SMTPHeloError, SMTPServerDisconnected
from csmtplib.kernel.transaction import Mode
from csmtplib.protocol import stream
from csmtplib.protocol.outcome import State
from csmtplib.protocol.result import Result

from ..interrupting import interrupted_after
from ..protocol.serving import Host
from ..requirements import needs_reference_counts
from .conftest import MutualTLS
from .loopback import DEADLINE, Gate, Loopback

BOTH = ("PIPELINING", "CHUNKING")
ROOT = Path(__file__).parent.parent.parent

OFFERS: dict[Mode, tuple[str, ...]] = {
    Mode.SEQUENTIAL: (),
    Mode.PIPELINING: ("PIPELINING",),
    Mode.CHUNKING: BOTH,
}

every_mode = pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.name.lower())


@pytest.fixture(autouse=True)
def nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CSMTPLIB_NO_PIPELINING", raising=False)
    monkeypatch.delenv("CSMTPLIB_NO_CHUNKING", raising=False)


def connect(server: Loopback, **named: Any) -> csmtplib.SMTP:
    named.setdefault("timeout", DEADLINE)
    return csmtplib.SMTP(*server.address, local_hostname="client.test", **named)


def message(number: int) -> tuple[str, str, bytes]:
    return "a@x", f"{number}@x", b"%d\r\n" % number


def messages(count: int) -> list[tuple[str, str, bytes]]:
    return [message(number) for number in range(count)]


def tell(results: Iterator[Result], told: list[Result]) -> None:
    """Keeps what is told before an exception."""
    for result in results:
        told.append(result)


def states(told: list[Result]) -> list[State]:
    return [result.outcomes[0].state for result in told]


# What is sent, and what comes of it


@every_mode
@pytest.mark.parametrize("max_in_flight", [1, 2, 3, 100])
def test_messages_arrive_and_results_are_in_order(mode: Mode, max_in_flight: int) -> None:
    host = Host(*OFFERS[mode], rcpt=["250 ok", "550 no", "250 ok"])
    sent = messages(50)
    with Loopback(host) as server, connect(server) as smtp:
        results = list(smtp.send_many(sent, max_in_flight=max_in_flight))
        assert smtp.noop()[0] == 250
        assert smtp.sendmail("a@x", "b@x", b"by itself\r\n") == {}
    assert [result.mail for result in results] == sent
    assert [result.accepted for result in results] == [number != 1 for number in range(50)]
    assert str(results[1].outcomes[0]) == "rejected 1@x (550 no)"
    assert host.texts == [
        *(text for number, (_, _, text) in enumerate(sent) if number != 1),
        b"by itself\r\n",
    ]


@pytest.mark.parametrize(
    ("offered", "chunking", "verb"),
    [
        (BOTH, None, "bdat"),
        (BOTH, True, "bdat"),
        (BOTH, False, "data"),
        (("PIPELINING",), True, "data"),
        (("CHUNKING",), True, "data"),
    ],
)
def test_mode(offered: tuple[str, ...], chunking: bool | None, verb: str) -> None:
    host = Host(*offered)
    with Loopback(host) as server, connect(server) as smtp:
        assert all(result.accepted for result in smtp.send_many(messages(3), chunking=chunking))
    assert ({"bdat", "data"} & {*host.verbs}) == {verb}
    assert host.texts == [text for _, _, text in messages(3)]


@pytest.fixture
def come_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, messages are taken for one flight."""
    monkeypatch.setattr(stream, "_GATHER", float("inf"))


def test_pipelined_envelopes_leave_with_the_message_before(come_quickly: None) -> None:
    host = Host("PIPELINING")
    with Loopback(host) as server, connect(server) as smtp:
        assert all(result.accepted for result in smtp.send_many(messages(4)))
    # The first proves that the server can, and answers what comes behind a message.
    assert server.segments[1:] == [
        b"MAIL FROM:<a@x>\r\nRCPT TO:<0@x>\r\nDATA\r\n",
        b"0\r\n.\r\nRSET\r\n",
        b"MAIL FROM:<a@x>\r\nRCPT TO:<1@x>\r\nDATA\r\n",
        b"1\r\n.\r\nMAIL FROM:<a@x>\r\nRCPT TO:<2@x>\r\nDATA\r\n",
        b"2\r\n.\r\nMAIL FROM:<a@x>\r\nRCPT TO:<3@x>\r\nDATA\r\n",
        b"3\r\n.\r\n",
        b"QUIT\r\n",
    ]


def test_chunked_transactions_leave_together(come_quickly: None) -> None:
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server) as smtp:
        assert all(result.accepted for result in smtp.send_many(messages(4)))
    assert len(server.segments) <= 6
    assert server.segments[1] == b"MAIL FROM:<a@x>\r\nRCPT TO:<0@x>\r\n"
    assert host.verbs.count("bdat") == 4


def test_a_mode_is_proved_once() -> None:
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server) as smtp:
        for number in range(3):
            (result,) = smtp.send_many([message(number)])
            assert result.accepted
    assert len(server.segments) == 6  # EHLO, two, one, one, QUIT


def test_off_by_an_attribute_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def segments(**attributes: bool) -> int:
        host = Host(*BOTH)
        with Loopback(host) as server, connect(server) as smtp:
            for name, value in attributes.items():
                setattr(smtp, name, value)
            assert all(result.accepted for result in smtp.send_many(messages(3)))
        assert "bdat" not in host.verbs
        return len(server.segments)

    assert segments(pipelining=False) == 14
    monkeypatch.setenv("CSMTPLIB_NO_PIPELINING", "127.0.0.1")
    assert segments() == 14
    monkeypatch.delenv("CSMTPLIB_NO_PIPELINING")
    monkeypatch.setenv("CSMTPLIB_NO_CHUNKING", "*")
    assert segments() < 14


def test_all_forms_of_messages() -> None:
    email = EmailMessage()
    email["From"], email["To"], email["Subject"] = "a@x", "b@x, c@x", "ä"
    email.set_content("hello\n")
    items: list[Any] = [
        ("a@x", "b@x", "text"),
        csmtplib.MailObject("a@x", ["b@x"], [b"head\n", b".body"]),
        email,
        ("a@x", "b@x", b"\0"),
        None,
        ("", ("b@x",), bytearray(b"last")),
    ]
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server) as smtp:
        results = list(smtp.send_many(items))
    assert [result.mail for result in results] == items
    assert [result.accepted for result in results] == [True, True, True, False, False, True]
    assert [type(result.error).__name__ for result in results[3:5]] == ["Unsendable", "TypeError"]
    assert host.texts[:2] == [b"text\r\n", b"head\r\n.body\r\n"]
    assert len(host.deliveries) == 4


def test_no_messages() -> None:
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server) as smtp:
        assert list(smtp.send_many([])) == []
        assert smtp.noop()[0] == 250
    assert host.verbs == ["ehlo", "noop", "quit"]


def test_nothing_happens_before_the_first_result_is_asked_for() -> None:
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server) as smtp:
        results = smtp.send_many(messages(3))
        assert smtp.noop()[0] == 250
        cast("Generator[Result, None, None]", results).close()
    assert host.verbs == ["noop", "quit"]


@needs_reference_counts
def test_results_that_are_never_asked_for() -> None:
    """T15: nothing was sent, and nothing said so."""
    host = Host(*BOTH)
    told = pytest.warns(RuntimeWarning, match=r"SMTP\.send_many\(\) were never asked .* nothing")
    with Loopback(host) as server, connect(server) as smtp, told:
        smtp.send_many(messages(3))
    assert host.verbs == ["quit"]


def test_one_message() -> None:
    """T15: the names of its headers were taken for messages, and told of by results."""
    message = EmailMessage()
    message["From"], message["To"] = "a@x", "b@x"
    for item in (message, ("a@x", ["b@x"], b"x"), csmtplib.MailObject("a@x", "b@x", b"x"), b"x"):
        with pytest.raises(TypeError, match="messages must be an iterable of messages, not one"):
            csmtplib.SMTP().send_many(item)  # type: ignore[arg-type,unused-ignore]


def test_the_loop_of_the_readme_tells_of_errors() -> None:
    """T15: a message with an error had no outcome."""
    host = Host(*BOTH)
    items: list[Any] = [5, ("a@x", ["b@x", "c@x"], b"\0"), ("a@x", ["d@x"], b"x")]
    with Loopback(host) as server, connect(server) as smtp:
        told = [
            (outcome.state, outcome.recipient)
            for result in smtp.send_many(items)
            for outcome in result.outcomes
        ]
    assert told == [
        *((State.REJECTED, each) for each in ("", "b@x", "c@x")),
        (State.ACCEPTED, "d@x"),
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"max_in_flight": 0}, ValueError, "max_in_flight must be a whole number of at least 1"),
        ({"max_in_flight": -1}, ValueError, "max_in_flight must be .* not -1"),
        ({"max_in_flight": "x"}, TypeError, "max_in_flight must be .* not 'x'"),
        ({"max_in_flight": 1.5}, TypeError, r"max_in_flight must be .* not 1\.5"),
        ({"max_in_flight": True}, TypeError, "max_in_flight must be .* not True"),
        ({"max_in_flight": None}, TypeError, "max_in_flight must be .* not None"),
        ({"chunking": "no"}, TypeError, "chunking must be True or False, not 'no'"),
    ],
    ids=str,
)
def test_arguments(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    """T26: at the call, not at the first result."""
    with pytest.raises(error, match=said):
        csmtplib.SMTP().send_many([], **arguments)


def test_no_connection() -> None:
    with pytest.raises(SMTPServerDisconnected, match="please run connect"):
        next(csmtplib.SMTP(local_hostname="client.test").send_many(messages(1)))


def test_a_server_that_refuses_to_say_hello() -> None:
    with Loopback(Host(ehlo="502 no", helo="502 no")) as server:
        smtp = connect(server)
        with pytest.raises(SMTPHeloError):
            next(smtp.send_many(messages(1)))
        smtp.close()


def test_large_messages() -> None:
    """They wait for what becomes of their recipients."""
    text = (b"x" * 500 + b"\r\n") * 2000
    host = Host(*BOTH, rcpt=["250 ok", "250 ok", "550 no", "250 ok"])
    with Loopback(host) as server, connect(server) as smtp:
        sent = [("a@x", "b@x", text)] * 5
        results = list(smtp.send_many(sent))
    assert [result.accepted for result in results] == [True, True, False, True, True]
    assert host.texts == [text] * 4
    assert len(host.received) < 4.1 * len(text)


@every_mode
def test_lmtp(mode: Mode) -> None:
    host = Host(
        *OFFERS[mode],
        lmtp=True,
        rcpt=lambda line: "550 no" if "no" in line else "250 ok",
        message=lambda line: "452 full" if "full" in line else "250 delivered",
    )
    with (
        Loopback(host, unix=hasattr(socket, "AF_UNIX")) as server,
        csmtplib.LMTP(*server.address, local_hostname="client.test", timeout=DEADLINE) as smtp,
    ):
        sent = [("a@x", ["b@x", "no@x", "full@x", "c@x"], b"%d" % n) for n in range(20)]
        results = list(smtp.send_many(sent))
    assert {tuple(each.state for each in result.outcomes) for result in results} == {
        (State.ACCEPTED, State.REJECTED, State.DEFERRED, State.ACCEPTED)
    }
    assert len(host.deliveries) == 20


@pytest.mark.parametrize("chunking", [None, False])
def test_tls(mutual_tls: MutualTLS, chunking: bool | None) -> None:
    host = Host(*BOTH)
    text = b"text\r\n" * 2000
    with (
        Loopback(host, tls=mutual_tls.server) as server,
        csmtplib.SMTP_SSL(
            *server.address,
            local_hostname="client.test",
            timeout=DEADLINE,
            context=mutual_tls.client(with_certificate=True),
        ) as smtp,
    ):
        sent = [("a@x", ["b@x", "c@x"], text)] * 100
        assert all(result.accepted for result in smtp.send_many(sent, chunking=chunking))
        assert smtp.noop()[0] == 250
    assert host.texts == [text] * 100


# How far it goes ahead


class Taken:
    """An iterable that counts what was taken of it."""

    def __init__(self, count: int) -> None:
        self.count = 0
        self._messages = iter(messages(count))

    def __iter__(self) -> Taken:
        return self

    def __next__(self) -> Any:
        made = next(self._messages)
        self.count += 1
        return made


@every_mode
@pytest.mark.parametrize("max_in_flight", [1, 2, 7])
def test_no_more_is_taken_than_may_be_under_way(mode: Mode, max_in_flight: int) -> None:
    taken = Taken(40)
    with Loopback(Host(*OFFERS[mode])) as server, connect(server) as smtp:
        told = 0
        for _ in smtp.send_many(taken, max_in_flight=max_in_flight):
            assert taken.count <= told + max_in_flight
            told += 1
        assert told == taken.count == 40


def test_messages_that_are_wrong_count_too() -> None:
    taken = 0

    def wrong() -> Iterator[Any]:
        nonlocal taken
        for _ in range(20):
            taken += 1
            yield None

    with Loopback(Host(*BOTH)) as server, connect(server) as smtp:
        told = 0
        for result in smtp.send_many(wrong(), max_in_flight=3):
            assert result.error is not None
            assert taken <= told + 3
            told += 1
        assert told == 20


def until(condition: Callable[[], object], seconds: float = 0.5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@every_mode
def test_a_message_is_sent_while_a_slow_iterable_makes_the_next(mode: Mode) -> None:
    host = Host(*OFFERS[mode])
    delivered: list[int] = []

    def slow() -> Iterator[Any]:
        for number in range(5):
            time.sleep(0.05)
            delivered.append(len(host.deliveries))
            yield message(number)

    with Loopback(host) as server, connect(server) as smtp:
        assert all(result.accepted for result in smtp.send_many(slow()))
    assert delivered == [0, 1, 2, 3, 4]


@every_mode
def test_the_first_commands_leave_before_a_slow_iterable_has_the_next(mode: Mode) -> None:
    host = Host(*OFFERS[mode])
    seen: list[bool] = []

    def slow() -> Iterator[Any]:
        yield message(0)
        seen.append(until(lambda: "mail" in host.verbs))

    with Loopback(host) as server, connect(server) as smtp:
        assert all(result.accepted for result in smtp.send_many(slow()))
    assert seen == [True]


# The end before its time


@every_mode
def test_an_iterable_that_raises(mode: Mode) -> None:
    def failing() -> Iterator[Any]:
        yield from messages(5)
        raise ZeroDivisionError("of the iterable")

    host = Host(*OFFERS[mode])
    told: list[Result] = []
    with Loopback(host) as server, connect(server) as smtp:
        with pytest.raises(ZeroDivisionError, match="of the iterable"):
            tell(smtp.send_many(failing()), told)
        assert states(told) == [State.ACCEPTED] * 5
        # Nothing was wrong with the connection.
        assert smtp.noop()[0] == 250
    assert len(host.deliveries) == 5


def test_what_cannot_be_iterated() -> None:
    things: Any = 5
    with Loopback(Host(*BOTH)) as server:
        smtp = connect(server)
        with pytest.raises(TypeError):
            next(smtp.send_many(things))
        # It may be used, or be closed; but it may not be in use.
        if smtp.sock is not None:
            smtp.noop()
        smtp.close()


@needs_reference_counts
@every_mode
def test_leaving_the_loop_closes_the_connection(mode: Mode) -> None:
    host = Host(*OFFERS[mode])
    with Loopback(host) as server:
        smtp = connect(server)
        for _ in smtp.send_many(messages(50)):
            break
        assert smtp.sock is None
        with pytest.raises(SMTPServerDisconnected):
            smtp.noop()


@needs_reference_counts
def test_an_error_in_the_loop() -> None:
    with Loopback(Host(*BOTH)) as server:
        smtp = connect(server)
        results = smtp.send_many(messages(50))
        assert next(results).accepted
        # As when an error in the loop has been handled, and the generator is forgotten.
        del results
        assert smtp.sock is None


@every_mode
@pytest.mark.parametrize("over_tls", [False, True])
def test_closing_in_the_loop(mode: Mode, over_tls: bool, mutual_tls: MutualTLS) -> None:
    """Messages in progress have their results, and then it is closed."""
    host = Host(*OFFERS[mode])
    tls = mutual_tls.server if over_tls else None
    with Loopback(host, tls=tls) as server:
        smtp: Any
        if over_tls:
            context = mutual_tls.client(with_certificate=True)
            smtp = csmtplib.SMTP_SSL(
                *server.address, local_hostname="client.test", timeout=DEADLINE, context=context
            )
        else:
            smtp = connect(server)
        told: list[Result] = []

        def loop() -> None:
            for result in smtp.send_many(messages(50), max_in_flight=4):
                told.append(result)
                smtp.close()

        with pytest.raises(SMTPServerDisconnected, match="closed"):
            loop()
        assert told[0].accepted
        assert len(told) <= 8
        assert smtp.sock is None
    lost = [each for result in told for each in result.outcomes if each.reply is None]
    assert lost
    assert all("closed between two results" in str(each.fault) for each in lost)


@every_mode
def test_a_with_block_left_with_results_to_take(mode: Mode) -> None:
    """T25: was a RuntimeError about another thread. The results that are left tell what became of
    the messages, and then that the connection was closed."""
    host = Host(*OFFERS[mode])
    told: list[Result] = []
    with Loopback(host) as server:
        with connect(server) as smtp:
            results = smtp.send_many(messages(20), max_in_flight=4)
            told.append(next(results))
        assert smtp.sock is None
        with pytest.raises(SMTPServerDisconnected, match="closed between two results"):
            tell(results, told)
    assert told[0].accepted
    assert len(told) <= sum(result.accepted for result in told) + 4
    # What was accepted is told, or in doubt; never deferred.
    deferred = [each.mail for each in told if each.outcomes[0].state is State.DEFERRED]
    assert len(deferred) + len(host.deliveries) <= len(told)
    assert "quit" not in host.verbs


def test_an_error_in_a_with_block_with_results_to_take() -> None:
    """T25: the error of the block is what its caller sees."""

    def block(server: Loopback) -> None:
        with connect(server) as smtp:
            results = smtp.send_many(messages(20))
            assert next(results).accepted
            raise ZeroDivisionError

    with Loopback(Host(*BOTH)) as server, pytest.raises(ZeroDivisionError):
        block(server)


def test_a_with_block_left_under_another_thread() -> None:
    """T25: the results are the other thread's to take."""
    told: list[Result] = []
    gate = threading.Event()
    begun = threading.Event()

    def items() -> Iterator[Any]:
        yield from messages(1)
        begun.set()
        gate.wait(DEADLINE)

    def take_all() -> None:
        # The block ends the stream that this thread still reads.
        with suppress(SMTPServerDisconnected):
            told.extend(smtp.send_many(items()))

    with Loopback(Host(*BOTH)) as server:
        smtp = connect(server)
        thread = threading.Thread(target=take_all)
        thread.start()
        assert begun.wait(DEADLINE)
        with pytest.raises(RuntimeError, match="in use by another thread: make a conn"):
            smtp.__exit__(None, None, None)
        gate.set()
        thread.join(DEADLINE)
    assert not thread.is_alive()


EXIMS = (
    "421 mx.example.org: SMTP command timeout - closing connection",
    "the server closes the session: 421 mx.example.org: SMTP command timeout - closing connection",
)


@every_mode
@pytest.mark.parametrize(
    ("reply", "said"),
    [EXIMS, ("421-4.7.0 one\r\n421 4.7.0 \x1b two", r"session: 421 4.7.0 one / 4.7.0 \x1b two")],
)
def test_what_is_said_of_421(mode: Mode, reply: str, said: str) -> None:
    """T25: was "the server sent the server closes the session: b'421 ...'"."""
    host = Host(*OFFERS[mode], mail=["250 ok", reply])
    told: list[Result] = []
    with Loopback(host) as server, connect(server) as smtp:
        with pytest.raises(SMTPServerDisconnected) as caught:
            tell(smtp.send_many(messages(3)), told)
        assert str(caught.value).startswith("Connection closed: the server closes the session: 421")
        assert str(caught.value).endswith(said)
    faults = [each.fault for result in told for each in result.outcomes if each.reply is None]
    assert faults
    assert all(fault is not None and fault.endswith(said) for fault in faults)


@every_mode
def test_the_connection_is_in_use_within_the_loop(mode: Mode) -> None:
    host = Host(*OFFERS[mode])
    with Loopback(host) as server, connect(server) as smtp:
        uses: list[Callable[[], object]] = [
            smtp.noop,
            smtp.quit,
            lambda: smtp.sendmail("a@x", "b@x", "text"),
            lambda: next(smtp.send_many(messages(1))),
        ]
        told = 0
        for result in smtp.send_many(messages(10)):
            assert result.accepted
            for use in uses:
                with pytest.raises(RuntimeError, match=r"in use by send_many\(\): take all"):
                    use()
            told += 1
        assert told == 10
        assert smtp.noop()[0] == 250
    assert len(host.deliveries) == 10


@every_mode
@pytest.mark.parametrize("step", ["mail", "rcpt", "message"])
def test_the_server_hangs_up(mode: Mode, step: str) -> None:
    answers: dict[str, Any] = {step: ["250 ok"] * 5 + [None]}
    host = Host(*OFFERS[mode], **answers)
    told: list[Result] = []
    taken = Taken(100)
    with Loopback(host) as server:
        smtp = connect(server)
        with pytest.raises(SMTPServerDisconnected):
            tell(smtp.send_many(taken, max_in_flight=10), told)
        assert smtp.sock is None
    assert len(told) == taken.count < 100
    assert states(told)[:5] == [State.ACCEPTED] * 5
    assert State.ACCEPTED not in states(told)[5:]
    assert len(host.deliveries) == 5


@every_mode
def test_421(mode: Mode) -> None:
    host = Host(*OFFERS[mode], mail=["250 ok", "250 ok", "421 4.7.0 enough"])
    told: list[Result] = []
    with Loopback(host) as server:
        smtp = connect(server)
        with pytest.raises(SMTPServerDisconnected):
            tell(smtp.send_many(messages(20), max_in_flight=5), told)
        assert smtp.sock is None
    assert states(told)[:2] == [State.ACCEPTED] * 2
    assert {*states(told)[2:]} == {State.DEFERRED}


@every_mode
def test_number_of_messages_on_a_connection(mode: Mode) -> None:
    """RFC 9422: another connection is told the rest, with what was asked for and not sent."""
    hosts = [Host(*OFFERS[mode], "LIMITS MAILMAX=3") for _ in range(4)]
    rest: Iterator[Any] = iter(messages(10))
    accepted: list[object] = []
    with Loopback(*hosts) as server:
        for _ in hosts[:-1]:
            told: list[Result] = []
            smtp = connect(server)
            with pytest.raises(SMTPServerDisconnected, match="MAILMAX"):
                tell(smtp.send_many(rest), told)
            assert smtp.sock is None
            accepted += [result.mail for result in told if result.accepted]
            left = [result for result in told if not result.accepted]
            assert all("MAILMAX" in str(result.outcomes[0].fault) for result in left)
            rest = itertools.chain([result.mail for result in left], rest)
        with connect(server) as smtp:
            accepted += [result.mail for result in smtp.send_many(rest) if result.accepted]
    assert accepted == messages(10)
    assert [len(host.deliveries) for host in hosts] == [3, 3, 3, 1]
    assert [host.verbs[-1] for host in hosts] == ["quit"] * 4


def test_as_many_messages_as_a_connection_takes() -> None:
    host = Host(*BOTH, "LIMITS MAILMAX=3")
    with Loopback(host) as server, connect(server) as smtp:
        assert [result.accepted for result in smtp.send_many(messages(3))] == [True] * 3


def test_a_server_that_does_not_know_bdat() -> None:
    """Nothing is in doubt: it has taken no message by then."""
    hosts = Host(*BOTH, bdat="502 what?"), Host(*BOTH)
    told: list[Result] = []
    with Loopback(*hosts) as server:
        results = connect(server).send_many(messages(5), max_in_flight=3)
        with pytest.raises(SMTPServerDisconnected, match="does not know BDAT"):
            tell(results, told)
        assert 1 <= len(told) <= 3
        assert {*states(told)} == {State.DEFERRED}
        with connect(server) as smtp:
            assert all(result.accepted for result in smtp.send_many(messages(5)))
    assert "bdat" not in hosts[1].verbs
    assert len(hosts[1].deliveries) == 5


def one_by_one(gate: Gate, before: int) -> Callable[[str], str]:
    """Takes so many messages, and is held up then."""
    count = 0

    def answer(text: str) -> str:
        nonlocal count
        count += 1
        return gate(text) if count > before else "250 ok"

    return answer


def test_time_limit() -> None:
    gate = Gate()
    told: list[Result] = []
    with Loopback(Host(*BOTH, message=one_by_one(gate, 1))) as server:
        smtp = connect(server, timeout=0.3)
        with pytest.raises(SMTPServerDisconnected, match="timed out"):
            tell(smtp.send_many(messages(5)), told)
        gate.opened.set()
    # The second was to show whether the server answers what comes behind a message.
    assert states(told) == [State.ACCEPTED, State.IN_DOUBT, *[State.DEFERRED] * 3]


# Ctrl-C


@every_mode
@pytest.mark.parametrize("over_tls", [False, True])
def test_keyboard_interrupt(mode: Mode, over_tls: bool, mutual_tls: MutualTLS) -> None:
    """The results come first, so that nobody has to guess what was sent."""
    gate = Gate()
    host = Host(*OFFERS[mode], message=one_by_one(gate, 2))
    with Loopback(host, tls=mutual_tls.server if over_tls else None) as server:
        smtp: Any
        if over_tls:
            context = mutual_tls.client(with_certificate=True)
            smtp = csmtplib.SMTP_SSL(
                *server.address, local_hostname="client.test", timeout=DEADLINE, context=context
            )
        else:
            smtp = connect(server)
        told: list[Result] = []
        begun = time.monotonic()
        with (
            interrupted_after(lambda: gate.reached.wait(DEADLINE)),
            pytest.raises(KeyboardInterrupt),
        ):
            tell(smtp.send_many(messages(20), max_in_flight=10), told)
        assert time.monotonic() - begun < DEADLINE / 2
        assert smtp.sock is None
        gate.opened.set()
    assert states(told)[:3] == [State.ACCEPTED, State.ACCEPTED, State.IN_DOUBT]
    assert State.ACCEPTED not in states(told)[2:]
    assert all("KeyboardInterrupt" in str(each.outcomes[0].fault) for each in told[2:])


def test_keyboard_interrupt_in_the_iterable() -> None:
    def interrupted() -> Iterator[Any]:
        yield from messages(3)
        raise KeyboardInterrupt

    told: list[Result] = []
    with (
        Loopback(Host(*BOTH)) as server,
        connect(server) as smtp,
        pytest.raises(KeyboardInterrupt),
    ):
        tell(smtp.send_many(interrupted()), told)
    assert states(told) == [State.ACCEPTED] * 3


# Sockets of other makes


class ForeignSocket:
    """A socket that is of no class of the standard library's, and cuts what it sends in pieces."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes) -> int:
        return self._sock.send(data[:999])

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data)

    def recv(self, size: int) -> bytes:
        return self._sock.recv(min(size, 99))

    def recv_into(self, buffer: Any) -> int:
        return self._sock.recv_into(buffer)

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def gettimeout(self) -> float | None:
        return self._sock.gettimeout()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()


class OverForeignSocket(csmtplib.SMTP):
    make: Any = ForeignSocket

    def _get_socket(self, *arguments: Any) -> Any:
        return self.make(super()._get_socket(*arguments))


@every_mode
def test_a_foreign_socket(mode: Mode) -> None:
    host = Host(*OFFERS[mode])
    with (
        Loopback(host) as server,
        OverForeignSocket(*server.address, local_hostname="client.test", timeout=DEADLINE) as smtp,
    ):
        sent = [("a@x", ["b@x", "c@x"], b"text\r\n" * 1000)] * 20
        assert all(result.accepted for result in smtp.send_many(sent))
        assert smtp.noop()[0] == 250
    assert host.texts == [b"text\r\n" * 1000] * 20


def test_a_foreign_socket_that_is_read_by_its_file() -> None:
    """Bytes that its file has read ahead can't be seen: the error says so, and nothing is sent."""
    host = Host(*BOTH)

    class Plain:
        def __init__(self, sock: socket.socket) -> None:
            self.sendall, self.makefile = sock.sendall, sock.makefile
            self.send, self.recv = sock.send, sock.recv
            self.settimeout, self.gettimeout = sock.settimeout, sock.gettimeout
            self.fileno, self.close = sock.fileno, sock.close

    class OverPlain(OverForeignSocket):
        make = Plain

    with Loopback(host) as server:
        smtp = OverPlain(*server.address, local_hostname="client.test", timeout=DEADLINE)
        try:
            assert all(result.accepted for result in smtp.send_many(messages(3)))
        except (TypeError, csmtplib.SMTPException):
            assert "mail" not in host.verbs
            assert smtp.noop()[0] == 250
        finally:
            smtp.close()


GREEN = """
import {module}
{patch}
import sys, time
sys.path.insert(0, {root!r})
import csmtplib
from tests.client.loopback import Loopback
from tests.protocol.serving import Host
from csmtplib.drive import transactions

# The server is another green thread, and so are the ticks: who waits without giving way stops all.
host = Host("PIPELINING", "CHUNKING")
ticks = 0

def tick():
    global ticks
    while True:
        ticks += 1
        {sleep}(0.001)

{spawn}(tick)
with Loopback(host) as server:
    with csmtplib.SMTP(*server.address, local_hostname="client.test", timeout=10) as smtp:
        assert type(smtp.sock) not in transactions.ORIGINAL, type(smtp.sock)
        for chunking in (None, False):
            sent = [("a@x", ["b@x", "c@x"], b"text\\r\\n" * 5000)] * 50
            assert all(each.accepted for each in smtp.send_many(sent, chunking=chunking))
        assert smtp.sendmail("a@x", "b@x", b"text\\r\\n") == {{}}
print(len(host.deliveries), ticks > 1)
"""


@pytest.mark.parametrize(
    ("module", "patch", "sleep", "spawn"),
    [
        (
            "gevent.monkey",
            "gevent.monkey.patch_all()",
            "gevent.sleep",
            "gevent.spawn",
        ),
        ("eventlet", "eventlet.monkey_patch()", "eventlet.sleep", "eventlet.spawn"),
    ],
    ids=["gevent", "eventlet"],
)
def test_green_threads(module: str, patch: str, sleep: str, spawn: str) -> None:
    pytest.importorskip(module.partition(".")[0])
    code = GREEN.format(module=module, patch=patch, sleep=sleep, spawn=spawn, root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "101 True\n", done.stderr


# Threads


def test_a_connection_for_each_thread() -> None:
    hosts = [Host(*BOTH) for _ in range(4)]
    told: list[bool] = []

    def send(server: Loopback) -> None:
        with connect(server) as smtp:
            told.extend(result.accepted for result in smtp.send_many(messages(100)))

    servers = [Loopback(host) for host in hosts]
    threads = [threading.Thread(target=send, args=(server,)) for server in servers]
    for server in servers:
        server.__enter__()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    for server in servers:
        server.__exit__(None, None, None)
    assert told == [True] * 400
    assert [len(host.deliveries) for host in hosts] == [100] * 4
