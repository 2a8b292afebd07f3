"""client/pipelining.py: sendmail() where the server takes several commands at once."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import csmtplib
from csmtplib import SMTPDataError, SMTPException, SMTPSenderRefused, SMTPServerDisconnected
from csmtplib.kernel.transaction import Mode

from ..interrupting import interrupted_after
from ..protocol.serving import Delivery, Host
from .conftest import MutualTLS
from .loopback import DEADLINE, Gate, Loopback
from .memory import ReceivingMemoryServer, connected

SEQUENTIAL, PIPELINING, CHUNKING = Mode

FROM, TO = ("from:", "to:") if sys.version_info >= (3, 13) else ("FROM:", "TO:")

BOTH = ("PIPELINING", "CHUNKING")


@pytest.fixture(autouse=True)
def nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CSMTPLIB_NO_PIPELINING", raising=False)
    monkeypatch.delenv("CSMTPLIB_NO_CHUNKING", raising=False)


def mode_of(smtp: Any) -> Mode:
    """How sendmail() would run a transaction; sequentially also where the methods do."""
    return smtp._mode_for(1) if smtp._is_gate_open() else SEQUENTIAL


def connect(server: Loopback, smtp_class: Any = csmtplib.SMTP, **attributes: Any) -> Any:
    smtp = smtp_class(*server.address, local_hostname="client.test", timeout=DEADLINE)
    for name, value in attributes.items():
        setattr(smtp, name, value)
    return smtp


# On the wire


def test_envelope_and_data_in_one_segment() -> None:
    host = Host("PIPELINING", "SIZE")
    with Loopback(host) as server, connect(server) as smtp:
        assert smtp.sendmail("a@x", ["b@x", "C <c@x>"], b".one\r\ntwo") == {}
        assert smtp.sendmail("", "b@x", "three\n") == {}
    assert server.segments[1:] == [
        f"mail {FROM}<a@x> size=9\r\nrcpt {TO}<b@x>\r\nrcpt {TO}<c@x>\r\ndata\r\n".encode(),
        b"..one\r\ntwo\r\n.\r\n",
        f"mail {FROM}<> size=7\r\nrcpt {TO}<b@x>\r\ndata\r\n".encode(),
        b"three\r\n.\r\n",
        b"QUIT\r\n",
    ]
    assert host.texts == [b".one\r\ntwo\r\n", b"three\r\n"]


def test_by_chunks() -> None:
    """The first waits for what becomes of its recipients, and proves that the server knows BDAT."""
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server, chunking=True) as smtp:
        assert smtp.sendmail("a@x", "b@x", b".one\ntwo") == {}
        assert smtp.sendmail("a@x", "b@x", b"three\r\n") == {}
    first, second = (
        f"mail {FROM}<a@x>\r\nrcpt {TO}<b@x>\r\n".encode(),
        b"BDAT 10 LAST\r\n.one\ntwo\r\n",
    )
    assert server.segments[1:] == [
        first,
        second,
        first + b"BDAT 7 LAST\r\nthree\r\n",
        b"QUIT\r\n",
    ]
    assert host.texts == [b".one\ntwo\r\n", b"three\r\n"]


def test_chunks_are_not_sent_unasked() -> None:
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server) as smtp:
        assert smtp.sendmail("a@x", "b@x", b"text") == {}
    assert host.verbs == ["ehlo", "mail", "rcpt", "data", "quit"]


def test_other_commands_between_messages() -> None:
    host = Host("PIPELINING", rcpt=["250 ok", "550 no", "250 ok"])
    with Loopback(host) as server, connect(server) as smtp:
        assert smtp.sendmail("a@x", ["b@x", "c@x"], "") == {"c@x": (550, b"no")}
        assert smtp.noop() == (250, b"ok")
        assert smtp.mail("a@x")[0] == 250
        assert smtp.rset()[0] == 250
        assert smtp.sendmail("a@x", "b@x", "") == {}
        assert smtp.docmd("noop") == (250, b"ok")
    assert len(host.deliveries) == 2


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("chunking", [False, True])
def test_large_messages(kind: Any, chunking: bool) -> None:
    text = b"." + b"x" * 500 + b"\r\n"
    text *= 3000
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server, chunking=chunking) as smtp:
        for _ in range(3):
            assert smtp.sendmail("a@x", "b@x", kind(text)) == {}
    assert host.texts == [text] * 3


def test_many_recipients() -> None:
    """More than buffers hold, in either direction."""
    refused = {f"{number}@x" for number in range(0, 5000, 7)}
    host = Host(
        "PIPELINING",
        rcpt=lambda line: "550 no" if line[len("rcpt to:<") : -1] in refused else "250 ok",
    )
    recipients = [f"{number}@x" for number in range(5000)]
    with Loopback(host) as server, connect(server) as smtp:
        assert smtp.sendmail("a@x", iter(recipients), "") == dict.fromkeys(
            (each for each in recipients if each in refused), (550, b"no")
        )
    assert len(host.deliveries[0].recipients) == 5000 - len(refused)


@pytest.mark.parametrize("chunking", [False, True])
def test_over_tls(mutual_tls: MutualTLS, chunking: bool) -> None:
    host = Host(*BOTH)
    with (
        Loopback(host, tls=mutual_tls.server) as server,
        csmtplib.SMTP_SSL(
            *server.address,
            local_hostname="client.test",
            timeout=DEADLINE,
            context=mutual_tls.client(with_certificate=True),
        ) as smtp,
    ):
        smtp.chunking = chunking
        smtp.ehlo()
        assert mode_of(smtp) == (CHUNKING if chunking else PIPELINING)
        for _ in range(3):
            assert smtp.sendmail("a@x", ["b@x", "c@x"], b"text\r\n" * 50_000) == {}
    assert host.texts == [b"text\r\n" * 50_000] * 3


# The same as sequentially

CODES = [220, 250, 251, 252, 354, 421, 450, 452, 500, 503, 550, 552, 554]


def record(answers: dict[str, Any], **attributes: Any) -> tuple[Any, bool, list[Delivery]]:
    """Return the result of a sendmail(), whether the connection is open, and what was delivered."""
    host = Host(*BOTH, **answers)
    with Loopback(host) as server:
        smtp = connect(server, **attributes)
        smtp.ehlo()
        outcome: Any
        try:
            outcome = smtp.sendmail("a@x", ["b@x", "c@x", "d@x"], "hello")
        except SMTPException as error:
            outcome = (type(error), error.args)
        is_open = smtp.sock is not None
        smtp.close()
    return outcome, is_open, host.deliveries


@pytest.mark.parametrize("answer", [None, *map("{} said".format, CODES), "550-a\r\n550 b"])
@pytest.mark.parametrize("step", ["mail", "rcpt", "second rcpt", "data", "message"])
def test_one_answer_that_is_not_the_usual(step: str, answer: str | None) -> None:
    answers: dict[str, Any] = {step: answer}
    if step == "second rcpt":
        answers = {"rcpt": ["250 ok", answer, "250 ok"]}
    sequential = record(answers, pipelining=False)
    assert record(answers) == sequential
    if step != "data":
        chunked = record(answers, chunking=True)
        if step == "message" and answer is not None and "500" <= answer[:3] <= "504":
            # Is it this message that it refuses, or every BDAT?
            assert chunked[0][0] is SMTPServerDisconnected
        else:
            assert chunked == sequential


def test_data_that_is_refused_leaves_no_transaction_open() -> None:
    host = Host("PIPELINING", data=["554 no", "354 go on"])
    with Loopback(host) as server, connect(server) as smtp:
        with pytest.raises(SMTPDataError):
            smtp.sendmail("a@x", "b@x", "")
        assert smtp.sendmail("a@x", "b@x", "") == {}
    assert host.verbs == ["ehlo", "mail", "rcpt", "data", "rset", "mail", "rcpt", "data", "quit"]


def test_a_server_that_wants_a_message_for_nobody() -> None:
    """It gets an empty one, and it is nobody's."""
    host = Host("PIPELINING", rcpt=["550 no", "250 ok"], data="354 go on")
    with Loopback(host) as server, connect(server) as smtp:
        with pytest.raises(csmtplib.SMTPRecipientsRefused):
            smtp.sendmail("a@x", "b@x", "secret")
        assert b"secret" not in host.received
        assert smtp.sendmail("a@x", "c@x", "text") == {}
    assert host.texts == [b"text\r\n"]


