"""The throttling server: commands in any segments, and each of its refusals in its place."""

from __future__ import annotations

import smtplib
import time

import pytest

import csmtplib

from .session import LINE_BYTES
from .throttling import ThrottlingServer
from .wire import DEADLINE, Wire

TRANSACTION = ("MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test>", "DATA")


def test_a_session_command_by_command() -> None:
    with ThrottlingServer() as server, Wire(server.port) as wire:
        for command, code in [
            ("EHLO client.test", "250"),
            ("MAIL FROM:<a@x.test> SIZE=10 BODY=8BITMIME", "250"),
            ("RCPT TO:<b@y.test> NOTIFY=NEVER", "250"),
            ("NOOP", "250"),
            ("DATA", "354"),
        ]:
            assert wire.codes(command) == [code]
        assert wire.content(b"Subject: x\r\n\r\n..dot\r\n...\r\nx\r\n") == "250 2.0.0 ok"
        assert wire.codes("QUIT") == ["221"]
        assert wire.is_closed()
    (accepted,) = server.log.accepted
    assert accepted.sender == "a@x.test"
    assert accepted.recipients == ["b@y.test"]
    assert accepted.message == b"Subject: x\r\n\r\n.dot\r\n..\r\nx\r\n"
    (connection,) = server.log.connections
    assert (connection.number, connection.messages) == (1, 1)
    assert connection.closed is not None
    assert connection.opened <= accepted.time <= connection.closed
    assert not server.log.refusals


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_segments_of_any_size(size: int) -> None:
    data = (
        b"EHLO client.test\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"
        b"BDAT 3\r\nab\nBDAT 0\r\nBDAT 4 LAST\r\ncd\r\n"
        b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<c@y.test>\r\nDATA\r\n"
    )
    with ThrottlingServer() as server, Wire(server.port) as wire:
        for start in range(0, len(data), size):
            wire.send(data[start : start + size])
        replies = [wire.reply()[:3] for _ in range(10)]
        assert replies == ["250"] * 9 + ["354"]
        body = b"..\r\n\r\n.\rx\r\n.\nx.\r\n"
        for start in range(0, len(body), size):
            wire.send(body[start : start + size])
        assert wire.content(b"")[:3] == "250"
    assert [(each.sender, each.message) for each in server.log.accepted] == [
        ("a@x.test", b"ab\ncd\r\n"),
        ("", b".\r\n\r\n\rx\r\n\nx.\r\n"),
    ]


def test_what_ehlo_offers() -> None:
    with ThrottlingServer(pipelining=False, chunking=False) as server:
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            client.ehlo()
            assert not client.has_extn("pipelining")
            assert not client.has_extn("chunking")
        with Wire(server.port) as wire:
            assert wire.ask("BDAT 3 LAST")[0].startswith("421")
            assert wire.is_closed()
    with ThrottlingServer() as server, smtplib.SMTP("127.0.0.1", server.port) as client:
        client.ehlo()
        assert client.has_extn("pipelining")
        assert client.has_extn("chunking")


def test_commands_out_of_order() -> None:
    with ThrottlingServer() as server, Wire(server.port) as wire:
        assert wire.codes("RCPT TO:<b@y.test>", "DATA") == ["503", "503"]
        assert wire.codes("MAIL FROM:<a@x.test>", "MAIL FROM:<a@x.test>") == ["250", "503"]
        assert wire.codes("DATA") == ["554"]
        assert wire.codes("MAIL TO:<a@x.test>", "RCPT TO:b", "EXPN x") == ["501", "501", "500"]
        # The bytes belong to the command, and are no commands.
        wire.send(b"BDAT 6 LAST\r\nRSET\r\nNOOP\r\n")
        assert [wire.reply()[:3] for _ in range(2)] == ["554", "250"]
        assert wire.codes("RSET") == ["250"]
        assert wire.deliver("b@y.test") == ["250"] * 2 + ["354", "250"]


@pytest.mark.parametrize("data", [b"x" * (LINE_BYTES + 1), b"NOOP " + b"x" * LINE_BYTES * 2])
def test_a_line_that_does_not_end(data: bytes) -> None:
    with ThrottlingServer() as server, Wire(server.port) as wire:
        wire.send(data)
        assert wire.reply().startswith("500")
        assert wire.is_closed()


