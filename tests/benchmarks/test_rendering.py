"""The letters of the benchmark: both ways make the same of a row, so the same work is compared."""

from __future__ import annotations

from benchmarks.clients.rendering import Classical, campaign, rows
from tests.compose.reading import content, parse, text

SIZE = 2000


def test_both_ways_say_the_same() -> None:
    letter, classical = campaign(SIZE), Classical(SIZE)
    for row in rows(12):
        ours = content(letter.job("recipients", row).mail.msg)
        others = classical.message(row).as_bytes()
        assert SIZE * 0.8 < len(ours) < SIZE * 1.4
        assert SIZE * 0.8 < len(others) < SIZE * 1.4
        one, other = parse(ours), parse(others)
        for name in ("From", "To", "Subject", "Date", "Content-Type"):
            assert one[name] == other[name]
        assert set(one.keys()) == set(other.keys())
        assert text(one) == text(other)
