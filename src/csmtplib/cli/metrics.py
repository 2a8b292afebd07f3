"""The counts of a run for Prometheus, in a file for node_exporter's textfile collector."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .conventions import Exit, Failure, missing_package
from .tally import Tally

if TYPE_CHECKING:
    from prometheus_client.core import Metric

SECONDS = 5.0


def of_first_run(path: str | None, say: Callable[[str], None]) -> str | None:
    """Return the file of the campaign's first run, which later runs keep up to date. Return None if
    there is none, or if it can't be updated; then say so."""
    if path is not None and importlib.util.find_spec("prometheus_client") is None:
        say(
            f"{path} is not updated: {missing_package('--metrics', 'prometheus_client', 'metrics')}"
        )
        return None
    return path


class Textfile:
    """The file, which each write() replaces as a whole."""

    def __init__(self, path: str, tally: Tally, campaign: str) -> None:
        """Write it for the first time. Raises Failure if that is not possible."""
        try:
            import prometheus_client
        except ImportError as error:
            raise missing_package("--metrics", "prometheus_client", "metrics") from error
        self._path = path
        self._tally = tally
        self._campaign = campaign
        self._started = time.time()
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(self)
        self._write = prometheus_client.write_to_textfile
        if reason := self.write():
            raise Failure(Exit.IOERR, reason)

    def write(self) -> str | None:
        """Write the current counts. Return an error message if that fails, else None."""
        try:
            self._write(self._path, self._registry)
        except OSError as error:
            return f"--metrics {self._path}: {error.strerror or error}"
        return None

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; called by the registry."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        tally, status = self._tally, self._tally.status
        results = CounterMetricFamily(
            "csmtplib_recipients",
            "Recipients that have a result, by state.",
            labels=["campaign", "state"],
        )
        for count, state in (
            (status.accepted, "accepted"),
            (status.rejected, "rejected"),
            (tally.in_doubt, "in doubt"),
            (status.suppressed, "suppressed"),
            (status.completed_before, "completed before"),
            (tally.left_out + tally.unreadable, "left out"),
        ):
            results.add_metric([self._campaign, state], count)
        yield results
        for name, value, text in (
            ("waiting_recipients", status.waiting, "Recipients that are deferred."),
            (
                "queued_recipients",
                status.queued,
                "Recipients that are queued and not sent yet.",
            ),
            ("connections", status.connections, "Open connections."),
            ("started_timestamp_seconds", self._started, "When this run started."),
            ("updated_timestamp_seconds", time.time(), "When this file was written."),
        ):
            gauge = GaugeMetricFamily(f"csmtplib_{name}", text, labels=["campaign"])
            gauge.add_metric([self._campaign], value)
            yield gauge
        if tally.total is not None:
            gauge = GaugeMetricFamily(
                "csmtplib_campaign_recipients",
                "Recipients of the campaign.",
                labels=["campaign"],
            )
            gauge.add_metric([self._campaign], tally.total)
            yield gauge