def test_a_content_behind_data_did_not_wait_for_354() -> None:
    with ThrottlingServer() as server, Wire(server.port) as wire:
        assert wire.codes(*TRANSACTION[:2]) == ["250", "250"]
        wire.send(b"DATA\r\nx\r\n.\r\n")
        assert wire.reply() == "503 5.5.0 improper pipelining"
        assert wire.is_closed()
    assert not server.log.accepted


def test_commands_together_where_pipelining_is_not_offered() -> None:
    with ThrottlingServer(pipelining=False) as server:
        with Wire(server.port) as wire:
            assert wire.ask("NOOP", "NOOP") == ["250 2.0.0 ok", "503 5.5.0 improper pipelining"]
            assert wire.is_closed()
        with Wire(server.port) as wire:
            for command in TRANSACTION[:2]:
                assert wire.codes(command) == ["250"]
            # The bytes of a chunk may follow it at once.
            wire.send(b"BDAT 2 LAST\r\nok")
            assert wire.reply()[:3] == "250"


def test_messages_per_connection() -> None:
    with ThrottlingServer(messages_per_connection=2) as server:
        with Wire(server.port) as wire:
            for _ in range(2):
                assert wire.deliver("b@y.test") == ["250", "250", "354", "250"]
            assert wire.ask("MAIL FROM:<a@x.test>") == [
                "421 4.7.0 too many messages in this session"
            ]
            assert wire.is_closed()
        with Wire(server.port) as wire:
            # What comes with it is not answered.
            for _ in range(2):
                wire.deliver("b@y.test")
            assert wire.codes(*TRANSACTION) == ["421", "", ""]
    assert [each.messages for each in server.log.connections] == [2, 2]
    assert {(each.command, each.reply[:3]) for each in server.log.refusals} == {
        ("MAIL FROM:<a@x.test>", "421")
    }


def test_idle_seconds() -> None:
    with ThrottlingServer(idle_seconds=0.2) as server, Wire(server.port) as wire:
        started = time.monotonic()
        assert wire.codes("NOOP") == ["250"]
        assert wire.reply() == "451 4.4.2 timeout waiting for data from client"
        assert wire.is_closed()
        assert time.monotonic() - started >= 0.2
    (refusal,) = server.log.refusals
    assert refusal.command == ""


def test_recipients_per_transaction() -> None:
    with ThrottlingServer(recipients_per_transaction=2) as server, Wire(server.port) as wire:
        for _ in range(2):
            codes = wire.deliver("a@y.test", "b@y.test", "c@y.test", "d@y.test")
            assert codes == ["250", "250", "250", "452", "452", "354", "250"]
    assert [each.recipients for each in server.log.accepted] == [["a@y.test", "b@y.test"]] * 2
    assert server.log.deliveries() == {"a@y.test": 2, "b@y.test": 2}
    assert len(server.log.attempts["d@y.test"]) == 2


def test_greylist_seconds() -> None:
    with ThrottlingServer(greylist_seconds=0.2) as server, Wire(server.port) as wire:
        assert wire.codes(*TRANSACTION) == ["250", "451", "554"]
        deadline = time.monotonic() + DEADLINE
        while wire.codes("RSET", *TRANSACTION[:2])[2] == "451":
            assert time.monotonic() < deadline
        # Others are known by themselves.
        assert wire.codes("RCPT TO:<c@y.test>") == ["451"]
        assert wire.codes("DATA") == ["354"]
        assert wire.content(b"") == "250 2.0.0 ok"
    first, *_, last = server.log.attempts["b@y.test"]
    assert last - first >= 0.2
    assert server.log.accepted[0].recipients == ["b@y.test"]


def test_max_connections() -> None:
    server = ThrottlingServer(max_connections=2)
    with server, Wire(server.port), Wire(server.port) as second:
        with Wire(server.port, greeted=False) as third:
            assert third.reply() == "421 4.7.0 too many connections"
            assert third.is_closed()
        assert second.codes("QUIT") == ["221"]
        assert second.is_closed()
        # A session that is over makes room, though its client has not closed yet.
        with Wire(server.port) as fourth:
            assert fourth.codes("NOOP") == ["250"]
    assert len(server.log.connections) == 4
    assert all(each.closed is not None for each in server.log.connections)
    assert server.log.most_connections() == 3
    assert [each.connection for each in server.log.refusals] == [3]