def test_envelope_that_cannot_be_sent() -> None:
    host = Host("PIPELINING")
    with Loopback(host) as server, connect(server) as smtp:
        smtp.ehlo()
        for sender, recipient in [("ä@x", "b@x"), ("a@x", "b\r\n@x"), ("<", "b@x")]:
            with pytest.raises(ValueError):  # noqa: PT011
                smtp.sendmail(sender, ["c@x", recipient], "")
        assert host.verbs == ["ehlo"]
        assert smtp.sendmail("a@x", "b@x", "") == {}


def test_421_before_the_transaction() -> None:
    """A goodbye that came while nothing was sent; the transaction is not."""
    host = Host("PIPELINING", noop="250 ok\r\n421 bye")
    with Loopback(host) as server:
        smtp = connect(server)
        smtp.ehlo()
        smtp.noop()
        with pytest.raises(SMTPSenderRefused) as caught:
            smtp.sendmail("a@x", "b@x", "")
        assert caught.value.args == (421, b"bye", "a@x")
        assert smtp.sock is None
    assert host.verbs == ["ehlo", "noop"]


# Extensions that a server has not


def test_a_server_that_loses_what_comes_close_behind() -> None:
    class Lossy(Host):
        def answers(self, data: bytes) -> Iterator[bytes]:
            first, line_end, _ = data.partition(b"\r\n")
            is_command = not data.endswith(b"\r\n.\r\n")
            return super().answers(first + line_end if is_command else data)

    hosts = Lossy("PIPELINING"), Lossy("PIPELINING")
    with Loopback(*hosts) as server:
        smtp = csmtplib.SMTP(*server.address, local_hostname="client.test", timeout=0.3)
        with pytest.raises(SMTPServerDisconnected, match="timed out"):
            smtp.sendmail("a@x", "b@x", "one")
        assert smtp.sock is None
        with csmtplib.SMTP(*server.address, local_hostname="client.test", timeout=DEADLINE) as smtp:
            assert smtp.sendmail("a@x", "b@x", "two") == {}
    assert hosts[1].texts == [b"two\r\n"]


