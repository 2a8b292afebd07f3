"""bulk/throttle.py: no more leaves than the rates allow, and no less. The clock is a number."""

from __future__ import annotations

import copy
import math
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csmtplib.bulk.throttle import Rate, Throttle, TokenBucket, domain_of

RATES = st.builds(
    Rate,
    st.floats(0.01, 1e6),
    st.sampled_from([0.1, 1.0, 60.0, 3600.0, 86400.0]),
)
COUNTS = st.integers(1, 50)
# When a monotonic clock may start: at zero, after months, and Unix time for good measure.
STARTS = st.sampled_from([0.0, 1.5, 1e7, 1.8e9])


# Rates


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100, 1)),
        ("6000/m", Rate(6000, 60)),
        ("1000/h", Rate(1000, 3600)),
        ("50000/d", Rate(50000, 86400)),
        ("2.5/s", Rate(2.5, 1)),
        ("100", Rate(100, 1)),
        (" 100 / s ", Rate(100, 1)),
    ],
)
def test_rate_as_text(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


def test_rate_per_second() -> None:
    assert Rate.parse("6000/m").per_second == 100
    assert Rate(1, 4).per_second == 0.25


@pytest.mark.parametrize(
    "text",
    [
        *("", "/s", "s", "-1/s", "0", "0.0/s", "1e3/s", "1/w", "1/S", "1/2", "1/s/s", "1 000/s"),
        *(".5", "inf", "nan/s", "\u0661/s", "9" * 400, "1/s\n1"),
    ],
)
def test_text_that_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no rate: .* for example 100/s or 2.5/m"):
        Rate.parse(text)


@pytest.mark.parametrize(
    ("count", "seconds"), [(0, 1), (-1, 1), (1, 0), (1, -1), (math.inf, 1), (1, math.nan)]
)
def test_rate_of_nothing(count: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="both must be above 0"):
        Rate(count, seconds)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("100/s",), r"count must be a number \(for text there is Rate.parse.* not \'100/s\'"),
        ((None,), "count must be a number .* not None"),
        ((True,), "count must be a number .* not True"),
        ((Decimal(5),), "count must be a number"),
        ((5, "s"), "seconds must be a number, not 's'"),
    ],
)
def test_rate_of_another_kind(arguments: tuple[Any, ...], said: str) -> None:
    """T26: Rate("100/s") was an error about formats."""
    with pytest.raises(TypeError, match=said):
        Rate(*arguments)


@pytest.mark.parametrize("text", [100, None, b"100/s"])
def test_what_is_no_text_of_a_rate(text: Any) -> None:
    """T26"""
    with pytest.raises(TypeError, match='text must be a str such as "100/s"'):
        Rate.parse(text)


