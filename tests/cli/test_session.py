"""One connection for a run: opened again when it has to be, and nothing sent twice."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import pytest

from ..faults.faces import Certificates
from ..faults.server import Peer, Script, ScriptedServer
from .conftest import Command, message, url, write_mbox

LARGE = b"x" * 76 + b"\n"


def taking(count: int) -> Script:
    """A server that accepts so many messages."""

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in range(count):
            peer.accept_message()

    return script


def begin(peer: Peer) -> None:
    """Accepts a message's envelope."""
    for command in ("MAIL", "RCPT"):
        peer.expect(command)
        peer.say("250 ok")
    peer.expect("DATA")
    peer.say("354 go on")


def box(path: Path, count: int) -> str:
    return write_mbox(path / "box", *(message(number) for number in range(1, count + 1)))


def states(out: str) -> list[str]:
    return [line.split("  ")[0] for line in out.splitlines()]


def test_one_connection_for_all(cli: Command, tmp_path: Path) -> None:
    with ScriptedServer(taking(5)) as server:
        assert cli("send", "--server", url(server), box(tmp_path, 5)).code == 0
        assert server.received.endswith(b"\r\n.\r\nQUIT\r\n")
        assert b"RSET" not in server.received


def test_recycled_by_421(cli: Command, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        taking(2)(peer)
        peer.expect("MAIL")
        peer.say("421 4.7.0 enough")

    with ScriptedServer(script, script, taking(1)) as server:
        done = cli("send", "-v", "--server", url(server), box(tmp_path, 5))
    assert (done.code, states(done.out)) == (0, ["accepted"] * 5)


@pytest.mark.parametrize("words", [[], ["421 4.4.2 idle"]], ids=["silently", "by 421"])
def test_closed_between_messages(cli: Command, tmp_path: Path, words: list[str]) -> None:
    def script(peer: Peer) -> None:
        taking(2)(peer)
        if words:
            peer.say(*words)
        peer.close()

    with ScriptedServer(script, script, taking(1)) as server:
        done = cli("send", "-v", "--server", url(server), box(tmp_path, 5))
    assert (done.code, states(done.out)) == (0, ["accepted"] * 5)


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
def test_lost_in_the_envelope(cli: Command, tmp_path: Path, command: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        while not peer.expect().startswith(command.encode()):
            peer.say("250 ok")
        peer.close()

    with ScriptedServer(script, taking(2)) as server:
        done = cli("send", "-v", "--server", url(server), box(tmp_path, 2))
    assert (done.code, states(done.out)) == (0, ["accepted"] * 2)


def test_lost_before_the_end_of_the_message(cli: Command) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        begin(peer)
        peer.reset()

    with ScriptedServer(script, taking(1)) as server:
        done = cli(*("send", "-v", "--server", url(server)), stdin=message(body=LARGE * 130_000))
    assert (done.code, states(done.out)) == (0, ["accepted"])


def test_421_for_the_message(cli: Command, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        begin(peer)
        peer.read_body()
        peer.say("421 4.3.2 going down")

    with ScriptedServer(script, taking(1)) as server:
        done = cli("send", "-v", "--server", url(server), box(tmp_path, 1))
    assert (done.code, states(done.out)) == (0, ["accepted"])


def test_once_more_and_no_more(cli: Command, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.close()

    with ScriptedServer(script, script, taking(1)) as server:
        done = cli("send", "-v", "--server", url(server), box(tmp_path, 2))
    assert (done.code, states(done.out)) == (75, ["deferred", "accepted"])


def test_only_the_recipients_without_an_answer_get_it_once_more(cli: Command) -> None:
    def first(peer: Peer) -> None:
        peer.greet()
        for answer in ("250 ok", "250 ok", "550 no"):
            peer.expect()
            peer.say(answer)
        peer.expect("RCPT TO:<c@y>")
        peer.say("421 enough")

    def second(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.say("250 ok")
        for user in "ac":
            peer.expect(f"RCPT TO:<{user}@y>")
            peer.say("250 ok")
        peer.expect("DATA")
        peer.say("354 go on")
        peer.read_body()
        peer.say("250 ok")

    with ScriptedServer(first, second) as server:
        done = cli("send", "-v", "--server", url(server), "--to", "a@y,b@y,c@y", stdin=message())
    assert (done.code, states(done.out)) == (1, ["accepted", "rejected", "accepted"])


def test_a_new_session_that_can_not_take_the_message(cli: Command) -> None:
    def first(peer: Peer) -> None:
        peer.greet()
        peer.expect("MAIL")
        peer.close()

    with ScriptedServer(first, lambda peer: peer.greet("SIZE 10")) as server:
        done = cli("send", "-v", "--server", url(server), stdin=message())
    assert (done.code, states(done.out)) == (75, ["deferred"])


def test_in_doubt_and_never_again(cli: Command, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        begin(peer)
        peer.read_body()
        peer.close()

    with ScriptedServer(script, taking(1)) as server:
        done = cli("send", "-v", "--server", url(server), box(tmp_path, 2))
        # The second connection is for the second message.
        assert server.received.count(b"\r\nSubject: 1\r\n") == 1
    # T14: not 75, by which a mail program would try it again.
    assert (done.code, states(done.out)) == (76, ["in doubt", "accepted"])
    assert done.err.splitlines()[-1] == (
        "csmtplib: 1 in doubt: the server may or may not have accepted them; check its log before "
        "you send to them again"
    )


@pytest.mark.parametrize("greeting", ["421 4.3.2 no more today", "554 5.7.1 go away"])
def test_no_new_session_ends_the_run(cli: Command, tmp_path: Path, greeting: str) -> None:
    def first(peer: Peer) -> None:
        taking(1)(peer)
        peer.expect("MAIL")
        peer.say("421 enough")

    def refusing(peer: Peer) -> None:
        peer.say(greeting)

    with ScriptedServer(first, refusing, refusing) as server:
        done = cli("send", "-v", "--server", url(server), box(tmp_path, 5))
    assert (done.code, states(done.out)) == (75, ["accepted", "deferred"])
    assert f"stopped before {tmp_path / 'box'}#3: " in done.err
    assert greeting in done.err
    assert "csmtplib: 2 messages to" in done.err


def test_a_server_that_refuses_from_the_start(cli: Command, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.say("554 5.7.1 \x1b[2J go away")

    with ScriptedServer(script) as server:
        done = cli("send", "--server", url(server), box(tmp_path, 2))
    address = f"127.0.0.1:{server.port}"
    assert (done.code, done.out) == (69, "")
    assert done.err == f"csmtplib: {address} refuses the session: 554 5.7.1 \\x1b[2J go away\n"


def test_an_unreachable_server(cli: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = cli("send", "--server", f"smtp://127.0.0.1:{port}", stdin=message())
    assert (done.code, done.err) == (69, f"csmtplib: 127.0.0.1:{port}: Connection refused\n")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("mail.example", "the scheme must be one of"),
        ("ftp://mail.example", "lmtp+unix, or sink:DIRECTORY\n"),
        ("localhost:2601", "write smtp://localhost:2601, or sink:DIRECTORY\n"),
        ("smtp+tls://mail.example", "smtp+starttls:// or smtps://"),
        ("smtp://127.0.0.1?cafile=nope.pem", "--server: cafile=nope.pem: No such file"),
        ("smtp://127.0.0.1?certfile=nope.pem", "--server: certfile=nope.pem: No such file"),
        ("smtp://127.0.0.1?cafile=letter.txt", "--server: cafile=letter.txt: not valid PEM files"),
        ("smtp://127.0.0.1?colour=blue", "is no option"),
        ("smtp://ann@127.0.0.1", "CSMTPLIB_PASSWORD_FILE"),
        ("smtp://a..b", "--server smtp://a..b: a..b is not a host name or an address"),
        ("smtp://mx.test?name=höst", "the name 'höst' can't be sent with EHLO; give a domain"),
    ],
)
def test_a_wrong_server_url(cli: Command, tmp_path: Path, wrong: str, reason: str) -> None:
    (tmp_path / "letter.txt").write_text("no certificate\n")
    done = cli("send", "--server", wrong, stdin=message())
    assert done.code == 78
    assert reason in done.err
    assert done.err.count("\n") == 1


LOGIN = "ann:pass%20word@"
SECRETS = ("pass word", "pass%20word", "AGFubgBwYXNzIHdvcmQ=")


@pytest.mark.parametrize(
    ("answer", "code"), [("535 5.7.8 no", 77), ("454 4.7.0 not now", 69), ("235 ok", 0)]
)
def test_the_login(cli: Command, certificates: Certificates, answer: str, code: int) -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.expect("AUTH PLAIN AGFubgBwYXNzIHdvcmQ=\r\n")
        peer.say(answer)
        if code == 0:
            peer.accept_message()

    with ScriptedServer(script, tls=certificates.good) as server:
        where = url(server, "smtps", LOGIN, cafile=str(certificates.cafile))
        done = cli("send", "-v", "--server", where, stdin=message())
    assert done.code == code
    assert not any(secret in done.out + done.err for secret in SECRETS)
    if code:
        assert done.err == f"csmtplib: 127.0.0.1:{server.port} refuses the login of ann: {answer}\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [("530 5.7.0 Authentication required", 77), ("521 no mail here", 69), ("550 5.7.1 no", 1)],
)
def test_a_session_without_mail(cli: Command, tmp_path: Path, answer: str, code: int) -> None:
    """T10's kind: such a refusal is not reported as one of recipients."""

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in range(1 if code > 1 else 2):
            peer.expect("MAIL")
            peer.say(answer)
            peer.expect("RSET")
            peer.say("250 ok")
        peer.expect("QUIT")
        peer.say("221 bye")

    with ScriptedServer(script) as server:
        mbox = write_mbox(tmp_path / "mbox", message(1), message(2))
        done = cli("send", "--server", url(server), mbox)
    assert done.code == code
    assert answer in done.err


def test_the_password_from_a_file(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        peer.expect("AUTH PLAIN AGFubgBwYXNzIHdvcmQ=\r\n")
        peer.say("235 ok")
        peer.accept_message()

    (tmp_path / "password").write_text("pass word\n")
    monkeypatch.setenv("CSMTPLIB_PASSWORD_FILE", str(tmp_path / "password"))
    with ScriptedServer(script) as server:
        where = url(server, login="ann@", cleartext_auth="yes")
        assert cli("send", "--server", where, stdin=message()).code == 0


def test_no_password_without_tls(cli: Command) -> None:
    with ScriptedServer(lambda peer: peer.greet("AUTH PLAIN")) as server:
        done = cli("send", "--server", url(server, login=LOGIN), stdin=message())
    assert done.code == 69
    assert "offers no TLS" in done.err
    assert not any(secret in done.out + done.err for secret in SECRETS)


@pytest.mark.parametrize(
    ("certificate", "reason", "advice"),
    [
        ("unknown-authority", "(self.signed|local issuer)", r"\?cafile=FILE"),
        ("wrong-host", "mismatch", "use a host name in --server that the certificate contains"),
        ("expired", "expired", "the server needs a new certificate"),
    ],
)
def test_certificates_are_verified(
    cli: Command, certificates: Certificates, certificate: str, reason: str, advice: str
) -> None:
    """The advice is of use for what is wrong: another authority does not mend a name."""

    def script(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            peer.start_tls(certificates.bad[certificate])
            raise AssertionError("the client accepted the certificate")

    with ScriptedServer(script) as server:
        where = url(server, "smtps", cafile=str(certificates.cafile))
        done = cli("send", "--server", where, stdin=message())
    assert done.code == 69
    assert re.search(f"has no valid certificate: .*{reason}.*; .*{advice}$", done.err)
    assert ".;" not in done.err


def test_tls_from_the_start_where_there_is_none(cli: Command) -> None:
    """smtps:// to a plain port: not OpenSSL's WRONG_VERSION_NUMBER, but what to write instead."""

    def script(peer: Peer) -> None:
        peer.say("220 mx.test ready")
        peer.drain()

    with ScriptedServer(script) as server:
        done = cli("send", "--server", url(server, "smtps"), stdin=message())
    address = f"127.0.0.1:{server.port}"
    assert done.code == 69
    assert done.err == (
        f"csmtplib: {address} does not use TLS from the start: try submission://{address}, which "
        "uses STARTTLS\n"
    )


@pytest.mark.parametrize("answer", [b"", b"\x15\x03\x03\x00\x02\x02\x32\r\n"], ids=["", "alert"])
def test_no_tls_where_it_is_expected(cli: Command, answer: bytes) -> None:
    """smtp:// to a port of smtps: the server waits for a handshake, then says something else."""

    def script(peer: Peer) -> None:
        if answer:
            peer.deliver(answer)
        peer.drain()

    with ScriptedServer(script) as server:
        where = url(server).replace("timeout=10", "timeout=0.3")
        done = cli("send", "--server", where, stdin=message())
    assert done.code == 69
    assert done.err.startswith(f"csmtplib: 127.0.0.1:{server.port}: no greeting: ")
    assert done.err.endswith(
        f"; if it expects TLS from the start, write smtps://127.0.0.1:{server.port}\n"
    )


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_a_handshake_that_fails(cli: Command, certificates: Certificates, scheme: str) -> None:
    def script(peer: Peer) -> None:
        if scheme != "smtps":
            peer.greet("STARTTLS")
            peer.expect("STARTTLS")
            peer.say("220 go on")
        # The client's first record; what came before it would be a fault of its own.
        peer.take(5)
        peer.deliver(b"\x15\x03\x03\x00\x02\x02\x28")
        peer.drain()

    with ScriptedServer(script) as server:
        where = url(server, scheme, cafile=str(certificates.cafile))
        done = cli("send", "--server", where, stdin=message())
    assert done.code == 69
    assert done.err.startswith(f"csmtplib: 127.0.0.1:{server.port}: the TLS handshake failed: ")
    assert "handshake failure" in done.err
    assert "[SSL" not in done.err


def test_unless_that_is_switched_off(cli: Command, certificates: Certificates) -> None:
    with ScriptedServer(taking(1), tls=certificates.bad["expired"]) as server:
        where = url(server, "smtps", verify="no")
        assert cli("send", "--server", where, stdin=message()).code == 0


def test_starttls_where_it_is_required(cli: Command) -> None:
    with ScriptedServer(lambda peer: peer.greet("SIZE")) as server:
        done = cli("send", "--server", url(server, "submission"), stdin=message())
    assert done.code == 69
    assert "does not offer STARTTLS" in done.err