def test_a_server_that_does_not_know_bdat() -> None:
    hosts = Host(*BOTH, bdat="502 what?"), Host(*BOTH)
    with Loopback(*hosts) as server:
        smtp = connect(server, chunking=True)
        with pytest.raises(SMTPServerDisconnected, match="does not know BDAT"):
            smtp.sendmail("a@x", "b@x", "one")
        assert smtp.sock is None
        with connect(server, chunking=True) as smtp:
            assert smtp.sendmail("a@x", "b@x", "two") == {}
    assert hosts[1].verbs == ["ehlo", "mail", "rcpt", "data", "quit"]


# The gate


@pytest.fixture
def smtp() -> Iterator[Any]:
    """Connected to a server that offers PIPELINING and CHUNKING, over a real socket."""
    with Loopback(Host(*BOTH)) as server:
        smtp = connect(server)
        smtp.ehlo()
        yield smtp
        smtp.close()


OVERRIDABLE = [
    "_get_socket",
    "_print_debug",
    "_rset",
    "close",
    "data",
    "docmd",
    "getreply",
    "has_extn",
    "mail",
    "putcmd",
    "rcpt",
    "rset",
    "send",
]


def test_modes(smtp: Any) -> None:
    assert mode_of(smtp) == PIPELINING
    smtp.chunking = True
    assert mode_of(smtp) == CHUNKING
    del smtp.esmtp_features["pipelining"]
    assert mode_of(smtp) == SEQUENTIAL


