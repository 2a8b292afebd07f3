"""Variable envelope return paths: a bounce names the recipient by the address that it comes to."""

from __future__ import annotations

import re

_DOT_ATOM = re.compile(r"[^\s\x00-\x20\x7f()<>\[\],;:\\\"@]+")
_QUOTED_PAIR = re.compile(r"\\(.)")


def verp(sender: str, recipient: str) -> str:
    """The sender for mail to one recipient, as Postfix and qmail have it with the delimiters "+"
    and "=": bounces@example.org and user@example.com make bounces+user=example.com@example.org.

    Raises ValueError for an address without a domain, such as the null sender.
    """
    mailbox, at, host = sender.rpartition("@")
    user, its_at, domain = recipient.rpartition("@")
    if not at or not its_at:
        raise ValueError(f"VERP wants user@domain twice, not {sender!r} and {recipient!r}")
    local = f"{_unquoted(mailbox)}+{_unquoted(user)}={domain}"
    if _DOT_ATOM.fullmatch(local) is None:
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    return f"{local}@{host}"


def _unquoted(local: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", local[1:-1]) if local.startswith('"') else local
