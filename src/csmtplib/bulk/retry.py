"""When a recipient that was refused for now is tried again (RFC 5321 section 4.5.4.1)."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Retry:
    """The schedule of the tries that follow the first, in seconds.

    first: until the second try. factor: how much longer each wait is than the one before, up to
    longest. give_up: since the first try; the last is made then, 0 for no other than the first.
    jitter: the share by which a wait may be longer than that, differently for each recipient, so
    that those refused together do not come back together. Raises ValueError where one of them is
    out of bounds.
    """

    first: float = 300.0
    factor: float = 2.0
    longest: float = 4 * 3600.0
    give_up: float = 4 * 86400.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.first < math.inf:
            raise ValueError(f"first is {self.first:g} seconds; it must be more than 0")
        if not 1 <= self.factor < math.inf:
            raise ValueError(f"factor is {self.factor:g}; waits that shrink are no backoff, give 1")
        if not self.first <= self.longest < math.inf:
            raise ValueError(
                f"longest is {self.longest:g} seconds; the first wait is {self.first:g} already"
            )
        if not 0 <= self.give_up < math.inf:
            raise ValueError(f"give_up is {self.give_up:g} seconds; it must be 0 or more")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is {self.jitter:g}; it is a share, from 0 to 1")

    def next(
        self, attempts: int, first_attempt: float, now: float, token: str | int
    ) -> float | None:
        """When a recipient that was refused `attempts` times is tried again, None where never.

        first_attempt, now and the result are times of one clock. token: what names the recipient;
        with the same one the result is the same, in other processes too. Raises ValueError where
        there was no attempt.
        """
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}; only what was tried is tried again")
        last = first_attempt + self.give_up
        if now >= last:
            return None
        try:
            wait = min(self.longest, self.first * self.factor ** (attempts - 1))
        except OverflowError:
            wait = self.longest
        wait *= 1 + self.jitter * _share(token, attempts)
        return min(now + wait, last)


def _share(token: str | int, attempts: int) -> float:
    """A number from 0 to 1 that is the same in every process, which that of hash() is not."""
    named = f"{attempts} {token}".encode("utf-8", "surrogatepass")
    return zlib.crc32(named) / 0xFFFFFFFF
