"""How fast messages may be sent, in recipients: token buckets, in total and for each domain.

Nothing here reads a clock or waits: `now` is a reading of a monotonic clock, in seconds.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..protocol.arguments import check_kind, check_real

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(rf"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:/\s*([{''.join(_UNITS)}]))?\s*")

# A bucket holds one token, plus those of this many seconds: a sender that wakes up this late loses
# no token.
_LATE_SECONDS = 0.1

# A sum of floats may be short of a token by a tiny amount. The delay for that would be lost when it
# is added to a large `now`, and is too short to sleep for.
_SHORTEST_DELAY = 1e-6

# This many domains are remembered before full buckets are removed.
_DOMAINS = 10_000


@dataclass(frozen=True)
class Rate:
    """A rate: at most `count` recipients in `seconds`. Raises TypeError unless both are numbers,
    ValueError unless they are above 0."""

    count: float
    seconds: float = 1.0

    def __post_init__(self) -> None:
        wanted = 'a number (for text there is Rate.parse("100/s"))'
        object.__setattr__(self, "count", check_real("count", self.count, wanted))
        object.__setattr__(self, "seconds", check_real("seconds", self.seconds, "a number"))
        if not (_is_positive(self.count) and _is_positive(self.seconds)):
            raise ValueError(
                f"{self.count:g} in {self.seconds:g} seconds is not a rate: both must be above 0"
            )
        if not _is_positive(self.per_second):
            raise ValueError(f"{self.count:g} in {self.seconds:g} seconds is out of range")

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Return the rate for a number and a unit: 100/s, 6000/m, 1000/h, 50000/d, 2.5/s; a number
        alone is per second. Raises ValueError for any other text, and TypeError if it is not a
        str."""
        check_kind("text", text, str, 'a str such as "100/s"')
        written = _RATE.fullmatch(text)
        if written is None or not _is_positive(float(written[1])):
            raise ValueError(
                f"{text!r} is no rate: write a number above 0, and per second, minute, hour or day "
                "as /s, /m, /h or /d, for example 100/s or 2.5/m"
            )
        return cls(float(written[1]), _UNITS[written[2] or "s"])

    @property
    def per_second(self) -> float:
        """The rate in recipients per second."""
        return self.count / self.seconds


def _is_positive(number: float) -> bool:
    return 0 < number < math.inf


class TokenBucket:
    """A token bucket: tokens are added at a rate, the bucket holds `burst` of them, and each
    recipient takes one.

    In any w seconds, no more than rate * w + burst are taken, if take() follows a delay() of 0.0;
    a take() of more than burst adds the excess to that. If the clock is set back, the bucket
    neither gains nor loses tokens.
    """

    __slots__ = ("_burst", "_last", "_per_second", "_tokens")

    def __init__(self, rate: Rate, burst: float | None = None) -> None:
        """burst: how many tokens may be taken at once after a pause; by default one plus those of a
        tenth of a second. Raises ValueError if it is less than one."""
        self._per_second = rate.per_second
        if burst is None:
            burst = 1.0 + rate.per_second * _LATE_SECONDS
        if not 1 <= burst < math.inf:
            raise ValueError(f"burst is {burst:g}; it must be 1 or more")
        self._burst = float(burst)
        self._tokens = self._burst
        self._last = -math.inf

    def delay(self, now: float, count: int = 1) -> float:
        """Return the seconds until `count` tokens may be taken, 0.0 for now.

        More tokens than the bucket holds may be taken when it is full.
        """
        self._fill(now)
        missing = min(count, self._burst) - self._tokens
        if missing <= 0:
            return 0.0
        return max(missing / self._per_second, _SHORTEST_DELAY)

    def take(self, now: float, count: int = 1) -> None:
        """Take tokens. If some are missing, later callers have to wait for them, too."""
        self._fill(now)
        self._tokens -= count

    def within(self, now: float, seconds: float) -> float:
        """Return how many tokens may be taken within `seconds`."""
        self._fill(now)
        return self._tokens + self._per_second * seconds

    def is_full(self, now: float) -> bool:
        """Return whether it is like a new one."""
        self._fill(now)
        return self._tokens >= self._burst

    def _fill(self, now: float) -> None:
        if now > self._last:
            came = (now - self._last) * self._per_second
            self._tokens = min(self._burst, self._tokens + came)
        self._last = now


