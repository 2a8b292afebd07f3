"""Servers and commands that are sent early: real ones, and the scripted ones, which are to
do the same."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from ..bulk.servers.wire import Wire
from .certificates import Certificates
from .conftest import unavailable_means_skip
from .exim import Exim, running_exim
from .haraka import Haraka, running_haraka
from .letters import unknown
from .maildir import DOMAIN, UNREAD, user
from .postfix import Postfix, running_postfix
from .scripted.behind_data import Courier, HarakaLike
from .scripted.early_talkers import (
    EximEnforceSync,
    PostfixUnauthPipelining,
    Postscreen,
    Sendmail,
)
from .scripted.mta import ScriptedMTA
from .scripted.opensmtpd import OpenSMTPD

HELLO = "EHLO client.test"
MAIL = "MAIL FROM:<a@x.test>"
RCPT = f"RCPT TO:<{user(UNREAD)}@{DOMAIN}>"
NOBODY = f"RCPT TO:<unknown@{DOMAIN}>"
CONTENT = b"Subject: x\r\n\r\nx\r\n"
CHUNK = b"BDAT %d LAST\r\n%b" % (len(CONTENT), CONTENT)
# Seconds that a slow server takes, and seconds by which a client is late.
LONG, A_LITTLE = 0.4, 0.1


def data(*commands: str) -> bytes:
    return "".join(f"{command}\r\n" for command in commands).encode()


def replies(wire: Wire, count: int) -> list[str]:
    """The codes of so many replies."""
    return [wire.reply()[:3] for _ in range(count)]


def at_data(port: int) -> Wire:
    """A connection whose server waits for a content."""
    wire = Wire(port)
    assert wire.codes(HELLO) == ["250"]
    for command, code in ((MAIL, "250"), (RCPT, "250"), ("DATA", "354")):
        assert wire.codes(command) == [code]
    return wire


# Those who carry out everything.


@pytest.fixture(params=["exim", "postfix_exchanger"])
def obliging(request: pytest.FixtureRequest) -> Exim | Postfix:
    """Exim, Postfix."""
    server: Exim | Postfix = request.getfixturevalue(request.param)
    return server


def test_behind_a_message_commands_are_carried_out(obliging: Exim | Postfix) -> None:
    for pause in (None, 0.0, A_LITTLE):
        with at_data(obliging.port) as wire:
            if pause is None:
                wire.send(CONTENT + b".\r\n" + data(MAIL, RCPT, "DATA"))
            else:
                wire.send(CONTENT + b".\r\n")
                time.sleep(pause)
                wire.send(data(MAIL, RCPT, "DATA"))
            assert replies(wire, 4) == ["250", "250", "250", "354"]
            assert wire.content(CONTENT)[:3] == "250"
    with at_data(obliging.port) as wire:
        wire.send(CONTENT + b".\r\n" + data("RSET", MAIL))
        assert replies(wire, 3) == ["250", "250", "250"]


def test_chunks_in_one_stream(obliging: Exim | Postfix) -> None:
    with Wire(obliging.port) as wire:
        assert wire.codes(HELLO) == ["250"]
        wire.send(2 * (data(MAIL, RCPT) + CHUNK + data("RSET")))
        assert replies(wire, 8) == 8 * ["250"]
        # Without RSET, the two differ in whether the transaction of a refused chunk is over.
        wire.send(data(MAIL, NOBODY) + CHUNK + data(MAIL, RCPT) + CHUNK)
        refused = ["503", "503"] if isinstance(obliging, Exim) else ["554", "250"]
        assert replies(wire, 6) == ["250", "550", *refused, "250", "250"]


def test_exim_ends_a_session_at_the_eleventh_rset(exim: Exim) -> None:
    """T27: one is free for each message that it took."""
    with Wire(exim.port) as wire:
        assert wire.codes(HELLO) == ["250"]
        for _ in range(5):
            wire.send(data(MAIL, RCPT) + CHUNK + data("RSET"))
            assert replies(wire, 4) == 4 * ["250"]
        for _ in range(10):
            assert wire.codes(MAIL, NOBODY, "RSET") == ["250", "550", "250"]
        assert wire.ask(MAIL, NOBODY, "RSET")[2] == "554 Too many nonmail commands"
        assert wire.is_closed()


# Those who don't carry out what comes behind a message.


def haraka_like(seconds: float = 0.0) -> AbstractContextManager[ScriptedMTA]:
    return HarakaLike(refuse=unknown, store_seconds=seconds)


def haraka(seconds: float = 0.0) -> AbstractContextManager[Haraka]:
    return running_haraka(reply_seconds=seconds)


refusing = pytest.mark.parametrize("server", [haraka, haraka_like])


@refusing
def test_haraka_refuses_what_is_behind_a_message(
    server: Callable[[], AbstractContextManager[Haraka | ScriptedMTA]],
) -> None:
    """T5."""
    with unavailable_means_skip(), server() as mta, at_data(mta.port) as wire:
        wire.send(CONTENT + b".\r\n" + data(MAIL, RCPT, "DATA"))
        assert replies(wire, 4) == ["250", "503", "503", "503"]
        # The session goes on.
        assert wire.codes(MAIL, RCPT, "DATA") == ["250", "250", "354"]
        wire.send(CONTENT + b".\r\n" + data("RSET"))
        assert wire.reply()[:3] == "250"
        assert wire.reply() == ("503 Bad sequence of commands - pipelined after end of DATA")
        assert wire.codes("NOOP") == ["250"]


@refusing
def test_haraka_refuses_until_its_reply(
    server: Callable[[float], AbstractContextManager[Haraka | ScriptedMTA]],
) -> None:
    """T5: in segments of their own, too; and half a command is lost without a word."""
    with unavailable_means_skip(), server(LONG) as mta:
        with at_data(mta.port) as wire:
            wire.send(CONTENT + b".\r\n")
            time.sleep(A_LITTLE)
            wire.send(data(MAIL, RCPT, "DATA"))
            assert replies(wire, 4) == ["250", "503", "503", "503"]
            assert wire.codes(MAIL, RCPT, "DATA") == ["250", "250", "354"]
            wire.send(CONTENT + b".\r\nMAIL FROM:<")
            assert wire.reply()[:3] == "250"
            assert wire.codes("a@x.test>") == ["500"]
        # More than that, and it hangs up.
        with at_data(mta.port) as wire:
            wire.send(CONTENT + b".\r\n" + 400 * data(RCPT))
            assert wire.is_closed()


def test_courier_discards_what_it_reads_with_the_end_of_a_message() -> None:
    """T6."""
    with Courier() as mta:
        with at_data(mta.port) as wire:
            wire.send(CONTENT + b".\r\n" + data(MAIL, RCPT, "DATA"))
            assert wire.reply()[:3] == "250"
            # The next reply is to the next command.
            assert wire.codes("QUIT") == ["221"]
        with at_data(mta.port) as wire:
            # 8192 bytes are a read.
            line = b"x" * 62 + b"\r\n"
            wire.send(127 * line + b"x" * 59 + b"\r\n.\r\n" + data(MAIL, RCPT, "DATA"))
            assert replies(wire, 4) == ["250", "250", "250", "354"]


# Those who look for early talkers.


@contextmanager
def exim_without_pipelining() -> Iterator[Exim]:
    with running_exim(pipelining=False) as server:
        yield server


@pytest.mark.parametrize("server", [exim_without_pipelining, EximEnforceSync])
def test_exim_enforces_synchronization(
    server: Callable[[], AbstractContextManager[Exim | EximEnforceSync]],
) -> None:
    with unavailable_means_skip(), server() as mta:
        with Wire(mta.port) as wire:
            assert wire.codes(HELLO) == ["250"]
            assert wire.codes(MAIL) == ["250"]
            assert wire.ask(RCPT, "DATA")[0] == "554 SMTP synchronization error"
            assert wire.is_closed()
        # Behind the end of a message there is no check.
        with at_data(mta.port) as wire:
            wire.send(CONTENT + b".\r\n" + data(MAIL))
            assert replies(wire, 2) == ["250", "250"]
        # Behind a chunk there is one of its own kind.
        with Wire(mta.port) as wire:
            assert wire.codes(HELLO) == ["250"]
            assert [*wire.codes(MAIL), *wire.codes(RCPT)] == ["250", "250"]
            wire.send(CHUNK + data(MAIL))
            assert wire.reply() == "554 SMTP synchronization error"
            assert wire.reply() == "503 only RSET accepted now"
            assert wire.codes("NOOP") == ["503"]
            assert wire.codes("RSET") == ["250"]
            assert wire.codes(MAIL) == ["250"]


def test_exim_before_its_greeting() -> None:
    with EximEnforceSync(greet_seconds=LONG) as mta, Wire(mta.port, greeted=False) as wire:
        wire.send(data(HELLO))
        assert wire.reply() == "554 SMTP synchronization error"
        assert wire.is_closed()


@pytest.mark.parametrize("forbid", [False, True], ids=["rejects", "forbids"])
@pytest.mark.parametrize("is_real", [True, False], ids=["Postfix", "scripted"])
def test_postfix_and_improper_pipelining(
    certificates: Certificates, is_real: bool, forbid: bool
) -> None:
    parameter = (
        "smtpd_forbid_unauth_pipelining = yes\n"
        if forbid
        else "smtpd_data_restrictions = reject_unauth_pipelining\n"
    )
    server: AbstractContextManager[Postfix | ScriptedMTA] = (
        running_postfix(certificates, more_parameters=parameter)
        if is_real
        else PostfixUnauthPipelining(forbid=forbid)
    )
    with unavailable_means_skip(), server as mta:
        # Proper: one flight, and what is behind a message.
        with Wire(mta.port) as wire:
            assert wire.codes(HELLO) == ["250"]
            assert wire.codes(MAIL, RCPT, "DATA") == ["250", "250", "354"]
            wire.send(CONTENT + b".\r\n" + data(MAIL, RCPT, "DATA"))
            assert replies(wire, 4) == ["250", "250", "250", "354"]
        # Improper: behind DATA.
        with Wire(mta.port) as wire:
            assert wire.codes(HELLO) == ["250"]
            wire.send(data(MAIL, RCPT, "DATA", "NOOP"))
            assert replies(wire, 2) == ["250", "250"]
            if forbid:
                assert wire.reply() == "554 5.5.0 Error: SMTP protocol synchronization"
                assert wire.is_closed()
            else:
                assert wire.reply() == (
                    "503 5.5.0 <DATA>: Data command rejected: "
                    "Improper use of SMTP command pipelining"
                )
                assert wire.reply()[:3] == "250"
                assert wire.codes("RSET") == ["250"]


def test_sendmail_and_its_pause_before_the_greeting() -> None:
    with Sendmail(greet_seconds=LONG) as mta:
        with Wire(mta.port, greeted=False) as wire:
            wire.send(data(HELLO, MAIL))
            assert wire.reply()[:3] == "554"
            assert replies(wire, 2) == ["250", "550"]
            assert wire.codes(RCPT, "DATA", "RSET", "QUIT") == ["550", "550", "250", "221"]
        with Wire(mta.port) as wire:
            assert wire.codes(HELLO, MAIL, RCPT, "DATA") == ["250", "250", "250", "354"]


def test_postscreen() -> None:
    with Postscreen(greet_seconds=LONG) as mta:
        for early, code in ((True, "550"), (False, "450")):
            with Wire(mta.port, greeted=not early) as wire:
                assert [*wire.codes(HELLO), *wire.codes(MAIL)] == ["250", "250"]
                assert wire.codes(RCPT) == [code]
                assert wire.codes("DATA") == ["554"]
                assert wire.is_closed()
            assert mta.has_passed is not early
        with Wire(mta.port) as wire:
            assert wire.codes(HELLO, MAIL, RCPT, "DATA") == ["250", "250", "250", "354"]


def test_postscreen_and_pipelining() -> None:
    with Postscreen(greet_seconds=0) as mta:
        with Wire(mta.port) as wire:
            assert wire.codes(HELLO) == ["250"]
            assert wire.codes(MAIL, RCPT) == ["250", "550"]
        assert not mta.has_passed


def test_opensmtpd() -> None:
    """T8, T9: its limits, and no PIPELINING."""
    with OpenSMTPD(max_mails=2, max_rcpt=1) as mta:
        with Wire(mta.port) as wire:
            assert [*wire.codes(HELLO), *wire.codes(HELLO)] == ["250", "503"]
            for _ in range(2):
                assert [*wire.codes(MAIL), *wire.codes(RCPT)] == ["250", "250"]
                assert wire.ask(RCPT)[0].startswith("451 4.5.3 ")
                assert wire.codes("DATA") == ["354"]
                assert wire.content(CONTENT)[:3] == "250"
            for _ in range(2):
                assert wire.ask(MAIL)[0].startswith("452 4.5.3 ")
                assert wire.codes(RCPT) == ["503"]
            assert wire.codes("QUIT") == ["221"]
        with Wire(mta.port) as wire:
            assert wire.codes(HELLO) == ["250"]
            assert wire.codes(MAIL, RCPT)[0] == "500"
            assert wire.is_closed()


# How replies leave.


@pytest.mark.parametrize("nagle", [True, False])
def test_nagle(nagle: bool) -> None:
    with ScriptedMTA(nagle=nagle) as mta, Wire(mta.port):
        (session,) = mta.open
        connection: socket.socket = session._transport.get_extra_info("socket")
        assert bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is not nagle


def test_replies_take_their_time() -> None:
    with ScriptedMTA(reply_seconds=A_LITTLE) as mta, Wire(mta.port) as wire:
        begin = time.monotonic()
        assert wire.codes(HELLO, MAIL, RCPT, "DATA") == ["250", "250", "250", "354"]
        assert time.monotonic() - begin >= 4 * A_LITTLE
        # When the session ends, whatever waits leaves at once.
        assert wire.content(CONTENT)[:3] == "250"
        assert wire.codes("NOOP", "QUIT") == ["250", "221"]
        assert wire.is_closed()
