"""SMTP.send_many() of csmtplib.aio: from any iterable, in each mode, and what becomes of messages
when the connection or the source fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from csmtplib import MailObject, Result, aio

from . import scripted
from .running import run
from .scripted import Cut, offer

pytestmark = pytest.mark.usefixtures("each_loop")


Messages = Callable[[int], Any]


def letter(number: int) -> tuple[str, str, bytes]:
    return "me@example.org", f"{number}@example.net", b"Subject: %d\r\n\r\n.\r\n" % number


def as_list(count: int) -> list[tuple[str, str, bytes]]:
    return [letter(number) for number in range(count)]


async def as_they_come(count: int) -> AsyncIterator[tuple[str, str, bytes]]:
    for number in range(count):
        yield letter(number)


async def with_pauses(count: int) -> AsyncIterator[tuple[str, str, bytes]]:
    for number in range(count):
        if number % 7 == 3:
            await asyncio.sleep(0)
        yield letter(number)


SOURCES = pytest.mark.parametrize("messages", [as_list, as_they_come, with_pauses])
OFFERS = pytest.mark.parametrize("extensions", [(), ("PIPELINING",), ("PIPELINING", "SIZE 999")])


def client_of(server: scripted.Server, **options: Any) -> aio.SMTP:
    return aio.SMTP(
        hostname="127.0.0.1", port=server.port, local_hostname="client.test", timeout=5, **options
    )


async def collect(found: AsyncIterator[Result], results: list[Result]) -> None:
    async for each in found:
        results.append(each)  # also those before an exception


def states(results: Iterable[Result]) -> list[str]:
    return [each.state.value for result in results for each in result.outcomes]


@SOURCES
@OFFERS
@pytest.mark.parametrize("count", [0, 1, 2, 250])
def test_every_message_has_its_result_in_order(
    messages: Messages, extensions: tuple[str, ...], count: int
) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            results = [each async for each in client.send_many(messages(count))]
            assert states(results) == ["accepted"] * count
            assert [each.recipients for each in results] == [
                [f"{number}@example.net"] for number in range(count)
            ]
            # The connection is free for others.
            await client.noop()

    with scripted.Server(offer(*extensions)) as server:
        run(main())
    assert [each.text for each in server.deliveries] == [
        b"Subject: %d\r\n\r\n.\r\n" % number for number in range(count)
    ]


@SOURCES
def test_at_most_so_many_messages_are_in_progress(messages: Messages) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            results = client.send_many(messages(30), max_in_flight=3)
            assert len([each async for each in results]) == 30

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


def test_results_come_while_the_source_waits() -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[tuple[str, str, bytes]]:
        for number in range(3):
            yield letter(number)
        await more.wait()
        yield letter(3)

    async def main() -> None:
        async with client_of(server) as client:
            results = client.send_many(source())
            first = [await results.__anext__() for _ in range(3)]
            assert states(first) == ["accepted"] * 3
            more.set()
            assert states([each async for each in results]) == ["accepted"]

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


@SOURCES
def test_what_the_source_raises_comes_after_the_results(messages: Messages) -> None:
    class Broken(Exception):
        pass

    def plain() -> Iterable[Any]:
        yield from as_list(3)
        raise Broken

    async def asynchronous() -> AsyncIterator[Any]:
        async for each in messages(3):
            yield each
        raise Broken

    async def main() -> None:
        async with client_of(server) as client:
            results: list[Result] = []
            source: Any = plain() if messages is as_list else asynchronous()
            with pytest.raises(Broken):
                await collect(client.send_many(source), results)
            assert states(results) == ["accepted"] * 3
            await client.noop()

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


@SOURCES
def test_a_lost_connection_tells_of_every_message_that_was_taken(messages: Messages) -> None:
    async def main() -> None:
        client = client_of(server)
        await client.connect()
        results: list[Result] = []
        with pytest.raises(aio.SMTPServerDisconnected):
            await collect(client.send_many(messages(10)), results)
        found = states(results)
        assert found[:2] == ["accepted"] * 2
        assert "in doubt" in found
        assert set(found[2:]) <= {"in doubt", "deferred"}
        assert not client.is_connected
        await client.connect()
        client.close()

    answers = iter(["250 queued", "250 queued"])
    with scripted.Server(offer("PIPELINING", message=lambda line: next(answers, Cut()))) as server:
        run(main())


@SOURCES
def test_refusals_are_results(messages: Messages) -> None:
    def answer(line: str) -> str:
        return "550 5.1.1 no" if "<2@" in line else "250 ok"

    async def main() -> None:
        async with client_of(server) as client:
            results = [each async for each in client.send_many(messages(5))]
            assert states(results) == ["accepted", "accepted", "rejected", "accepted", "accepted"]

    with scripted.Server(offer("PIPELINING", rcpt=answer)) as server:
        run(main())


@SOURCES
def test_a_message_that_cannot_be_sent_has_an_error(messages: Messages) -> None:
    async def source() -> AsyncIterator[Any]:
        yield letter(0)
        yield MailObject("me@example.org", "bad\r\n@example.net", b"")
        yield 7
        yield letter(1)

    async def main() -> None:
        async with client_of(server) as client:
            found: Any = source() if messages is not as_list else [each async for each in source()]
            results = [each async for each in client.send_many(found)]
            assert [type(each.error).__name__ for each in results] == [
                "NoneType",
                "Unsendable",
                "TypeError",
                "NoneType",
            ]

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


@SOURCES
def test_a_server_that_takes_few_messages_on_a_connection(messages: Messages) -> None:
    async def main() -> None:
        client = client_of(server)
        await client.connect()
        results: list[Result] = []
        with pytest.raises(aio.SMTPServerDisconnected, match="MAILMAX"):
            await collect(client.send_many(messages(5)), results)
        assert states(results) == ["accepted", "accepted", "deferred"]
        client.close()

    with scripted.Server(offer("PIPELINING", "LIMITS MAILMAX=2")) as server:
        run(main())
    assert server.verbs[-1] == "quit"


@SOURCES
def test_a_server_that_takes_just_these_messages(messages: Messages) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            results = [each async for each in client.send_many(messages(2))]
            assert states(results) == ["accepted"] * 2

    with scripted.Server(offer("PIPELINING", "LIMITS MAILMAX=2")) as server:
        run(main())


@SOURCES
@pytest.mark.parametrize("taken", [0, 1, 5])
def test_leaving_the_loop_closes_the_connection(messages: Messages, taken: int) -> None:
    async def main() -> None:
        client = client_of(server)
        await client.connect()
        results = client.send_many(messages(100))
        for _ in range(taken):
            await results.__anext__()
        await results.aclose()
        assert client.is_connected == (taken == 0)
        if not client.is_connected:
            await client.connect()
        await client.sendmail("me@example.org", "last@example.net", "Subject: last\r\n\r\n")
        client.close()

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    # The session that was left may be taking what had come, meanwhile.
    assert any(each.text.startswith(b"Subject: last") for each in server.deliveries)


def test_a_cancellation_tells_of_every_message_whose_result_was_not_taken() -> None:
    answers = iter(["250 queued"])

    async def main() -> None:
        client = client_of(server)
        await client.connect()
        results: list[Result] = []

        async def send() -> None:
            await collect(client.send_many(as_list(4)), results)

        task = asyncio.ensure_future(send())
        while not results:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert states([*results, *aio.results_of(raised.value)]) == [
            "accepted",
            "in doubt",
            "deferred",
            "deferred",
        ]
        assert not client.is_connected

    def answer(line: str) -> scripted.Answer:
        return next(answers, scripted.Silence())

    with scripted.Server(offer("PIPELINING", message=answer)) as server:
        run(main())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((("me@example.org", "you@example.net", b""),), TypeError),
        ((b"Subject: Hi",), TypeError),
        ((7,), TypeError),
        (([], 0), ValueError),
        (([], "1"), TypeError),
    ],
)
def test_arguments_are_checked_at_once(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    client = aio.SMTP()
    named = dict(zip(("messages", "max_in_flight"), arguments, strict=False))
    with pytest.raises(error):
        client.send_many(**named)


def test_a_client_that_is_not_connected() -> None:
    async def main() -> None:
        with pytest.raises(aio.SMTPServerDisconnected, match="not connected"):
            await aio.SMTP().send_many(as_list(1)).__anext__()

    run(main())


def test_messages_wait_for_the_stream_to_end() -> None:
    async def main() -> None:
        async with client_of(server) as client:
            results = client.send_many(with_pauses(20))
            await results.__anext__()
            last = asyncio.ensure_future(
                client.sendmail("me@example.org", "last@example.net", "Subject: last\r\n\r\n")
            )
            assert len([each async for each in results]) == 19
            await last

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    texts = [each.text for each in server.deliveries]
    assert texts[-1].startswith(b"Subject: last")
    assert len(texts) == 21


@pytest.mark.parametrize("at_once", [True, False])
def test_a_source_that_raises_cancelled_error_itself(at_once: bool) -> None:
    async def source() -> AsyncIterator[tuple[str, str, bytes]]:
        yield letter(0)
        if not at_once:
            await asyncio.sleep(0.02)
        raise asyncio.CancelledError

    async def main() -> None:
        async with client_of(server) as client:
            results: list[Result] = []
            with pytest.raises(asyncio.CancelledError):
                await collect(client.send_many(source()), results)
            assert states(results) == ["accepted"]

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


def test_a_message_that_comes_while_the_server_is_asked_again() -> None:
    """T6: the server does not answer RSET behind the first message; EHLO shows that it is there."""
    more = asyncio.Event()

    async def source() -> AsyncIterator[tuple[str, str, bytes]]:
        yield letter(0)
        yield letter(1)
        await more.wait()
        yield letter(2)

    async def main() -> None:
        client = client_of(server)
        await client.connect()
        results = client.send_many(source())
        found = [await results.__anext__()]
        asyncio.get_running_loop().call_later(0.1, more.set)
        found += [each async for each in results]
        assert states(found) == ["accepted"] * 3
        client.close()

    hellos = 0

    def hello(line: str) -> str:
        nonlocal hellos
        hellos += 1
        if hellos > 1:
            more.set()
            time.sleep(0.05)
        return "250-mx.test\r\n250 PIPELINING"

    with scripted.Server(offer(ehlo=hello, rset=b"")) as server:
        run(main())
    assert len(server.deliveries) == 3


def test_the_results_of_a_stream_that_is_left_are_kept() -> None:
    async def main() -> None:
        client = client_of(server)
        await client.connect()
        found: list[Result] = []
        begun: list[tuple[str, str, bytes]] = []

        def taken(mail: tuple[str, str, bytes]) -> tuple[str, str, bytes]:
            begun.append(mail)
            return mail

        async def send() -> None:
            async for each in client.send_many(map(taken, as_list(20))):
                found.append(each)
                await asyncio.sleep(10)

        task = asyncio.ensure_future(send())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)
        assert 0 < len(found) < len(begun) == len(found) + len(client.left_results)

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


def test_results_that_nobody_asks_for() -> None:
    with pytest.warns(RuntimeWarning, match=r"SMTP\.send_many\(\) were never asked for"):
        aio.SMTP().send_many([])


def test_commands_wait_for_the_connection_that_they_were_meant_for() -> None:
    async def main() -> None:
        client = client_of(server)
        await client.connect()
        results = client.send_many(as_they_come(3))
        await results.__anext__()
        command = asyncio.ensure_future(client.noop())
        message = asyncio.ensure_future(client.sendmail("a@x.test", ["b@x.test"], "x"))
        await asyncio.sleep(0.01)
        server.hang_up()
        while client.is_connected:
            await asyncio.sleep(0.01)
        await client.connect()
        await results.aclose()
        for each in (command, message):
            with pytest.raises(aio.SMTPServerDisconnected):
                await each
        await client.noop()
        client.close()

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