class Throttle:
    """The rate in total, and the rates of domains. is_off: whether nothing is limited."""

    def __init__(
        self, total: Rate | None = None, domains: Mapping[str, Rate] | Rate | None = None
    ) -> None:
        """domains: the rate of every domain, or of each one that is named, with "*" for all others.
        Raises ValueError if a domain is named twice, or is an address."""
        self._total = None if total is None else TokenBucket(total)
        self._others: Rate | None = None
        self._named: dict[str, Rate] = {}
        if isinstance(domains, Rate):
            self._others = domains
        elif domains is not None:
            for domain, rate in domains.items():
                if domain == "*":
                    self._others = rate
                else:
                    self._name(domain, rate)
        # A domain that is missing here has a full bucket.
        self._buckets: dict[str, TokenBucket] = {}
        self._most_buckets = _DOMAINS
        self._has_domains = self._others is not None or bool(self._named)
        self.is_off = self._total is None and not self._has_domains

    def reserve(self, recipients: Sequence[str], now: float) -> float:
        """Take the tokens of these recipients' domains in advance. Return the seconds until the
        domains have them. The total is not changed."""
        longest = 0.0
        if self._has_domains:
            for domain, count in _domains_of(recipients):
                bucket = self._buckets.get(domain) or self._new_bucket(domain, now)
                if bucket is not None:
                    longest = max(longest, bucket.delay(now, count))
                    bucket.take(now, count)
        return longest

    def total_delay(self, count: int, now: float) -> float:
        """Return the seconds until the total allows `count` recipients."""
        return 0.0 if self._total is None else self._total.delay(now, count)

    def total_within(self, now: float, seconds: float) -> float:
        """Return how many recipients the total allows within `seconds`."""
        return math.inf if self._total is None else self._total.within(now, seconds)

    def take_total(self, count: int, now: float) -> None:
        """Take `count` recipients from the total."""
        if self._total is not None:
            self._total.take(now, count)

    def _name(self, domain: str, rate: Rate) -> None:
        if "@" in domain or not domain:
            raise ValueError(f"{domain!r} is not a domain: write what follows the @ of an address")
        name = domain_of(f"@{domain}")
        if name in self._named:
            raise ValueError(f"the domain {domain} has two rates")
        self._named[name] = rate

    def _new_bucket(self, domain: str, now: float) -> TokenBucket | None:
        rate = self._named.get(domain, self._others)
        if rate is None:
            return None
        if len(self._buckets) >= self._most_buckets:
            self._buckets = {
                name: bucket for name, bucket in self._buckets.items() if not bucket.is_full(now)
            }
            # Twice as many as have to stay, so that the search costs little per domain.
            self._most_buckets = max(_DOMAINS, 2 * len(self._buckets))
        bucket = self._buckets[domain] = TokenBucket(rate)
        return bucket


def _domains_of(recipients: Sequence[str]) -> Sequence[tuple[str, int]]:
    if len(recipients) == 1:
        return ((domain_of(recipients[0]), 1),)
    return tuple(Counter(map(domain_of, recipients)).items())


def domain_of(address: str) -> str:
    """Return the domain of an address in lower case, and as A-labels if it is internationalised
    (RFC 5890), so that each domain has one name. "" if the address has none."""
    domain = address.rpartition("@")[2] if "@" in address else ""
    return domain.lower() if domain.isascii() else _a_labels(domain)


@lru_cache(maxsize=4096)
def _a_labels(domain: str) -> str:
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        # The server decides whether it is a domain.
        return domain.lower()
