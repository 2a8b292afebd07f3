"""Servers as URLs: which protocol, where, how TLS is used, who logs in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from .arguments import check_count, check_flag, check_kind, check_seconds, refuse_value
from .features import ADVICE, check_name
from .sasl import MECHANISMS, TOKEN_MECHANISMS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class TLS(Enum):
    """When a connection is encrypted."""

    NEVER = "never"
    IF_OFFERED = "if offered"  # by STARTTLS
    REQUIRED = "required"  # by STARTTLS
    IMPLICIT = "implicit"  # from the first byte on


@dataclass(frozen=True)
class Server:
    """A server, and all that is needed to open a session with it.

    unix_path: of an LMTP socket; host and port are then not used. timeout: in seconds, for phases
    for which RFC 5321 allows more. name: sent with EHLO, None for this host's. Raises TypeError and
    ValueError, which name the argument.
    """

    host: str = "localhost"
    port: int = 25
    unix_path: str | None = None
    lmtp: bool = False
    tls: TLS = TLS.IF_OFFERED
    user: str | None = None
    password: str = field(default="", repr=False)
    verify: bool = True
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    auth: str | None = None
    cleartext_auth: bool = False
    timeout: float | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        check_kind("host", self.host, str, "the name or the address of a host")
        if not _is_host(self.host):
            refuse_value("host", self.host, "the name or the address of a host")
        if self.unix_path is None:
            object.__setattr__(self, "port", check_count("port", self.port, most=65535))
        check_kind("tls", self.tls, TLS, "one of " + ", ".join(map(str, TLS)))
        for flag in ("lmtp", "verify", "cleartext_auth"):
            check_flag(flag, getattr(self, flag))
        check_kind("user", self.user, str, "a str, or None for no login", optional=True)
        if not isinstance(self.password, str):
            # Whatever it is, it is not shown.
            raise TypeError(f"password must be a str, not {type(self.password).__name__}")
        check_kind("unix_path", self.unix_path, str, "the path of a socket", optional=True)
        for file in _FILES:
            kinds = (str, os.PathLike)
            check_kind(file, getattr(self, file), kinds, "the path of a file", optional=True)
        if self.auth is not None and self.auth not in _KNOWN_MECHANISMS:
            refuse_value("auth", self.auth, f"one of {', '.join(_KNOWN_MECHANISMS)}, or None")
        if self.timeout is not None:
            object.__setattr__(self, "timeout", check_seconds("timeout", self.timeout))
        check_kind("name", self.name, str, "the name for EHLO", optional=True)
        if self.name is not None and self.name.isascii():
            # Here the error names a character that would begin another command.
            check_name("name", self.name, "EHLO")
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise ValueError(f"the name {self.name!r} can't be sent with EHLO; {ADVICE}")

    def __str__(self) -> str:
        if self.unix_path is not None:
            return self.unix_path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ServerURLError(ValueError):
    """The URL names no server; the message says what is wrong and what would be right."""


class UnknownScheme(ServerURLError):
    """The URL begins with none of the schemes that parse() knows."""


_SCHEMES = {
    "smtp": (25, TLS.IF_OFFERED),
    "smtp+starttls": (25, TLS.REQUIRED),
    "smtps": (465, TLS.IMPLICIT),
    "submission": (587, TLS.REQUIRED),
    "lmtp": (24, TLS.IF_OFFERED),
}
# The second half is for URLs without "//": only the known names tell a scheme from a user there.
_SCHEME_AND_USER = re.compile(
    rf"(?:[\w+]+:(?=//)|(?:{'|'.join(map(re.escape, _SCHEMES))}):)?/*[^:]*"
)
_FILES = ("cafile", "certfile", "keyfile")
_NAME = re.compile("[!-~]{1,255}")
_KNOWN_MECHANISMS = tuple(MECHANISMS | TOKEN_MECHANISMS)
_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def parse(url: str, environ: Mapping[str, str]) -> Server:
    """Returns the server that a URL names.

    scheme://[user[:password]@]host[:port][?option=value&...] with the schemes smtp (STARTTLS if
    offered), smtp+starttls (required), smtps, submission (587, STARTTLS required) and lmtp; or
    lmtp+unix:/path. Options: verify, cafile, certfile, keyfile, auth, cleartext-auth, timeout,
    name. User and password are percent-decoded; if there is a user and no password, it is read from
    the file that CSMTPLIB_PASSWORD_FILE in `environ` names. Raises ServerURLError, and TypeError
    for a URL that is no str.
    """
    check_kind("server", url, str, "a URL such as submission://user@mail.example.org")
    shown = _without_password(url)
    if url.startswith("sink:"):
        raise ServerURLError(
            f"{shown}: only the commands have the embedded server, such as csmtplib bulk --server "
            f"{shown}; here write smtp://host:port"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # What urlsplit says may quote a part of the password.
        parts, port = None, 0
    if parts is None or port == 0 or parts.fragment:
        raise ServerURLError(
            f"{shown}: the port must be a number from 1 to 65535; in user and password write "
            "/ ? # @ : as %2F %3F %23 %40 %3A"
        )
    options = _options(shown, parts.query)

    if parts.scheme == "lmtp+unix":
        if parts.netloc or not parts.path.startswith("/"):
            raise ServerURLError(f"{shown}: a Unix socket is written lmtp+unix:/absolute/path")
        return Server(unix_path=unquote(parts.path), lmtp=True, tls=TLS.NEVER, **options)
    if parts.scheme == "smtp+tls":
        raise ServerURLError(
            f"{shown}: smtp+tls means STARTTLS to some programs and TLS from the start to others; "
            "write smtp+starttls:// or smtps://"
        )
    if parts.scheme not in _SCHEMES:
        hint = f": write smtp://{shown}" if url and "//" not in url else ""
        raise UnknownScheme(
            f"{shown}: the scheme must be one of {', '.join(_SCHEMES)}, lmtp+unix{hint}"
        )
    if not parts.hostname or parts.path not in ("", "/"):
        raise ServerURLError(f"{shown}: write {parts.scheme}://host or {parts.scheme}://host:port")

    host = unquote(parts.hostname)
    if not _is_host(host):
        raise ServerURLError(f"{shown}: {host} is not a host name or an address")
    default_port, tls = _SCHEMES[parts.scheme]
    return Server(
        host=host,
        port=default_port if port is None else port,
        lmtp=parts.scheme == "lmtp",
        tls=tls,
        **_credentials(shown, parts.username, parts.password, environ),
        **options,
    )


def _is_host(host: str) -> bool:
    """Return whether this name can be looked up; otherwise the lookup raises UnicodeError."""
    try:
        return ":" in host or bool(host.encode("idna"))
    except UnicodeError:
        return False


def _without_password(url: str) -> str:
    """Return the URL without its password, however it was mistyped."""
    userinfo, at, rest = url.rpartition("@")
    user = _SCHEME_AND_USER.match(userinfo)
    return f"{user[0] if user else ''}{at}{rest}"


def _credentials(
    shown: str, user: str | None, password: str | None, environ: Mapping[str, str]
) -> dict[str, Any]:
    if not user:
        if password:
            raise ServerURLError(f"{shown}: there is a password but no user")
        return {}
    try:
        user = unquote(user, errors="strict")
        password = None if password is None else unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise ServerURLError(f"{shown}: user and password must be UTF-8") from None
    if password is None:
        file = environ.get("CSMTPLIB_PASSWORD_FILE")
        if not file:
            raise ServerURLError(
                f"{shown}: there is a user but no password; name a file that contains it in "
                "CSMTPLIB_PASSWORD_FILE, or write user:password@"
            )
        password = _password_in(file)
    return {"user": user, "password": password}


def _password_in(file: str) -> str:
    """Return the password in a file: its one line."""
    try:
        # Some editors begin a file with a byte order mark.
        password = Path(file).read_text(encoding="utf-8-sig").rstrip("\r\n")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServerURLError(f"CSMTPLIB_PASSWORD_FILE {file}: {reason}") from None
    except UnicodeDecodeError as error:
        raise ServerURLError(f"CSMTPLIB_PASSWORD_FILE {file}: not UTF-8: {error}") from None
    if not password.strip():
        raise ServerURLError(f"CSMTPLIB_PASSWORD_FILE {file}: there is no password in it")
    if "\n" in password or "\r" in password:
        raise ServerURLError(
            f"CSMTPLIB_PASSWORD_FILE {file}: it has several lines; a password is one line"
        )
    return password


def _options(shown: str, query: str) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, strict_parsing=bool(query), keep_blank_values=True)
    except ValueError:
        raise ServerURLError(f"{shown}: options are written ?name=value&name=value") from None
    for name, value in pairs:
        if (name in _FILES and value) or (name == "name" and _NAME.fullmatch(value)):
            parsed[name] = value
        elif name == "name":
            raise ServerURLError(f"{shown}: the name {value!r} can't be sent with EHLO; {ADVICE}")
        elif name in ("verify", "cleartext-auth") and value.lower() in _YES_NO:
            parsed[name.replace("-", "_")] = _YES_NO[value.lower()]
        elif name == "timeout" and _seconds(value) is not None:
            parsed[name] = float(value)
        elif name == "auth" and value.upper() in _KNOWN_MECHANISMS:
            parsed[name] = value.upper()
        else:
            raise ServerURLError(
                f"{shown}: {name}={value} is no option: there are verify=yes|no, "
                "cleartext-auth=yes|no, timeout=SECONDS, "
                f"auth={'|'.join(_KNOWN_MECHANISMS)}, "
                f"{', '.join(f'{file}=FILE' for file in _FILES)}, name=THIS-HOST"
            )
    return parsed


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None
