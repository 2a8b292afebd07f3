"""The options of a BulkSender, checked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..drive.transactions import MOST_TOGETHER
from ..protocol import limits, server_url
from ..protocol.arguments import (
    check_count,
    check_flag,
    check_kind,
    check_real,
    check_seconds,
    refuse_type,
    refuse_value,
)
from ..protocol.server_url import Server
from .retry import Retry
from .throttle import Rate

_RATE = 'a rate, such as "100/s" or Rate(100)'

_OPTIONAL = frozenset(("max_per_connection", "max_connection_seconds", "max_failed"))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a BulkSender, which describes them. Raises TypeError for an option of the
    wrong type, ValueError for one that is out of range."""

    server: Server
    connections: int = 10
    max_in_flight: int = limits.MAX_IN_FLIGHT
    max_per_connection: int | None = None
    max_connection_seconds: float | None = None
    idle_seconds: float = 30.0
    rate: Rate | None = None
    domain_rates: Mapping[str, Rate] | Rate | None = None
    retry: Retry = field(default_factory=Retry)
    max_failed: float | None = None
    suppress: Container[str] = frozenset()
    in_doubt: Literal["hold", "resend"] = "hold"
    max_waiting: int = 10_000
    chunking: bool = True

    def __post_init__(self) -> None:
        """Check the options, and convert numbers of any type to int and float."""
        self._set("connections", check_count("connections", self.connections, most=MOST_TOGETHER))
        for name in ("max_in_flight", "max_waiting", "max_per_connection"):
            self._convert(name, check_count)
        for name in ("max_connection_seconds", "idle_seconds"):
            self._convert(name, check_seconds)
        check_kind("retry", self.retry, Retry, "a Retry, such as Retry(first=60)")
        self._convert("max_failed", _check_max_failed)
        suppress = self.suppress
        if isinstance(suppress, (str, bytes)) or not hasattr(type(suppress), "__contains__"):
            refuse_type("suppress", suppress, "a set of addresses")
        if self.in_doubt not in ("hold", "resend"):
            refuse_value("in_doubt", self.in_doubt, '"hold" or "resend"')
        check_flag("chunking", self.chunking)

    def _convert(self, name: str, check: Callable[[str, object], float]) -> None:
        value = getattr(self, name)
        if value is not None or name not in _OPTIONAL:
            self._set(name, check(name, value))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def max_open(self) -> int:
        """How many recipients may be in doubt if the process is killed."""
        return self.connections * self.max_in_flight

    @property
    def resends(self) -> bool:
        """Whether recipients in doubt are sent to again."""
        return self.in_doubt == "resend"


def _check_max_failed(name: str, value: object) -> float:
    wanted = "a number above 0; below 1 it is a share"
    number = check_real(name, value, wanted)
    if not 0 < number < math.inf:
        refuse_value(name, value, wanted)
    return number


def server_of(server: object) -> Server:
    """Return a server that may be given as a URL. Raises ServerURLError, and TypeError for anything
    else."""
    if isinstance(server, Server):
        return server
    return server_url.parse(server, os.environ)  # type: ignore[arg-type]


def rate_of(name: str, rate: object, wanted: str = _RATE) -> Rate | None:
    """Return a rate that may be given as text, such as "100/s". Raises ValueError for other text,
    TypeError for anything else."""
    if isinstance(rate, str):
        return Rate.parse(rate)
    if rate is not None and not isinstance(rate, Rate):
        refuse_type(name, rate, wanted)
    return rate


def domain_rates_of(rates: object) -> Mapping[str, Rate] | Rate | None:
    """Return rates by domain, or one for every domain; each may be given as text. Raises ValueError
    for other text, TypeError for anything else."""
    if not isinstance(rates, Mapping):
        return rate_of("domain_rates", rates, f"{_RATE}, or a mapping of domains to these")
    parsed: dict[str, Rate] = {}
    for domain, each in rates.items():
        check_kind("a domain in domain_rates", domain, str, 'a str, or "*" for all others')
        name = f"domain_rates[{domain!r}]"
        rate = rate_of(name, each)
        if rate is None:
            refuse_type(name, each, _RATE)
        parsed[domain] = rate
    return parsed
