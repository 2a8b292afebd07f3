"""SMTPPool: who gets a connection, when connections are replaced, and what senders learn of a
server that is away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from csmtplib import aio
from csmtplib.aio import pool as pools
from csmtplib.protocol.server_url import TLS, Server, ServerURLError

from . import scripted
from .running import LIMIT, run
from .scripted import Cut, offer

pytestmark = pytest.mark.usefixtures("each_loop")

MESSAGE = b"Subject: Hi\r\n\r\nHello\r\n"


def url(server: scripted.Server, options: str = "", user: str = "") -> str:
    return f"smtp://{user}127.0.0.1:{server.port}?name=client.test{options}"


async def send(pool: aio.SMTPPool, recipient: str = "you@example.net", **options: Any) -> str:
    _, text = await pool.send(MESSAGE, sender="me@example.org", recipients=recipient, **options)
    return text


def test_messages_share_a_connection() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server)) as pool:
            for _ in range(5):
                assert await send(pool) == "queued"
            assert pool.open_connections == 1

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
        assert len(server.connections) == 1
        assert server.verbs.count("ehlo") == 1
        assert server.verbs[-1] == "quit"
    assert [each.text for each in server.deliveries] == [MESSAGE] * 5


def test_a_message_takes_its_envelope_from_its_headers() -> None:
    message = EmailMessage()
    message["From"] = "me@example.org"
    message["To"] = "a@example.net"
    message["Bcc"] = "b@example.net"
    message.set_content("Hello\n")

    async def main() -> None:
        async with aio.SMTPPool(url(server)) as pool:
            refused, _ = await pool.send(message)
            assert refused == {"b@example.net": (550, "no such user")}

    answers = {"rcpt": lambda line: "550 no such user" if "<b@" in line else "250 ok"}
    with scripted.Server(offer(**answers)) as server:
        run(main())
    assert b"Bcc" not in server.deliveries[0].text


def test_many_tasks_use_few_connections_and_are_served_in_order() -> None:
    served: list[int] = []

    async def one(pool: aio.SMTPPool, number: int) -> None:
        await send(pool, f"{number}@example.net")
        served.append(number)

    async def main() -> None:
        async with aio.SMTPPool(url(server), size=1) as pool:
            await asyncio.gather(*(one(pool, number) for number in range(100)))

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
        assert len(server.connections) == 1
    assert served == list(range(100))


def test_no_more_than_size_connections_are_opened() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server), size=3) as pool:
            await asyncio.gather(*(send(pool) for _ in range(50)))
            assert pool.open_connections == 3

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
        assert len(server.connections) == 3
    assert len(server.deliveries) == 50


def test_a_task_that_waits_too_long_is_told() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server), size=1) as pool:
            first = asyncio.ensure_future(send(pool))
            await asyncio.sleep(0.05)
            with pytest.raises(aio.SMTPTimeoutError, match=r"free within 0\.05 s"):
                await send(pool, timeout=0.05)
            assert pool.waiting == 0
            server.connections[0].send("250 ok")
            server.connections[0].send("250 ok")
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first

    with scripted.Server(offer(mail=scripted.Silence())) as server:
        run(main())


def test_a_login_happens_once_a_connection() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server, "&cleartext-auth=yes", "me:secret@")) as pool:
            for _ in range(3):
                await send(pool)

    with scripted.Server(offer("AUTH PLAIN")) as server:
        run(main())
    assert server.verbs.count("auth") == 1


def test_a_password_is_not_sent_in_the_clear() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server, "", "me:secret@")) as pool:
            with pytest.raises(aio.SMTPNotSupported, match="in the clear"):
                await send(pool)

    with scripted.Server(offer("AUTH PLAIN")) as server:
        run(main())
    assert "auth" not in server.verbs


def test_each_login_asks_for_a_token() -> None:
    given = iter(["one", "two"])

    async def tokens() -> str:
        return next(given)

    async def main() -> None:
        where = url(server, "&cleartext-auth=yes", "me:none@")
        async with aio.SMTPPool(where, tokens=tokens, max_messages=1) as pool:
            await send(pool)
            await send(pool)

    with scripted.Server(offer("AUTH XOAUTH2")) as server:
        run(main())
    logins = [each for each in server.lines if each.startswith("AUTH XOAUTH2")]
    assert len(set(logins)) == len(logins) == 2


def test_a_connection_takes_so_many_messages() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server), max_messages=2) as pool:
            for _ in range(5):
                await send(pool)

    with scripted.Server(offer()) as server:
        run(main())
        assert len(server.connections) == 3
    assert server.verbs.count("quit") == 3


def test_a_connection_is_replaced_when_it_is_old() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server), max_age=0.05) as pool:
            await send(pool)
            await asyncio.sleep(0.1)
            await send(pool)

    with scripted.Server(offer()) as server:
        run(main())
        assert len(server.connections) == 2


def test_an_idle_connection_is_closed() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server), idle=0.05) as pool:
            await send(pool)
            assert pool.open_connections == 1
            while pool.open_connections:
                await asyncio.sleep(0.01)

    with scripted.Server(offer()) as server:
        run(main())
    assert server.verbs[-1] == "quit"


@pytest.mark.parametrize("farewell", [None, "421 4.4.2 idle too long"])
def test_a_dead_connection_is_found_without_a_round_trip(farewell: str | None) -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server)) as pool:
            await send(pool)
            if farewell is None:
                server.hang_up()
            else:
                server.say(farewell)
            # As a program that computes: the loop has not seen it.
            time.sleep(0.05)
            await send(pool)

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
        assert len(server.connections) == 2
    # Nothing was said to the dead one.
    assert server.verbs == ["ehlo", "mail", "rcpt", "data", "ehlo", *server.verbs[5:]]
    assert len(server.deliveries) == 2


@pytest.mark.parametrize("answer", [Cut(), "421 4.4.2 idle too long"])
def test_a_message_that_has_not_left_is_sent_again_once(answer: scripted.Answer) -> None:
    mails = iter(["250 ok", answer])

    async def main() -> None:
        async with aio.SMTPPool(url(server)) as pool:
            await send(pool)
            assert await send(pool) == "queued"

    with scripted.Server(offer(mail=lambda line: next(mails, "250 ok"))) as server:
        run(main())
        assert len(server.connections) == 2
    assert len(server.deliveries) == 2


def test_a_message_in_doubt_is_not_sent_again() -> None:
    messages: Iterator[scripted.Answer] = iter(["250 queued", Cut()])

    async def main() -> None:
        async with aio.SMTPPool(url(server)) as pool:
            await send(pool)
            with pytest.raises(aio.SMTPServerDisconnected) as raised:
                await send(pool)
            result = raised.value.csmtplib_result
            assert result is not None
            assert [each.state.value for each in result.outcomes] == ["in doubt"]

    with scripted.Server(offer(message=lambda line: next(messages))) as server:
        run(main())
        assert len(server.connections) == 1


def test_a_fresh_connection_that_is_lost_is_not_tried_again() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server)) as pool:
            with pytest.raises(aio.SMTPServerDisconnected):
                await send(pool)

    with scripted.Server(offer(mail=Cut())) as server:
        run(main())
        assert len(server.connections) == 1


def test_a_refusal_leaves_the_connection_to_the_next() -> None:
    recipients = {"rcpt": lambda line: "550 no" if "bad" in line else "250 ok"}

    async def main() -> None:
        async with aio.SMTPPool(url(server)) as pool:
            with pytest.raises(aio.SMTPRecipientsRefused):
                await send(pool, "bad@example.net")
            await send(pool)

    with scripted.Server(offer("PIPELINING", **recipients)) as server:
        run(main())
        assert len(server.connections) == 1
    assert len(server.deliveries) == 1


def test_senders_fail_fast_while_the_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_PAUSE_SECONDS", 0.2)

    async def main() -> None:
        pool = aio.SMTPPool("smtp://127.0.0.1:1", size=2)
        errors = await asyncio.gather(*(send(pool) for _ in range(50)), return_exceptions=True)
        assert {type(each) for each in errors} == {aio.SMTPConnectError}
        with pytest.raises(aio.SMTPConnectError, match=r"the next try is in 0\.\d s"):
            await send(pool)
        await pool.close()

    run(main())


def test_the_pool_goes_on_when_the_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_PAUSE_SECONDS", 0.05)
    greetings = iter(["421 too busy"])

    async def main() -> None:
        async with aio.SMTPPool(url(server)) as pool:
            with pytest.raises(aio.SMTPConnectResponseError):
                await send(pool)
            with pytest.raises(aio.SMTPConnectError, match="the next try"):
                await send(pool)
            await asyncio.sleep(0.1)
            assert await send(pool) == "queued"

    with scripted.Server(offer(greeting=lambda line: next(greetings, "220 mx"))) as server:
        run(main())


def test_a_server_that_takes_few_connections_gets_no_more() -> None:
    greetings = iter(["220 mx", "220 mx"])

    async def main() -> None:
        async with aio.SMTPPool(url(server), size=5) as pool:
            await send(pool)
            await asyncio.gather(*(send(pool) for _ in range(80)))
            assert pool.open_connections == 2

    with scripted.Server(
        offer(greeting=lambda line: next(greetings, "421 too many connections"))
    ) as server:
        run(main())
        assert len(server.connections) <= 5
    assert len(server.deliveries) == 81


def test_a_burst_waits_for_the_connections_that_the_server_takes() -> None:
    greetings = iter(["220 mx.test", "220 mx.test"])

    def hello(line: str) -> str:
        time.sleep(0.05)  # refusals come sooner than sessions
        return "250-mx.test\r\n250 PIPELINING"

    async def main() -> None:
        async with aio.SMTPPool(url(server), size=10) as pool:
            await asyncio.gather(*(send(pool) for _ in range(20)))

    def greet(line: str) -> str:
        return next(greetings, "421 too many connections")

    with scripted.Server(offer(greeting=greet, ehlo=hello)) as server:
        run(main())
    assert len(server.deliveries) == 20


def test_a_limit_is_forgotten_although_tasks_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_LIMIT_SECONDS", 0.1)
    greetings = iter(["220 mx.test", "421 too many connections"])

    def answer(line: str) -> str:
        time.sleep(0.02)
        return "250 queued"

    async def main() -> None:
        async with aio.SMTPPool(url(server), size=2) as pool:
            await asyncio.gather(*(send(pool) for _ in range(30)))
            assert pool.open_connections == 2

    def greet(line: str) -> str:
        return next(greetings, "220 mx.test")

    with scripted.Server(offer(greeting=greet, message=answer)) as server:
        run(main())


def test_a_session_that_is_never_opened() -> None:
    async def main() -> None:
        async with aio.SMTPPool(url(server), timeout=0.1) as pool:
            with pytest.raises(aio.SMTPTimeoutError):
                await send(pool)

    with scripted.Server(offer(ehlo=scripted.Silence())) as server:
        run(main())


def test_the_timeout_of_the_server_is_that_of_the_pool() -> None:
    assert aio.SMTPPool("smtp://127.0.0.1:1?timeout=7").timeout == 7
    assert aio.SMTPPool("smtp://127.0.0.1:1?timeout=7", timeout=3).timeout == 3
    assert aio.SMTPPool("smtp://127.0.0.1:1").timeout == 60


@pytest.mark.parametrize(("size", "places"), [(1, 0), (5, 100)])
def test_waiting_is_fair(size: int, places: int) -> None:
    """Threads of the server take turns, so of several connections one may be behind."""
    order: list[int] = []

    async def one(pool: aio.SMTPPool, number: int) -> None:
        await send(pool, f"{number}@example.net")
        order.append(number)

    async def main() -> None:
        async with aio.SMTPPool(url(server), size=size) as pool:
            await asyncio.gather(*(one(pool, number) for number in range(500)))
            assert pool.open_connections == size

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    assert max(abs(place - number) for place, number in enumerate(order)) <= places


def test_a_server_that_restarts_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "_PAUSE_SECONDS", 0.02)
    is_away = False
    told: dict[str, str] = {}

    async def one(pool: aio.SMTPPool, number: int) -> None:
        recipient = f"{number}@example.net"
        try:
            await send(pool, recipient)
            told[recipient] = "accepted"
        except aio.SMTPException as error:
            result = aio.result_of(error)
            told[recipient] = "not sent" if result is None else result.outcomes[0].state.value

    async def many(pool: aio.SMTPPool, first: int) -> None:
        for number in range(first, 400, 40):
            await one(pool, number)

    async def restart() -> None:
        nonlocal is_away
        for _ in range(3):
            await asyncio.sleep(0.03)
            is_away = True
            for each in list(server.connections):
                each.end()
            await asyncio.sleep(0.03)
            is_away = False

    async def main() -> None:
        async with aio.SMTPPool(url(server), size=4) as pool:
            await asyncio.gather(restart(), *(many(pool, first) for first in range(40)))
            while told.setdefault("last", "") != "accepted":
                await one(pool, 1000)
                told["last"] = told["1000@example.net"]
                await asyncio.sleep(0.01)

    def greet(line: str) -> scripted.Answer:
        return Cut() if is_away else "220 mx.test"

    with scripted.Server(offer("PIPELINING", greeting=greet)) as server:
        run(main())
    copies = [each.recipients[0].split("<")[1].split(">")[0] for each in server.deliveries]
    for recipient, state in told.items():
        if recipient not in ("last", "1000@example.net"):
            count = copies.count(recipient)
            allowed = {"accepted": (1,), "in doubt": (0, 1)}.get(state, (0,))
            assert count in allowed, (recipient, state, count)
    assert len(told) == 402


def test_closing_waits_for_messages_in_progress() -> None:
    received, closing = threading.Event(), threading.Event()

    def answer(line: str) -> str:
        received.set()
        closing.wait(LIMIT)
        return "250 queued"

    async def main() -> None:
        pool = aio.SMTPPool(url(server), size=1)
        sending = asyncio.ensure_future(send(pool))
        waiting = asyncio.ensure_future(send(pool))
        await asyncio.to_thread(received.wait, LIMIT)
        asyncio.get_running_loop().call_later(0.05, closing.set)
        await pool.close()
        assert await sending == "queued"
        with pytest.raises(RuntimeError, match="closed"):
            await waiting
        with pytest.raises(RuntimeError, match="closed"):
            await send(pool)

    with scripted.Server(offer(message=answer)) as server:
        run(main())


def test_a_pool_belongs_to_one_loop() -> None:
    pool = aio.SMTPPool("smtp://127.0.0.1:1")

    async def main(error: type[Exception]) -> None:
        with pytest.raises(error):
            await send(pool)

    run(main(aio.SMTPConnectError))
    run(main(RuntimeError))


async def a_token() -> str:
    return "token"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"server": 25}, TypeError),
        ({"server": "mail.example.org"}, ServerURLError),
        ({"size": 0}, ValueError),
        ({"size": "10"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"max_age": -1}, ValueError),
        ({"max_messages": 0}, ValueError),
        ({"idle": "30"}, TypeError),
        ({"tokens": "secret"}, TypeError),
        ({"tokens": a_token}, ValueError),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        aio.SMTPPool(**{"server": Server(host="127.0.0.1", tls=TLS.NEVER), **arguments})


def test_raw_messages_need_an_envelope() -> None:
    async def main() -> None:
        async with aio.SMTPPool("smtp://127.0.0.1:1") as pool:
            with pytest.raises(ValueError, match="Recipients"):
                await pool.send(MESSAGE, sender="me@example.org")
            with pytest.raises(ValueError, match="Sender"):
                await pool.send(MESSAGE, recipients="you@example.net")

    run(main())
