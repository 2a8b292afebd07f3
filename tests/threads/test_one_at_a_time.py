"""While one thread has the connection, whatever another one tries is refused, without a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

import csmtplib
from csmtplib.drive.sock import connect
from csmtplib.protocol import server_url
from csmtplib.protocol.flows import farewell

from ..client.loopback import Gate
from ..drive.talking import DEADLINE, in_thread
from .site import Site
from .test_own_connections import MODES, told

USES: dict[str, Callable[[csmtplib.SMTP], Any]] = {
    "sendmail": lambda smtp: smtp.sendmail("b@x.test", "c@y.test", b"other"),
    "send_many": lambda smtp: list(smtp.send_many([("b@x.test", "c@y.test", b"other")])),
    "noop": lambda smtp: smtp.noop(),
    "putcmd": lambda smtp: smtp.putcmd("noop"),
    "getreply": lambda smtp: smtp.getreply(),
    "send": lambda smtp: smtp.send(b"noop\r\n"),
    "connect": lambda smtp: smtp.connect(smtp._host, 25),
    "quit": lambda smtp: smtp.quit(),
}


@pytest.mark.parametrize("way", ["sendmail", "send_many"])
@pytest.mark.parametrize("extensions", MODES, ids=" ".join)
def test_in_use_by_another_thread(extensions: tuple[str, ...], way: str) -> None:
    gate = Gate()

    def send() -> None:
        if way == "sendmail":
            assert smtp.sendmail("a@x.test", "b@y.test", b"text\r\n") == {}
        else:
            (result,) = smtp.send_many([("a@x.test", "b@y.test", b"text\r\n")])
            assert result.accepted

    with Site(*extensions, mail=gate) as site, csmtplib.SMTP(*site.address) as smtp:
        smtp.ehlo()
        with in_thread(send):
            assert gate.reached.wait(DEADLINE)
            for use in USES.values():
                with pytest.raises(RuntimeError, match="in use"):
                    use(smtp)
            gate.opened.set()
        # It is nobody's again.
        assert smtp.noop()[0] == 250
    assert told(site) == {("b@y.test", b"text\r\n"): 1}


def test_closed_by_another_thread() -> None:
    """Who uses it sees the end of the stream; it does not write into what is opened next."""
    gate = Gate()
    errors: list[Exception] = []

    def send() -> None:
        try:
            smtp.sendmail("a@x.test", "b@y.test", b"text\r\n")
        except csmtplib.SMTPServerDisconnected as error:
            errors.append(error)

    with Site(mail=gate) as site:
        smtp = csmtplib.SMTP(*site.address)
        smtp.ehlo()
        with in_thread(send):
            assert gate.reached.wait(DEADLINE)
            smtp.close()
        assert errors
        assert smtp.sock is None
        gate.opened.set()


def test_a_command_that_waits_for_its_reply() -> None:
    """Whatever they are about, the two belong together."""
    gate = Gate()
    with Site("PIPELINING", noop=gate) as site, csmtplib.SMTP(*site.address) as smtp:
        smtp.ehlo()
        with in_thread(smtp.noop):
            assert gate.reached.wait(DEADLINE)
            for use in USES.values():
                with pytest.raises(RuntimeError, match="in use"):
                    use(smtp)
            gate.opened.set()


def test_a_reply_that_is_not_read_yet() -> None:
    with Site("PIPELINING") as site, csmtplib.SMTP(*site.address) as smtp:
        smtp.ehlo()
        with in_thread(lambda: smtp.putcmd("noop")):
            pass
        for name in ("sendmail", "send_many", "noop", "putcmd", "send"):
            with pytest.raises(RuntimeError, match="in use"):
                USES[name](smtp)
        assert smtp.getreply()[0] == 250
        assert smtp.sendmail("a@x.test", "b@y.test", b"text\r\n") == {}
    assert told(site) == {("b@y.test", b"text\r\n"): 1}


def test_an_own_way_to_connect_again() -> None:
    """Within sendmail(), by the thread that is in it."""

    class Own(csmtplib.SMTP):
        def mail(self, sender: str, options: Sequence[str] = ()) -> tuple[int, bytes]:
            self.close()
            self.connect(*site.address)
            self.ehlo()
            return super().mail(sender, options)

    with Site() as site, Own(*site.address) as smtp:
        assert smtp.sendmail("a@x.test", "b@y.test", b"text\r\n") == {}
    assert told(site) == {("b@y.test", b"text\r\n"): 1}


def test_an_own_way_to_read_replies() -> None:
    """Nobody knows then which of them are read."""

    class Own(csmtplib.SMTP):
        def getreply(self) -> tuple[int, bytes]:
            if self.file is None:
                assert self.sock is not None
                self.file = self.sock.makefile("rb")
            line = self.file.readline()
            return int(line[:3]), line[4:].strip()

    with Site() as site, Own(*site.address) as smtp:
        with in_thread(lambda: smtp.noop()):
            pass
        assert smtp.noop()[0] == 250


@pytest.mark.parametrize("way", ["send", "run"])
def test_connection_of_a_bulk_sender(way: str) -> None:
    gate = Gate()
    mail = csmtplib.MailObject("a@x.test", "b@y.test", b"text\r\n")
    with Site("PIPELINING", mail=gate) as site:
        host, port = site.address
        server = server_url.parse(f"smtp://{host}:{port}", {})
        with connect(server) as connection, in_thread(lambda: connection.send(mail)):
            assert gate.reached.wait(DEADLINE)
            with pytest.raises(RuntimeError, match="two threads"):
                connection.send(mail) if way == "send" else connection.run(farewell())
            gate.opened.set()
    assert told(site) == {("b@y.test", b"text\r\n"): 1}
