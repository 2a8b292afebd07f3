"""client/session.py: EHLO, AUTH, STARTTLS and the small commands."""

from __future__ import annotations

import base64
import hmac
import socket
import ssl
from typing import Any

import pytest

import csmtplib
from csmtplib import (
    SMTPAuthenticationError,
    SMTPException,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from ..faults.server import Peer, ScriptedServer
from .conftest import MutualTLS
from .memory import MemoryServer, ReceivingMemoryServer, connected

TIMEOUT = 5.0


def client(server: MemoryServer) -> Any:
    return connected(csmtplib.SMTP(local_hostname="client.test"), server)


# EHLO and HELO


def test_ehlo() -> None:
    server = MemoryServer(ehlo=["250-mx.test\r\n250-SIZE 9\r\n250 AUTH=LOGIN", "250 mx.test"])
    smtp = client(server)
    assert smtp.ehlo() == (250, b"mx.test\nSIZE 9\nAUTH=LOGIN")
    assert smtp.ehlo_resp == b"mx.test\nSIZE 9\nAUTH=LOGIN"
    assert smtp.esmtp_features == {"size": "9", "auth": " LOGIN"}
    assert smtp.does_esmtp
    smtp.ehlo("other.test")
    assert smtp.esmtp_features == {}
    assert server.commands == ["ehlo client.test", "ehlo other.test"]


def test_ehlo_refused() -> None:
    smtp = client(MemoryServer(ehlo="502-what?\r\n502 SIZE"))
    assert smtp.ehlo() == (502, b"what?\nSIZE")
    assert smtp.ehlo_resp == b"what?\nSIZE"
    assert not smtp.does_esmtp
    assert smtp.esmtp_features == {}


def test_helo() -> None:
    server = MemoryServer(helo="250 mx.test")
    smtp = client(server)
    assert smtp.helo() == (250, b"mx.test")
    assert smtp.helo("other.test") == (250, b"mx.test")
    assert smtp.helo_resp == b"mx.test"
    assert server.commands == ["helo client.test", "helo other.test"]


@pytest.mark.parametrize("method", ["ehlo", "helo"])
@pytest.mark.parametrize(
    ("name", "error"),
    [("höst.test", UnicodeEncodeError), ("mx.test\r\nMAIL", ValueError), ("a\0b", ValueError)],
)
def test_a_name_that_can_not_be_sent(method: str, name: str, error: type[Exception]) -> None:
    """T19: the error names the argument that it came by, and says what to give instead. Its class
    is the stdlib's."""
    server = MemoryServer()
    smtp = connected(csmtplib.SMTP(local_hostname=name), server)
    with pytest.raises(
        error, match=r"local_hostname.* give a domain name in ASCII .*\[192\.0\.2\.1"
    ):
        getattr(smtp, method)()
    smtp.local_hostname = "client.test"
    with pytest.raises(error, match=r"\bname\b.* give a domain name in ASCII"):
        getattr(smtp, method)(name)
    assert server.sent == b""


@pytest.mark.parametrize("name", ["my host", "x" * 70, "[192.0.2.1]", "a_b.test", "localhost"])
def test_a_name_that_the_caller_wants(name: str) -> None:
    """It is sent as it is, as by the stdlib."""
    server = MemoryServer()
    connected(csmtplib.SMTP(local_hostname=name), server).ehlo()
    assert server.commands == [f"ehlo {name}"]


@pytest.mark.parametrize("answer", ["", None])
def test_server_that_hangs_up_on_ehlo(answer: str | None) -> None:
    smtp = client(MemoryServer(ehlo=answer))
    with pytest.raises(SMTPServerDisconnected):
        smtp.ehlo()
    assert smtp.sock is None


def test_has_extn_by_both_names() -> None:
    smtp = client(MemoryServer(ehlo="250-mx.test\r\n250 8BitMime"))
    assert not smtp.has_extn("8bitmime")
    smtp.ehlo()
    for has in (smtp.has_extn, smtp.has_option):
        assert has("8bitmime")
        assert has("8BITMIME")
        assert not has("size")


def test_nothing_is_offered_before_ehlo() -> None:
    assert not csmtplib.SMTP().has_extn("size")


def test_ehlo_or_helo_is_said_once() -> None:
    server = MemoryServer()
    smtp = client(server)
    smtp.ehlo_or_helo_if_needed()
    smtp.ehlo_or_helo_if_needed()
    assert server.verbs == ["ehlo"]
    server = MemoryServer()
    smtp = client(server)
    smtp.helo()
    smtp.ehlo_or_helo_if_needed()
    assert server.verbs == ["helo"]


@pytest.mark.parametrize(
    ("code", "verbs"),
    [(200, ["ehlo"]), (299, ["ehlo"]), (300, ["ehlo", "helo"]), (502, ["ehlo", "helo"])],
)
def test_helo_where_ehlo_is_refused(code: int, verbs: list[str]) -> None:
    server = MemoryServer(ehlo=f"{code} mx.test", helo="299 mx.test")
    client(server).ehlo_or_helo_if_needed()
    assert server.verbs == verbs


def test_both_refused() -> None:
    with pytest.raises(SMTPHeloError) as caught:
        client(MemoryServer(ehlo="502 what?", helo="550 no")).ehlo_or_helo_if_needed()
    assert caught.value.args == (550, b"no")


# The small commands


def test_small_commands() -> None:
    server = MemoryServer(help="214-RFC 5321\r\n214 has it", vrfy="252 maybe", expn="550 no")
    smtp = client(server)
    assert smtp.help() == b"RFC 5321\nhas it"
    assert smtp.help("noop") == b"RFC 5321\nhas it"
    assert smtp.noop() == (250, b"ok")
    assert smtp.rset() == (250, b"ok")
    assert smtp.verify("A B <a@x>") == smtp.vrfy("a@x") == (252, b"maybe")
    assert smtp.expn("<list@x>") == (550, b"no")
    assert server.commands == [
        "help",
        "help noop",
        "noop",
        "rset",
        "vrfy a@x",
        "vrfy a@x",
        "expn list@x",
    ]


def test_rset_ends_smtputf8() -> None:
    smtp = client(MemoryServer())
    smtp.command_encoding = "utf-8"
    smtp.rset()
    assert smtp.command_encoding == "ascii"


# AUTH


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_auth_with_an_initial_response() -> None:
    server = MemoryServer(auth="235 welcome")
    smtp = client(server)
    assert smtp.auth("token", lambda challenge=None: "secret") == (235, b"welcome")
    assert server.commands == [f"AUTH TOKEN {b64('secret')}"]


def test_auth_with_an_empty_initial_response() -> None:
    """RFC 4954 section 4: "=", for which the stdlib sends nothing behind a space."""
    server = MemoryServer(auth="235 welcome")
    client(server).auth("EXTERNAL", lambda challenge=None: "")
    assert server.commands == ["AUTH EXTERNAL ="]


def test_auth_by_challenges() -> None:
    answers: list[bytes] = []

    def authobject(challenge: bytes) -> str:
        answers.append(challenge)
        return f"{challenge.decode()}!"

    first, second = b64("one!"), b64("two!")
    server = MemoryServer(
        auth=f"334 {b64('one')}",
        **{first.lower(): f"334 {b64('two')}", second.lower(): "235 in"},
    )
    smtp = client(server)
    assert smtp.auth("X", authobject, initial_response_ok=False) == (235, b"in")
    assert answers == [b"one", b"two"]
    assert server.commands == ["AUTH X", first, second]
    assert smtp._auth_challenge_count == 2


def test_auth_of_a_mechanism_without_initial_response() -> None:
    server = MemoryServer(auth="334 ", **{b64("answer").lower(): "235 in"})
    client(server).auth("X", lambda challenge=None: None if challenge is None else "answer")
    assert server.commands == ["AUTH X", b64("answer")]


def test_auth_503_is_as_good() -> None:
    assert client(MemoryServer(auth="503 already")).auth("X", lambda: "a") == (503, b"already")


@pytest.mark.parametrize("answer", ["535 no", "454 later", "250 ok"])
def test_auth_refused(answer: str) -> None:
    with pytest.raises(SMTPAuthenticationError) as caught:
        client(MemoryServer(auth=answer)).auth("X", lambda: "a")
    assert caught.value.args == (int(answer[:3]), answer[4:].encode())


def test_auth_challenge_that_is_no_base64() -> None:
    server = MemoryServer(auth="334 !!!", **{"*": "501 cancelled"})
    with pytest.raises(SMTPAuthenticationError) as caught:
        client(server).auth("X", lambda challenge=None: None)
    assert caught.value.smtp_code == 501
    assert server.commands == ["AUTH X", "*"]


def test_auth_that_is_not_ascii() -> None:
    server = MemoryServer()
    with pytest.raises(UnicodeEncodeError):
        client(server).auth("X", lambda: "ä")
    assert server.sent == b""


def login(offered: str, **answers: Any) -> MemoryServer:
    """The server after a login with the password "pencil"."""
    server = MemoryServer(ehlo=f"250-mx.test\r\n250 AUTH {offered}", **answers)
    client(server).login("tim", "pencil")
    return server


PLAIN = f"AUTH PLAIN {b64(chr(0) + 'tim' + chr(0) + 'pencil')}"


@pytest.mark.parametrize(
    ("offered", "command"),
    [
        ("LOGIN PLAIN CRAM-MD5", "AUTH CRAM-MD5"),
        ("LOGIN PLAIN", PLAIN),
        ("GSSAPI LOGIN", f"AUTH LOGIN {b64('tim')}"),
    ],
)
def test_login_by_the_best_mechanism(offered: str, command: str) -> None:
    assert login(offered, auth="235 in").commands[1] == command


def test_login_by_cram_md5() -> None:
    digest = hmac.new(b"pencil", b"<challenge>", "md5").hexdigest()
    answer = b64(f"tim {digest}")
    server = login("CRAM-MD5", auth=f"334 {b64('<challenge>')}", **{answer.lower(): "235 in"})
    assert server.commands[1:] == ["AUTH CRAM-MD5", answer]


@pytest.mark.parametrize("initial_response_ok", [True, False])
def test_login_by_prompts_that_ask_for_nothing(initial_response_ok: bool) -> None:
    """First the name, then the password, as in the stdlib."""
    name, password = b64("tim"), b64("pencil")
    server = MemoryServer(
        ehlo="250-mx.test\r\n250 AUTH LOGIN",
        auth=f"334 {b64('?')}",
        **{name.lower(): f"334 {b64('?')}", password.lower(): "235 in"},
    )
    client(server).login("tim", "pencil", initial_response_ok=initial_response_ok)
    expected = [f"AUTH LOGIN {name}"] if initial_response_ok else ["AUTH LOGIN", name]
    assert server.commands[1:] == [*expected, password]


def test_login_without_initial_response() -> None:
    answer = PLAIN.removeprefix("AUTH PLAIN ")
    server = MemoryServer(
        ehlo="250-mx.test\r\n250 AUTH PLAIN", auth="334 ", **{answer.lower(): "235 in"}
    )
    client(server).login("tim", "pencil", initial_response_ok=False)
    assert server.commands[1:] == ["AUTH PLAIN", answer]


def test_login_tells_nothing_again_after_535() -> None:
    """CPython issue 100331."""
    with pytest.raises(SMTPAuthenticationError) as caught:
        login("CRAM-MD5 PLAIN LOGIN", auth=["535 no", "235 in"])
    assert caught.value.args == (535, b"no")


def test_login_tries_the_next_mechanism_where_one_is_not_there() -> None:
    server = login("CRAM-MD5 PLAIN LOGIN", auth=["504 what?", "235 in"])
    assert server.commands[1:] == ["AUTH CRAM-MD5", PLAIN]


def test_login_reports_the_last_refusal() -> None:
    with pytest.raises(SMTPAuthenticationError) as caught:
        login("CRAM-MD5 PLAIN", auth=["504 first", "504 last"])
    assert caught.value.args == (504, b"last")


def test_login_without_a_mechanism() -> None:
    with pytest.raises(SMTPException, match="No suitable authentication method"):
        login("GSSAPI")
    with pytest.raises(SMTPNotSupportedError):
        client(MemoryServer()).login("tim", "pencil")


# STARTTLS


def starttls_script(context: ssl.SSLContext) -> Any:
    def script(peer: Peer) -> None:
        peer.greet("STARTTLS", "8BITMIME")
        peer.expect("STARTTLS\r\n")
        peer.say("220 go")
        peer.start_tls(context)
        peer.answer_hello("SIZE 1000")

    return script


def starttls(mutual_tls: MutualTLS, *arguments: Any, **named: Any) -> None:
    """STARTTLS with a server that asks for a certificate, then EHLO."""
    with ScriptedServer(starttls_script(mutual_tls.server)) as server:
        host = f"{server.host}:{server.port}"
        with csmtplib.SMTP(host, local_hostname="client.test", timeout=TIMEOUT) as smtp:
            assert smtp.starttls(*arguments, **named) == (220, b"go")
            assert isinstance(smtp.sock, ssl.SSLSocket)
            assert (smtp.ehlo_resp, smtp.helo_resp, smtp.esmtp_features) == (None, None, {})
            assert not smtp.does_esmtp
            smtp.ehlo()
            assert smtp.esmtp_features == {"size": "1000"}


def test_starttls_with_keyfile_and_certfile(mutual_tls: MutualTLS) -> None:
    starttls(mutual_tls, mutual_tls.keyfile, mutual_tls.certfile)
    starttls(mutual_tls, keyfile=mutual_tls.keyfile, certfile=mutual_tls.certfile)


def test_starttls_with_a_context(mutual_tls: MutualTLS) -> None:
    starttls(mutual_tls, context=mutual_tls.client(with_certificate=True))
    starttls(mutual_tls, None, None, mutual_tls.client(with_certificate=True))


@pytest.mark.parametrize("named", [{}, {"context": "without certificate"}], ids=str)
def test_starttls_without_the_certificate_that_is_asked_for(
    mutual_tls: MutualTLS, named: dict[str, Any]
) -> None:
    if named:
        named = {"context": mutual_tls.client(with_certificate=False)}
    # In TLS 1.3 a client hears of it only after the handshake; what matters is that it ends there.
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        starttls(mutual_tls, **named)


@pytest.mark.parametrize("named", [{"keyfile": "key"}, {"certfile": "cert"}], ids=str)
def test_context_beside_keyfile_or_certfile(named: dict[str, Any]) -> None:
    server = MemoryServer(ehlo="250-mx.test\r\n250 STARTTLS")
    with pytest.raises(ValueError, match="load them into it"):
        client(server).starttls(context=ssl.create_default_context(), **named)
    assert server.verbs == ["ehlo"]


def test_certfile_that_is_not_there() -> None:
    server = MemoryServer(ehlo="250-mx.test\r\n250 STARTTLS")
    # By its kind: PyPy has no text for it.
    with pytest.raises(FileNotFoundError):
        client(server).starttls(certfile="/nonexistent")
    assert server.verbs == ["ehlo"]


def test_starttls_where_the_host_is_not_known(mutual_tls: MutualTLS) -> None:
    """For a socket set by hand. A context that checks names refuses it, as in the stdlib."""
    with ScriptedServer(starttls_script(mutual_tls.server)) as server:
        smtp = csmtplib.SMTP(local_hostname="client.test")
        smtp.sock = socket.create_connection((server.host, server.port), TIMEOUT)
        smtp.getreply()
        smtp.starttls(mutual_tls.keyfile, mutual_tls.certfile)
        smtp.ehlo()
        smtp.quit()


def test_starttls_not_offered() -> None:
    with pytest.raises(SMTPNotSupportedError, match="STARTTLS extension not supported"):
        client(MemoryServer()).starttls()


def test_starttls_refused() -> None:
    server = MemoryServer(ehlo="250-mx.test\r\n250 STARTTLS", starttls="454 not now")
    smtp = client(server)
    with pytest.raises(SMTPResponseException) as caught:
        smtp.starttls()
    assert caught.value.args == (454, b"not now")
    assert smtp.has_extn("starttls")
    assert smtp.noop() == (250, b"ok")


def test_starttls_after_the_last_reply_was_read() -> None:
    """Cases 21 and 22: what stands behind it came in the clear."""
    server = ReceivingMemoryServer(
        ehlo="250-mx.test\r\n250 STARTTLS", starttls="220 go\r\n250 injected"
    )
    smtp = client(server)
    with pytest.raises(SMTPServerDisconnected, match="in the clear: b'250 injected"):
        smtp.starttls()
    assert smtp.sock is None
    assert server.closed


def test_failed_handshake_closes(server_class: type[MemoryServer]) -> None:
    """So that nobody goes on in the clear."""

    class FailingContext:
        def wrap_socket(self, sock: object, server_hostname: str) -> None:
            raise ssl.SSLError("no cipher in common")

    server = server_class(ehlo="250-mx.test\r\n250 STARTTLS", starttls="220 go")
    smtp = client(server)
    with pytest.raises(ssl.SSLError):
        smtp.starttls(context=FailingContext())
    assert server.closed
    assert smtp.sock is None


def test_starttls_in_a_python_without_ssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csmtplib, "_have_ssl", False)
    with pytest.raises(RuntimeError, match="No SSL support"):
        client(MemoryServer(ehlo="250-mx.test\r\n250 STARTTLS")).starttls()
