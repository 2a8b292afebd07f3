"""Many threads, each with what is its own: nothing is shared but the modules."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

import csmtplib
from csmtplib import MailObject
from csmtplib.bulk import BulkSender, Job

from ..drive.talking import DEADLINE
from .site import Site

THREADS = 8
MESSAGES = 40
MODES = [(), ("PIPELINING",), ("PIPELINING", "CHUNKING")]


def text(name: str) -> bytes:
    """Of several lines with dots, more of them or fewer for each name."""
    return b".%b\r\n" % name.encode() * (1 + sum(name.encode()) % 40)


def in_threads(work: Callable[[str], object], count: int = THREADS) -> None:
    """Does it in so many threads, which begin together; each is given a name of its own."""
    errors: list[BaseException] = []
    together = threading.Barrier(count)

    def run(name: str) -> None:
        try:
            together.wait(DEADLINE)
            work(name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f"t{number}",)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6 * DEADLINE)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def letters(name: str, count: int = MESSAGES) -> list[tuple[str, str, bytes]]:
    return [("a@x.test", f"{name}.{n}@y.test", text(f"{name}.{n}")) for n in range(count)]


def told(site: Site) -> Counter[tuple[str, bytes]]:
    """The recipient and the text of each message that the server has."""
    return Counter(
        (recipient.partition("<")[2].partition(">")[0], each.text)
        for each in site.deliveries
        for recipient in each.recipients
    )


def expected(count: int = MESSAGES) -> Counter[tuple[str, bytes]]:
    return Counter(
        letter[1:] for number in range(THREADS) for letter in letters(f"t{number}", count)
    )


@pytest.mark.parametrize("extensions", MODES, ids=" ".join)
def test_sendmail(extensions: tuple[str, ...]) -> None:
    def work(name: str) -> None:
        with csmtplib.SMTP(*site.address) as smtp:
            for letter in letters(name):
                assert smtp.sendmail(*letter) == {}

    with Site(*extensions) as site:
        in_threads(work)
    assert told(site) == expected()


@pytest.mark.parametrize("extensions", MODES, ids=" ".join)
def test_send_many(extensions: tuple[str, ...]) -> None:
    def work(name: str) -> None:
        with csmtplib.SMTP(*site.address) as smtp:
            assert all(result.accepted for result in smtp.send_many(letters(name)))

    with Site(*extensions) as site:
        in_threads(work)
    assert told(site) == expected()


def test_bulk_senders() -> None:
    def work(name: str) -> None:
        host, port = site.address
        with BulkSender(f"smtp://{host}:{port}", connections=3) as sender:
            jobs = (Job(letter[1], MailObject(*letter)) for letter in letters(name))
            states = [delivery.state for delivery in sender.send(jobs)]
        assert states == [csmtplib.State.ACCEPTED] * MESSAGES

    with Site("PIPELINING") as site:
        in_threads(work)
    assert told(site) == expected()
