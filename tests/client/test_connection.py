"""client/connection.py: connecting, sending, and reading replies."""

from __future__ import annotations

import io
import smtplib
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import csmtplib
from csmtplib import (
    SMTPConnectError,
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from ..faults.server import Peer, ScriptedServer
from .memory import MemoryServer, ReceivingMemoryServer, connected

TIMEOUT = 5.0

# Connecting


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of socket.create_connection(), which leads to servers in memory."""
    calls: list[tuple[Any, ...]] = []

    def create_connection(*arguments: Any) -> MemoryServer:
        calls.append(arguments)
        return MemoryServer()

    monkeypatch.setattr(csmtplib, "socket", SimpleNamespace(create_connection=create_connection))
    return calls


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (("mx.test",), ("mx.test", 25)),
        (("mx.test", 2525), ("mx.test", 2525)),
        (("mx.test:2525",), ("mx.test", 2525)),
        (("mx.test:2525", 26), ("mx.test:2525", 26)),
        (("192.0.2.1:2525",), ("192.0.2.1", 2525)),
        (("::1",), ("::1", 25)),
        (("2001:db8::2525", 26), ("2001:db8::2525", 26)),
        # The stdlib looks for hosts of these names.
        (("[::1]",), ("::1", 25)),
        (("[::1]:2525",), ("::1", 2525)),
        (("[::1]:2525", 26), ("::1", 26)),
    ],
)
def test_port_behind_the_host(
    arguments: tuple[Any, ...], address: tuple[str, int], connections: list[tuple[Any, ...]]
) -> None:
    csmtplib.SMTP().connect(*arguments)
    csmtplib.SMTP(*arguments)
    assert [call[0] for call in connections] == [address, address]


def test_the_name_that_the_server_has_to_prove(connections: list[tuple[Any, ...]]) -> None:
    smtp = csmtplib.SMTP("mx.test:2525")
    assert smtp._host == "mx.test"
    smtp.connect("other.test")
    assert smtp._host == "other.test"
    # As programs set it that connect through a tunnel.
    smtp._host = "mx.test"
    smtp.connect("127.0.0.1", 2525)
    smtp.connect("127.0.0.2", 2525)
    assert smtp._host == "mx.test"


@pytest.mark.parametrize("host", ["mx.test:", "mx.test:smtp", "[::1]:", "[::1]:smtp"])
def test_port_that_is_no_number(host: str) -> None:
    with pytest.raises(OSError, match="nonnumeric port"):
        csmtplib.SMTP().connect(host)


def test_default_port_of_a_subclass(connections: list[tuple[Any, ...]]) -> None:
    class Submission(csmtplib.SMTP):
        default_port = 587

    Submission("mx.test")
    assert connections[0][0] == ("mx.test", 587)


def test_timeout_and_source_address(connections: list[tuple[Any, ...]]) -> None:
    smtp = csmtplib.SMTP(timeout=3, source_address=("192.0.2.1", 0))
    smtp.connect("mx.test")
    smtp.connect("mx.test", source_address=("192.0.2.2", 0))
    smtp.connect("mx.test")
    assert connections == [
        (("mx.test", 25), 3, ("192.0.2.1", 0)),
        (("mx.test", 25), 3, ("192.0.2.2", 0)),
        (("mx.test", 25), 3, ("192.0.2.2", 0)),
    ]


@pytest.mark.parametrize("smtp_class", [csmtplib.SMTP, csmtplib.SMTP_SSL, csmtplib.LMTP])
def test_timeout_of_zero(smtp_class: Any) -> None:
    with pytest.raises(ValueError, match="timeout=0"):
        smtp_class("127.0.0.1", timeout=0)


@pytest.mark.parametrize("greeting", ["554 no", "421 bye", "250 ok"])
def test_greeting_other_than_220(greeting: str) -> None:
    def script(peer: Peer) -> None:
        peer.say(greeting)
        peer.expect_close()

    with ScriptedServer(script) as server, pytest.raises(SMTPConnectError) as caught:
        csmtplib.SMTP(server.host, server.port, timeout=TIMEOUT)
    assert caught.value.args == (int(greeting[:3]), greeting[4:].encode())


def test_connect_returns_any_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MemoryServer(greeting="554 no")
    monkeypatch.setattr(csmtplib.SMTP, "_get_socket", lambda *arguments: server)
    smtp = csmtplib.SMTP()
    assert smtp.connect("mx.test") == (554, b"no")
    assert not server.closed
    assert smtp.sock is not None


def test_local_hostname_is_looked_up_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython issue 79345: a name server that is out of reach costs seconds."""
    lookups = []

    def getfqdn() -> str:
        lookups.append("getfqdn")
        return "client.test"

    monkeypatch.setattr(socket, "getfqdn", getfqdn)
    server = MemoryServer()
    smtp = connected(csmtplib.SMTP(), server)
    smtp.ehlo("other.test")
    smtp.sendmail("a@x", "b@x", "")
    csmtplib.SMTP(local_hostname="known.test").local_hostname  # noqa: B018
    assert lookups == []
    smtp.ehlo()
    smtp.helo()
    assert smtp.local_hostname == "client.test"
    assert lookups == ["getfqdn"]
    assert server.commands[-2:] == ["ehlo client.test", "helo client.test"]


def test_local_hostname_can_be_set() -> None:
    smtp = csmtplib.SMTP()
    smtp.local_hostname = "client.test"
    server = MemoryServer()
    connected(smtp, server).ehlo()
    assert server.commands == ["ehlo client.test"]


def test_new_connection_knows_nothing_of_the_one_before() -> None:
    """CPython issue 85642."""
    smtp = connected(
        csmtplib.SMTP(local_hostname="client.test"), MemoryServer(ehlo="250-a\r\n250 B")
    )
    smtp.ehlo()
    smtp.helo()
    smtp.command_encoding = "utf-8"
    assert smtp.has_extn("b")
    second = MemoryServer(ehlo="502 what?")
    connected(smtp, second)
    assert (smtp.ehlo_resp, smtp.helo_resp, smtp.esmtp_features) == (None, None, {})
    assert (smtp.does_esmtp, smtp.command_encoding) == (False, "ascii")
    smtp.ehlo_or_helo_if_needed()
    assert second.verbs == ["ehlo", "helo"]


# Closing


@pytest.mark.parametrize("method", ["quit", "close"])
def test_closing_and_connecting_again(method: str, server_class: type[MemoryServer]) -> None:
    first, second = server_class(), server_class()
    smtp = connected(csmtplib.SMTP(local_hostname="client.test"), first)
    smtp.ehlo()
    getattr(smtp, method)()
    assert first.closed
    assert (smtp.sock, smtp.file) == (None, None)
    with pytest.raises(SMTPServerDisconnected, match=r"please run connect\(\) first"):
        smtp.noop()
    connected(smtp, second).sendmail("a@x", "b@x", "")
    assert second.verbs[:2] == ["ehlo", "mail"]


def test_closing_twice() -> None:
    smtp = connected(csmtplib.SMTP(), MemoryServer())
    smtp.close()
    smtp.close()


def test_context_manager_says_quit() -> None:
    server = MemoryServer()
    with connected(csmtplib.SMTP(), server) as smtp:
        assert isinstance(smtp, csmtplib.SMTP)
    assert server.verbs == ["quit"]
    assert server.closed


def test_context_manager_keeps_the_error_within() -> None:
    server = MemoryServer()
    with pytest.raises(ZeroDivisionError), connected(csmtplib.SMTP(), server):
        raise ZeroDivisionError
    assert server.verbs == ["quit"]
    assert server.closed


@pytest.mark.parametrize("answers", [{"greeting": ["220 hi", None]}, {"quit": None}])
def test_context_manager_on_a_lost_connection(answers: Any) -> None:
    server = MemoryServer(**answers)
    with connected(csmtplib.SMTP(), server):
        pass
    assert server.closed


def test_context_manager_after_close() -> None:
    with connected(csmtplib.SMTP(), MemoryServer()) as smtp:
        smtp.close()


def test_context_manager_and_a_server_that_refuses_to_say_bye() -> None:
    server = MemoryServer(quit="500 what?")
    with pytest.raises(SMTPResponseException) as caught, connected(csmtplib.SMTP(), server):
        pass
    assert caught.value.smtp_code == 500
    assert server.closed


# Sending


def test_send_bytes_and_text() -> None:
    server = MemoryServer()
    smtp = connected(csmtplib.SMTP(), server)
    smtp.send(b"\xff\0")
    smtp.send(bytearray(b"a"))
    smtp.send(memoryview(b"b"))
    smtp.send("c\n")
    smtp.command_encoding = "utf-8"
    smtp.send("ä")
    assert server.sent == b"\xff\0abc\n\xc3\xa4"


def test_send_on_a_lost_connection() -> None:
    server = MemoryServer()
    smtp = connected(csmtplib.SMTP(), server)
    server.closed = True
    with pytest.raises(SMTPServerDisconnected, match="Server not connected"):
        smtp.send(b"a")
    assert smtp.sock is None


def test_command_with_and_without_arguments() -> None:
    server = MemoryServer()
    smtp = connected(csmtplib.SMTP(), server)
    smtp.putcmd("noop")
    smtp.putcmd("noop", "a b")
    smtp.putcmd("noop", 0)
    assert server.sent == b"noop\r\nnoop a b\r\nnoop 0\r\n"


def test_command_with_control_characters_leaves_nothing_behind() -> None:
    server = MemoryServer()
    smtp = connected(csmtplib.SMTP(), server)
    for odd in ("a\r\nb", "a\nb", "a\rb", "a\0b"):
        with pytest.raises(ValueError, match="prohibited"):
            smtp.docmd("noop", odd)
    with pytest.raises(UnicodeEncodeError):
        smtp.docmd("noop", "ä")
    assert server.sent == b""
    assert smtp.noop() == (250, b"ok")


def test_commands_that_a_program_pipelines(server_class: type[MemoryServer]) -> None:
    """Replies that are read late are no surplus ones."""
    server = server_class(mail="250 sender ok", rcpt=["250 b ok", "550 no c"])
    smtp = connected(csmtplib.SMTP(), server)
    smtp.putcmd("mail", "FROM:<a@x>")
    smtp.putcmd("rcpt", "TO:<b@x>")
    smtp.putcmd("rcpt", "TO:<c@x>")
    assert smtp.getreply() == (250, b"sender ok")
    assert smtp.getreply() == (250, b"b ok")
    smtp.putcmd("data")
    assert smtp.getreply() == (550, b"no c")
    assert smtp.getreply() == (354, b"go on")
    smtp.send(".\r\n")
    smtp.getreply()
    smtp.send("noop\r\nnoop\r\n")
    assert smtp.getreply()[0] == 250
    smtp.putcmd("noop")
    assert [smtp.getreply()[0], smtp.getreply()[0]] == [250, 250]


# Reading replies


def test_reply_where_nothing_is_connected() -> None:
    with pytest.raises(SMTPServerDisconnected, match=r"please run connect\(\) first"):
        csmtplib.SMTP().getreply()


def test_end_of_the_stream(server_class: type[MemoryServer]) -> None:
    server = server_class(noop=None)
    smtp = connected(csmtplib.SMTP(), server)
    with pytest.raises(SMTPServerDisconnected, match="Connection unexpectedly closed"):
        smtp.noop()
    assert server.closed
    assert (smtp.sock, smtp.file) == (None, None)


def test_error_while_reading() -> None:
    class Failing(ReceivingMemoryServer):
        def recv(self, size: int) -> bytes:
            raise TimeoutError("timed out")

        def recv_into(self, buffer: memoryview) -> int:
            raise TimeoutError("timed out")

    smtp = csmtplib.SMTP()
    smtp.sock = server = Failing()  # type: ignore[assignment]
    with pytest.raises(SMTPServerDisconnected, match="Connection unexpectedly closed: timed out"):
        smtp.getreply()
    assert server.closed


@pytest.mark.parametrize("debuglevel", [0, 1])
def test_reply_without_end(debuglevel: int, server_class: type[MemoryServer]) -> None:
    """CPython has no limit on the lines of a reply: here it is 64 KiB."""
    fits = "\r\n".join(["250-" + "a" * 94] * 654 + ["250 b"])
    too_long = "\r\n".join(["250-" + "a" * 94] * 656 + ["250 b"])
    server = server_class(noop=[fits, too_long])
    smtp = connected(csmtplib.SMTP(), server)
    smtp.set_debuglevel(debuglevel)
    assert len(fits) < 65536 < len(too_long)
    assert smtp.noop()[1].count(b"\n") == 654
    with pytest.raises(SMTPResponseException) as caught:
        smtp.noop()
    assert caught.value.smtp_code == 500
    assert server.closed
    assert smtp.sock is None


def test_line_without_end(server_class: type[MemoryServer]) -> None:
    server = server_class(noop=["250 " + "a" * (8192 - 6), "250 " + "a" * (8192 - 5)])
    smtp = connected(csmtplib.SMTP(), server)
    assert smtp.noop() == (250, b"a" * (8192 - 6))
    with pytest.raises(SMTPResponseException) as caught:
        smtp.noop()
    assert caught.value.smtp_code == 500
    assert server.closed


# A reply: lines of one code, of which the last has no "-"; or a line that has no code at all.
CODES = st.integers(100, 599).map(str)
TEXTS = st.text("ab-\t \r\0\xff", max_size=4).map(str.strip)
LINE_ENDS = st.sampled_from(["\r\n", "\n", " \t\r\n"])
JUNK = st.sampled_from(["", "  ", "x", "garbage", "2x0 a", "-", "\0\xff", "ab\r"])


@st.composite
def replies(draw: Callable[..., Any]) -> str:
    code = draw(CODES)
    texts = draw(st.lists(TEXTS, max_size=3))
    lines = [f"{code}-{text}{draw(LINE_ENDS)}" for text in texts]
    last = draw(st.one_of(TEXTS.map(lambda text: f"{code} {text}"), st.just(code), JUNK))
    return f"{''.join(lines)}{last}{draw(LINE_ENDS)}"


def read_all(smtp: Any, data: bytes) -> list[object]:
    """Return the replies that getreply() reads from a file, up to the exception at its end."""
    smtp.file = file = io.BytesIO(data)
    seen: list[object] = []
    try:
        while True:
            seen.append(smtp.getreply())
    except SMTPException as error:
        return [*seen, type(error), error.args, smtp.file, file.closed]


@given(stream=st.lists(replies()).map("".join), is_whole=st.booleans())
@example(stream="250-a\r\n250 b\r\n354 go on\r\n", is_whole=True)
@example(stream="250-a\r\ngarbage\r\n250 ok\r\n", is_whole=True)
@example(stream="250 a\r\n", is_whole=False)
@example(stream="250\n", is_whole=False)
def test_file_is_read_as_by_the_stdlib(stream: str, is_whole: bool) -> None:
    """But for what is refused on purpose: see cases 6 - 10 and 12 in tests/faults."""
    data = (stream if is_whole else stream.removesuffix("\n")).encode("latin-1")
    assert read_all(csmtplib.SMTP(), data) == read_all(smtplib.SMTP(), data)


# What programs set by hand


def test_socket_set_by_hand(server_class: type[MemoryServer]) -> None:
    smtp = csmtplib.SMTP(local_hostname="client.test")
    smtp.sock = server = server_class()  # type: ignore[assignment]
    assert smtp.getreply() == (220, b"mx.test")
    assert smtp.sendmail("a@x", "b@x", "") == {}
    assert server.verbs[:2] == ["ehlo", "mail"]


def test_file_set_by_hand() -> None:
    """A file of the caller's is read by its readline() alone."""
    smtp = csmtplib.SMTP(local_hostname="client.test")
    smtp.sock = server = ReceivingMemoryServer()  # type: ignore[assignment]
    smtp.file = io.BytesIO(b"250-mx.test\n250 SIZE\n221 bye")
    assert smtp.ehlo() == (250, b"mx.test\nSIZE")
    assert smtp.has_extn("size")
    assert smtp.quit() == (221, b"bye")
    assert server.closed
    assert smtp.file is None


@pytest.mark.parametrize("smtp_class", [csmtplib.SMTP, csmtplib.SMTP_SSL, csmtplib.LMTP])
def test_object_without_init(smtp_class: Any, server_class: type[MemoryServer]) -> None:
    """Made by __new__, with as much set by hand as the stdlib needs."""
    smtp = smtp_class.__new__(smtp_class)
    smtp.sock = server = server_class()
    smtp.file = smtp.sock.makefile("rb")
    smtp._host = "mx.test"
    smtp.command_encoding = "ascii"
    smtp.local_hostname = "client.test"
    assert smtp.getreply() == (220, b"mx.test")
    assert smtp.sendmail("a@x", ["b@x"], "") == {}
    assert smtp.quit() == (221, b"bye")
    assert server.closed


def test_socket_whose_recv_is_for_show() -> None:
    """Of a mock every attribute is there; its class tells that it is no socket."""

    class Mock(MemoryServer):
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"nobody should ask for {name}")

    assert connected(csmtplib.SMTP(), Mock()).noop() == (250, b"ok")


class Interrupted(BaseException):
    """As KeyboardInterrupt, or the timeouts of gevent."""


@pytest.mark.parametrize("where", ["sendall", "recv"])
def test_an_interrupt_closes_the_connection(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the reply that comes later is taken for the next command's, as the stdlib does."""
    server = ReceivingMemoryServer()
    smtp = connected(csmtplib.SMTP(), server)

    def interrupt(*arguments: object) -> None:
        raise Interrupted

    monkeypatch.setattr(server, where, interrupt)
    with pytest.raises(Interrupted):
        smtp.noop()
    assert smtp.sock is None
    assert server.closed