@pytest.mark.parametrize("name", OVERRIDABLE)
@pytest.mark.parametrize("place", ["object", "class", "subclass"])
def test_a_method_that_is_not_ours(
    name: str, place: str, smtp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(csmtplib.SMTP, name)

    def replacement(self: Any, *arguments: Any, **named: Any) -> Any:
        return original(self, *arguments, **named)

    if place == "object":
        monkeypatch.setattr(smtp, name, replacement.__get__(smtp), raising=False)
    elif place == "class":
        monkeypatch.setattr(csmtplib.SMTP, name, replacement)
    else:
        smtp.__class__ = type("Subclass", (csmtplib.SMTP,), {name: replacement})
    assert mode_of(smtp) == SEQUENTIAL
    assert smtp.sendmail("a@x", "b@x", "text") == {}
    monkeypatch.undo()
    smtp.__class__ = csmtplib.SMTP
    assert mode_of(smtp) == PIPELINING
    assert smtp.sendmail("a@x", "b@x", "text") == {}


@pytest.mark.parametrize("name", ["sendmail", "send_message", "ehlo", "noop", "connect", "quit"])
def test_a_method_that_is_not_called(name: str, smtp: Any) -> None:
    setattr(smtp, name, lambda *arguments: None)
    assert mode_of(smtp) == PIPELINING


def test_every_byte_passes_through_an_overridden_send() -> None:
    sent = bytearray()

    class Subclass(csmtplib.SMTP):
        def send(self, s: Any) -> None:
            sent.extend(s.encode() if isinstance(s, str) else s)
            super().send(s)

    host = Host("PIPELINING")
    with Loopback(host) as server, connect(server, Subclass) as smtp:
        smtp.sendmail("a@x", "b@x", "text")
    assert sent == host.received


def test_debuglevel(smtp: Any) -> None:
    smtp.set_debuglevel(1)
    assert mode_of(smtp) == SEQUENTIAL
    smtp.set_debuglevel(0)
    assert mode_of(smtp) == PIPELINING
    smtp.set_debuglevel(False)
    assert mode_of(smtp) == PIPELINING


def test_a_file_of_the_callers(smtp: Any) -> None:
    with smtp.sock.makefile("rb") as file:
        smtp.file, ours = file, smtp.file
        assert mode_of(smtp) == SEQUENTIAL
        assert smtp.sendmail("a@x", "b@x", "text") == {}
        smtp.file = ours
    assert mode_of(smtp) == PIPELINING


def test_a_socket_of_another_class(smtp: Any) -> None:
    class Other(socket.socket):
        pass

    real = smtp.sock
    smtp.sock = Other(fileno=real.detach())
    smtp.sock.settimeout(DEADLINE)
    smtp.file = None
    assert mode_of(smtp) == SEQUENTIAL
    assert smtp.sendmail("a@x", "b@x", "text") == {}


def test_a_stand_in_for_a_socket() -> None:
    server = ReceivingMemoryServer(ehlo="250-mx.test\r\n250 PIPELINING")
    smtp = connected(csmtplib.SMTP(local_hostname="client.test"), server)
    assert smtp.sendmail("a@x", "b@x", "text") == {}
    assert mode_of(smtp) == SEQUENTIAL


def test_a_socket_set_by_hand() -> None:
    host = Host("PIPELINING")
    with Loopback(host) as server:
        smtp = csmtplib.SMTP(local_hostname="client.test")
        smtp.sock = socket.create_connection(server.address, DEADLINE)
        assert smtp.getreply()[0] == 220
        smtp.ehlo()
        assert mode_of(smtp) == PIPELINING
        assert smtp.sendmail("a@x", "b@x", "text") == {}
        smtp.quit()


def test_an_object_without_init() -> None:
    host = Host("PIPELINING")
    with Loopback(host) as server:
        smtp = csmtplib.SMTP.__new__(csmtplib.SMTP)
        smtp.sock = socket.create_connection(server.address, DEADLINE)
        smtp.local_hostname = "client.test"
        smtp.command_encoding = "ascii"
        assert smtp.getreply()[0] == 220
        assert smtp.sendmail("a@x", "b@x", "text") == {}
        smtp.quit()
    assert [segment.count(b"\r\n") for segment in server.segments] == [1, 3, 2, 1]


def test_a_socket_that_does_not_wait(smtp: Any) -> None:
    smtp.sock.settimeout(0)
    assert mode_of(smtp) == SEQUENTIAL
    smtp.sock.settimeout(None)
    assert mode_of(smtp) == PIPELINING
    assert smtp.sendmail("a@x", "b@x", "text") == {}


def test_replies_that_are_awaited(smtp: Any) -> None:
    """A program that pipelines by itself reads them itself, when it likes."""
    smtp.send("noop\r\nnoop\r\n")
    assert mode_of(smtp) == SEQUENTIAL
    smtp.getreply()
    assert mode_of(smtp) == SEQUENTIAL
    smtp.getreply()
    assert mode_of(smtp) == PIPELINING
    smtp.putcmd("noop")
    assert mode_of(smtp) == SEQUENTIAL
    smtp.getreply()
    assert mode_of(smtp) == PIPELINING


def test_no_connection() -> None:
    assert mode_of(csmtplib.SMTP()) == SEQUENTIAL
    smtp = csmtplib.SMTP()
    with pytest.raises(SMTPServerDisconnected):
        smtp.sendmail("a@x", "b@x", "")


# Turning it off


def sequential_segments(**attributes: Any) -> bool:
    """Whether each command had a segment of its own."""
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server, **attributes) as smtp:
        assert smtp.sendmail("a@x", "b@x", "text") == {}
    assert len(host.deliveries) == 1
    return len(server.segments) == 6


