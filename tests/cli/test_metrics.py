"""The Prometheus textfile of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ..bulk.servers.throttling import ThrottlingServer
from .campaigns import addresses, write
from .conftest import Command


def samples(path: Path) -> dict[tuple[str, str | None], float]:
    """The values in a textfile, by the names of the metrics and their states."""
    parser = pytest.importorskip("prometheus_client.parser")
    families = parser.text_string_to_metric_families(path.read_text())
    return {
        (sample.name, sample.labels.get("state")): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_run_is_measured(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(6))
    (tmp_path / "not").write_text("r5@y.test\n")
    with ThrottlingServer(refuse=lambda who: "550 no" if who == "r3@y.test" else None) as server:
        done = cli(
            *("bulk", "--server", server.url, "--metrics", "m.prom", "--suppress", "not"),
            *arguments,
        )
    assert done.code == 1
    values = samples(tmp_path / "m.prom")
    assert values["csmtplib_recipients_total", "accepted"] == 4
    assert values["csmtplib_recipients_total", "rejected"] == 1
    assert values["csmtplib_recipients_total", "in doubt"] == 0
    assert values["csmtplib_recipients_total", "suppressed"] == 1
    assert values["csmtplib_campaign_recipients", None] == 6
    assert values["csmtplib_waiting_recipients", None] == 0
    assert values["csmtplib_queued_recipients", None] == 0
    started = values["csmtplib_started_timestamp_seconds", None]
    assert started <= values["csmtplib_updated_timestamp_seconds", None]
    # Written beside it, and renamed.
    assert sorted(path.name for path in tmp_path.iterdir() if "m.prom" in path.name) == ["m.prom"]


def test_a_file_that_can_not_be_written(cli: Command, tmp_path: Path) -> None:
    arguments = write(tmp_path, addresses(6))
    with ThrottlingServer() as server:
        done = cli("bulk", "--server", server.url, "--metrics", "none/m.prom", *arguments)
    assert done.code == 74
    assert done.err == "csmtplib: --metrics none/m.prom: No such file or directory\n"
    assert not server.log.accepted


def test_without_prometheus_client(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = write(tmp_path, addresses(6))
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    done = cli("bulk", "--metrics", "m.prom", *arguments)
    assert done.code == 69
    assert "prometheus_client: pip install 'csmtplib[metrics]'" in done.err
