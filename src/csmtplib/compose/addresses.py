"""Addresses as tables and templates have them, made fit for an envelope."""

from __future__ import annotations

import re
from functools import lru_cache

from .. import kernel
from ..protocol import envelope

# More than RFC 5321 section 4.1.2 has: UTF-8 (RFC 6531 section 3.3), and addresses that exist
# nevertheless ("a..b@x"). Which of them a server takes is its own affair.
_ATOM = r'[^\s\x00-\x20\x7f\ud800-\udfff()<>\[\],;:\\"@]+'
_QUOTED = r'"(?:[^\x00-\x1f\x7f\ud800-\udfff"\\]|\\[ -~])*"'
_ADDRESS = re.compile(rf"(?P<local>{_ATOM}|{_QUOTED})@(?P<domain>{_ATOM}|\[[!-Z^-~]+\])")
_ASCII_DOMAIN = re.compile(r"[\w.-]+|\[.*\]", re.ASCII)

# IDNA 2008 takes these as they are. The stdlib's older IDNA makes other letters of them, and so
# the domain of somebody else.
_DEVIATIONS = frozenset("ßς\u200c\u200d")


def envelope_address(text: str) -> str:
    """The address, without white space around it and with its domain in ASCII (A-labels, RFC 5890).

    A local part that is not ASCII stays; such an address needs SMTPUTF8. Raises ValueError for what
    is no single bare address.
    """
    if kernel.is_plain_address(text):
        return text
    address = text.strip(" \t")
    if not address:
        raise ValueError("the address is empty")
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(f"{address!r} is no address: write user@domain")
    domain = found["domain"]
    if not domain.isascii():
        domain = _a_labels(domain)
    if _ASCII_DOMAIN.fullmatch(domain) is None:
        raise ValueError(f"{found['domain']!r} is no domain")
    address = f"{found['local']}@{domain}"
    envelope.strict_path(address)
    return address


@lru_cache(maxsize=4096)
def _a_labels(domain: str) -> str:
    try:
        try:
            import idna
        except ImportError:
            if not _DEVIATIONS.isdisjoint(domain):
                raise ValueError(
                    f"the domain {domain} is not the same in all versions of IDNA: install the "
                    "package idna, or write the domain as xn--..."
                ) from None
            return domain.encode("idna").decode("ascii")
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"{domain!r} is no domain: {error}") from error
