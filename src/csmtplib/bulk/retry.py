"""When a deferred recipient is tried again (RFC 5321 section 4.5.4.1), and how a code selects
rejected ones."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, fields
from typing import TypeAlias

from ..protocol.arguments import check_real

# A condition for the rows of a journal, and its values.
Condition: TypeAlias = "tuple[str, tuple[str | int, ...]]"

_BASIC = re.compile(r"([45])(\d|x)(\d|x)", re.IGNORECASE)
_ENHANCED = re.compile(r"([45]|x)\.(\d{1,3}|x)(?:\.(\d{1,3}|x))?", re.IGNORECASE)


@dataclass(frozen=True)
class Retry:
    """The schedule of the tries after the first, in seconds.

    first: the wait before the second try. factor: how much longer each wait is than the one before,
    up to longest. give_up: how long after the first try the last one is made; 0 for no other try.
    jitter: the fraction by which a wait may be longer than that, different for each message, so
    that messages refused together are not tried again together. Raises TypeError if one of them is
    not a number, ValueError if it is out of range.
    """

    first: float = 300.0
    factor: float = 2.0
    longest: float = 4 * 3600.0
    give_up: float = 4 * 86400.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        for each in fields(self):
            number = check_real(each.name, getattr(self, each.name), "a number")
            object.__setattr__(self, each.name, number)
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
            raise ValueError(f"jitter is {self.jitter:g}; it must be a fraction from 0 to 1")

    def next(
        self, attempts: int, first_attempt: float, now: float, token: str | int
    ) -> float | None:
        """Return when a recipient that was refused `attempts` times is tried again, None for never.

        first_attempt, now and the result are times of one clock. token: names the recipient; with
        the same token the result is the same, in other processes too. Raises ValueError if there
        was no attempt.
        """
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}; it must be 1 or more")
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
    """Return a number from 0 to 1 that is the same in every process, unlike hash()."""
    named = f"{attempts} {token}".encode("utf-8", "surrogatepass")
    return zlib.crc32(named) / 0xFFFFFFFF


def is_code(text: str) -> bool:
    """Return whether refused_by() accepts this code."""
    return bool(_BASIC.fullmatch(text) or _ENHANCED.fullmatch(text))


def refused_by(code: str) -> Condition:
    """Return the condition for recipients that were refused by a code (550), an enhanced code
    (5.7.1), or a class of one: an "x" stands for any digit or number (5xx, 5.7.x, x.7.1), and 5.7
    is 5.7.x.

    Raises ValueError for anything else.
    """
    if match := _BASIC.fullmatch(code):
        return "CAST(code AS TEXT) GLOB ?", ("".join(map(_any_digit, match.groups())),)
    match = _ENHANCED.fullmatch(code)
    if match is None:
        raise ValueError(
            f"{code!r} is no code: write 550, 5.7.1, or a class of them such as 5xx or 5.7.x"
        )
    first, second, third = match.groups()
    parts = [_any_number(each) for each in (first, second, third or "x")]
    # No part contains a dot, so each "*" matches one number.
    return "enhanced GLOB ?", (".".join(parts),)


def _any_digit(part: str) -> str:
    return "[0-9]" if part in "xX" else part


def _any_number(part: str) -> str:
    return "*" if part in "xX" else part