def test_off_by_an_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sequential_segments()
    assert sequential_segments(pipelining=False)
    assert sequential_segments(pipelining=False, chunking=True)
    monkeypatch.setattr(csmtplib.SMTP, "pipelining", False)
    assert sequential_segments()


def test_off_in_a_subclass() -> None:
    class Careful(csmtplib.SMTP):
        pipelining = False

    with Loopback(Host("PIPELINING")) as server, connect(server, Careful) as smtp:
        smtp.ehlo()
        assert mode_of(smtp) == SEQUENTIAL


@pytest.mark.parametrize("value", ["*", "127.0.0.1", "mx.test, 127.0.0.1"])
def test_off_by_the_environment(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSMTPLIB_NO_PIPELINING", value)
    assert sequential_segments()
    monkeypatch.setenv("CSMTPLIB_NO_PIPELINING", "mx.test")
    assert not sequential_segments()


def test_chunking_off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSMTPLIB_NO_CHUNKING", "127.0.0.1")
    host = Host(*BOTH)
    with Loopback(host) as server, connect(server, chunking=True) as smtp:
        assert smtp.sendmail("a@x", "b@x", "text") == {}
    assert "data" in host.verbs


def test_off_behind_a_firewall_that_rewrites_smtp() -> None:
    host = Host("PIPELINING", greeting="220 ****************0*2******")
    with Loopback(host, Host("PIPELINING")) as server:
        smtp = connect(server)
        smtp.ehlo()
        assert mode_of(smtp) == SEQUENTIAL
        smtp.quit()
        # And what was seen of one server says nothing of the next.
        smtp.connect(*server.address)
        smtp.ehlo()
        assert mode_of(smtp) == PIPELINING
        smtp.quit()


# What programs patch in the module


def test_module_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csmtplib, "_fix_eols", lambda text: f"fixed {text}")
    monkeypatch.setattr(csmtplib, "_quote_periods", lambda data: b"quoted " + data)
    monkeypatch.setattr(csmtplib, "quoteaddr", lambda address: f"<quoted-{address}>")
    host = Host("PIPELINING")
    with Loopback(host) as server, connect(server) as smtp:
        assert smtp.sendmail("a@x", "b@x", "text") == {}
    assert host.texts == [b"quoted fixed text\r\n"]
    assert host.lines[1:3] == [f"mail {FROM}<quoted-a@x>", f"rcpt {TO}<quoted-b@x>"]


AUDITED: list[tuple[str, tuple[Any, ...]]] = []
_audits = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _audits and event.startswith("smtplib."):
        AUDITED.append((event, arguments))


@contextlib.contextmanager
def audited() -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """The audit events of smtplib; a hook can't be taken back."""
    global _audits
    if not getattr(sys, "_csmtplib_audit", False):
        sys.addaudithook(_audit)
        sys._csmtplib_audit = True  # type: ignore[attr-defined]
    AUDITED.clear()
    _audits = True
    try:
        yield AUDITED
    finally:
        _audits = False


def events(answers: dict[str, Any], **attributes: Any) -> list[Any]:
    with Loopback(Host(*BOTH, **answers)) as server:
        smtp = connect(server, **attributes)
        smtp.ehlo()
        with audited() as seen, contextlib.suppress(SMTPException):
            smtp.sendmail("a@x", ["b@x", "c@x"], ".text")
        smtp.close()
    assert all(event == "smtplib.send" and arguments[0] is smtp for event, arguments in seen)
    return [arguments[1] for _, arguments in seen]


def test_audit_events_are_those_of_a_sequential_one() -> None:
    assert events({}) == events({}, pipelining=False)


def test_audit_events_of_chunks() -> None:
    assert events({}, chunking=True)[-2:] == [b"BDAT 7 LAST\r\n", b".text\r\n"]


def test_a_message_that_is_not_sent_is_not_audited() -> None:
    refused: dict[str, Any] = {"data": "554 no"}
    assert events(refused) == events(refused, pipelining=False)


# One user at a time


def test_another_thread() -> None:
    gate = Gate()
    host = Host("PIPELINING", mail=gate)
    told: list[Any] = []
    with Loopback(host) as server:
        smtp = connect(server)
        thread = threading.Thread(target=lambda: told.append(smtp.sendmail("a@x", "b@x", "one")))
        thread.start()
        assert gate.reached.wait(DEADLINE)
        for use in (
            smtp.noop,
            smtp.quit,
            lambda: smtp.sendmail("a@x", "b@x", "two"),
            lambda: next(smtp.send_many([("a@x", "b@x", b"three")])),
        ):
            with pytest.raises(RuntimeError, match="in use"):
                use()
        gate.opened.set()
        thread.join(DEADLINE)
        assert told == [{}]
        assert smtp.noop()[0] == 250
        smtp.quit()
    assert host.texts == [b"one\r\n"]


