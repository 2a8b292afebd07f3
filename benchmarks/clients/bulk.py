"""BulkSender: several connections, and a journal where the job's method has one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from csmtplib.bulk import BulkSender, Journal
from csmtplib.protocol.outcome import State

from ..messages import messages
from .worker import HOST, Job, job, measure, report


@contextmanager
def connected(job: Job) -> Iterator[BulkSender]:
    """Yield the sender of a job; it connects when it has something to send."""
    with ExitStack() as stack:
        journal = None
        if job.method == "BulkSender with a journal":
            directory = Path(stack.enter_context(TemporaryDirectory()))
            journal = stack.enter_context(Journal(directory / "journal"))
        server = f"smtp://{HOST}:{job.port}?name=client.example"
        sender = BulkSender(server, connections=job.connections, journal=journal)
        yield stack.enter_context(sender)


def send(sender: BulkSender, _method: str, stream: Iterable[object]) -> int:
    """Send all of the messages; return how many were accepted."""
    return sum(delivery.state is State.ACCEPTED for delivery in sender.send(stream))


def main() -> None:
    order = job()
    prepared = list(messages(order.count, order.size))
    with connected(order) as sender:
        measured = measure(lambda: send(sender, order.method, prepared))
    report(measured)


if __name__ == "__main__":
    main()
