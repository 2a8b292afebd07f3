"""BulkSender of csmtplib.aio: what csmtplib.bulk.BulkSender does, from an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from csmtplib import MailObject, aio
from csmtplib.bulk import Delivery, Job, JournalView

from . import scripted
from .running import LIMIT, run
from .scripted import offer

pytestmark = pytest.mark.usefixtures("each_loop")

TEXT = b"Subject: Hi\r\n\r\nHello\r\n"


def url(server: scripted.Server) -> str:
    return f"smtp://127.0.0.1:{server.port}?name=client.test"


def job(number: int) -> Job:
    return Job(f"job {number}", MailObject("me@example.org", f"{number}@example.net", TEXT))


async def as_they_come(count: int) -> AsyncIterator[Job]:
    for number in range(count):
        await asyncio.sleep(0)
        yield job(number)


async def all_of(deliveries: AsyncIterator[Delivery]) -> dict[object, str]:
    return {each.key: each.state.value async for each in deliveries}


@pytest.mark.parametrize("source", [lambda count: map(job, range(count)), as_they_come])
def test_every_job_has_its_delivery(source: Any, tmp_path: Path) -> None:
    path = tmp_path / "may.journal"

    async def main() -> None:
        async with aio.BulkSender(url(server), connections=2, journal=path) as sender:
            found = await all_of(sender.send(source(300)))
            assert found == {f"job {number}": "accepted" for number in range(300)}
            assert sender.status.accepted == 300

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    assert len(server.deliveries) == 300
    with JournalView(path) as view:
        assert view.counts()["accepted"] == 300


def test_a_second_run_uses_the_same_connections() -> None:
    async def main() -> None:
        async with aio.BulkSender(url(server), connections=1) as sender:
            for _ in range(2):
                assert len(await all_of(sender.send([job(1), job(2)]))) == 2

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
        assert len(server.connections) == 1


def test_deliveries_come_while_the_source_waits() -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[Job]:
        for number in range(3):
            yield job(number)
        await more.wait()
        yield job(3)

    async def main() -> None:
        async with aio.BulkSender(url(server), connections=1) as sender:
            deliveries = sender.send(source())
            for _ in range(3):
                assert (await deliveries.__anext__()).state.value == "accepted"
            more.set()
            assert await all_of(deliveries) == {"job 3": "accepted"}

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


def test_jobs_are_taken_in_the_loop() -> None:
    threads = set()

    def source() -> Any:
        for number in range(3):
            threads.add(threading.current_thread())
            yield job(number)

    async def main() -> None:
        async with aio.BulkSender(url(server)) as sender:
            await all_of(sender.send(source()))

    with scripted.Server(offer()) as server:
        run(main())
    assert threads == {threading.main_thread()}


def test_jobs_are_not_taken_much_earlier_than_they_can_be_sent() -> None:
    taken = 0

    def source() -> Any:
        nonlocal taken
        for number in range(100_000):
            taken = number
            yield job(number)

    async def main() -> None:
        async with aio.BulkSender(url(server), connections=1, max_waiting=100) as sender:
            deliveries = sender.send(source())
            await deliveries.__anext__()
            await deliveries.aclose()

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    assert taken < 5000


def test_what_the_source_raises_comes_after_the_deliveries() -> None:
    delivered = asyncio.Event()

    async def source() -> AsyncIterator[Job]:
        yield job(0)
        await delivered.wait()
        raise LookupError

    async def main() -> None:
        async with aio.BulkSender(url(server)) as sender:
            deliveries = sender.send(source())
            assert (await deliveries.__anext__()).state.value == "accepted"
            delivered.set()
            with pytest.raises(LookupError):
                await deliveries.__anext__()

    with scripted.Server(offer()) as server:
        run(main())
    assert len(server.deliveries) == 1


def test_a_server_that_is_away_is_told() -> None:
    async def main() -> None:
        async with aio.BulkSender("smtp://127.0.0.1:1") as sender:
            with pytest.raises(OSError, match=r"refused|connect"):
                await all_of(sender.send([job(0)]))

    run(main())


def test_stop_leaves_the_rest_queued(tmp_path: Path) -> None:
    path = tmp_path / "may.journal"

    async def main() -> None:
        async with aio.BulkSender(url(server), connections=1, journal=path) as sender:
            states = []
            async for each in sender.send(map(job, range(1000))):
                states.append(each.state.value)
                sender.stop("enough")
            assert states.count("accepted") < 1000
            assert set(states) <= {"accepted", "deferred"}

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    with JournalView(path) as view:
        assert view.counts()["accepted"] == len(server.deliveries)


def test_leaving_the_loop_lets_messages_in_progress_finish(tmp_path: Path) -> None:
    path = tmp_path / "may.journal"

    async def main() -> None:
        async with aio.BulkSender(url(server), connections=1, journal=path) as sender:
            async for _ in sender.send(map(job, range(1000))):
                break

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())
    with JournalView(path) as view:
        assert view.counts()["accepted"] == len(server.deliveries) < 1000
        assert not view.counts().get("in doubt")


def test_a_cancellation_aborts_messages_in_progress(tmp_path: Path) -> None:
    path = tmp_path / "may.journal"

    async def main() -> None:
        async def campaign() -> None:
            async with aio.BulkSender(url(server), connections=1, journal=path) as sender:
                await all_of(sender.send([job(0)]))

        task = asyncio.ensure_future(campaign())
        await asyncio.to_thread(received.wait, LIMIT)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Nothing was awaited in the cancelled task.
        assert time.monotonic() - begun < 1

    received = threading.Event()

    def answer(line: str) -> scripted.Answer:
        received.set()
        return scripted.Silence()

    with scripted.Server(offer("PIPELINING", message=answer)) as server:
        run(main())
    with JournalView(path) as view:
        assert view.counts().get("in doubt") == 1


def test_one_run_at_a_time() -> None:
    async def main() -> None:
        async with aio.BulkSender(url(server)) as sender:
            deliveries = sender.send(map(job, range(100)))
            await deliveries.__anext__()
            with pytest.raises(RuntimeError, match="already running"):
                await all_of(sender.send([job(0)]))
            await all_of(deliveries)

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


@pytest.mark.parametrize("jobs", [job(1), 7, b"Subject: Hi"])
def test_jobs_are_checked(jobs: Any) -> None:
    async def main() -> None:
        async with aio.BulkSender("smtp://127.0.0.1:1") as sender:
            with pytest.raises(TypeError):
                await all_of(sender.send(jobs))

    run(main())


def test_settings_are_checked() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="connections"):
            await aio.BulkSender("smtp://127.0.0.1:1", connections=0).__aenter__()

    run(main())


def test_a_source_that_raises_cancelled_error_itself() -> None:
    async def source() -> AsyncIterator[Job]:
        yield job(0)
        raise asyncio.CancelledError

    async def main() -> None:
        async with aio.BulkSender(url(server)) as sender:
            with pytest.raises(asyncio.CancelledError):
                await all_of(sender.send(source()))

    with scripted.Server(offer()) as server:
        run(main())


def test_leaving_after_the_last_delivery_does_not_stop_the_next_run() -> None:
    async def main() -> None:
        async with aio.BulkSender(url(server)) as sender:
            deliveries = sender.send([job(0)])
            await deliveries.__anext__()
            await asyncio.sleep(0.1)
            await deliveries.aclose()
            assert await all_of(sender.send([job(1)])) == {"job 1": "accepted"}

    with scripted.Server(offer()) as server:
        run(main())


def test_closing_ends_a_run_whose_deliveries_nobody_takes() -> None:
    async def main() -> None:
        async with aio.BulkSender(url(server), connections=1) as sender:
            deliveries = sender.send(map(job, range(5000)))
            await deliveries.__anext__()
        assert len(server.deliveries) < 5000

    with scripted.Server(offer("PIPELINING")) as server:
        run(main())


def test_deliveries_that_nobody_asks_for() -> None:
    with pytest.warns(RuntimeWarning, match=r"BulkSender\.send\(\) were never asked for"):
        aio.BulkSender("smtp://127.0.0.1:1").send([])
