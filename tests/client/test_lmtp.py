"""client/lmtp.py: an answer for each recipient."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

import csmtplib
from csmtplib import SMTPDataError, SMTPServerDisconnected

from ..faults.server import Peer, ScriptedServer
from ..protocol.serving import Host
from ..requirements import needs_unix_sockets
from .conftest import MutualTLS
from .loopback import Loopback
from .memory import MemoryServer, connected

TIMEOUT = 5.0


def client(server: MemoryServer) -> Any:
    return connected(csmtplib.LMTP(local_hostname="client.test"), server)


def test_lhlo_and_no_ehlo(server_class: type[MemoryServer]) -> None:
    server = server_class()
    client(server).ehlo()
    assert server.commands == ["lhlo client.test"]


def test_default_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []

    def get_socket(self: object, host: str, port: int, timeout: object) -> MemoryServer:
        ports.append(port)
        return MemoryServer()

    monkeypatch.setattr(csmtplib.LMTP, "_get_socket", get_socket)
    csmtplib.LMTP("mx.test")
    # As in the stdlib, whose class has the port in its constructor only.
    csmtplib.LMTP().connect("mx.test")
    assert ports == [csmtplib.LMTP_PORT, 25] == [2003, 25]


def test_one_answer_for_each_recipient(server_class: type[MemoryServer]) -> None:
    """CPython issue 76984: the stdlib takes the second for the answer to its next command."""
    server = server_class(message="250 b\r\n250 c\r\n250 d", quit="221 bye")
    smtp = client(server)
    assert smtp.sendmail("a@x", ["b@x", "c@x", "d@x"], "") == {}
    assert smtp.recipient_replies == {
        "b@x": (250, b"b"),
        "c@x": (250, b"c"),
        "d@x": (250, b"d"),
    }
    assert smtp.quit() == (221, b"bye")


def test_no_answer_for_recipients_refused_before(server_class: type[MemoryServer]) -> None:
    server = server_class(rcpt=["250 ok", "550 no", "251 ok"], message="250 b\r\n452 quota")
    smtp = client(server)
    assert smtp.sendmail("a@x", ["b@x", "c@x", "d@x"], "") == {
        "c@x": (550, b"no"),
        "d@x": (452, b"quota"),
    }
    assert smtp.recipient_replies == {"b@x": (250, b"b"), "d@x": (452, b"quota")}
    assert smtp.noop() == (250, b"ok")


def test_first_recipient_refused_after_the_message() -> None:
    smtp = client(MemoryServer(message="552 quota\r\n250 c"))
    assert smtp.sendmail("a@x", ["b@x", "c@x"], "") == {"b@x": (552, b"quota")}


def test_all_recipients_refused_after_the_message() -> None:
    server = MemoryServer(message="552 first\r\n452 last")
    smtp = client(server)
    with pytest.raises(SMTPDataError) as caught:
        smtp.sendmail("a@x", ["b@x", "c@x"], "")
    assert caught.value.args == (552, b"first")
    assert smtp.recipient_replies == {"b@x": (552, b"first"), "c@x": (452, b"last")}
    assert server.verbs[-1] == "rset"


def test_replies_of_the_last_message_only() -> None:
    smtp = client(MemoryServer(message=["250 b\r\n250 c", "250 d"]))
    smtp.sendmail("a@x", ["b@x", "c@x"], "")
    smtp.sendmail("a@x", ["d@x"], "")
    assert smtp.recipient_replies == {"d@x": (250, b"d")}


def test_connection_lost_between_the_answers() -> None:
    """Case 61: what was answered is known."""
    smtp = client(MemoryServer(message="250 b"))
    with pytest.raises(SMTPServerDisconnected):
        smtp.sendmail("a@x", ["b@x", "c@x"], "")
    assert smtp.recipient_replies == {"b@x": (250, b"b")}


def test_recipient_named_twice() -> None:
    smtp = client(MemoryServer(message="250 one\r\n250 two"))
    assert smtp.sendmail("a@x", ["b@x", "b@x"], "") == {}
    assert smtp.noop() == (250, b"ok")


def test_data_by_hand() -> None:
    smtp = client(MemoryServer(message="250 b\r\n550 c"))
    smtp.mail("a@x")
    smtp.rcpt("b@x")
    smtp.rcpt("c@x")
    # Somebody has the message.
    assert smtp.data("") == (250, b"b")
    assert smtp.noop() == (250, b"ok")


def test_data_after_commands_that_the_class_does_not_know_of() -> None:
    smtp = client(MemoryServer())
    smtp.docmd("MAIL FROM:<a@x>")
    smtp.docmd("RCPT TO:<b@x>")
    assert smtp.data("") == (250, b"queued")


# Unix sockets


@needs_unix_sockets
def test_unix_socket() -> None:
    def script(peer: Peer) -> None:
        peer.greet("8BITMIME")
        peer.accept_message()

    with ScriptedServer(script, unix=True) as server:
        with csmtplib.LMTP(server.host, local_hostname="client.test", timeout=TIMEOUT) as smtp:
            assert smtp.sock is not None
            assert smtp.sock.family == socket.AF_UNIX
            assert smtp.sock.gettimeout() == TIMEOUT
            assert smtp.sendmail("a@x", "b@x", "hello") == {}
        assert server.received.startswith(b"lhlo client.test\r\n")


@needs_unix_sockets
def test_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    smtp = csmtplib.LMTP()
    with pytest.raises(FileNotFoundError):
        smtp.connect(str(tmp_path / "socket"))
    assert smtp.sock is None


@needs_unix_sockets
def test_unix_socket_and_a_timeout_of_zero() -> None:
    with pytest.raises(ValueError, match="timeout=0"):
        csmtplib.LMTP("/nonexistent", timeout=0)


@needs_unix_sockets
def test_starttls_on_a_unix_socket(mutual_tls: MutualTLS) -> None:
    """In the stdlib an AttributeError; the certificate has to be for "localhost"."""

    def script(peer: Peer) -> None:
        peer.greet("STARTTLS")
        peer.expect("STARTTLS\r\n")
        peer.say("220 go")
        peer.start_tls(mutual_tls.server)
        peer.answer_hello()

    with ScriptedServer(script, unix=True) as server:
        smtp = csmtplib.LMTP(timeout=TIMEOUT, local_hostname="client.test")
        smtp.connect(server.host)
        smtp.starttls(context=mutual_tls.client(with_certificate=True))
        smtp.ehlo()
        smtp.quit()


def test_nothing_is_waited_for_behind_421(server_class: type[MemoryServer]) -> None:
    server = server_class(message="250 b\r\n421 shutting down")
    smtp = client(server)
    refused = smtp.sendmail("a@x", ["b@x", "c@x", "d@x"], "")
    assert refused == {"c@x": (421, b"shutting down"), "d@x": (421, b"shutting down")}
    assert smtp.sock is None


def test_recipient_named_twice_and_accepted_once(server_class: type[MemoryServer]) -> None:
    server = server_class(message="250 first\r\n452 second")
    smtp = client(server)
    assert smtp.sendmail("a@x", ["b@x", "b@x"], "") == {}
    assert smtp.recipient_replies == {"b@x": (250, b"first")}


# Where the server takes several commands at once


ANSWERS = {"b": "250 b", "c": "452 quota", "d": "250 d", "e": "554 e"}


def about(line: str) -> str:
    """The answer to a message for this recipient."""
    return ANSWERS[line[len("rcpt to:<")]]


def over_loopback(host: Host, *recipients: str, **attributes: Any) -> tuple[Any, Any, bool]:
    """The result or exception of sendmail(), the replies by recipient, and whether it is open."""
    with Loopback(host) as server:
        smtp: Any = csmtplib.LMTP(*server.address, local_hostname="client.test", timeout=TIMEOUT)
        for name, value in attributes.items():
            setattr(smtp, name, value)
        outcome: Any
        try:
            outcome = smtp.sendmail("a@x", list(recipients), "hello")
        except csmtplib.SMTPException as error:
            outcome = type(error), error.args
        is_open = smtp.sock is not None
        if is_open:
            assert smtp.noop() == (250, b"ok")
        replies = smtp.recipient_replies
        smtp.close()
    return outcome, replies, is_open


ways = pytest.mark.parametrize(
    "way",
    [{}, {"chunking": True}, {"pipelining": False}],
    ids=["pipelined", "chunked", "sequential"],
)


@ways
def test_pipelined_one_answer_for_each_recipient(way: dict[str, bool]) -> None:
    host = Host("PIPELINING", "CHUNKING", lmtp=True, message=about)
    assert over_loopback(host, "b@x", "c@x", "d@x", "e@x", **way) == (
        {"c@x": (452, b"quota"), "e@x": (554, b"e")},
        {
            "b@x": (250, b"b"),
            "c@x": (452, b"quota"),
            "d@x": (250, b"d"),
            "e@x": (554, b"e"),
        },
        True,
    )
    assert [len(each.recipients) for each in host.deliveries] == [2]
    assert ("bdat" in host.verbs) is bool(way.get("chunking"))


@ways
def test_pipelined_no_answer_for_recipients_refused_before(way: dict[str, bool]) -> None:
    rcpt = ["550 no", "250 ok", "251 ok"]
    host = Host("PIPELINING", "CHUNKING", lmtp=True, rcpt=rcpt, message=about)
    assert over_loopback(host, "b@x", "c@x", "d@x", **way) == (
        {"b@x": (550, b"no"), "c@x": (452, b"quota")},
        {"c@x": (452, b"quota"), "d@x": (250, b"d")},
        True,
    )


@ways
def test_pipelined_one_recipient(way: dict[str, bool]) -> None:
    host = Host("PIPELINING", "CHUNKING", lmtp=True, message=about)
    assert over_loopback(host, "b@x", **way) == ({}, {"b@x": (250, b"b")}, True)
    host = Host("PIPELINING", "CHUNKING", lmtp=True, message=about)
    assert over_loopback(host, "c@x", **way) == (
        (SMTPDataError, (452, b"quota")),
        {"c@x": (452, b"quota")},
        True,
    )


@ways
def test_pipelined_all_recipients_refused_after_the_message(way: dict[str, bool]) -> None:
    host = Host("PIPELINING", "CHUNKING", lmtp=True, message=about)
    assert over_loopback(host, "e@x", "c@x", **way) == (
        (SMTPDataError, (554, b"e")),
        {"e@x": (554, b"e"), "c@x": (452, b"quota")},
        True,
    )
    assert host.verbs[-2:] == ["rset", "noop"]


@ways
def test_pipelined_recipient_named_twice(way: dict[str, bool]) -> None:
    host = Host("PIPELINING", "CHUNKING", lmtp=True, message=["250 first", "452 second"])
    assert over_loopback(host, "b@x", "b@x", **way) == ({}, {"b@x": (250, b"first")}, True)


@ways
def test_pipelined_nothing_is_waited_for_behind_421(way: dict[str, bool]) -> None:
    host = Host("PIPELINING", "CHUNKING", lmtp=True, message=["250 b", "421 bye"])
    refused = {"c@x": (421, b"bye"), "d@x": (421, b"bye")}
    assert over_loopback(host, "b@x", "c@x", "d@x", **way) == (
        refused,
        {"b@x": (250, b"b"), **refused},
        False,
    )


@ways
def test_pipelined_connection_lost_between_the_answers(way: dict[str, bool]) -> None:
    """Case 61: what was answered is known."""
    host = Host("PIPELINING", "CHUNKING", lmtp=True, message=["250 b", None])
    outcome, replies, is_open = over_loopback(host, "b@x", "c@x", **way)
    assert outcome[0] is SMTPServerDisconnected
    assert replies == {"b@x": (250, b"b")}
    assert not is_open


@ways
def test_pipelined_replies_of_the_last_message_only(way: dict[str, bool]) -> None:
    host = Host("PIPELINING", "CHUNKING", lmtp=True, message=about)
    with Loopback(host) as server:
        smtp: Any = csmtplib.LMTP(*server.address, local_hostname="client.test", timeout=TIMEOUT)
        for name, value in way.items():
            setattr(smtp, name, value)
        smtp.sendmail("a@x", ["b@x", "c@x"], "")
        smtp.sendmail("a@x", ["d@x"], "")
        assert smtp.recipient_replies == {"d@x": (250, b"d")}
        smtp.quit()


@ways
@pytest.mark.parametrize("answers", [{"mail": None}, {"mail": "550 no"}, {"data": None}])
def test_pipelined_no_replies_of_the_message_before(
    way: dict[str, bool], answers: dict[str, str | None]
) -> None:
    """Of a message that did not get as far they would tell that it has arrived."""
    verb, answer = next(iter(answers.items()))
    if way.get("chunking") and verb == "data":
        verb = "bdat"
    first = {"mail": "250 ok", "data": "354 go", "bdat": "250 b"}[verb]
    host = Host("PIPELINING", "CHUNKING", lmtp=True, **{verb: [first, answer]})
    with Loopback(host) as server:
        smtp: Any = csmtplib.LMTP(*server.address, local_hostname="client.test", timeout=TIMEOUT)
        for name, value in way.items():
            setattr(smtp, name, value)
        smtp.sendmail("a@x", ["b@x"], "1")
        assert set(smtp.recipient_replies) == {"b@x"}
        with pytest.raises(csmtplib.SMTPException):
            smtp.sendmail("a@x", ["b@x"], "2")
        assert smtp.recipient_replies == {}
        smtp.close()
