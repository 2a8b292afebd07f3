"""EHLO, HELO and LHLO: the name that a client gives, and what the server offers (RFC 5321 section
4.1.1.1)."""

from __future__ import annotations

import re

from . import envelope

# The name

# With "_", which RFC 5321 does not allow, but real hosts use.
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_MOST_BYTES = 255

ADVICE = (
    "give a domain name in ASCII (xn--... for one with other letters), or an address literal such "
    "as [192.0.2.1]"
)


def is_domain(name: str) -> bool:
    """Return whether a name is a domain name as RFC 5321 section 4.1.2 has it, and not a bare IP
    address."""
    return (
        len(name) <= _MOST_BYTES
        and _DOMAIN.fullmatch(name) is not None
        and not name.rpartition(".")[2].isdigit()
    )


def check_name(argument: str, name: str, verb: str, encoding: str = "ascii") -> None:
    """Raises ValueError, which names the argument, if a name can't be sent: UnicodeEncodeError if
    the encoding does not have all its letters."""
    try:
        envelope.check_command(f"{verb} {name}")
        name.encode(encoding)
    except UnicodeEncodeError as error:
        reason = f"{error.reason}: {argument} can't be sent with {verb}; {ADVICE}"
        raise UnicodeEncodeError(
            error.encoding, error.object, error.start, error.end, reason
        ) from None
    except ValueError as error:
        raise ValueError(f"{argument}: {error}; {ADVICE}") from None


# The offer

# Servers from before RFC 2554 say "AUTH=LOGIN PLAIN", which is no ESMTP keyword.
OLDSTYLE_AUTH = re.compile(r"auth=(.*)", re.IGNORECASE)
_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*) ?")


def parse_ehlo(reply: bytes) -> dict[str, str]:
    """Return the extensions in the text of a reply to EHLO, as the stdlib's `esmtp_features`.

    Keywords are lower case, each with its parameters as one string. The mechanisms of all AUTH
    lines, old style included, are joined in the order in which they stand.
    """
    features: dict[str, str] = {}
    for line in reply.decode("latin-1").split("\n")[1:]:
        if oldstyle := OLDSTYLE_AUTH.match(line):
            features["auth"] = f"{features.get('auth', '')} {oldstyle[1]}"
        elif keyword := _KEYWORD.match(line):
            name = keyword[1].lower()
            parameters = line[keyword.end(1) :].strip()
            if name == "auth":
                parameters = f"{features.get('auth', '')} {parameters}"
            features[name] = parameters
    return features


class Features:
    """The extensions of one session, and what the strict flows ask about them."""

    __slots__ = ("extensions",)

    def __init__(self, extensions: dict[str, str] | None = None) -> None:
        self.extensions = extensions or {}

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.extensions

    @property
    def size_limit(self) -> int | None:
        """The maximum size of a message in bytes (RFC 1870), None if the server names no limit."""
        limit = self.extensions.get("size", "")
        return int(limit) if limit.isascii() and limit.isdigit() and int(limit) > 0 else None

    def limit(self, name: str) -> int | None:
        """Return a limit of the server's, such as RCPTMAX (RFC 9422); None if it names none."""
        for word in self.extensions.get("limits", "").upper().split():
            keyword, _, value = word.partition("=")
            if keyword == name and value.isascii() and value.isdigit() and int(value) > 0:
                return int(value)
        return None

    @property
    def auth_mechanisms(self) -> list[str]:
        """SASL mechanisms in upper case, in the server's order."""
        return self.extensions.get("auth", "").upper().split()
