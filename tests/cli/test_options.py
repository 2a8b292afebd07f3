"""The options of a run, read and kept."""

from __future__ import annotations

import argparse

import pytest

from csmtplib.bulk.throttle import Rate
from csmtplib.cli.conventions import Failure
from csmtplib.cli.options import add_run_options, given_run_options, parse_run_options


def parsed(*arguments: str) -> dict[str, object]:
    """Return what a journal keeps of these arguments."""
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    return given_run_options(parser.parse_args(arguments))


def test_what_is_not_given_is_not_kept() -> None:
    assert parsed("-v", "--quiet", "--metrics", "m", "--log-json", "l") == {}
    run = parse_run_options({})
    assert (run.connections, run.max_in_flight) == (10, 100)
    assert (run.rate, run.domain_rates, run.max_failed, run.suppress) == (None, None, None, None)
    assert (run.retry_for, run.retry_first) == (3600, 300)
    assert (run.in_doubt, run.chunking) == ("hold", True)


def test_all_that_is_given_is_kept_and_read() -> None:
    run = parse_run_options(
        parsed(
            *("--connections", "3", "--max-in-flight", "4", "--max-per-connection", "5"),
            *("--max-connection-seconds", "6m", "--rate", "7/s", "--domain-rate", "8/m"),
            *("--domain-rate", "Mail.test=9/h", "--in-doubt", "resend", "--suppress", "s"),
            *("--max-failed", "10", "--retry-for", "2d", "--retry-first", "1.5h"),
            "--no-chunking",
        )
    )
    assert (run.connections, run.max_in_flight, run.max_per_connection) == (3, 4, 5)
    assert run.max_connection_seconds == 360
    assert run.rate == Rate(7, 1)
    assert run.domain_rates == {"*": Rate(8, 60), "mail.test": Rate(9, 3600)}
    assert (run.in_doubt, run.suppress, run.max_failed) == ("resend", "s", 10)
    assert (run.retry_for, run.retry_first) == (172_800, 5400)
    assert run.chunking is False


def test_one_rate_for_each_domain() -> None:
    assert parse_run_options(parsed("--domain-rate", "5")).domain_rates == Rate(5, 1)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("100", 100), ("5%", 0.05), ("0.5%", 0.005)])
def test_failures(text: str, value: float) -> None:
    assert parse_run_options({"max_failed": text}).max_failed == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "%", "0%", "100%", "x%", "nan%", "²"])
def test_what_is_no_number_of_failures(text: str) -> None:
    with pytest.raises(Failure, match="--max-failed: "):
        parse_run_options({"max_failed": text})


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "nan", "inf", "1 h 30 m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Failure, match="--retry-for: must be a duration such as"):
        parse_run_options({"retry_for": text})
