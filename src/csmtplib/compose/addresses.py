"""Addresses as people write them, converted for an envelope; VERP senders."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from .. import kernel
from ..protocol import envelope

# More than RFC 5321 section 4.1.2 allows: UTF-8 (RFC 6531 section 3.3), and addresses that exist
# anyway ("a..b@x"). The server decides which of them it accepts.
_ATOM = r'[^\s\x00-\x20\x7f\ud800-\udfff()<>\[\],;:\\"@]+'
_QUOTED = r'"(?:[^\x00-\x1f\x7f\ud800-\udfff"\\]|\\[ -~])*"'
_ADDRESS = re.compile(rf"(?P<local>{_ATOM}|{_QUOTED})@(?P<domain>{_ATOM}|\[[!-Z^-~]+\])")
_ASCII_DOMAIN = re.compile(r"[\w.-]+", re.ASCII)

# Space around an address: tab, and all separators of Unicode (no-break space, ...).
_SPACES = "\t \u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

# "Ann <ann@x.example>". A name that contains "@" may be an address itself.
_NAMED = re.compile(r"[^<>@]*<(?P<address>[^<>]*)>")
_MAILTO = re.compile(r"mailto:", re.IGNORECASE)
_SEVERAL = re.compile(r"[^\s@,;]@[^\s@,;]+[\s,;]+[^\s@]+@[^\s@]")

# Categories of characters that are invisible, or not characters at all: controls, formats (zero
# width, direction marks, soft hyphen, byte order mark), surrogates, private use, line ends.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
# Invisible characters that Unicode classifies as letters, marks and symbols.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_NON_JOINER, _JOINER = "\u200c", "\u200d"
_VIRAMA = 9  # canonical combining class of the signs that join letters in Indic scripts
_CONTROL_NAMES = {"\0": "NUL", "\t": "tab", "\n": "line feed", "\r": "carriage return"}

# IDNA 2008 keeps these characters. The older IDNA of the stdlib maps them to other letters, which
# gives the domain of somebody else.
_DEVIATIONS = frozenset(f"ßς{_NON_JOINER}{_JOINER}")

# RFC 1035 section 2.3.4, RFC 5321 section 4.5.3.1.2.
_LABEL, _DOMAIN = 63, 255
# The longest address for a command line of RFC 5321 section 4.5.3.1.4, from "RCPT TO:<" to CR LF.
# The local part may be longer than the 64 bytes of RFC 5321: some servers accept more.
_LONGEST = 500

# For VERP.
_DOT_ATOM = re.compile(r"[^\s\x00-\x20\x7f()<>\[\],;:\\\"@]+")
_QUOTED_PAIR = re.compile(r"\\(.)")


def bare_address(text: str) -> str:
    """Return the address that a text contains, without space around it, angle brackets, the name
    before them, and "mailto:".

    Raises ValueError for an empty text and for invisible characters.
    """
    address = text.strip(_SPACES)
    if not (address.isascii() and address.isprintable()):
        _refuse_unseen(address)
    if (link := _MAILTO.match(address)) is not None:
        address = address[link.end() :]
        if "%" in address or "?" in address:
            raise ValueError(f"{text!r} is a mailto link with parameters: write the address alone")
    elif (named := _NAMED.fullmatch(address)) is not None:
        address = named["address"].strip(_SPACES)
    if not address:
        raise ValueError("the address is empty")
    return address


def envelope_address(text: str) -> str:
    """Return the address in a text (see bare_address), with its domain in ASCII (A-labels, RFC
    5890) and without a dot at the end of the domain.

    A local part that is not ASCII is kept; such an address needs SMTPUTF8. Raises ValueError for
    anything but one address.
    """
    if kernel.is_plain_address(text):
        local, _, domain = text.rpartition("@")
        checked = _checked_domain(domain)
        if checked == domain and len(text) <= _LONGEST:
            return text
        address = text
    else:
        address = bare_address(text)
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise ValueError(_no_address(address))
        local, domain = found["local"], found["domain"]
        checked = domain if domain.startswith("[") else _checked_domain(domain)
    address = f"{local}@{checked}"
    if len(address.encode()) > _LONGEST:
        raise ValueError(
            f"the address has {len(address.encode())} bytes, more than the {_LONGEST} that an SMTP "
            "command has room for"
        )
    envelope.strict_path(address)
    return address


def _no_address(address: str) -> str:
    if _SEVERAL.search(address):
        return f"{address!r} is more than one address: write one"
    for character in address:
        if character != "@" and unicodedata.normalize("NFKC", character) == "@":
            return f"{address!r} contains {_named(character)}: write @"
        if character.isspace() and character != " ":
            return f"{address!r} contains {_named(character)}: delete it"
    return f"{address!r} is not an address: write user@domain"


def _refuse_unseen(address: str) -> None:
    domain_at = address.rfind("@")
    for at, character in enumerate(address):
        if unicodedata.category(character) in _UNSEEN or _BLANK.match(character):
            # In a domain, IDNA decides where joiners may be.
            is_joiner = character in (_NON_JOINER, _JOINER)
            if is_joiner and (at > domain_at or _may_join(address, at)):
                continue
            raise ValueError(f"the address {address!r} contains {_named(character)}: delete it")


def _may_join(text: str, at: int) -> bool:
    """Return whether the joiner at this index is part of the spelling (RFC 5892 appendix A.1 and
    A.2): after a virama in Indic scripts, or a non-joiner between Arabic letters."""
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if not before or not after:
        return False
    if unicodedata.combining(before) == _VIRAMA:
        return True
    is_arabic = unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL"
    return text[at] == _NON_JOINER and is_arabic


def _named(character: str) -> str:
    nameless = "control character" if unicodedata.category(character) == "Cc" else "no name"
    name = _CONTROL_NAMES.get(character) or unicodedata.name(character, nameless)
    return f"U+{ord(character):04X} ({name})"


@lru_cache(maxsize=4096)
def _checked_domain(written: str) -> str:
    """Return the domain as SMTP needs it. Raises ValueError for an invalid domain."""
    # A dot at the end marks a complete name, which SMTP assumes anyway.
    domain = (written if written.isascii() else _a_labels(written)).removesuffix(".")
    if _ASCII_DOMAIN.fullmatch(domain) is None:
        raise ValueError(f"{written!r} is not a domain")
    for label in domain.split("."):
        if not label:
            raise ValueError(f"{written!r} is not a domain: a label is empty")
        if len(label) > _LABEL:
            raise ValueError(
                f"{written!r} is not a domain: {label!r} is longer than {_LABEL} characters"
            )
        if label.startswith("-") or label.endswith("-"):
            raise ValueError(f"{written!r} is not a domain: {label!r} begins or ends with a hyphen")
    if len(domain) > _DOMAIN:
        raise ValueError(f"{written!r} is not a domain: it is longer than {_DOMAIN} characters")
    return domain


def _a_labels(domain: str) -> str:
    try:
        try:
            import idna
        except ImportError:
            if not _DEVIATIONS.isdisjoint(domain):
                raise ValueError(
                    f"the domain {domain} means different domains in IDNA 2003 and 2008: install "
                    "the package idna, or write the domain as xn--..."
                ) from None
            return domain.encode("idna").decode("ascii")
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"{domain!r} is not a domain: {error}") from error


def verp(sender: str, recipient: str) -> str:
    """Return the sender of mail to one recipient (VERP), as Postfix and qmail write it with the
    delimiters "+" and "=": bounces@example.org and user@example.com give
    bounces+user=example.com@example.org. So a bounce identifies the recipient.

    Raises ValueError for an address without a domain, such as the null sender.
    """
    mailbox, at, host = sender.rpartition("@")
    user, its_at, domain = recipient.rpartition("@")
    if not at or not its_at:
        raise ValueError(
            f"VERP needs a sender and a recipient with a domain, not {sender!r} and {recipient!r}"
        )
    local = f"{_unquoted(mailbox)}+{_unquoted(user)}={domain}"
    if _DOT_ATOM.fullmatch(local) is None:
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    return f"{local}@{host}"


def _unquoted(local: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", local[1:-1]) if local.startswith('"') else local
