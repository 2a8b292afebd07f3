"""The server of the hostile scenario, in all its moods, and the table."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

import pytest

from benchmarks.clients.hostile import Client, Request, message
from benchmarks.hostile import SERVERS, Cell, Server, row
from benchmarks.servers.hostile import Settings, running_hostile
from tests.servers.certificates import Certificates, issue
from tests.servers.conftest import unavailable_means_skip
from tests.servers.process import open_directory


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with unavailable_means_skip(), open_directory("certificates") as directory:
        yield issue(directory)


@pytest.mark.parametrize("module", ["smtplib", "csmtplib"])
@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.title)
def test_every_server_takes_mail(server: Server, module: str, certificates: Certificates) -> None:
    client = Client(module)
    with running_hostile(server.settings, certificates) as address:
        where = {"port": address.port, "path": address.path, "authority": address.authority}
        for what in ("open", "send", "send", "connect"):
            request = Request(what, size=50_000, recipients=2, **where)  # type: ignore[arg-type]
            assert client.perform(request) > 0
        assert client.smtp.noop()[0] == 250
        client.smtp.quit()


def test_what_it_offers(certificates: Certificates) -> None:
    with (
        running_hostile(Settings(chunking=True), certificates) as address,
        smtplib.SMTP("127.0.0.1", address.port) as smtp,
    ):
        smtp.ehlo()
        assert set(smtp.esmtp_features) == {
            "size",
            "8bitmime",
            "pipelining",
            "chunking",
            "smtputf8",
        }
        assert smtp.docmd("mail from:<a@x>")[0] == 250
        assert smtp.docmd("data")[0] == 554
        assert smtp.docmd("rcpt to:<b@x>")[0] == 250
        smtp.send(b"bdat 5 last\r\ntext\nnoop\r\n")
        assert [smtp.getreply()[0] for _ in range(2)] == [250, 250]


def test_message() -> None:
    for size in (100, 50_000):
        assert abs(len(message(size)) - size) < 100
    assert b"\r\n." in message(100)


def test_row() -> None:
    seconds = {
        "stdlib": [0.001, 0.002, 0.001],
        "csmtplib c": [0.0005, 0.001, 0.001],
        "csmtplib python": [0.0012, 0.0024, 0.001],
    }
    cell = Cell("TLS", 1, 100, seconds)
    assert cell.ratio("csmtplib c") == 0.5
    assert row(cell)[1:] == ["1", "100", "1", "0.50  ", "1.20 !"]
    del seconds["csmtplib c"]
    assert cell.ratio("csmtplib c") is None
    assert row(cell)[4] == ""
