"""protocol/arguments.py: which numbers are taken, by all that have numbers for arguments."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import csmtplib
from csmtplib.bulk import BulkSender, Journal, Rate, Retry
from csmtplib.bulk.journal_view import JournalView
from csmtplib.bulk.status import Rejections
from csmtplib.protocol.arguments import check_count, check_real, check_seconds
from csmtplib.protocol.server_url import Server

# More than a float holds, and more than an int may have for its repr.
HUGE = 10**400
LARGEST = 10**10_000


class Whole:
    """A whole number of another make: there is no more to it than its index."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __index__(self) -> int:
        return self._number


class Few(IntEnum):
    FIVE = 5


def bulk_sender(**options: Any) -> object:
    """A sender that has run, with nothing to send."""
    with BulkSender("smtp://127.0.0.1:1", **options) as sender:
        Rejections(sender.status, sender.settings.max_failed, str).count()
        assert list(sender.send([])) == []
    return sender


def send_many(value: Any) -> object:
    smtp = csmtplib.SMTP()
    smtp.send_many([], max_in_flight=value).close()  # type: ignore[attr-defined]
    return smtp


Take = Callable[[Any], object]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The path of a journal that is there."""
    path = tmp_path / "journal"
    Journal(path).close()
    return path


def counts(journal: Path) -> dict[str, Take]:
    """All that takes a whole number, by the name of the argument."""
    return {
        "connections": lambda value: bulk_sender(connections=value),
        "max_in_flight": lambda value: bulk_sender(max_in_flight=value),
        "max_per_connection": lambda value: bulk_sender(max_per_connection=value),
        "max_waiting": lambda value: bulk_sender(max_waiting=value),
        "group_rows": lambda value: Journal(journal, group_rows=value).close(),
        "port": lambda value: str(Server(port=value)),
        "limit": lambda value: JournalView(journal).by_domain(value),
        "limit of codes": lambda value: JournalView(journal).by_code(value),
        "max_in_flight of send_many()": send_many,
    }


def reals(journal: Path) -> dict[str, Take]:
    """All that takes any number, by the name of the argument."""
    return {
        "max_connection_seconds": lambda value: bulk_sender(max_connection_seconds=value),
        "idle_seconds": lambda value: bulk_sender(idle_seconds=value),
        "max_failed": lambda value: bulk_sender(max_failed=value),
        "group_seconds": lambda value: Journal(journal, group_seconds=value).close(),
        "timeout": lambda value: Server(timeout=value),
        "seconds": lambda value: JournalView(journal).over_time(value),
        "count": lambda value: Rate(value).per_second,
        "seconds of a rate": lambda value: Rate(1, value).per_second,
        "first": lambda value: Retry(first=value).next(2, 0.0, 0.0, "x"),
        "factor": lambda value: Retry(factor=value).next(5000, 0.0, 0.0, "x"),
        "longest": lambda value: Retry(first=1e-9, longest=value).next(2, 0.0, 0.0, "x"),
        "give_up": lambda value: Retry(give_up=value).next(2, 0.0, 0.0, "x"),
        "jitter": lambda value: Retry(jitter=value).next(2, 0.0, 0.0, "x"),
    }


@pytest.mark.parametrize("name", counts(Path()))
def test_counts(name: str, journal: Path) -> None:
    """Whatever Python takes for an index; else it is said what would be taken."""
    take = counts(journal)[name]
    for right in (5, Whole(5), Few.FIVE):
        take(right)
    wanted = f"^{name.split()[0]} must be a whole number"
    for wrong in (5.0, Decimal(5), Fraction(5)):
        with pytest.raises(TypeError, match=rf"{wanted}.*; convert it with int\(\)$"):
            take(wrong)
    for other in ("5", b"5", None, True, 5j, 1.5, math.nan, math.inf, Decimal("1.5")):
        if other is None and name == "max_per_connection":
            continue
        with pytest.raises(TypeError, match=wanted) as caught:
            take(other)
        assert "convert" not in str(caught.value)
    for far in (-2, HUGE, -HUGE, LARGEST, sys.maxsize + 1, Whole(-2)):
        with pytest.raises(ValueError, match=f"{wanted} (from|of at least) "):
            take(far)


@pytest.mark.parametrize("name", reals(Path()))
def test_reals(name: str, journal: Path) -> None:
    """Python's own, and what is registered as real; else it is said what would be taken."""
    take = reals(journal)[name]
    for right in (1, 1.0, Fraction(1)):
        take(right)
    wanted = f"^{name.split()[0]} must be a number"
    with pytest.raises(
        TypeError, match=rf"{wanted}.*, not Decimal\('1'\); convert it with float\(\)$"
    ):
        take(Decimal(1))
    for other in ("1", b"1", None, True, 1j, Whole(1), [1]):
        if other is None and name in ("max_connection_seconds", "max_failed", "timeout"):
            continue
        with pytest.raises(TypeError, match=wanted) as caught:
            take(other)
        assert "convert" not in str(caught.value)
    for far in (HUGE, -HUGE, LARGEST, Fraction(HUGE)):
        with pytest.raises(ValueError, match=f"{wanted}.*and not beyond what a float holds"):
            take(far)
    for out in (Fraction(-1), -1, -1.0, math.nan):
        # It says which value, not that the type can't be formatted.
        with pytest.raises(ValueError, match=r"-1|nan|Fraction\(-1, 1\)"):
            take(out)


@pytest.mark.parametrize("value", [5, Whole(5), Few.FIVE])
def test_a_count_is_an_int(value: Any) -> None:
    """Others overflow, or can't be compared."""
    assert type(check_count("n", value)) is int
    assert check_count("n", value) == 5


@pytest.mark.parametrize("value", [2, 2.0, Fraction(2)])
def test_a_real_is_an_int_or_a_float(value: Any) -> None:
    """Others can't be formatted before Python 3.12, nor be the timeout of a socket."""
    assert type(check_real("x", value, "a number")) in (int, float)
    assert check_seconds("x", value) == 2


def test_a_count_has_bounds() -> None:
    assert check_count("n", 0, least=0, most=0) == 0
    with pytest.raises(ValueError, match="n must be a whole number from 0 to 3, not 4"):
        check_count("n", 4, least=0, most=3)
    with pytest.raises(ValueError, match=f"from 1 to {sys.maxsize}, not {sys.maxsize + 1}"):
        check_count("n", sys.maxsize + 1)
