"""The report of a run: tables to read, and JSON with every sample."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

from .columns import Yardsticks
from .comparing import Result
from .scenarios import Panel

NOTES = """\
Medians, in brackets the least and the greatest of the rounds. The messages are made and the
connection is opened before a contender is timed, but for smtp-source, whose whole run is timed, and
BulkSender, which opens its connections as it sends.
Unless --unpinned, clients run on one half of the CPUs, servers and proxies on the other."""


def yardsticks(results: Sequence[Result]) -> Yardsticks:
    """Return the reports of those that the others are measured by."""
    return {
        result.entry.contender: result.reports
        for result in results
        if result.entry.contender in ("stdlib", "smtp-source", "aiosmtplib") and result.runs
    }


def table(panel: Panel, results: Sequence[Result]) -> str:
    """Return the panel as aligned text; who is missing and who failed stands below, with the last
    line of what was said: the JSON has it all.
    """
    others = yardsticks(results)
    rows = [["", *(column.heading for column in panel.columns)]]
    remarks = []
    for result in results:
        if result.missing:
            remarks.append(f"  {result.entry.label}: {result.missing}")
        elif result.failed:
            remarks.append(f"  {result.entry.label}: FAILED: {result.failed.splitlines()[-1]}")
        else:
            cells = [column.cell(result.reports, others) for column in panel.columns]
            rows.append([result.entry.label, *cells])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join([label.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
        for label, *cells in rows
    ]
    return "\n".join([*lines, *remarks])


def as_json(name: str, panel: Panel, results: Sequence[Result]) -> dict[str, Any]:
    """Return the panel for JSON."""
    return {
        "scenario": name,
        "title": panel.title,
        "server": panel.server,
        "message size": panel.size,
        "contenders": [
            {
                "name": result.entry.label,
                "messages": result.count,
                "missing": result.missing,
                "failed": result.failed,
                "reports": result.reports,
            }
            for result in results
        ],
    }


def environment(*, pinned: bool) -> dict[str, Any]:
    """Return on what kind of machine and Python it was; `pinned` is kept with it."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "pinned": pinned,
    }
