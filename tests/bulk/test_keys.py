"""bulk/keys.py: which keys were seen, exactly and in few bytes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csmtplib.bulk import keys
from csmtplib.bulk.keys import KeySet

KEYS = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.text(max_size=3))


@pytest.fixture(params=[0, 3, 1 << 16], autouse=True)
def in_a_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, few or all of them in the set that is faster."""
    monkeypatch.setattr(keys, "_IN_A_SET", request.param)


@given(st.lists(KEYS, max_size=60))
def test_a_key_is_new_once(added: list[str | int]) -> None:
    """T12: what a set says."""
    seen: set[str | int] = set()
    known = KeySet()
    for key in added:
        assert (key in known) == (key in seen)
        assert known.add(key) == (key not in seen)
        seen.add(key)
    assert len(known) == len(seen)


@pytest.mark.parametrize("kind", [int, str])
def test_many_keys(kind: type[int] | type[str]) -> None:
    """T12: none is lost where tables grow."""
    added: list[int | str] = [kind(each) for each in range(-10_000, 10_000)]
    random.Random(1).shuffle(added)
    known = KeySet()
    assert all(known.add(key) for key in added)
    assert not any(known.add(key) for key in added)
    assert all(key in known for key in added)
    assert kind(10_000) not in known
    assert len(known) == 20_000


def test_bytes_of_a_key() -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    count = 150_000
    if keys._IN_A_SET == 3:
        pytest.skip("the same as with none in the set")
    tracemalloc.start()
    try:
        known = KeySet()
        for number in range(count):
            known.add(f"recipients.csv:{number}")
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    fixed = 200 * keys._IN_A_SET + 150_000
    assert size < fixed + 37 * (count - keys._IN_A_SET)