def test_another_thread_after_an_own_way_to_send_a_message() -> None:
    """Whoever sends the lines of a message himself awaits one reply, and nobody is refused then."""
    host = Host()
    with Loopback(host) as server:
        smtp = connect(server)
        smtp.ehlo()
        smtp.mail("a@x")
        smtp.rcpt("b@x")
        assert smtp.docmd("data")[0] == 354
        smtp.send("one\r\ntwo\r\nthree\r\n.\r\n")
        assert smtp.getreply()[0] == 250
        told: list[Any] = []
        thread = threading.Thread(target=lambda: told.append(smtp.noop()[0]))
        thread.start()
        thread.join(DEADLINE)
        assert told == [250]
        smtp.quit()


def test_another_thread_sequentially() -> None:
    gate = Gate()
    with Loopback(Host(noop=gate)) as server:
        smtp = connect(server)
        smtp.ehlo()
        thread = threading.Thread(target=smtp.noop)
        thread.start()
        assert gate.reached.wait(DEADLINE)
        with pytest.raises(RuntimeError, match="in use"):
            smtp.rset()
        gate.opened.set()
        thread.join(DEADLINE)
        assert smtp.rset()[0] == 250
        smtp.quit()


@pytest.mark.parametrize("chunking", [False, True])
@pytest.mark.parametrize("step", ["mail", "message"])
def test_keyboard_interrupt(step: str, chunking: bool) -> None:
    """Nobody knows then where the transaction is, so the connection is closed."""
    gate = Gate()
    answers: dict[str, Any] = {step: gate}
    host = Host(*BOTH, **answers)
    with Loopback(host) as server:
        smtp = connect(server, chunking=chunking)
        smtp.ehlo()
        begun = time.monotonic()
        with (
            interrupted_after(lambda: gate.reached.wait(DEADLINE)),
            pytest.raises(KeyboardInterrupt),
        ):
            smtp.sendmail("a@x", "b@x", "one")
        assert time.monotonic() - begun < DEADLINE / 2
        assert smtp.sock is None
        gate.opened.set()
        with pytest.raises(SMTPServerDisconnected, match="please run connect"):
            smtp.noop()


@pytest.mark.parametrize("way", ["pipelined", "sequential", "by methods"])
def test_an_error_while_a_message_is_encoded(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits for the message by then, and would take the next command for its text."""
    host = Host(*["PIPELINING"] * (way == "pipelined"))
    with Loopback(host) as server:
        smtp = connect(server)
        smtp.ehlo()
        if way == "by methods":
            smtp.rset = smtp.rset
        monkeypatch.setattr(csmtplib, "_quote_periods", lambda data: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            smtp.sendmail("a@x", "b@x", "one")
        assert smtp.sock is None
    assert host.verbs == ["ehlo", "mail", "rcpt", "data"]
    assert host.texts == []


@pytest.mark.parametrize("refusing", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("way", ["pipelined", "sequential", "by methods"])
def test_what_is_refused_is_not_encoded(
    way: str, refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T7: 20 MB that nobody takes took 80 times as long as in smtplib, which encodes them only when
    the server has asked for them."""
    encoded = []

    def encode(data: bytes) -> bytes:
        encoded.append(data)
        return data

    monkeypatch.setattr(csmtplib, "_quote_periods", encode)
    answers: dict[str, Any] = {refusing: "550 no"}
    host = Host(*["PIPELINING"] * (way == "pipelined"), **answers)
    with Loopback(host) as server, connect(server) as smtp:
        smtp.ehlo()
        if way == "by methods":
            smtp.rset = smtp.rset
        with pytest.raises(SMTPException):
            smtp.sendmail("a@x", "b@x", b"one")
    assert encoded == []


def test_time_limit() -> None:
    gate = Gate()
    with Loopback(Host("PIPELINING", rcpt=gate)) as server:
        smtp = connect(server)
        smtp.ehlo()
        smtp.sock.settimeout(0.1)
        begun = time.monotonic()
        with pytest.raises(SMTPServerDisconnected, match="unexpectedly closed: timed out"):
            smtp.sendmail("a@x", "b@x", "one")
        assert time.monotonic() - begun < DEADLINE / 2
        assert smtp.sock is None
        gate.opened.set()
