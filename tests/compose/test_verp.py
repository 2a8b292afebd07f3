"""The sender of each recipient's own."""

from __future__ import annotations

import pytest

from csmtplib.compose.addresses import envelope_address
from csmtplib.compose.verp import verp

SENDER = "bounces@example.org"


@pytest.mark.parametrize(
    ("recipient", "sender"),
    [
        ("user@example.com", "bounces+user=example.com@example.org"),
        ("user+tag@example.com", "bounces+user+tag=example.com@example.org"),
        ("jörg@example.com", "bounces+jörg=example.com@example.org"),
        ('"ann lee"@example.com', '"bounces+ann lee=example.com"@example.org'),
        (r'"a\"b\\c"@example.com', r'"bounces+a\"b\\c=example.com"@example.org'),
        ('"a@b"@example.com', '"bounces+a@b=example.com"@example.org'),
        ("user@[192.0.2.1]", '"bounces+user=[192.0.2.1]"@example.org'),
    ],
)
def test_the_recipient_stands_in_the_sender(recipient: str, sender: str) -> None:
    assert verp(SENDER, recipient) == sender
    assert envelope_address(sender) == sender


def test_a_sender_in_quotes() -> None:
    assert verp('"b o"@example.org', "u@x.example") == '"b o+u=x.example"@example.org'


@pytest.mark.parametrize(
    ("sender", "recipient"), [("", "user@example.com"), (SENDER, "postmaster"), ("b", "u@x")]
)
def test_what_has_no_domain_is_refused(sender: str, recipient: str) -> None:
    with pytest.raises(ValueError, match="VERP wants user@domain"):
        verp(sender, recipient)