def test_refused_recipients() -> None:
    def refuse(recipient: str) -> str | None:
        return "550 5.1.1 no such user" if recipient.startswith("no") else None

    with ThrottlingServer(refuse=refuse) as server, Wire(server.port) as wire:
        assert wire.deliver("nobody@y.test", "b@y.test") == ["250", "550", "250", "354", "250"]
        assert wire.ask("MAIL FROM:<a@x.test>", "RCPT TO:<no@y.test>", "DATA")[1:] == [
            "550 5.1.1 no such user",
            "554 5.5.1 no valid recipients",
        ]
    assert server.log.deliveries() == {"b@y.test": 1}
    assert [each.command for each in server.log.refusals] == [
        "RCPT TO:<nobody@y.test>",
        "RCPT TO:<no@y.test>",
    ]


def test_rate_limit_at_mail() -> None:
    with ThrottlingServer(rate_limit=(2, 60.0)) as server, Wire(server.port) as wire:
        for _ in range(2):
            assert wire.deliver("b@y.test")[-1] == "250"
        assert wire.codes(*TRANSACTION) == ["450", "503", "503"]
    assert len(server.log.accepted) == 2


def test_rate_limit_at_the_content() -> None:
    server = ThrottlingServer(rate_limit=(2, 60.0), rate_limit_at="content")
    with server, Wire(server.port) as wire:
        assert [wire.deliver("b@y.test")[-1] for _ in range(3)] == ["250", "250", "454"]


def test_the_rate_is_that_of_any_window() -> None:
    with ThrottlingServer(rate_limit=(5, 0.1)) as server, Wire(server.port) as wire:
        deadline = time.monotonic() + DEADLINE
        while len(server.log.accepted) < 20:
            wire.deliver("b@y.test", "c@y.test")
            assert time.monotonic() < deadline
    # MAIL is counted, and the first message of a window may have had its own before.
    assert server.log.busiest(0.1) <= 2 * (5 + 1)
    assert server.log.busiest(DEADLINE) == 40
    assert {each.reply[:3] for each in server.log.refusals} == {"450"}


def test_a_client_that_reads_no_replies_is_not_read() -> None:
    with ThrottlingServer() as server, Wire(server.port) as wire:
        wire.send_until_it_blocks(b"NOOP\r\n" * 10_000)
        with Wire(server.port) as other:
            assert other.codes("NOOP") == ["250"]


def test_a_client_that_is_gone_leaves_the_others_alone() -> None:
    with ThrottlingServer() as server, Wire(server.port) as wire:
        with Wire(server.port) as other:
            other.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\nhalf of")
        assert wire.deliver("b@y.test")[-1] == "250"
    assert len(server.log.accepted) == 1


def test_a_server_is_gone_after_its_block() -> None:
    with ThrottlingServer() as server:
        wire = Wire(server.port)
    with wire, pytest.raises(ConnectionRefusedError):
        Wire(server.port)


def test_what_fails_in_the_server_fails_the_test() -> None:
    def refuse(recipient: str) -> str | None:
        raise ZeroDivisionError

    server = ThrottlingServer(refuse=refuse)
    with pytest.raises(ZeroDivisionError), server, Wire(server.port) as wire:  # noqa: PT012
        wire.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n")
        assert wire.is_closed()


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("chunking", [True, False])
def test_many_messages_of_a_client(pipelining: bool, chunking: bool) -> None:
    messages = [
        ("a@x.test", [f"{i}@y.test"], b"X-Key: %d\r\n\r\n.x\r\n" % i * 10) for i in range(500)
    ]
    server = ThrottlingServer(pipelining=pipelining, chunking=chunking)
    with server, csmtplib.SMTP("127.0.0.1", server.port) as client:
        results = list(client.send_many(messages))
    assert all(result.accepted for result in results)
    assert [(each.recipients, each.message) for each in server.log.accepted] == [
        (recipients, message) for _, recipients, message in messages
    ]
    assert not server.log.refusals
