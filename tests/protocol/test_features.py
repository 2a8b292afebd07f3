"""protocol/features.py: what a server offers."""

from __future__ import annotations

import io
import smtplib
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csmtplib.protocol.features import Features, parse_ehlo

KEYWORDS = st.sampled_from(
    ["SIZE", "size", "8BITMIME", "AUTH", "auth", "AUTH=", "Auth=", "X-Y", "x--", "-", "_X", "é", ""]
)
SEPARATORS = st.sampled_from(["", " ", "  ", "\t", "=", ";"])
PARAMETERS = st.sampled_from(["", "1000", "PLAIN LOGIN", "=LOGIN", " a  b ", "\xff\0", "é"])
LINES = st.builds("".join, st.tuples(KEYWORDS, SEPARATORS, PARAMETERS))


def of_the_stdlib(lines: list[str]) -> tuple[bytes, dict[str, str]]:
    """Return what the stdlib makes of an answer to EHLO: its text, and the features."""
    smtp = smtplib.SMTP(local_hostname="client.test")
    smtp.sock = mock.Mock()
    text = "".join(f"250-{line}\r\n" for line in lines) + "250 HELP\r\n"
    smtp.file = io.BytesIO(text.encode("latin-1"))
    assert smtp.ehlo()[0] == 250
    assert smtp.ehlo_resp is not None
    return smtp.ehlo_resp, smtp.esmtp_features


@given(st.lists(LINES | st.text(st.characters(max_codepoint=255, exclude_characters="\n"))))
@example(["mx.test", "AUTH=LOGIN", "AUTH PLAIN", "AUTH=LOGIN PLAIN"])
@example(["mx.test", "AUTH PLAIN", "AUTH CRAM-MD5"])
@example(["SIZE 1", "SIZE 2", "SIZE"])
@example(["mx.test", "250-STARTTLS", "  STARTTLS", "STARTTLS/x"])
def test_features_are_the_stdlibs(lines: list[str]) -> None:
    text, features = of_the_stdlib(lines)
    assert parse_ehlo(text) == features


@pytest.mark.parametrize(
    ("text", "features"),
    [
        (b"", {}),
        (b"mx.test", {}),
        (b"STARTTLS", {}),  # the first line is the server's name
        (b"mx.test\nSTARTTLS\nSIZE 1000", {"starttls": "", "size": "1000"}),
        (b"mx.test\nAUTH=LOGIN PLAIN", {"auth": " LOGIN PLAIN"}),
    ],
)
def test_features_by_example(text: bytes, features: dict[str, str]) -> None:
    assert parse_ehlo(text) == features


def test_contains_keywords_in_lower_case() -> None:
    features = Features({"starttls": ""})
    assert "starttls" in features
    assert "size" not in features
    assert "starttls" not in Features()


@pytest.mark.parametrize(
    ("parameter", "limit"),
    # 0 means no limit (RFC 1870 section 4); the last three are what no server should say.
    [("1000", 1000), ("", None), ("0", None), ("-1", None), ("1 000", None), ("\xb2", None)],
)
def test_size_limit(parameter: str, limit: int | None) -> None:
    assert Features({"size": parameter}).size_limit == limit


def test_no_size_limit_without_size() -> None:
    assert Features().size_limit is None


def test_auth_mechanisms_keep_the_servers_order() -> None:
    assert Features({"auth": " login PLAIN  Scram-Sha-1"}).auth_mechanisms == [
        "LOGIN",
        "PLAIN",
        "SCRAM-SHA-1",
    ]
    assert Features().auth_mechanisms == []