@pytest.mark.parametrize(("count", "seconds"), [(5e-324, 1e9), (1e300, 1e-300)])
def test_rate_beyond_what_floats_hold(count: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Rate(count, seconds)


# The bucket


class Sender:
    """One who takes tokens when it may, and has a clock of its own."""

    def __init__(self, bucket: TokenBucket, start: float = 0.0) -> None:
        self.bucket = bucket
        self.now = start
        self.taken: list[tuple[float, int]] = []

    def send(self, count: int, late: float = 0.0) -> None:
        """Waits for as long as the bucket says, and `late` longer, and takes so many tokens."""
        rounds = 0
        while delay := self.bucket.delay(self.now, count):
            self.now += delay + late
            # Sums of floats may want a second wait, or a third; they want no hundred.
            rounds += 1
            assert rounds < 100
        self.bucket.take(self.now, count)
        self.taken.append((self.now, count))


def most_above_the_rate(taken: list[tuple[float, int]], per_second: float) -> float:
    """By how much more than rate * w tokens leave in w seconds, in the window where it is most.

    For a window from i to j that is (sum to j - rate * time j) - (sum before i - rate * time i).
    """
    lowest, most = math.inf, -math.inf
    sums = accumulate(count for _, count in taken)
    for (time, count), total in zip(taken, sums, strict=True):
        line = per_second * (time - taken[0][0])
        lowest = min(lowest, total - count - line)
        most = max(most, total - line - lowest)
    return most


@given(
    rate=RATES,
    burst=st.none() | st.floats(1, 1000),
    start=STARTS,
    steps=st.lists(
        st.tuples(
            st.floats(0, 3),  # how long the sender has something else to do, in tokens
            st.integers(0, 3),  # how often it asks before
            COUNTS,
        ),
        min_size=1,
        max_size=60,
    ),
)
def test_no_window_has_more_than_the_rate_and_the_burst(
    rate: Rate, burst: float | None, start: float, steps: list[tuple[float, int, int]]
) -> None:
    sender = Sender(TokenBucket(rate, burst), start)
    for pause, questions, count in steps:
        for _ in range(questions):
            sender.now += pause / rate.per_second / questions
            sender.bucket.delay(sender.now, count)
        sender.send(count)
    held = 1 + rate.per_second / 10 if burst is None else burst
    allowed = max(held, *(count for _, _, count in steps))
    # A float for a time in 2027 is right to a quarter of a microsecond.
    error = 1e-6 + rate.per_second * 1e-6 if start > 1e6 else 1e-6
    assert most_above_the_rate(sender.taken, rate.per_second) <= allowed * (1 + 1e-9) + error


@given(
    rate=RATES,
    burst=st.none() | st.floats(1, 1000),
    questions=st.integers(1, 5),
    counts=st.lists(COUNTS, min_size=2, max_size=60),
)
@example(rate=Rate(3), burst=1.0, questions=1, counts=[1] * 60)
def test_all_that_the_rate_allows_leaves(
    rate: Rate, burst: float | None, questions: int, counts: list[int]
) -> None:
    """However often the bucket is asked in between."""
    sender = Sender(TokenBucket(rate, burst))
    for count in counts:
        delay = sender.bucket.delay(sender.now, count)
        for question in range(questions):
            sender.bucket.delay(sender.now + delay * question / questions, count)
        sender.send(count)
    # All but the last have been filled up again at most.
    fastest = sum(counts) / rate.per_second
    assert sender.now <= fastest * (1 + 1e-6) + 1e-6 * len(counts)


@given(rate=RATES, late=st.floats(0, 0.1))
def test_who_is_a_little_late_loses_nothing(rate: Rate, late: float) -> None:
    sender = Sender(TokenBucket(rate))
    for _ in range(100):
        sender.send(1, late=late)
    assert sender.now <= 100 / rate.per_second * (1 + 1e-6) + late + 1e-4


def test_a_new_bucket_is_full() -> None:
    bucket = TokenBucket(Rate(10), burst=3)
    assert bucket.is_full(0.0)
    for _ in range(3):
        assert bucket.delay(0.0) == 0.0
        bucket.take(0.0)
    assert bucket.delay(0.0) == pytest.approx(0.1)
    assert not bucket.is_full(0.25)
    assert bucket.is_full(0.3)


def test_more_than_the_bucket_holds_leaves_a_debt() -> None:
    bucket = TokenBucket(Rate(10), burst=2)
    bucket.take(0.0)
    assert bucket.delay(0.0, 50) == pytest.approx(0.1)
    bucket.take(0.1, 50)
    assert bucket.delay(0.1) == pytest.approx(4.9)
    assert bucket.delay(0.1, 50) == pytest.approx(5.0)
    assert bucket.delay(5.0) == pytest.approx(0.0)


@given(rate=RATES, start=STARTS, count=COUNTS)
def test_while_the_clock_stands_still_nothing_comes(rate: Rate, start: float, count: int) -> None:
    sender = Sender(TokenBucket(rate, burst=5), start)
    sender.send(10)
    delays = {sender.bucket.delay(sender.now, count) for _ in range(100)}
    assert len(delays) == 1
    assert delays.pop() > 0


@given(
    rate=RATES,
    jumps=st.lists(st.tuples(st.floats(0, 1e6), COUNTS), min_size=1, max_size=20),
)
def test_a_clock_that_jumps_back_neither_gives_nor_takes(
    rate: Rate, jumps: list[tuple[float, int]]
) -> None:
    sender = Sender(TokenBucket(rate, burst=5), start=1e6)
    went = 0.0
    for back, count in jumps:
        before = sender.bucket.delay(sender.now, count)
        sender.now -= back
        assert sender.bucket.delay(sender.now, count) == before
        started = sender.now
        sender.send(count)
        went += sender.now - started
    # Seen from a clock that only goes on, it is the rate and the burst as ever.
    most = rate.per_second * went + max(5, *(count for _, count in jumps))
    assert sum(count for _, count in sender.taken) <= most * (1 + 1e-6) + rate.per_second * 1e-6


@pytest.mark.parametrize("burst", [0.0, 0.99, -1.0, math.inf, math.nan])
def test_burst_that_is_none(burst: float) -> None:
    with pytest.raises(ValueError, match="it must be 1 or more"):
        TokenBucket(Rate(1), burst)


# Total and domains


def delay(throttle: Throttle, recipients: list[str], now: float) -> float:
    """Seconds until a message for these recipients may leave."""
    total = throttle.total_delay(len(recipients), now)
    return max(total, copy.deepcopy(throttle).reserve(recipients, now))


def take(throttle: Throttle, recipients: list[str], now: float) -> None:
    """Counts these recipients as sent."""
    throttle.take_total(len(recipients), now)
    throttle.reserve(recipients, now)


def test_nothing_is_limited() -> None:
    for throttle in [Throttle(), Throttle(None, {})]:
        assert throttle.is_off
        take(throttle, ["a@x.test"] * 1000, 0.0)
        assert delay(throttle, ["a@x.test"], 0.0) == 0.0


@pytest.mark.parametrize(
    "throttle",
    [Throttle(Rate(1)), Throttle(None, Rate(1)), Throttle(domains={"x.test": Rate(1)})],
)
def test_something_is_limited(throttle: Throttle) -> None:
    assert not throttle.is_off


def test_total_counts_recipients_of_all_domains() -> None:
    throttle = Throttle(Rate(10))
    take(throttle, ["a@x.test", "b@y.test", "c@z.test"], 0.0)
    assert delay(throttle, ["d@new.test"], 0.0) == pytest.approx(0.2)
    assert delay(throttle, ["d@new.test"], 0.21) == 0.0


def test_each_domain_has_a_bucket_of_its_own() -> None:
    throttle = Throttle(None, Rate(10))
    take(throttle, ["a@x.test", "b@X.test"], 0.0)
    assert delay(throttle, ["c@x.test"], 0.0) == pytest.approx(0.1)
    assert delay(throttle, ["c@y.test"], 0.0) == 0.0
    assert delay(throttle, ["c@y.test", "c@x.test"], 0.0) == pytest.approx(0.1)


def test_named_domains_and_all_others() -> None:
    throttle = Throttle(None, {"Slow.test": Rate(1), "*": Rate(10)})
    for domain in ("slow.test", "a.test", "b.test"):
        take(throttle, [f"a@{domain}", f"b@{domain}", f"c@{domain}"], 0.0)
    assert delay(throttle, ["a@slow.test"], 0.0) == pytest.approx(2.9)
    assert delay(throttle, ["a@a.test"], 0.0) == pytest.approx(0.2)
    assert delay(throttle, ["a@b.test"], 0.0) == pytest.approx(0.2)


def test_domains_that_are_not_named_are_free() -> None:
    throttle = Throttle(None, {"slow.test": Rate(1)})
    take(throttle, ["a@fast.test"] * 1000, 0.0)
    assert delay(throttle, ["a@fast.test"], 0.0) == 0.0


def test_the_longest_delay_counts() -> None:
    throttle = Throttle(Rate(10), {"slow.test": Rate(1), "slower.test": Rate(0.5)})
    recipients = ["a@slow.test", "b@slow.test", "a@slower.test", "b@slower.test"]
    take(throttle, recipients, 0.0)
    assert delay(throttle, ["c@slow.test", "c@slower.test"], 0.0) == pytest.approx(3.9)
    assert delay(throttle, ["c@slow.test"], 0.0) == pytest.approx(1.9)
    assert delay(throttle, ["c@fast.test"], 0.0) == pytest.approx(0.3)


def test_to_ask_takes_nothing() -> None:
    throttle = Throttle(Rate(1), Rate(1))
    for _ in range(100):
        assert delay(throttle, ["a@x.test"], 0.0) == 0.0


@given(
    rate=RATES,
    steps=st.lists(st.tuples(st.floats(0, 3), COUNTS), min_size=1, max_size=60),
)
def test_what_is_reserved_leaves_as_if_each_had_waited(
    rate: Rate, steps: list[tuple[float, int]]
) -> None:
    throttle = Throttle(None, rate)
    now = 0.0
    leaving: list[tuple[float, int]] = []
    for pause, count in steps:
        now += pause / rate.per_second
        leaving.append((now + throttle.reserve(["a@x.test"] * count, now), count))
    # In the order in which they were reserved, and within the rate.
    assert all(before <= after * (1 + 1e-9) for (before, _), (after, _) in pairwise(leaving))
    allowed = max(1 + rate.per_second / 10, *(count for _, count in steps))
    assert most_above_the_rate(leaving, rate.per_second) <= allowed * (1 + 1e-6) + 1e-6
    # And none waits longer than for those before it.
    ends = 0.0
    now = 0.0
    for (pause, _), (time, count) in zip(steps, leaving, strict=True):
        now += pause / rate.per_second
        ends = max(ends, now) + count / rate.per_second
        assert time <= ends * (1 + 1e-9) + 1e-6


def test_total_and_domains_apart() -> None:
    throttle = Throttle(Rate(10), Rate(5))
    assert throttle.reserve(["a@x.test", "b@x.test", "c@y.test"], 0.0) == 0.0
    assert throttle.total_delay(2, 0.0) == 0.0
    throttle.take_total(2, 0.0)
    assert throttle.total_delay(1, 0.0) == pytest.approx(0.1)
    # Of the domains, x.test owes half a token, and y.test has half a one.
    assert throttle.reserve(["d@x.test"], 0.0) == pytest.approx(0.3)
    assert throttle.reserve(["d@y.test"], 0.0) == pytest.approx(0.1)


def test_total_and_domains_apart_where_there_are_none() -> None:
    throttle = Throttle()
    throttle.take_total(1000, 0.0)
    assert throttle.total_delay(1000, 0.0) == 0.0
    assert throttle.reserve(["a@x.test"] * 1000, 0.0) == 0.0


def test_a_domain_has_one_rate_however_it_is_written() -> None:
    throttle = Throttle(None, {"bücher.test": Rate(1)})
    take(throttle, ["a@xn--bcher-kva.test", "b@BÜCHER.test"], 0.0)
    assert delay(throttle, ["c@Bücher.test"], 0.0) == pytest.approx(1.9)


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        ({"bücher.test": Rate(1), "XN--bcher-kva.test": Rate(2)}, "has two rates"),
        ({"a@x.test": Rate(1)}, "is not a domain"),
        ({"": Rate(1)}, "is not a domain"),
    ],
)
def test_domains_that_make_no_sense(domains: dict[str, Rate], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Throttle(None, domains)


def test_domains_that_are_idle_are_forgotten() -> None:
    throttle = Throttle(None, Rate(10))
    most = 0
    for number in range(60_000):
        # A thousand domains a second, and each is full again after a tenth of one.
        take(throttle, [f"a@{number}.test"], number / 1000)
        most = max(most, len(throttle._buckets))
    assert most <= 10_000


def test_domains_that_have_to_wait_are_not_forgotten() -> None:
    throttle = Throttle(None, Rate(2, 86400))
    for number in range(30_000):
        take(throttle, [f"a@{number}.test", f"b@{number}.test"], number / 1000)
    assert all(throttle.reserve([f"c@{number}.test"], 30.0) for number in range(30_000))


# Domains


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("user@example.test", "example.test"),
        ("User@Example.TEST", "example.test"),
        ('"a@b"@example.test', "example.test"),
        ("@relay.test:user@example.test", "example.test"),
        ("user@[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
        ("user@bücher.test", "xn--bcher-kva.test"),
        ("user@BÜCHER.test", "xn--bcher-kva.test"),
        ("user@XN--Bcher-KVA.test", "xn--bcher-kva.test"),
        ("žluť@例.test", "xn--fsq.test"),
        ("postmaster", ""),
        ("", ""),
        ("user@", ""),
        # No names of the DNS, and the same name all the same.
        ("user@Ü..test", "ü..test"),
        ("user@" + "Ü" * 64 + ".test", "ü" * 64 + ".test"),
        ("user@\udcff.Test", "\udcff.test"),
    ],
)
def test_domain_of_an_address(address: str, domain: str) -> None:
    assert domain_of(address) == domain


@given(st.text())
def test_every_text_has_a_domain(text: str) -> None:
    assert domain_of(f"user@{text}") == domain_of(f"other@{text}")
