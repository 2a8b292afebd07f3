"""aiosmtplib, and csmtplib.aio in its place: the same program but for the import.

The method says how it sends: by sendmail(), each of the job's connections awaiting one message
after the other; by send_many() or by a pool, which aiosmtplib has not: it takes sendmail() there.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

from ..messages import Message, messages
from .worker import HOST, Job, job, measure, report


async def one_by_one(smtp: Any, prepared: Sequence[Message]) -> int:
    """Send the messages by sendmail(); return how many were accepted."""
    accepted = 0
    for sender, recipients, content in prepared:
        refused, _ = await smtp.sendmail(sender, recipients, content)
        accepted += not refused
    return accepted


async def by_connections(clients: Sequence[Any], prepared: Sequence[Message]) -> int:
    """Send the messages by sendmail() over all connections at once."""
    count = len(clients)
    shares = [one_by_one(each, prepared[place::count]) for place, each in enumerate(clients)]
    return sum(await asyncio.gather(*shares))


async def as_stream(clients: Sequence[Any], prepared: Sequence[Message], **options: Any) -> int:
    """Send the messages by send_many() over one connection."""
    accepted = 0
    async for result in clients[0].send_many(prepared, **options):
        accepted += result.accepted
    return accepted


async def by_pool(pool: Any, prepared: Sequence[Message]) -> int:
    """Send the messages by a pool, each from a task of its own."""

    async def send(message: Message) -> bool:
        sender, recipients, content = message
        refused, _ = await pool.send(content, sender=sender, recipients=recipients)
        return not refused

    return sum(await asyncio.gather(*map(send, prepared)))


async def get_ready(order: Job, stack: AsyncExitStack) -> Callable[[], Coroutine[Any, Any, int]]:
    """Connect; return what sends the messages."""
    is_ours = order.module == "csmtplib"
    module = importlib.import_module("csmtplib.aio" if is_ours else "aiosmtplib")
    prepared = list(messages(order.count, order.size))
    if order.method == "pool" and is_ours:
        url = f"smtp://{HOST}:{order.port}?name=client.example"
        pool = await stack.enter_async_context(module.SMTPPool(url, size=order.connections))
        return lambda: by_pool(pool, prepared)
    context = None
    if order.authority is not None:
        context = ssl.create_default_context(cafile=order.authority)
    clients = [
        module.SMTP(
            hostname=HOST,
            port=order.port,
            start_tls=False,
            use_tls=context is not None,
            tls_context=context,
            local_hostname="client.example",
        )
        for _ in range(order.connections)
    ]
    for each in clients:
        await stack.enter_async_context(each)
        await each.ehlo()
    if order.method == "send_many" and is_ours:
        return lambda: as_stream(clients, prepared)
    return lambda: by_connections(clients, prepared)


def main() -> None:
    order = job()
    loop = importlib.import_module("uvloop" if order.uvloop else "asyncio").new_event_loop()
    stack = AsyncExitStack()
    send = loop.run_until_complete(get_ready(order, stack))
    measured = measure(lambda: loop.run_until_complete(send()))
    loop.run_until_complete(stack.aclose())
    loop.close()
    report(measured)


if __name__ == "__main__":
    main()
