"""csmtplib side by side with the standard library and its peers, into real servers on loopback."""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.servers.process import ServerUnavailable

from . import hostile
from .comparing import Result, compare
from .contenders import contenders
from .hostile import Cell
from .placement import children_on, placement
from .report import NOTES, as_json, environment, table
from .scenarios import MILLION, QUICK_FRACTION, Panel, scenarios
from .servers.endpoints import Endpoints

ROUNDS = 5
QUICK_ROUNDS = 2

Panels = list[tuple[str, Panel, list[Result]]]

# Of one table that is not made of panels.
HOSTILE = "hostile"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument(
        "scenario", nargs="*", help=f"all where none is named: {', '.join(names())}"
    )
    options.add_argument("--rounds", type=int, help=f"how often each sends (default {ROUNDS})")
    options.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    options.add_argument("--svg", type=Path, metavar="FILE", help="draw the rates into FILE")
    options.add_argument(
        "--chart",
        type=Path,
        metavar="DIRECTORY",
        help="draw the chart of the README into DIRECTORY",
    )
    options.add_argument(
        "--from",
        dest="measured",
        type=Path,
        metavar="FILE",
        help="draw the chart from the JSON of an earlier run; measure nothing",
    )
    options.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_ROUNDS} rounds of 1/{QUICK_FRACTION} of the messages: shows that all works",
    )
    options.add_argument(
        "--million",
        type=int,
        default=MILLION,
        metavar="COUNT",
        help="messages of the scenarios of that name",
    )
    options.add_argument(
        "--unpinned",
        action="store_true",
        help="let the scheduler place clients and servers, instead of on CPUs of their own",
    )
    options.add_argument(
        "--install-peers",
        action="store_true",
        help="install nodemailer from npm for this run, into a directory that is removed",
    )
    return options


def names() -> tuple[str, ...]:
    """Return the names of all scenarios."""
    return (*scenarios(MILLION), HOSTILE)


def run(options: argparse.Namespace) -> tuple[Panels, list[Cell]]:
    """Run the scenarios, print their tables, and return what was measured."""
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    known = scenarios(options.million)
    everywhere = placement(apart=False)
    places = placement(apart=not options.unpinned)
    measured: Panels = []
    cells: list[Cell] = []
    with ExitStack() as stack:
        endpoints = Endpoints(stack)
        everyone = stack.enter_context(contenders(install_peers=options.install_peers))
        for name in options.scenario or names():
            if name == HOSTILE:
                print(f"\n{name}: SMTP.sendmail(), its time beside smtplib's", flush=True)
                cells = hostile.run(everyone, places, rounds=rounds, quick=options.quick)
                continue
            for panel in known[name]:
                print(f"\n{name}: {panel.title}, into {panel.server}", flush=True)
                try:
                    with children_on(places.servers):
                        endpoint = endpoints[panel.server]
                except ServerUnavailable as reason:
                    print(f"  left out: {reason}")
                    continue
                cpus = places.servers if panel.together else places.clients
                results = compare(
                    panel,
                    endpoint,
                    everyone,
                    rounds=rounds,
                    quick=options.quick,
                    cpus=everywhere.clients if panel.threaded else cpus,
                )
                print(table(panel, results), flush=True)
                measured.append((name, panel, results))
    return measured, cells


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status, 1 where a contender failed."""
    options = parser().parse_args(arguments)
    unknown = set(options.scenario).difference(names())
    if unknown:
        parser().error(f"no such scenario: {', '.join(sorted(unknown))}")
    if (options.svg or options.chart) and importlib.util.find_spec("matplotlib") is None:
        parser().error("--svg and --chart take matplotlib: pip install matplotlib")
    if options.measured:
        if options.chart is None or options.scenario or options.json or options.svg:
            parser().error("--from goes with --chart alone")
        return draw_chart(json.loads(options.measured.read_text())["panels"], options.chart)
    # However it is ended, servers and directories go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(NOTES)
    try:
        measured, cells = run(options)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    panels = [as_json(*each) for each in measured]
    if options.json:
        whole = {
            "environment": environment(pinned=not options.unpinned),
            "panels": panels,
            "hostile servers": [asdict(cell) for cell in cells],
        }
        options.json.write_text(json.dumps(whole, indent=1) + "\n")
    if options.svg:
        from .plot import plot  # matplotlib is there only for those who draw

        plot(measured, options.svg)
    failed = any(result.failed for _, _, results in measured for result in results)
    if options.chart:
        failed |= draw_chart(panels, options.chart) != 0
    return int(failed)


def draw_chart(panels: Sequence[Mapping[str, Any]], directory: Path) -> int:
    """Draw the chart of the README; return the exit status, 1 if a bar was not measured."""
    from . import chart  # as for plot()

    try:
        chart.draw(panels, directory)
    except chart.NotMeasured as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
