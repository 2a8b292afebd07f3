"""One panel: its contenders by turns, round after round."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace

from .clients.worker import Job, Report
from .contenders import Contender, python_worker
from .measuring import ContenderFailed, measure
from .placement import CPUs, children_on
from .scenarios import Entry, Panel
from .servers.endpoints import Endpoint


@dataclass
class Result:
    """The results of one entry of a panel: a report for each round, or why there is none."""

    entry: Entry
    count: int
    reports: list[Report] = field(default_factory=list)
    missing: str | None = None
    failed: str | None = None

    @property
    def runs(self) -> bool:
        return self.missing is None and self.failed is None


def compare(
    panel: Panel,
    endpoint: Endpoint,
    contenders: dict[str, Contender],
    *,
    rounds: int,
    quick: bool,
    cpus: CPUs,
) -> list[Result]:
    """Have the panel's contenders send to the endpoint so many times, on these CPUs; return a
    result for each.
    """
    results = [
        Result(entry, entry.messages(quick=quick), missing=contenders[entry.contender].missing)
        for entry in panel.entries
    ]
    for number in range(panel.rounds or rounds):
        # Each goes first once, so that none always runs behind the same other one.
        first = number % len(results)
        for result in (*results[first:], *results[:first]):
            if result.runs:
                progress(f"round {number + 1}: {result.entry.label}")
                try:
                    contender = contenders[result.entry.contender]
                    with children_on(cpus):
                        result.reports.append(one_round(panel, endpoint, contender, result))
                except ContenderFailed as reason:
                    result.failed = str(reason)
    progress("")
    return results


def one_round(panel: Panel, endpoint: Endpoint, contender: Contender, result: Result) -> Report:
    """Have one contender send once. Raises ContenderFailed where not all mail was accepted, or the
    server has not counted as many.
    """
    if contender.is_drop_in:
        contender = replace(contender, command=python_worker(result.entry.client))
    job = Job(
        port=endpoint.port,
        count=result.count,
        size=panel.size,
        module=contender.module,
        method=result.entry.method,
        connections=result.entry.connections,
        authority=str(endpoint.authority) if endpoint.authority else None,
        uvloop=result.entry.uvloop,
    )
    before = endpoint.taken() if endpoint.taken else 0
    report = measure(contender, job, panel.limit)
    if not panel.timed and report["accepted"] != job.count:
        raise ContenderFailed(f"{report['accepted']} of {job.count} messages were accepted")
    if endpoint.taken and endpoint.taken() - before != report["accepted"]:
        raise ContenderFailed(f"the server took {endpoint.taken() - before} messages")
    endpoint.complete()
    return report


def progress(doing: str) -> None:
    """Show on a terminal what is being done, in place of what was."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{doing}", end="", file=sys.stderr, flush=True)
