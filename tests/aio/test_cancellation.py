"""A cancellation at every await of every method: what is told of the messages is so, the client
goes on, and nothing is left.

Each program is run again and again, and cancelled after 0, 1, 2, ... steps of the event loop, until
it ends before that. The server is in the same loop, and takes some turns of it for each reply.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from email.message import EmailMessage
from itertools import count, zip_longest
from typing import Any

import pytest
import trustme

from csmtplib import aio
from csmtplib.protocol import extension_policy
from csmtplib.protocol.mail_object import MailObject
from csmtplib.protocol.result import Result
from csmtplib.protocol.server_url import TLS
from csmtplib.protocol.server_url import Server as PoolServer

from .cancelling import (
    Server,
    cancelled_after,
    check,
    ended,
    is_done_after,
    nothing_is_left,
    reason_of,
    run,
    run_to_end,
    serving,
)

Program = Callable[[aio.SMTP], Coroutine[Any, Any, object]]

# What an error, or None, tells of the messages, after it was held against what the server has.
Check = Callable[[BaseException | None], "set[str]"]

# Begins a program of a client.
Begin = Callable[[aio.SMTP], "tuple[Coroutine[Any, Any, object], Check]"]

# Runs a program and cancels it after some steps; returns what ended it, None if it had ended.
Cancel = Callable[[int, Coroutine[Any, Any, object]], Awaitable[BaseException | None]]

SENDER = "a@x.test"
ONE = ["b@x.test"]
THREE = ["b@x.test", "c@x.test", "d@x.test"]
TEXT = b"Subject: it\r\n\r\n.dots\r\n.\r\nit\r\n"
NEXT = b"Subject: next\r\n\r\nnext\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + b".y" * 35 + b"\r\n" * 1
LARGE += (b"z" * 76 + b"\r\n") * (1_000_000 // 78)

MODES = {
    "sequential": (),
    "pipelined": ("PIPELINING", "SIZE"),
    "chunked": ("PIPELINING", "CHUNKING", "8BITMIME"),
}
# Turns before each reply, and whether it comes in two pieces.
PACES = {"at once": (0, False), "a turn": (1, False), "in pieces": (1, True)}


def few_only(value: object) -> Any:
    """A parameter of tests that do not run everywhere."""
    return pytest.param(value, marks=pytest.mark.long)


every_mode = pytest.mark.parametrize("mode", MODES)
every_pace = pytest.mark.parametrize("pace", [few_only("at once"), few_only("a turn"), "in pieces"])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


def client_of(server: Server, **settings: Any) -> aio.SMTP:
    """A client that is not connected yet. It sends by BDAT where that is offered."""
    kind = aio.LMTP if server.is_lmtp else aio.SMTP
    settings = {"start_tls": False, **settings}
    client = kind(hostname="127.0.0.1", port=server.port, local_hostname="client.test", **settings)
    client.chunking = True
    return client


async def goes_on(client: aio.SMTP, server: Server) -> None:
    """The next message goes over the same connection, or over another one; the server gets that and
    nothing else."""
    server.forget()
    if not client.is_connected:
        await client.connect()
    server.refused, refused = frozenset(), server.refused
    server.verdict, verdict = b"250 queued", server.verdict
    assert await client.sendmail(SENDER, ONE, NEXT) == ({}, "queued")
    server.refused, server.verdict = refused, verdict
    assert [(each.text, each.recipients) for each in server.copies] == [(NEXT, ONE)]
    client.close()


async def prove(server: Server, **settings: Any) -> None:
    """Have the host known as one that can do what it offers."""
    client = client_of(server, **settings)
    refused, server.refused = server.refused, frozenset()
    verdict, server.verdict = server.verdict, b"250 queued"
    await client.connect()
    for _ in range(2):
        await client.sendmail(SENDER, ONE, NEXT)
    async for result in client.send_many([(SENDER, ONE, NEXT)] * 3):
        assert result.accepted
    client.close()
    await server.all_closed()
    server.refused, server.verdict = refused, verdict
    server.forget()


async def at_every_step(
    server: Server,
    begin: Begin,
    *,
    pace: str = "a turn",
    is_connected: bool = True,
    is_proven: bool = False,
    cancel: Cancel = cancelled_after,
    prepare: Callable[[aio.SMTP], object] | None = None,
    **settings: Any,
) -> set[str]:
    """Cancel a program after each of its steps. Return all that was told of its message.

    begin: returns the program, and how to check what it has told when the server has all that it
    will get. cancel: does it. prepare: is given the connected client before the first step.
    """
    before = asyncio.all_tasks()
    told: set[str] = set()
    if is_proven:
        await prove(server, **settings)
    for steps in count():
        if not is_proven:
            extension_policy._hosts.clear()
        client = client_of(server, **settings)
        server.paced(0)
        if is_connected:
            await client.connect()
            await client.ehlo()
        if prepare is not None:
            prepare(client)
        server.forget()
        server.paced(*PACES[pace])
        program, agrees = begin(client)
        reason = await cancel(steps, program)
        if not client.is_connected:
            await server.all_closed()
        server.paced(0)
        told |= agrees(reason)
        await goes_on(client, server)
        await nothing_is_left(server, before)
        if reason is None:
            return told
    raise AssertionError


def result_of(error: BaseException | None) -> Result | None:
    return aio.result_of(error)


async def refusable(client: aio.SMTP, send: Program) -> None:
    """Send a message that the server may refuse."""
    try:
        await send(client)
    except aio.SMTPRecipientsRefused:
        return
    except aio.SMTPResponseException as error:
        if error.code < 400:
            raise


def sending(
    server: Server, text: bytes, recipients: Sequence[str], send: Program | None = None
) -> Begin:
    """One message, by default by sendmail(), and what is told of it."""

    def by_sendmail(client: aio.SMTP) -> Coroutine[Any, Any, object]:
        return client.sendmail(SENDER, recipients, text)

    def begin(client: aio.SMTP) -> tuple[Coroutine[Any, Any, object], Check]:
        def agrees(error: BaseException | None) -> set[str]:
            if error is None:
                return {"finished"}
            return check(result_of(error), text, recipients, server)

        return refusable(client, send or by_sendmail), agrees

    return begin


# sendmail()


@every_pace
@every_mode
@pytest.mark.parametrize("is_proven", [False, True], ids=["unproven", "proven"])
@pytest.mark.parametrize("recipients", [ONE, THREE], ids=["one", "three"])
def test_sendmail(mode: str, pace: str, is_proven: bool, recipients: list[str]) -> None:
    async def main() -> None:
        refused = frozenset(recipients[1:2])
        async with serving(Server(MODES[mode], refused=refused)) as server:
            told = await at_every_step(
                server, sending(server, TEXT, recipients), pace=pace, is_proven=is_proven
            )
            assert told >= {"nothing", "in doubt", "accepted", "finished"}
            if mode != "chunked" or not is_proven:
                assert "deferred" in told
            if recipients == THREE:
                assert "rejected" in told

    run(main)


@every_mode
@pytest.mark.parametrize("is_proven", [False, True], ids=["unproven", "proven"])
@pytest.mark.parametrize("verdict", [b"554 no", b"451 later", b"250 queued"])
def test_sendmail_that_is_refused(mode: str, is_proven: bool, verdict: bytes) -> None:
    async def main() -> None:
        refused = frozenset(THREE) if verdict[:1] == b"2" else frozenset()
        async with serving(Server(MODES[mode], refused=refused, verdict=verdict)) as server:
            told = await at_every_step(
                server, sending(server, TEXT, THREE), pace="in pieces", is_proven=is_proven
            )
            assert "accepted" not in told
            assert told >= {
                "nothing",
                "in doubt" if verdict[:1] != b"2" else "rejected",
                "finished",
            }

    run(main)


def narrow(client: aio.SMTP) -> None:
    """Have little room for what the server does not read."""
    client.get_transport_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)


@every_mode
@pytest.mark.parametrize("is_proven", [few_only(False), True], ids=["unproven", "proven"])
@pytest.mark.parametrize("is_encrypted", [False, True], ids=["clear", "tls"])
def test_large_messages_that_block(
    mode: str,
    is_proven: bool,
    is_encrypted: bool,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    async def main() -> None:
        server = Server(
            MODES[mode], piece=1 << 15, tls=server_context, has_implicit_tls=is_encrypted
        )
        settings: dict[str, Any] = {}
        if is_encrypted:
            settings = {"use_tls": True, "tls_context": client_context}
        async with serving(server):
            told = await at_every_step(
                server,
                sending(server, LARGE, ONE),
                is_proven=is_proven,
                prepare=narrow,
                **settings,
            )
            assert told >= {"nothing", "deferred", "in doubt", "finished"}

    run(main)


@pytest.mark.parametrize("is_proven", [False, True], ids=["unproven", "proven"])
@every_mode
def test_lmtp(mode: str, is_proven: bool) -> None:
    async def main() -> None:
        server = Server(MODES[mode], refused=frozenset(THREE[1:2]), is_lmtp=True)
        async with serving(server):
            told = await at_every_step(server, sending(server, TEXT, THREE), is_proven=is_proven)
            assert told >= {"nothing", "in doubt", "accepted", "rejected", "finished"}

    run(main)


def letter() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, ", ".join(THREE), "it"
    message.set_content("it\n")
    return message


WRITTEN = letter().as_bytes().replace(b"\n", b"\r\n")


@every_mode
def test_send_message(mode: str) -> None:
    async def main() -> None:
        async with serving(Server(MODES[mode])) as server:
            begin = sending(server, WRITTEN, THREE, lambda client: client.send_message(letter()))
            told = await at_every_step(server, begin)
            assert told >= {"nothing", "in doubt", "accepted", "finished"}

    run(main)


@every_pace
@every_mode
def test_send(mode: str, pace: str) -> None:
    async def main() -> None:
        async with serving(Server(MODES[mode])) as server:

            def send(client: aio.SMTP) -> Coroutine[Any, Any, object]:
                return aio.send(
                    letter(),
                    hostname="127.0.0.1",
                    port=server.port,
                    local_hostname="client.test",
                )

            told = await at_every_step(
                server, sending(server, WRITTEN, THREE, send), pace=pace, is_connected=False
            )
            assert told >= {"nothing", "in doubt", "accepted", "finished"}

    run(main)


class Overriding(aio.SMTP):
    """A client of a program that overrides a method."""

    async def rcpt(self, recipient: str, /, **options: Any) -> aio.SMTPResponse:
        return await super().rcpt(recipient, **options)


@every_pace
def test_sendmail_by_overridden_methods(pace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "SMTP", Overriding)

    async def main() -> None:
        async with serving(Server(MODES["pipelined"])) as server:
            told = await at_every_step(server, sending(server, TEXT, THREE), pace=pace)
            assert told >= {"nothing", "deferred", "in doubt", "finished"}

    run(main)


# Commands


async def by_hand(client: aio.SMTP) -> None:
    await client.mail(SENDER)
    for each in THREE:
        await client.rcpt(each)
    await client.data(TEXT)


async def twice_by_hand(client: aio.SMTP) -> None:
    await client.mail(SENDER)
    await client.rcpt(ONE[0])
    await client.rset()
    await by_hand(client)


COMMANDS: dict[str, Program] = {
    "ehlo": lambda client: client.ehlo(),
    "helo": lambda client: client.helo(),
    "noop": lambda client: client.noop(),
    "rset": lambda client: client.rset(),
    "vrfy": lambda client: client.vrfy(SENDER),
    "expn": lambda client: client.expn(SENDER),
    "help": lambda client: client.help(),
    "quit": lambda client: client.quit(),
    "execute_command": lambda client: client.execute_command(b"NOOP", b"x"),
    "login": lambda client: client.login("user", "password"),
    "mail, rcpt, data": by_hand,
    "mail, rset, mail, rcpt, data": twice_by_hand,
}


@every_pace
@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, pace: str) -> None:
    def begin(client: aio.SMTP) -> tuple[Coroutine[Any, Any, object], Check]:
        def agrees(error: BaseException | None) -> set[str]:
            assert result_of(error) is None
            return {str(client.is_connected)}

        return COMMANDS[command](client), agrees

    async def main() -> None:
        server = Server(("AUTH PLAIN LOGIN",))
        async with serving(server):
            await at_every_step(server, begin, pace=pace)

    run(main)


# Connecting


@every_pace
@pytest.mark.parametrize("encryption", ["clear", "starttls", "tls"])
@pytest.mark.parametrize("login", [False, True], ids=["", "login"])
def test_connect(
    encryption: str,
    login: bool,
    pace: str,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    def begin(client: aio.SMTP) -> tuple[Coroutine[Any, Any, object], Check]:
        def agrees(error: BaseException | None) -> set[str]:
            assert client.is_connected == (error is None)
            return set()

        return client.connect(), agrees

    async def main() -> None:
        server = Server(
            ("STARTTLS", "AUTH PLAIN LOGIN", "PIPELINING"),
            tls=server_context,
            has_implicit_tls=encryption == "tls",
        )
        settings: dict[str, Any] = {"username": "user", "password": "password"} if login else {}
        settings |= {
            "start_tls": encryption == "starttls",
            "use_tls": encryption == "tls",
            "tls_context": client_context,
        }
        async with serving(server):
            await at_every_step(server, begin, pace=pace, is_connected=False, **settings)

    run(main)


# Others that cancel


def test_a_context_manager_that_is_cancelled() -> None:
    async def use(client: aio.SMTP) -> None:
        async with client:
            await client.noop()
            await asyncio.sleep(0)

    def begin(client: aio.SMTP) -> tuple[Coroutine[Any, Any, object], Check]:
        def agrees(error: BaseException | None) -> set[str]:
            assert not client.is_connected
            return set()

        return use(client), agrees

    async def main() -> None:
        async with serving(Server()) as server:
            await at_every_step(server, begin, is_connected=False)

    run(main)


def test_connecting_while_names_are_looked_up() -> None:
    # In threads, as this host's own name is, so the steps are not the same each time.
    def begin(client: aio.SMTP) -> tuple[Coroutine[Any, Any, object], Check]:
        client.hostname, client.local_hostname = "localhost", None

        def agrees(error: BaseException | None) -> set[str]:
            assert client.is_connected == (error is None)
            client.hostname, client.local_hostname = "127.0.0.1", "client.test"
            return set()

        return client.connect(), agrees

    async def main() -> None:
        async with serving(Server()) as server:
            await at_every_step(server, begin, is_connected=False)

    run(main)


# send_many()


async def as_they_come(messages: Sequence[MailObject], taken: list[object]) -> AsyncIterator[Any]:
    for number, each in enumerate(messages):
        for _ in range(number % 4):
            await asyncio.sleep(0)
        taken.append(each)
        yield each


def at_once(messages: Sequence[MailObject], taken: list[object]) -> Iterator[MailObject]:
    for each in messages:
        taken.append(each)
        yield each


MESSAGES = [MailObject(SENDER, THREE[: 1 + n % 3], b"%d" % n + TEXT) for n in range(7)]


def streaming(
    server: Server,
    source: Callable[[Sequence[MailObject], list[object]], Any],
    messages: Sequence[MailObject] = MESSAGES,
    *,
    is_slow: bool = False,
    **options: Any,
) -> Begin:
    """send_many() and what it tells. is_slow: the results are taken slowly."""

    def begin(client: aio.SMTP) -> tuple[Coroutine[Any, Any, object], Check]:
        taken: list[object] = []
        told: list[Result] = []
        is_left = False

        async def send() -> None:
            nonlocal is_left
            async with aclosing(client.send_many(source(messages, taken), **options)) as results:
                async for result in results:
                    told.append(result)
                    is_left = True
                    for _ in range(2 if is_slow else 0):
                        await asyncio.sleep(0)
                    is_left = False

        def agrees(error: BaseException | None) -> set[str]:
            results = [*told, *aio.results_of(error)]
            if error is None or not is_left:
                # Each message that was taken is told of, once; the server has none of the others.
                assert [each.mail for each in results] == taken
            else:
                # It was left between two results, and sees no exception of send_many().
                assert not client.is_connected or len(told) == len(messages)
            for each in results:
                assert isinstance(each.mail, MailObject)
            states = {"finished"} if error is None else set()
            for mail, result in zip_longest(messages, results):
                if result is not None or not is_left:
                    assert isinstance(mail.msg, bytes)
                    states |= check(result, mail.msg, mail.to_addrs, server)
            return states

        return send(), agrees

    return begin


@every_pace
@every_mode
@pytest.mark.parametrize("source", [at_once, as_they_come])
@pytest.mark.parametrize("is_proven", [False, True], ids=["unproven", "proven"])
def test_send_many(mode: str, pace: str, source: Any, is_proven: bool) -> None:
    async def main() -> None:
        async with serving(Server(MODES[mode], refused=frozenset(THREE[2:]))) as server:
            begin = streaming(server, source, max_in_flight=3)
            told = await at_every_step(server, begin, pace=pace, is_proven=is_proven)
            assert told >= {"nothing", "accepted", "rejected", "in doubt", "finished"}

    run(main)


@every_mode
@pytest.mark.parametrize("source", [at_once, as_they_come])
@pytest.mark.parametrize("verdict", [b"554 no", b"451 later"])
def test_send_many_that_are_refused(mode: str, source: Any, verdict: bytes) -> None:
    async def main() -> None:
        async with serving(Server(MODES[mode], verdict=verdict)) as server:
            told = await at_every_step(server, streaming(server, source))
            assert "accepted" not in told

    run(main)


@every_mode
@pytest.mark.parametrize("source", [at_once, as_they_come])
def test_send_many_whose_results_are_taken_slowly(mode: str, source: Any) -> None:
    async def main() -> None:
        async with serving(Server(MODES[mode])) as server:
            begin = streaming(server, source, is_slow=True, max_in_flight=3)
            told = await at_every_step(server, begin, is_proven=True)
            assert told >= {"accepted", "finished"}

    run(main)


@every_mode
@pytest.mark.parametrize("source", [at_once, as_they_come])
def test_send_many_by_lmtp(mode: str, source: Any) -> None:
    async def main() -> None:
        server = Server(MODES[mode], refused=frozenset(THREE[2:]), is_lmtp=True)
        async with serving(server):
            told = await at_every_step(server, streaming(server, source), is_proven=True)
            assert told >= {"nothing", "accepted", "rejected", "in doubt", "finished"}

    run(main)


@every_mode
@pytest.mark.parametrize("source", [at_once, as_they_come])
def test_send_many_large_messages(mode: str, source: Any) -> None:
    async def main() -> None:
        large = [MailObject(SENDER, ONE, b"%d" % n + LARGE[:300_000] + b"\r\n") for n in range(2)]
        async with serving(Server(MODES[mode], piece=1 << 15)) as server:
            begin = streaming(server, source, large)
            told = await at_every_step(server, begin, is_proven=True, prepare=narrow)
            assert told >= {"nothing", "deferred", "in doubt", "finished"}

    run(main)


# SMTPPool


POOL_MODES = {**MODES, "lmtp": ("PIPELINING",)}


async def pool_at_every_step(
    server: Server, size: int, victims: Sequence[int], *, is_warm: bool, pace: str
) -> set[str]:
    """Five tasks send over a pool. Cancel some of them after each step: the others go on, and the
    pool can be closed. Return all that was told of the messages of those that were cancelled."""
    before = asyncio.all_tasks()
    told: set[str] = set()
    for steps in count():
        server.paced(0)
        pool = pool_of(server, size)
        if is_warm:
            await pool.send(NEXT, sender=SENDER, recipients=ONE)
        server.forget()
        server.paced(*PACES[pace])
        tasks = []
        for number in range(5):
            sent = pool.send(b"%d" % number + TEXT, sender=SENDER, recipients=ONE)
            tasks.append(asyncio.ensure_future(sent))
        await is_done_after(steps, *(tasks[each] for each in victims))
        cancelled = [each for each in victims if tasks[each].cancel()]
        for each in cancelled:
            await ended(tasks[each])
        reasons = {each: await reason_of(tasks[each]) for each in cancelled}
        await asyncio.gather(*(task for task in tasks if not task.cancelled()))
        assert pool.waiting == 0
        assert pool.open_connections <= size
        await pool.close()
        await nothing_is_left(server, before)
        for number in range(5):
            text = b"%d" % number + TEXT
            if number in reasons:
                told |= check(result_of(reasons[number]), text, ONE, server)
            else:
                assert [each.text for each in server.copies].count(text) == 1
        if not cancelled:
            return told
    raise AssertionError


def pool_of(server: Server, size: int) -> aio.SMTPPool:
    about = PoolServer(
        "127.0.0.1", server.port, tls=TLS.NEVER, name="client.test", lmtp=server.is_lmtp
    )
    return aio.SMTPPool(about, size=size)


@pytest.mark.parametrize("mode", POOL_MODES)
@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("size", [1, few_only(3)])
@pytest.mark.parametrize("victims", [[0], [3], few_only([4, 3, 2, 1, 0])], ids=str)
def test_pool(mode: str, is_warm: bool, size: int, victims: list[int]) -> None:
    async def main() -> None:
        async with serving(Server(POOL_MODES[mode], is_lmtp=mode == "lmtp")) as server:
            told = await pool_at_every_step(server, size, victims, is_warm=is_warm, pace="a turn")
            assert told >= {"nothing", "in doubt"}

    run(main)


@every_mode
@pytest.mark.parametrize("size", [1, 2])
def test_closing_a_pool_is_cancelled(mode: str, size: int) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with serving(Server(MODES[mode])) as server:
            for steps in count():
                server.forget()
                server.paced(1)
                pool = pool_of(server, size)
                texts = [b"%d" % number + TEXT for number in range(3)]
                tasks = [
                    asyncio.ensure_future(pool.send(each, sender=SENDER, recipients=ONE))
                    for each in texts
                ]
                await is_done_after(steps % 12, tasks[0])
                reason = await cancelled_after(steps // 12, pool.close())
                errors = await asyncio.gather(*tasks, return_exceptions=True)
                await pool.close()  # the task that would have done it may not have begun
                await nothing_is_left(server, before)
                for text, error in zip(texts, errors, strict=True):
                    if isinstance(error, tuple):
                        assert [each.text for each in server.copies].count(text) == 1
                    else:
                        check(result_of(error), text, ONE, server)
                if reason is None and steps % 12 == 11:
                    return

    run(main)


def test_tasks_that_close_a_pool_at_the_same_time() -> None:
    async def main() -> None:
        async with serving(Server(MODES["pipelined"])) as server:
            pool = pool_of(server, 1)
            await pool.send(NEXT, sender=SENDER, recipients=ONE)
            server.paced(3)
            sent = asyncio.ensure_future(pool.send(TEXT, sender=SENDER, recipients=ONE))
            await asyncio.sleep(0)
            closing = [asyncio.ensure_future(pool.close()) for _ in range(2)]
            await sent
            for _ in range(3):
                await asyncio.sleep(0)
            assert [each.done() for each in closing] == [True, True]

    run(main)


def test_a_pool_whose_block_is_cancelled() -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with serving(Server(MODES["pipelined"])) as server:

            async def use(reasons: list[BaseException]) -> None:
                async with pool_of(server, 2) as pool:
                    for number in range(3):
                        try:
                            text = b"%d" % number + TEXT
                            await pool.send(text, sender=SENDER, recipients=ONE)
                        except BaseException as error:
                            reasons += [error] * (number + 1)
                            raise

            for steps in count():
                server.forget()
                server.paced(1)
                reasons: list[BaseException] = []
                reason = await cancelled_after(steps, use(reasons))
                await nothing_is_left(server, before)
                if reasons:
                    number = len(reasons) - 1
                    check(result_of(reasons[0]), b"%d" % number + TEXT, ONE, server)
                if reason is None:
                    return

    run(main)


# A client that tasks share


@every_mode
@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_client_that_tasks_share(mode: str, victim: int) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with serving(Server(MODES[mode])) as server:
            for steps in count():
                client = client_of(server)
                server.paced(0)
                await client.connect()
                await client.ehlo()
                server.forget()
                server.paced(1)
                texts = [b"%d" % number + TEXT for number in range(3)]
                tasks = [
                    asyncio.ensure_future(client.sendmail(SENDER, ONE, each)) for each in texts
                ]
                is_over = await is_done_after(steps, tasks[victim])
                if not is_over:
                    tasks[victim].cancel()
                    await ended(tasks[victim])
                errors = await asyncio.gather(*tasks, return_exceptions=True)
                if not client.is_connected:
                    await server.all_closed()
                for number, (text, error) in enumerate(zip(texts, errors, strict=True)):
                    if isinstance(error, tuple):
                        assert [each.text for each in server.copies].count(text) == 1
                    elif number == victim:
                        assert isinstance(error, asyncio.CancelledError)
                    else:
                        # Those that come later find the connection closed.
                        assert isinstance(error, aio.SMTPServerDisconnected)
                        assert number > victim
                        check(result_of(error), text, ONE, server)
                server.paced(0)
                await goes_on(client, server)
                await nothing_is_left(server, before)
                if is_over:
                    return

    run(main)


# Others that cancel


async def by_wait_for(steps: int, program: Coroutine[Any, Any, object]) -> BaseException | None:
    """wait_for(), whose time is up after so many steps."""
    loop = asyncio.get_running_loop()
    time, ahead = loop.time, 0.0
    loop.time = lambda: time() + ahead  # type: ignore[method-assign]
    task = asyncio.ensure_future(asyncio.wait_for(program, 5.0))
    await asyncio.sleep(0)
    try:
        if await is_done_after(steps, task):
            task.result()
            return None
        ahead = 6.0
        # The task that it runs the program in is one more, before Python 3.12.
        await ended(task, 6)
        try:
            await task
        except asyncio.TimeoutError as error:
            return error.__cause__
        # Its end came with the last reply.
        return None
    finally:
        del loop.time


CANCELS: list[Cancel] = [by_wait_for]

if sys.version_info >= (3, 11):

    async def by_task_group(
        steps: int, program: Coroutine[Any, Any, object]
    ) -> BaseException | None:
        """A TaskGroup, in which something else fails after so many steps."""
        reasons: list[BaseException] = []

        async def noted() -> None:
            try:
                await program
            except BaseException as error:
                reasons.append(error)
                raise

        async def group() -> None:
            async with asyncio.TaskGroup() as tasks:
                # A program that has not begun is not run at all.
                if not await is_done_after(max(steps, 1), tasks.create_task(noted())):
                    raise ZeroDivisionError

        failure = await asyncio.gather(group(), return_exceptions=True)
        if failure == [None]:
            return None
        assert "ZeroDivisionError" in repr(failure)
        (reason,) = reasons
        assert isinstance(reason, asyncio.CancelledError)
        return reason

    async def by_timeout(steps: int, program: Coroutine[Any, Any, object]) -> BaseException | None:
        """asyncio.timeout(), whose time is up after so many steps."""
        limit = asyncio.timeout(None)

        async def limited() -> None:
            async with limit:
                await program

        task = asyncio.ensure_future(limited())
        await asyncio.sleep(0)
        if await is_done_after(steps, task):
            task.result()
            return None
        limit.reschedule(asyncio.get_running_loop().time())
        await ended(task, 4)
        try:
            await task
        except TimeoutError as error:
            return error.__cause__
        return None

    CANCELS += [by_task_group, by_timeout]


@every_mode
@pytest.mark.parametrize("cancel", CANCELS)
def test_what_cancels(cancel: Cancel, mode: str) -> None:
    async def main() -> None:
        async with serving(Server(MODES[mode])) as server:
            told = await at_every_step(server, sending(server, TEXT, THREE), cancel=cancel)
            assert told >= {"in doubt", "finished"}
            told = await at_every_step(
                server, streaming(server, as_they_come, MESSAGES[:4]), cancel=cancel
            )
            assert told >= {"in doubt", "finished"}

    run(main)


@every_mode
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_the_loop_ends_meanwhile(mode: str, debug: bool) -> None:
    """asyncio.run() cancels what its main task has left."""

    async def main(steps: int, reasons: list[BaseException | None], kept: list[object]) -> None:
        is_up, server = asyncio.Event(), Server(MODES[mode])

        async def serve() -> None:
            async with serving(server):
                is_up.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    # The server is there for as long as its clients.
                    await server.all_closed()

        async def send(client: aio.SMTP) -> None:
            try:
                await client.sendmail(SENDER, ONE, TEXT)
            except BaseException as error:
                reasons.append(error)
                raise
            else:
                reasons.append(None)
            finally:
                client.close()

        kept += [server, asyncio.ensure_future(serve())]
        await is_up.wait()
        client = client_of(server)
        await client.connect()
        await client.ehlo()
        server.paced(1)
        server.forget()
        task = asyncio.ensure_future(send(client))
        await asyncio.sleep(0)
        await is_done_after(steps, task)

    for steps in count():
        reasons: list[BaseException | None] = []
        kept: list[Any] = []
        run_to_end(main(steps, reasons, kept), debug=debug)
        (reason,) = reasons
        if reason is None:
            break
        check(result_of(reason), TEXT, ONE, kept[0])


# In asyncio's debug mode


@pytest.mark.parametrize("mode", [few_only("sequential"), few_only("pipelined"), "chunked"])
def test_in_debug_mode(mode: str) -> None:
    async def main() -> None:
        async with serving(Server(MODES[mode], refused=frozenset(THREE[:1]))) as server:
            await at_every_step(server, sending(server, TEXT, THREE))
            await at_every_step(server, streaming(server, as_they_come, MESSAGES[:3]))
            await at_every_step(server, streaming(server, at_once, MESSAGES[:3]))
            server.refused = frozenset()
            for victim in (0, 3):
                await pool_at_every_step(server, 2, [victim], is_warm=False, pace="a turn")

    run(main, debug=True)
