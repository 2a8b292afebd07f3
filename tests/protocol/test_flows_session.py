"""protocol/flows.py: opening a session and taking leave, driven by hand."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from csmtplib import (
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPHeloError,
    SMTPNotSupportedError,
    SMTPResponseException,
)
from csmtplib.protocol import limits
from csmtplib.protocol.dialogue import Close, Exchange, StartTLS
from csmtplib.protocol.failures import ConnectionLost
from csmtplib.protocol.features import Features
from csmtplib.protocol.flows import farewell, login, open_session
from csmtplib.protocol.outcome import Reply
from csmtplib.protocol.server_url import TLS, Server

from .playing import CLOSE, LOST, Turn, play

GREETING: Turn = (b"", "220 mx.test")
STARTTLS: Turn = (b"STARTTLS\r\n", "220 go")
ENCRYPT: Turn = (StartTLS(), "")
PLAIN: Turn = (b"AUTH PLAIN AHRpbQBwZW5jaWw=\r\n", "235 welcome")


def ehlo(*extensions: str) -> Turn:
    return b"EHLO client.test\r\n", "\n".join(["250 mx.test", *extensions])


# Opening a session


def opened(server: Server, *turns: Turn) -> Features:
    return play(open_session(server, "client.test"), *turns)


def server(tls: TLS, *, with_login: bool = False) -> Server:
    return Server("mx.test", tls=tls, user="tim" if with_login else None, password="pencil")


def test_session_in_the_clear() -> None:
    features = opened(server(TLS.NEVER), GREETING, ehlo("STARTTLS", "SIZE 1000"))
    assert features.extensions == {"starttls": "", "size": "1000"}


def test_session_in_tls_from_the_first_byte() -> None:
    opened(server(TLS.IMPLICIT), GREETING, ehlo("STARTTLS"))
    opened(server(TLS.IMPLICIT, with_login=True), GREETING, ehlo("AUTH PLAIN"), PLAIN)


@pytest.mark.parametrize("tls", [TLS.IF_OFFERED, TLS.REQUIRED])
def test_starttls_makes_the_server_say_anew_what_it_offers(tls: TLS) -> None:
    features = opened(
        server(tls), GREETING, ehlo("STARTTLS", "AUTH PLAIN"), STARTTLS, ENCRYPT, ehlo("SIZE 9")
    )
    assert features.extensions == {"size": "9"}


def test_starttls_not_offered_and_not_required() -> None:
    opened(server(TLS.IF_OFFERED), GREETING, ehlo("SIZE 1000"))


def test_starttls_not_offered_and_required() -> None:
    with pytest.raises(SMTPNotSupportedError, match="does not offer STARTTLS"):
        opened(server(TLS.REQUIRED, with_login=True), GREETING, ehlo("AUTH PLAIN"))


def test_starttls_required_and_no_esmtp() -> None:
    with pytest.raises(SMTPNotSupportedError, match="does not offer STARTTLS"):
        opened(
            server(TLS.REQUIRED),
            GREETING,
            (b"EHLO client.test\r\n", "502 what?"),
            (b"HELO client.test\r\n", "250 mx.test"),
        )


@pytest.mark.parametrize("tls", [TLS.IF_OFFERED, TLS.REQUIRED])
@pytest.mark.parametrize("answer", ["454 not now", "502 what?", "354 go on", "250 ok", "221 bye"])
def test_starttls_refused(tls: TLS, answer: str) -> None:
    with pytest.raises(SMTPResponseException) as caught:
        opened(server(tls), GREETING, ehlo("STARTTLS"), (b"STARTTLS\r\n", answer))
    assert caught.value.smtp_code == int(answer[:3])


def test_login_after_starttls_by_what_is_offered_then() -> None:
    with pytest.raises(SMTPNotSupportedError, match="no AUTH"):
        opened(
            server(TLS.REQUIRED, with_login=True),
            GREETING,
            ehlo("STARTTLS", "AUTH PLAIN"),
            STARTTLS,
            ENCRYPT,
            ehlo("STARTTLS"),
        )
    opened(
        server(TLS.REQUIRED, with_login=True),
        GREETING,
        ehlo("STARTTLS"),
        STARTTLS,
        ENCRYPT,
        ehlo("AUTH PLAIN"),
        PLAIN,
    )


@pytest.mark.parametrize("tls", [TLS.NEVER, TLS.IF_OFFERED])
def test_password_in_the_clear_only_where_that_is_allowed(tls: TLS) -> None:
    secretive = server(tls, with_login=True)
    with pytest.raises(SMTPNotSupportedError, match=r"mx.test:25 offers no TLS.*cleartext-auth"):
        opened(secretive, GREETING, ehlo("AUTH PLAIN"))
    opened(replace(secretive, cleartext_auth=True), GREETING, ehlo("AUTH PLAIN"), PLAIN)


def test_lmtp_says_lhlo() -> None:
    lmtp = Server("mx.test", lmtp=True, tls=TLS.NEVER)
    assert "size" in opened(lmtp, GREETING, (b"LHLO client.test\r\n", "250 mx.test\nSIZE 9"))


@pytest.mark.parametrize("answer", ["554 no", "421 bye", "250 ok", "354 go on"])
def test_greeting_other_than_220(answer: str) -> None:
    with pytest.raises(SMTPConnectError) as caught:
        opened(Server(), (b"", answer), CLOSE)
    assert caught.value.smtp_code == int(answer[:3])


def test_helo_where_ehlo_is_refused() -> None:
    features = opened(
        Server(),
        GREETING,
        (b"EHLO client.test\r\n", "502 what?"),
        (b"HELO client.test\r\n", "250 mx.test\nSIZE 1000"),
    )
    assert features.extensions == {}


def test_helo_refused() -> None:
    with pytest.raises(SMTPHeloError) as caught:
        opened(
            Server(),
            GREETING,
            (b"EHLO client.test\r\n", "502 what?"),
            (b"HELO client.test\r\n", "550 no"),
            CLOSE,
        )
    assert caught.value.smtp_code == 550


@pytest.mark.parametrize(
    ("lmtp", "answer"), [(False, "421 bye"), (True, "421 bye"), (True, "502 what?")]
)
def test_no_helo_after_421_nor_in_lmtp(lmtp: bool, answer: str) -> None:
    verb = b"LHLO" if lmtp else b"EHLO"
    with pytest.raises(SMTPHeloError):
        opened(Server(lmtp=lmtp), GREETING, (verb + b" client.test\r\n", answer), CLOSE)


def test_name_with_a_line_break() -> None:
    with pytest.raises(ValueError, match="prohibited newline"):
        play(open_session(Server(), "client.test\r\nMAIL"), GREETING)


@pytest.mark.parametrize("after", range(5))
def test_connection_lost_while_opening(after: int) -> None:
    turns = [GREETING, ehlo("STARTTLS"), STARTTLS, ENCRYPT, ehlo("SIZE 9")]
    turns = [*turns[:after], (turns[after][0], LOST)]
    with pytest.raises(ConnectionLost):
        opened(server(TLS.REQUIRED), *turns)


# Logging in


def logged_in(offered: str, *turns: Turn, only: str | None = None) -> None:
    play(login(Features({"auth": offered}), "tim", "pencil", only), *turns)


def base64_turn(answer: bytes, reply: str) -> Turn:
    return base64.b64encode(answer) + b"\r\n", reply


def challenge(text: bytes) -> str:
    return f"334 {base64.b64encode(text).decode()}"


def test_best_mechanism_that_is_offered() -> None:
    flow = login(Features({"auth": "LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1"}), "tim", "pencil")
    step = next(flow)
    assert isinstance(step, Exchange)
    assert step.data.startswith(b"AUTH SCRAM-SHA-1 biws")
    logged_in("login plain cram-md5", PLAIN)


def test_login() -> None:
    logged_in(
        "LOGIN",
        (b"AUTH LOGIN\r\n", challenge(b"Username:")),
        base64_turn(b"tim", challenge(b"Password:")),
        base64_turn(b"pencil", "235 welcome"),
    )


def test_mechanism_by_name() -> None:
    logged_in("SCRAM-SHA-256 PLAIN", PLAIN, only="PLAIN")


def test_token_only_by_name() -> None:
    with pytest.raises(SMTPNotSupportedError):
        logged_in("XOAUTH2")
    logged_in(
        "XOAUTH2",
        (b"AUTH XOAUTH2 dXNlcj10aW0BYXV0aD1CZWFyZXIgcGVuY2lsAQE=\r\n", "235 welcome"),
        only="XOAUTH2",
    )


def test_token_refused() -> None:
    """Case 35."""
    with pytest.raises(SMTPAuthenticationError) as caught:
        logged_in(
            "XOAUTH2",
            (
                b"AUTH XOAUTH2 dXNlcj10aW0BYXV0aD1CZWFyZXIgcGVuY2lsAQE=\r\n",
                challenge(b'{"status":"401"}'),
            ),
            (b"\r\n", "535 no"),
            only="XOAUTH2",
        )
    assert caught.value.smtp_code == 535


@pytest.mark.parametrize(
    ("offered", "only", "message"),
    [
        ("", None, "offers no AUTH, and none of SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN CRAM-MD5"),
        ("GSSAPI NTLM", None, "offers GSSAPI NTLM, and none of SCRAM-SHA-256"),
        ("PLAIN LOGIN", "CRAM-MD5", "offers PLAIN LOGIN, and none of CRAM-MD5"),
    ],
)
def test_no_mechanism_in_common(offered: str, only: str | None, message: str) -> None:
    with pytest.raises(SMTPNotSupportedError, match=message):
        logged_in(offered, only=only)


@pytest.mark.parametrize("answer", ["535 no", "454 not now", "503 already", "250 ok", "421 bye"])
def test_only_235_is_a_login_and_nothing_weaker_is_tried(answer: str) -> None:
    """Cases 27 and 29."""
    with pytest.raises(SMTPAuthenticationError) as caught:
        logged_in("PLAIN LOGIN CRAM-MD5", (PLAIN[0], answer))
    assert caught.value.smtp_code == int(answer[:3])


def test_challenge_that_is_no_base64() -> None:
    """Case 31."""
    with pytest.raises(SMTPAuthenticationError, match="not base64") as caught:
        logged_in("CRAM-MD5", (b"AUTH CRAM-MD5\r\n", "334 !!!"), (b"*\r\n", "501 cancelled"), CLOSE)
    assert caught.value.smtp_code == 501


def test_prompts_that_are_not_read() -> None:
    """T18: order counts; a third prompt is answered by nothing."""
    by_order = (b"AUTH LOGIN\r\n", "334 who?"), base64_turn(b"tim", "334 ")
    logged_in("LOGIN", *by_order, base64_turn(b"pencil", "235 in"))
    with pytest.raises(SMTPAuthenticationError, match="LOGIN: the server asks for more than"):
        logged_in(
            "LOGIN",
            *by_order,
            base64_turn(b"pencil", challenge(b"Token:")),
            (b"*\r\n", "501 cancelled"),
            CLOSE,
        )


def test_challenges_without_end() -> None:
    """Case 30."""
    again = base64_turn(b"\0tim\0pencil", "334 ")
    with pytest.raises(SMTPAuthenticationError, match="too many challenges"):
        logged_in(
            "PLAIN",
            (PLAIN[0], "334 "),
            *[again] * limits.AUTH_CHALLENGES,
            (b"*\r\n", "501 cancelled"),
            CLOSE,
        )


def test_235_without_the_servers_proof() -> None:
    """Case 34."""
    flow = login(Features({"auth": "SCRAM-SHA-256"}), "tim", "pencil")
    next(flow)
    assert isinstance(flow.send(Reply(235, b"welcome")), Close)
    with pytest.raises(SMTPAuthenticationError, match="without a proof"):
        flow.send(Reply(0, b""))


def test_user_name_that_sasl_prohibits() -> None:
    with pytest.raises(SMTPAuthenticationError, match="RFC 4013"):
        play(login(Features({"auth": "SCRAM-SHA-1"}), "tim\0", "pencil"))


# Taking leave


@pytest.mark.parametrize("answer", ["221 bye", "500 what?", LOST], ids=str)
def test_farewell_whatever_the_server_says(answer: str | ConnectionLost) -> None:
    """Case 57."""
    play(farewell(), (b"QUIT\r\n", answer), CLOSE)
