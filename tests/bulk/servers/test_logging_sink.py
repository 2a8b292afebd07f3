"""The logging sink: a line in the log for each 250, and a process that ends when it should."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import csmtplib

from ...requirements import needs_signals
from . import logging_sink
from .logging_sink import running_logging_sink
from .wire import DEADLINE, Wire

pytestmark = needs_signals

LONG = "<" + "x" * 100 + "@x.test>"


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The sink as a program."""
    with subprocess.Popen(
        [sys.executable, "-m", logging_sink.__name__, *arguments],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("message", "key"),
    [
        (b"Message-ID: <1@x.test>\r\nSubject: x\r\n\r\nx\r\n", "<1@x.test>"),
        (b"Subject: x\r\nmessage-id:\t<1@x.test>\r\n\r\nx\r\n", "<1@x.test>"),
        (b"Message-ID:\r\n %b\r\nX-Other: y\r\n\r\nx\r\n" % LONG.encode(), LONG),
        (b"Message-ID: <1@x.test>\r\nX-Key: job 7\r\n\r\nx\r\n", "job 7"),
        (b"X-Key: only a header\r\n", "only a header"),
        (b"Subject: x\r\n\r\nX-Key: in the body\r\n", "-"),
        (b"", "-"),
    ],
)
def test_the_line_of_a_message(tmp_path: Path, message: bytes, key: str) -> None:
    with running_logging_sink(tmp_path / "log") as sink, Wire(sink.port) as wire:
        codes = wire.deliver("b@y.test", "c@y.test", content=message)
        assert codes == ["250", "250", "250", "354", "250"]
        # It is there before the reply.
        assert sink.accepted() == [("b@y.test", key), ("c@y.test", key)]


def test_only_what_came_as_a_whole_is_logged(tmp_path: Path) -> None:
    with running_logging_sink(tmp_path / "log") as sink:
        with Wire(sink.port) as wire:
            wire.deliver("b@y.test")
            assert wire.codes("MAIL FROM:<a@x.test>", "RCPT TO:<c@y.test>", "DATA")[-1] == "354"
            wire.send(b"X-Key: 2\r\n\r\nhalf of the mess")
        # The next client is served, whatever became of the one before.
        with Wire(sink.port) as wire:
            wire.deliver("d@y.test")
    assert sink.accepted() == [("b@y.test", "-"), ("d@y.test", "-")]


def test_the_log_is_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        with running_logging_sink(tmp_path / "log") as sink, Wire(sink.port) as wire:
            wire.deliver("b@y.test")
    assert len(sink.accepted()) == 2


def test_addresses_of_any_bytes(tmp_path: Path) -> None:
    with running_logging_sink(tmp_path / "log") as sink, Wire(sink.port) as wire:
        wire.send(b"MAIL FROM:<>\r\nRCPT TO:<\xc3\xa4@y.test>\r\nRCPT TO:<\xff@y.test>\r\nDATA\r\n")
        assert [wire.reply()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        assert wire.content(b"") == "250 2.0.0 ok"
    assert [address for address, _ in sink.accepted()] == ["ä@y.test", "\udcff@y.test"]


@pytest.mark.parametrize("chunking", [True, False])
def test_many_messages_over_many_connections(tmp_path: Path, chunking: bool) -> None:
    with running_logging_sink(tmp_path / "log", chunking=chunking) as sink:
        clients = [csmtplib.SMTP("127.0.0.1", sink.port) for _ in range(4)]
        streams = [
            client.send_many(
                [
                    ("a@x.test", [f"{number}@{i}.test"], b"X-Key: %d\r\n\r\n.x\r\n" % i)
                    for i in range(500)
                ]
            )
            for number, client in enumerate(clients)
        ]
        for results in zip(*streams, strict=True):
            assert all(result.accepted for result in results)
        for client in clients:
            assert client.has_extn("chunking") is chunking
            client.quit()
    assert sorted(sink.accepted()) == sorted(
        (f"{number}@{i}.test", str(i)) for number in range(4) for i in range(500)
    )


@pytest.mark.parametrize("pipelining", [True, False])
def test_pipelining_may_be_left_out(tmp_path: Path, pipelining: bool) -> None:
    with (
        running_logging_sink(tmp_path / "log", pipelining=pipelining) as sink,
        csmtplib.SMTP("127.0.0.1", sink.port) as client,
    ):
        client.ehlo()
        assert client.has_extn("pipelining") is pipelining


def test_it_ends_with_its_input(tmp_path: Path) -> None:
    with program(str(tmp_path / "log")) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with Wire(int(process.stdout.readline())) as wire:
            process.stdin.close()
            assert process.wait(DEADLINE) == 0
            assert wire.is_closed()


def test_it_ends_on_sigterm(tmp_path: Path) -> None:
    with program(str(tmp_path / "log")) as process:
        assert process.stdout is not None
        with Wire(int(process.stdout.readline())):
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0


def test_it_outlives_who_sends(tmp_path: Path) -> None:
    code = (
        "import csmtplib, sys, itertools\n"
        "client = csmtplib.SMTP('127.0.0.1', int(sys.argv[1]))\n"
        "for _ in client.send_many(('a@x.test', [f'{i}@y.test'], b'x') for i in itertools.count()):"
        " pass\n"
    )
    with running_logging_sink(tmp_path / "log") as sink:
        sender = subprocess.Popen([sys.executable, "-c", code, str(sink.port)])
        try:
            deadline = time.monotonic() + DEADLINE
            while not sink.log.stat().st_size:
                assert time.monotonic() < deadline
        finally:
            sender.kill()
            sender.wait()
        with Wire(sink.port) as wire:
            assert wire.deliver("last@z.test")[-1] == "250"
    accepted = [address for address, _ in sink.accepted()]
    # What the dead one had sent may be read after what came later.
    accepted.remove("last@z.test")
    assert accepted == [f"{i}@y.test" for i in range(len(accepted))]


@pytest.mark.parametrize("arguments", [[], ["log", "log"], ["log", "--chunking", "--slow"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with program(*arguments) as process:
        assert process.wait(DEADLINE) == 64
        assert process.stderr is not None
        assert process.stderr.read().startswith(b"usage: ")
