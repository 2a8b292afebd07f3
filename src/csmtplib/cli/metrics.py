"""Where a run stands, for Prometheus: a file that node_exporter's textfile collector reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .conventions import Exit, Failure, lacking
from .tally import Tally

if TYPE_CHECKING:
    from prometheus_client.core import Metric

SECONDS = 5.0


class Textfile:
    """The file, which is replaced as a whole at each write()."""

    def __init__(self, path: str, tally: Tally, campaign: str) -> None:
        """Writes it for the first time. Raises Failure where that is not possible."""
        try:
            import prometheus_client
        except ImportError as error:
            raise lacking("--metrics", "prometheus_client") from error
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
        """Writes what is so now; what went wrong, if anything did."""
        try:
            self._write(self._path, self._registry)
        except OSError as error:
            return f"--metrics {self._path}: {error.strerror or error}"
        return None

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a registry asks for them."""
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
            (status.in_doubt, "in doubt"),
            (status.suppressed, "suppressed"),
            (status.settled_before, "settled before"),
            (tally.left_out + tally.unreadable, "left out"),
        ):
            results.add_metric([self._campaign, state], count)
        yield results
        for name, value, text in (
            ("waiting_recipients", status.waiting, "Recipients that are deferred."),
            ("queued_recipients", status.queued, "Recipients that are taken up and not sent."),
            ("connections", status.connections, "Connections that are open."),
            ("started_timestamp_seconds", self._started, "When this run was started."),
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
