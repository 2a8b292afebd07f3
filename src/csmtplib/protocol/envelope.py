"""The envelope of a message as command bytes: quoting, parameters, and the injection check.

Every command that contains input of the caller goes through `check_command`, the only such check.
"""

from __future__ import annotations

import re
from email.utils import parseaddr
from functools import lru_cache

from .. import kernel

CRLF = "\r\n"

# A line break that folds a header field. Addresses are often passed as they stand in one.
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_CONTROL_NAMES = {"\r": "\\r", "\n": "\\n", "\0": "\\0", "\t": "\\t"}


def check_command(line: str) -> None:
    """Raises ValueError if a command line, without its CR LF, holds a control character.

    One CR or LF in an address or a parameter would let its author send commands of their own.
    """
    if kernel.has_control(line):
        shown = re.sub(
            r"[\x00-\x1f\x7f]",
            lambda found: _CONTROL_NAMES.get(found[0], f"\\x{ord(found[0]):02x}"),
            line,
        )
        # "prohibited newline characters" is what callers look for in the stdlib's message.
        what = "newline" if "\r" in line or "\n" in line else "control"
        raise ValueError(
            f"a command and its arguments must not hold prohibited {what} characters: {shown}"
        )


def command(line: str, encoding: str = "ascii") -> bytes:
    """Return the bytes of one command line.

    Raises ValueError for control characters, UnicodeEncodeError for what `encoding` can't hold.
    """
    check_command(line)
    return (line + CRLF).encode(encoding)


def quoteaddr(addrstring: str) -> str:
    """Returns an address, with or without a display name, as the path of MAIL or RCPT:
    "<local@domain>".

    What `email.utils.parseaddr` can't read is passed on as it is, in angle brackets, for the server
    to judge, as the stdlib does. White space around the address and header folding before it are
    ignored. Raises ValueError for another control character that the parser would drop, for "<"
    without ">", and for ">" with more after it, which the server would take for parameters.
    """
    # Callers also pass lists of one address, which are left to parseaddr.
    if isinstance(addrstring, str) and kernel.is_plain_address(addrstring):
        return f"<{addrstring}>"
    address = _parsed_address(addrstring)
    if address is not None:
        return f"<{address}>"
    text = addrstring.strip()
    if text.startswith("<") and not text.endswith(">"):
        raise ValueError(f"the address {addrstring!r} has a '<' without a '>'")
    if re.search(r">\s", text):
        raise ValueError(f"the address {addrstring!r} has text after its '>'")
    return addrstring if text.startswith("<") else f"<{addrstring}>"


def strict_path(address: str) -> str:
    """Return an address without a display name as a path: "<local@domain>", and "<>" for "".

    Raises ValueError for anything that is not an address, or that a server could read as another
    one.
    """
    if kernel.is_plain_address(address):
        return f"<{address}>"
    check_command(address)
    path = quoteaddr(address)
    # The parser has left something out, or the server would read it differently.
    if path[1:-1] not in address or _STRAY.search(_QUOTED.sub("", path[1:-1])):
        raise ValueError(f"{address!r} is no address: write user@domain")
    return path


def mailbox_key(address: str) -> str:
    """Return the same key for all ways to write an address: the case of the domain does not matter
    (RFC 5321 section 2.4), while that of the local part is up to its server."""
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{domain.lower()}"


# What may stand in a path within quotes alone (RFC 5321 section 4.1.2).
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_STRAY = re.compile(r"[<>\s]")


def address_only(addrstring: str) -> str:
    """Return an address without display name and brackets, as VRFY and EXPN take it."""
    address = _parsed_address(addrstring)
    return addrstring if address is None else address


def _parsed_address(addrstring: str) -> str | None:
    return _parse(addrstring) if isinstance(addrstring, str) else parseaddr(addrstring)[1] or None


# The parser is slow, and sendmail() needs it twice: before the transaction, and in it.
@lru_cache(maxsize=1024)
def _parse(addrstring: str) -> str | None:
    display_name, address = parseaddr(addrstring)
    if not (display_name or address):
        return None
    if kernel.has_control(addrstring):
        # The parser would drop some, and what is left may be another address.
        unfolded = _FOLD.sub("", addrstring.strip(" \t\r\n"))
        check_command(unfolded.replace("\t", " ") if address in unfolded else unfolded)
    if addrstring.count("@") > display_name.count("@") + address.count("@"):
        # Older parsers stop at what they don't understand, so mail for "a@b)c@d" would go to a@b.
        # But callers expect them to take the first of several addresses.
        behind = addrstring.rpartition(address)[2].lstrip() if address else "@"
        if behind and behind[0] not in ",;>":
            return None
    return address
