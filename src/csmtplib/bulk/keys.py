"""A set of keys that takes few bytes per key: a plain set of a million takes a hundred each."""

from __future__ import annotations

from array import array
from zlib import crc32

# The first keys are kept in a plain set, which is faster.
_IN_A_SET = 1 << 16

# Tables grow one at a time, so that it never takes long. The lowest bits of a hash choose the
# table; the hash may have only 32 bits.
_TABLES = 256
_FEWEST_PLACES = 8

_ALL = (1 << 64) - 1
# Odd, so that no two integers have the same product in 64 bits; and it spreads consecutive ones.
_SPREAD = 0x9E3779B97F4A7C15
_OF_INTEGERS = 2  # unlike the check of any text, which is odd


class KeySet:
    """A set of 64-bit integers and texts, to which keys can only be added. `len()` counts them.

    After the first 65 536, a key takes 18 to 36 bytes. Integers are compared exactly, and texts by
    95 bits of two hashes, one of which is seeded anew in each process: the chance that two of a
    million are taken for the same is 1 in 10^16.
    """

    def __init__(self) -> None:
        self._first: set[str | int] = set()
        self._tables: list[_Table | None] = [None] * _TABLES

    def __len__(self) -> int:
        return len(self._first) + sum(table.count for table in self._tables if table is not None)

    def __contains__(self, key: str | int) -> bool:
        if key in self._first:
            return True
        code, check = _hashes(key)
        table = self._tables[code % _TABLES]
        return table is not None and table.find(code, check)[1]

    def add(self, key: str | int) -> bool:
        """Add a key. Return whether it is new."""
        if key in self._first:
            return False
        if len(self._first) < _IN_A_SET:
            self._first.add(key)
            return True
        code, check = _hashes(key)
        at = code % _TABLES
        table = self._tables[at]
        if table is None:
            table = self._tables[at] = _Table()
        return table.add(code, check)


def _hashes(key: str | int) -> tuple[int, int]:
    if isinstance(key, int):
        return key * _SPREAD & _ALL, _OF_INTEGERS
    return hash(key) & _ALL, crc32(key.encode("utf-8", "surrogatepass")) | 1


class _Table:
    """A hash table with open addressing: a place whose check is 0 is free."""

    __slots__ = ("_checks", "_codes", "_mask", "count")

    def __init__(self) -> None:
        self.count = 0
        self._make(_FEWEST_PLACES)

    def _make(self, places: int) -> None:
        self._codes = array("Q", bytes(8 * places))
        self._checks = array("I", bytes(array("I").itemsize * places))
        self._mask = places - 1

    def find(self, code: int, check: int) -> tuple[int, bool]:
        """Return the place of a key, and whether it is there."""
        codes, checks, mask = self._codes, self._checks, self._mask
        at = code // _TABLES & mask
        while found := checks[at]:
            if found == check and codes[at] == code:
                return at, True
            at = at + 1 & mask
        return at, False

    def add(self, code: int, check: int) -> bool:
        at, is_there = self.find(code, check)
        if is_there:
            return False
        self._codes[at] = code
        self._checks[at] = check
        self.count += 1
        # At most two thirds are taken, or searches become slow.
        if 3 * self.count > 2 * self._mask:
            self._grow()
        return True

    def _grow(self) -> None:
        codes, checks = self._codes, self._checks
        self._make(2 * len(codes))
        self.count = 0
        for code, check in zip(codes, checks, strict=True):
            if check:
                self.add(code, check)
