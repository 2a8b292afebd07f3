"""The SMTP server of the benchmarks: what it answers, byte for byte, however its input is cut."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from benchmarks.servers.native import running_sink
from tests.servers.conftest import unavailable_means_skip
from tests.servers.process import HOST

GREETING = b"220 sink ESMTP\r\n"
OK = b"250 2.0.0 Ok\r\n"
MAIL_OK = b"250 2.1.0 Ok\r\n"
RCPT_OK = b"250 2.1.5 Ok\r\n"
GO_AHEAD = b"354 End with <CRLF>.<CRLF>\r\n"
TAKEN = b"250 2.0.0 Ok: taken\r\n"
CHUNK_TAKEN = b"250 2.0.0 Ok: chunk\r\n"
NO_RECIPIENT = b"503 5.5.1 MAIL and RCPT first\r\n"

ENVELOPE = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
ENVELOPE_OK = MAIL_OK + RCPT_OK


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with unavailable_means_skip(), running_sink() as port:
        yield port


def everything(connection: socket.socket) -> bytes:
    """Return all that comes before the other side closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def talk(port: int, *pieces: bytes) -> bytes:
    """Send the pieces and QUIT; return what was answered between the greeting and the goodbye."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        connection.sendall(b"QUIT\r\n")
        answer = everything(connection)
    assert answer.startswith(GREETING)
    answer, goodbye, _ = answer[len(GREETING) :].rpartition(b"221 2.0.0 ")
    assert goodbye
    return answer


def taken(port: int) -> int:
    """How many messages it has counted."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(b"QUIT\r\n")
        return int(everything(connection).split()[-3])


SESSIONS = {
    "other commands": (
        b"HELO x\r\nnoop\nLHLO x\r\n",
        b"250 sink\r\n" + OK + b"500 5.5.2 Command not recognized\r\n",
        0,
    ),
    "DATA": (
        ENVELOPE + b"DATA\r\nSubject: a\r\n\r\nb\r\n.\r\n",
        ENVELOPE_OK + GO_AHEAD + TAKEN,
        1,
    ),
    "nothing but the dot": (ENVELOPE + b"DATA\r\n.\r\n", ENVELOPE_OK + GO_AHEAD + TAKEN, 1),
    "dots that end nothing": (
        ENVELOPE + b"DATA\r\n..\r\n.\n\r\n.\r\r\n\n.\r\n\r.\r\nx.\r\n\r\r\n.\r\n",
        ENVELOPE_OK + GO_AHEAD + TAKEN,
        1,
    ),
    "BDAT": (
        ENVELOPE + b"BDAT 3\r\n\r\n.bdat 2 last\r\n\r\nBDAT 0 LAST\r\n",
        ENVELOPE_OK + CHUNK_TAKEN + TAKEN + NO_RECIPIENT,
        1,
    ),
    "BDAT that holds commands": (
        (ENVELOPE + b"BDAT 6 LAST\r\nRSET\r\n") * 2 + ENVELOPE + b"BDAT 0 LAST\r\n",
        (ENVELOPE_OK + TAKEN) * 3,
        3,
    ),
    "BDAT that is refused is skipped": (
        b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
        NO_RECIPIENT + OK,
        0,
    ),
    "RSET": (
        ENVELOPE + b"RSET\r\n" + ENVELOPE + b"BDAT 1\r\nxRSET\r\nRCPT TO:<e@f>\r\n",
        ENVELOPE_OK + OK + ENVELOPE_OK + CHUNK_TAKEN + OK + b"503 5.5.1 MAIL first\r\n",
        0,
    ),
    "commands out of place": (
        b"DATA\r\n" + ENVELOPE + b"MAIL FROM:<>\r\nBDAT 0\r\nDATA\r\nMAIL x\r\nRCPT x\r\n",
        b"503 5.5.1 MAIL and RCPT first, and no BDAT\r\n"
        + ENVELOPE_OK
        + b"503 5.5.1 Nested MAIL\r\n"
        + CHUNK_TAKEN
        + b"503 5.5.1 MAIL and RCPT first, and no BDAT\r\n"
        + b"501 5.5.4 Syntax: MAIL FROM:<address>\r\n"
        + b"501 5.5.4 Syntax: RCPT TO:<address>\r\n",
        0,
    ),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("session", SESSIONS)
def test_session(port: int, session: str, size: int) -> None:
    said, answer, messages = SESSIONS[session]
    before = taken(port)
    assert talk(port, *(said[at : at + size] for at in range(0, len(said), size))) == answer
    assert taken(port) - before == messages


def send_until_full(connection: socket.socket, command: bytes) -> int:
    """Send a command until no more is taken for half a second; return how often it
    was sent whole.
    """
    count = 0
    connection.settimeout(0.5)
    with suppress(TimeoutError):
        while True:
            count += connection.send(command[count % len(command) :] + command * 10_000)
    connection.settimeout(10)
    return count // len(command)


def test_what_it_offers(port: int) -> None:
    answer = talk(port, b"EHLO x\r\n")
    offered = {line[4:].split()[0] for line in answer.splitlines()[1:]}
    assert offered >= {b"PIPELINING", b"CHUNKING", b"SIZE", b"8BITMIME", b"SMTPUTF8"}


def test_thousands_of_transactions_at_once(port: int) -> None:
    transaction = ENVELOPE + b"BDAT 2000 LAST\r\n" + b"x" * 2000
    before = taken(port)
    assert talk(port, transaction * 5000) == (ENVELOPE_OK + TAKEN) * 5000
    assert taken(port) - before == 5000


def test_replies_that_the_client_does_not_read(port: int) -> None:
    """It waits for the client and goes on, with no reply lost."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        sent = send_until_full(connection, b"NOOP\r\n")
        wanted = len(GREETING) + sent * len(OK)
        answer = bytearray()
        while len(answer) < wanted:
            answer += connection.recv(65536)
        assert answer == GREETING + OK * sent


def test_connections_side_by_side(port: int) -> None:
    before = taken(port)
    with (
        socket.create_connection((HOST, port), timeout=10) as one,
        socket.create_connection((HOST, port), timeout=10) as other,
    ):
        for connection in (one, other):
            connection.sendall(ENVELOPE + b"DATA\r\nhalf of")
        for connection in (other, one):
            connection.sendall(b" it\r\n.\r\nQUIT\r\n")
            answer = everything(connection)
            assert answer.startswith(GREETING + ENVELOPE_OK + GO_AHEAD + TAKEN + b"221 ")
    assert taken(port) - before == 2
