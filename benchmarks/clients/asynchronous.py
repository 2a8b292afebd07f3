"""aiosmtplib: one connection, one message after the other."""

from __future__ import annotations

import asyncio

import aiosmtplib

from ..messages import Message, messages
from .worker import HOST, job, measure, report


async def send(smtp: aiosmtplib.SMTP, prepared: list[Message]) -> int:
    """Send the messages; return how many were accepted."""
    accepted = 0
    for sender, recipients, content in prepared:
        refused, _ = await smtp.sendmail(sender, recipients, content)
        accepted += not refused
    return accepted


def main() -> None:
    order = job()
    prepared = list(messages(order.count, order.size))
    loop = asyncio.new_event_loop()
    smtp = aiosmtplib.SMTP(hostname=HOST, port=order.port, start_tls=False)
    loop.run_until_complete(smtp.connect())
    loop.run_until_complete(smtp.ehlo())
    measured = measure(lambda: loop.run_until_complete(send(smtp, prepared)))
    loop.run_until_complete(smtp.quit())
    loop.close()
    report(measured)


if __name__ == "__main__":
    main()
