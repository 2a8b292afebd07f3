"""smtplib and csmtplib: the same program but for the import and the method that sends."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..messages import Message, messages
from .worker import HOST, Job, job, measure, report


@contextmanager
def connected(job: Job) -> Iterator[Any]:
    """Yield the SMTP or SMTP_SSL object of the job's module, after EHLO."""
    module = importlib.import_module(job.module)
    if job.authority is None:
        connection = module.SMTP(HOST, job.port)
    else:
        context = ssl.create_default_context(cafile=job.authority)
        connection = module.SMTP_SSL(HOST, job.port, context=context)
    with connection as smtp:
        smtp.ehlo_or_helo_if_needed()
        yield smtp


def send(smtp: Any, method: str, stream: Iterable[Message]) -> int:
    """Send all of the messages by the method of that name; return how many were accepted."""
    if method == "send_many":
        return sum(result.accepted for result in smtp.send_many(stream))
    accepted = 0
    for sender, recipients, content in stream:
        accepted += not smtp.sendmail(sender, recipients, content)
    return accepted


def main() -> None:
    order = job()
    prepared = list(messages(order.count, order.size))
    with connected(order) as smtp:
        measured = measure(lambda: send(smtp, order.method, prepared))
    report(measured)


if __name__ == "__main__":
    main()
