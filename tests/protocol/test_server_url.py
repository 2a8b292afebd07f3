"""protocol/server_url.py: servers as URLs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from csmtplib.protocol.server_url import TLS, Server, ServerURLError, parse

PASSWORD = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mx.test", Server("mx.test", 25, tls=TLS.IF_OFFERED)),
        ("smtp+starttls://mx.test", Server("mx.test", 25, tls=TLS.REQUIRED)),
        ("smtps://mx.test", Server("mx.test", 465, tls=TLS.IMPLICIT)),
        ("submission://mx.test", Server("mx.test", 587, tls=TLS.REQUIRED)),
        ("lmtp://mx.test", Server("mx.test", 24, lmtp=True, tls=TLS.IF_OFFERED)),
        ("lmtp+unix:/run/lmtp", Server(unix_path="/run/lmtp", lmtp=True, tls=TLS.NEVER)),
        ("lmtp+unix:///run/lmtp", Server(unix_path="/run/lmtp", lmtp=True, tls=TLS.NEVER)),
        ("SMTP://MX.test/", Server("mx.test", 25, tls=TLS.IF_OFFERED)),
    ],
)
def test_schemes(url: str, server: Server) -> None:
    assert parse(url, {}) == server


@pytest.mark.parametrize(
    ("url", "host", "port", "shown"),
    [
        ("smtps://mx.test:2465", "mx.test", 2465, "mx.test:2465"),
        ("smtp://192.0.2.1", "192.0.2.1", 25, "192.0.2.1:25"),
        ("smtp://[2001:db8::1]", "2001:db8::1", 25, "[2001:db8::1]:25"),
        ("smtp://[::1]:2525", "::1", 2525, "[::1]:2525"),
        ("smtp://[fe80::1%25eth0]", "fe80::1%eth0", 25, "[fe80::1%eth0]:25"),
    ],
)
def test_host_and_port(url: str, host: str, port: int, shown: str) -> None:
    server = parse(url, {})
    assert (server.host, server.port) == (host, port)
    assert str(server) == shown


def test_unix_socket_is_percent_decoded_and_shown_by_its_path() -> None:
    server = parse("lmtp+unix:/run/a%20b", {})
    assert server.unix_path == "/run/a b"
    assert str(server) == "/run/a b"


@pytest.mark.parametrize(
    ("userinfo", "user", "password"),
    [
        ("tim:pencil", "tim", "pencil"),
        ("tim:", "tim", ""),
        ("tim%40x.test:p%3Aw%2F%23%3F%25", "tim@x.test", "p:w/#?%"),
        ("tim:a:b", "tim", "a:b"),
        ("tim:a@b", "tim", "a@b"),
        ("tim:a+b", "tim", "a+b"),
        ("t%C3%A4m:%E2%82%AC", "täm", "€"),
    ],
)
def test_user_and_password(userinfo: str, user: str, password: str) -> None:
    server = parse(f"submission://{userinfo}@mx.test:25", {})
    assert (server.user, server.password) == (user, password)
    assert (server.host, server.port) == ("mx.test", 25)


def test_no_user() -> None:
    server = parse("smtp://mx.test", {"CSMTPLIB_PASSWORD_FILE": "/nonexistent"})
    assert server.user is None
    assert parse("smtp://@mx.test", {}).user is None


def test_password_is_not_in_the_repr() -> None:
    assert PASSWORD not in repr(parse(f"smtps://tim:{PASSWORD}@mx.test", {}))


# The password file


@pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
def test_password_file(tmp_path: Path, line_end: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(f" pen:cil@%20 {line_end}".encode())
    server = parse("smtps://tim@mx.test", {"CSMTPLIB_PASSWORD_FILE": str(file)})
    assert (server.user, server.password) == ("tim", " pen:cil@%20 ")


def test_password_in_the_url_wins() -> None:
    environ = {"CSMTPLIB_PASSWORD_FILE": "/nonexistent"}
    assert parse("smtps://tim:pencil@mx.test", environ).password == "pencil"


@pytest.mark.parametrize("content", [None, b"\xff\n"], ids=["missing", "no text"])
def test_password_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ServerURLError, match=f"CSMTPLIB_PASSWORD_FILE {re.escape(str(file))}: "):
        parse("smtps://tim@mx.test", {"CSMTPLIB_PASSWORD_FILE": str(file)})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no password in it"),
        ("\n", "no password"),
        (" \r\n", "no password"),
        ("a\nb\n", "lines"),
    ],
)
def test_password_file_that_holds_none(tmp_path: Path, content: str, reason: str) -> None:
    """An empty file is refused by its name, and not sent as an empty password."""
    file = tmp_path / "password"
    file.write_text(content)
    with pytest.raises(ServerURLError, match=f"{re.escape(str(file))}: .*{reason}"):
        parse("smtps://tim@mx.test", {"CSMTPLIB_PASSWORD_FILE": str(file)})


def test_password_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pencil\n", encoding="utf-8-sig")
    server = parse("smtps://tim@mx.test", {"CSMTPLIB_PASSWORD_FILE": str(file)})
    assert server.password == "pencil"


@pytest.mark.parametrize("environ", [{}, {"CSMTPLIB_PASSWORD_FILE": ""}])
def test_no_password(environ: dict[str, str]) -> None:
    with pytest.raises(
        ServerURLError, match="name a file that contains it in CSMTPLIB_PASSWORD_FILE"
    ):
        parse("smtps://tim@mx.test", environ)


# Options


@pytest.mark.parametrize(
    ("query", "server"),
    [
        ("", Server()),
        ("verify=no", Server(verify=False)),
        ("verify=YES", Server(verify=True)),
        ("verify=0&cleartext-auth=1", Server(verify=False, cleartext_auth=True)),
        ("verify=true&cleartext-auth=false", Server()),
        (
            "cafile=/ca.pem&certfile=a%20b&keyfile=k",
            Server(cafile="/ca.pem", certfile="a b", keyfile="k"),
        ),
        ("auth=cram-md5", Server(auth="CRAM-MD5")),
        ("auth=XOAUTH2", Server(auth="XOAUTH2")),
        ("timeout=1.5", Server(timeout=1.5)),
        ("name=client.test", Server(name="client.test")),
    ],
)
def test_options(query: str, server: Server) -> None:
    assert parse(f"smtp://localhost?{query}", {}) == server
    assert parse(f"smtp://localhost/?{query}", {}) == server


def test_options_of_a_unix_socket() -> None:
    assert parse("lmtp+unix:/run/lmtp?timeout=3", {}).timeout == 3


@pytest.mark.parametrize(
    "option",
    [
        "port=25",
        "Verify=no",
        "verify=maybe",
        "verify=",
        "cafile=",
        "auth=GSSAPI",
        "timeout=",
        "timeout=soon",
        "timeout=0",
        "timeout=-1",
        "timeout=inf",
        "timeout=nan",
    ],
)
def test_option_that_there_is_not(option: str) -> None:
    with pytest.raises(ServerURLError) as caught:
        parse(f"smtp://mx.test?verify=yes&{option}", {})
    message = str(caught.value)
    assert f"{option} is no option" in message
    assert "verify=yes|no, cleartext-auth=yes|no, timeout=SECONDS, auth=SCRAM-SHA-256|" in message
    assert "cafile=FILE" in message


@pytest.mark.parametrize("name", ["höst.test", "my%20host", "", "x" * 256, "a%0Ab"])
def test_name_that_can_not_be_sent(name: str) -> None:
    """T19: the error names the option, and says what to give instead."""
    with pytest.raises(ServerURLError, match=r"name .* can't be sent with EHLO; give a domain"):
        parse(f"smtp://mx.test?name={name}", {})


@pytest.mark.parametrize("host", ["a..test", "x" * 64 + ".test"])
def test_host_that_can_not_be_looked_up(host: str) -> None:
    """T19: it was a UnicodeError when it was connected to."""
    with pytest.raises(ServerURLError, match="is not a host name or an address"):
        parse(f"smtp://{host}", {})


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"host": b"mx.test"}, TypeError, "host must be the name or the address of a host, not b'"),
        ({"host": ""}, ValueError, "host must be the name"),
        ({"port": "25"}, TypeError, "port must be a whole number from 1 to 65535, not '25'"),
        ({"port": 0}, ValueError, "port must be a whole number from 1 to 65535, not 0"),
        ({"port": 25.0}, TypeError, "port must be"),
        ({"unix_path": Path("/run")}, TypeError, "unix_path must be"),
        ({"lmtp": "yes"}, TypeError, "lmtp must be True or False, not 'yes'"),
        ({"verify": "no"}, TypeError, "verify must be True or False, not 'no'"),
        ({"verify": None}, TypeError, "verify must be True or False, not None"),
        ({"tls": "required"}, TypeError, "tls must be one of TLS.NEVER, TLS.IF_OFFERED,"),
        ({"user": b"tim"}, TypeError, "user must be a str, or None for no login"),
        ({"user": "tim", "password": b"s3cr3t"}, TypeError, "password must be a str, not bytes"),
        ({"cafile": 1}, TypeError, "cafile must be the path of a file, not 1"),
        ({"auth": "plain"}, ValueError, "auth must be one of SCRAM-SHA-256, "),
        ({"timeout": "5"}, TypeError, "timeout must be a number of seconds above 0, not '5'"),
        ({"timeout": 0}, ValueError, "timeout must be a number of seconds above 0, not 0"),
        ({"timeout": float("nan")}, ValueError, "timeout must be a number of seconds above 0"),
        ({"name": b"x"}, TypeError, "name must be the name for EHLO, not b'x'"),
        (
            {"name": "höst"},
            ValueError,
            "the name 'höst' can't be sent with EHLO; give a domain name",
        ),
    ],
    ids=str,
)
def test_arguments_of_a_server(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    """T26, T19: checked at the door."""
    with pytest.raises(error) as caught:
        Server(**arguments)
    assert said in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("url", [None, b"smtp://mx.test", 25, Path("mx.test")])
def test_url_that_is_no_str(url: Any) -> None:
    """T26"""
    with pytest.raises(TypeError, match="server must be a URL such as submission://user@"):
        parse(url, {})


# What is wrong, and what would be right


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", ": the scheme must be one of smtp, smtp+starttls, smtps, submission, lmtp, lmtp+unix"),
        ("mx.test", "lmtp, lmtp+unix: write smtp://mx.test"),
        ("sink:outbox", "csmtplib bulk --server sink:outbox; here write smtp://host:port"),
        ("localhost:2601", "localhost:2601: the scheme must be one of smtp,"),
        ("localhost:2601", "lmtp+unix: write smtp://localhost:2601"),
        ("http://mx.test", "http://mx.test: the scheme must be one of smtp,"),
        ("smtp+tls://mx.test", "write smtp+starttls:// or smtps://"),
        ("smtp:", "write smtp://host or smtp://host:port"),
        ("smtp://", "write smtp://host or smtp://host:port"),
        ("smtp:mx.test", "write smtp://host or smtp://host:port"),
        ("lmtp:///run/lmtp", "write lmtp://host or lmtp://host:port"),
        ("smtp://mx.test/inbox", "write smtp://host or smtp://host:port"),
        ("smtp://mx.test:smtp", "the port must be a number from 1 to 65535"),
        ("smtp://mx.test:65536", "the port must be a number from 1 to 65535"),
        ("smtp://mx.test:0", "the port must be a number from 1 to 65535"),
        ("smtp://[::1", "smtp://[::1: "),
        ("lmtp+unix:run/lmtp", "a Unix socket is written lmtp+unix:/absolute/path"),
        ("lmtp+unix://mx.test/run", "a Unix socket is written lmtp+unix:/absolute/path"),
        ("lmtp+unix:", "a Unix socket is written lmtp+unix:/absolute/path"),
        ("smtp://mx.test#1", "write / ? # @ : as %2F %3F %23 %40 %3A"),
        ("smtp://mx.test?verify", "options are written ?name=value&name=value"),
        ("smtp://:pencil@mx.test", "there is a password but no user"),
        ("smtp://tim:%FF@mx.test", "user and password must be UTF-8"),
        ("smtp://%FF:pencil@mx.test", "user and password must be UTF-8"),
    ],
)
def test_error_says_what_would_be_right(url: str, message: str) -> None:
    with pytest.raises(ServerURLError) as caught:
        parse(url, {})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "smtp://tim:{}@mx.test:port",
        "smtp://tim:{}@[::1",
        "smtp://tim:{}@mx.test/inbox",
        "smtp://tim:{}@mx.test#1",
        "smtp://tim:{}@mx.test?verify",
        "smtp://tim:{}@mx.test?name=a@b&no=1",
        "smtp://:{}@mx.test",
        "smtp+tls://tim:{}@mx.test",
        "http://tim:{}@mx.test",
        "//tim:{}@mx.test",
        "lmtp+unix://tim:{}@mx.test/run",
        "tim:{}@mx.test",
        "smtp:tim:{}@mx.test",
        "smtp:/tim:{}@mx.test",
        # Characters that end it have to be percent-encoded, and are not always.
        "smtp://tim:{}/x@mx.test",
        "smtp://tim:{}?x@mx.test",
        "smtp://tim:{}#x@mx.test",
        "smtp://tim:x/{}@mx.test",
        "smtp://tim:x@{}@mx.test/inbox",
        "smtp://tim:x:{}@mx.test/inbox",
    ],
)
def test_error_never_shows_the_password(url: str) -> None:
    with pytest.raises(ServerURLError) as caught:
        parse(url.format(PASSWORD), {})
    assert PASSWORD not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
