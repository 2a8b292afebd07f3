"""What a server offers: its answer to EHLO or LHLO (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import re

# Servers from before RFC 2554 say "AUTH=LOGIN PLAIN", which is no ESMTP keyword.
OLDSTYLE_AUTH = re.compile(r"auth=(.*)", re.IGNORECASE)
_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*) ?")


def parse_ehlo(reply: bytes) -> dict[str, str]:
    """The extensions in the text of a reply to EHLO, as the stdlib's `esmtp_features`.

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
    """The extensions of one session, with the questions that the strict flows ask of them."""

    __slots__ = ("extensions",)

    def __init__(self, extensions: dict[str, str] | None = None) -> None:
        self.extensions = extensions or {}

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.extensions

    @property
    def size_limit(self) -> int | None:
        """Octets that a message may have (RFC 1870), None where the server names no limit."""
        limit = self.extensions.get("size", "")
        return int(limit) if limit.isascii() and limit.isdigit() and int(limit) > 0 else None

    def limit(self, name: str) -> int | None:
        """A limit of the server's, such as RCPTMAX (RFC 9422); None where it names none."""
        for word in self.extensions.get("limits", "").upper().split():
            keyword, _, value = word.partition("=")
            if keyword == name and value.isascii() and value.isdigit() and int(value) > 0:
                return int(value)
        return None

    @property
    def auth_mechanisms(self) -> list[str]:
        """SASL mechanisms in upper case, in the server's order."""
        return self.extensions.get("auth", "").upper().split()
