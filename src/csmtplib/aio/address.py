"""Addresses, as csmtplib.aio takes them."""

from __future__ import annotations

import re
from email.utils import getaddresses

from .. import kernel
from ..protocol import envelope

_QUOTED_LOCAL_PART = re.compile(r'^"(?:[^"\\\r\n]|\\.)*"')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_AFTER_BRACKET = re.compile(r">\s*[^\s>]")
_NOT_IN_MAILBOX = re.compile(r'[\s<>"]')


def address_of(text: str) -> str:
    """Return an address without display name and brackets. Raises ValueError for what the server
    could take for more than an address."""
    if kernel.is_plain_address(text):
        return text
    if sum(bool(address) for _, address in getaddresses([text])) > 1:
        raise ValueError(f"{text!r} is more than one address: give a list of addresses")
    address = envelope.quoteaddr(text)
    if address.startswith("<") and address.endswith(">"):
        address = address[1:-1]
    address = address.strip()
    is_cut = _AFTER_BRACKET.search(_QUOTED.sub("", text)) is not None
    if is_cut or _NOT_IN_MAILBOX.search(_QUOTED_LOCAL_PART.sub("", address, count=1)):
        raise ValueError(f"{text!r} is no address: write user@domain")
    return address
