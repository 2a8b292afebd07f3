"""Rates and costs as bars: an SVG file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .columns import Reports, costs, figure, rates
from .comparing import Result
from .scenarios import Panel

INCHES_WIDE = 12.0
INCHES_A_BAR = 0.28
INCHES_A_PANEL = 1.0
COLOURS = {"csmtplib": "tab:blue", "stdlib": "tab:orange"}


def plot(panels: Sequence[tuple[str, Panel, Sequence[Result]]], file: Path) -> None:
    """Draw every panel, each named: messages/s beside the CPU time of one, with their spread. Those
    without a report are left out.
    """
    drawn = [
        (f"{name}: {panel.title}, into {panel.server}", measured)
        for name, panel, results in panels
        if (measured := [result for result in results if result.runs])
    ]
    heights = [INCHES_A_PANEL + INCHES_A_BAR * len(results) for _, results in drawn]
    # Text stays text, and two drawings of the same data are the same.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "csmtplib"}):
        canvas = Figure(figsize=(INCHES_WIDE, sum(heights)), layout="constrained")
        axes = canvas.subplots(len(drawn), 2, squeeze=False, sharey="row", height_ratios=heights)
        for (title, results), (left, right) in zip(drawn, axes, strict=True):
            bars(left, results, rates, "messages/s")
            bars(right, results, costs, "client's CPU, microseconds a message")
            left.set_title(title, loc="left", fontsize="medium")
            left.invert_yaxis()
        canvas.savefig(file, format="svg", metadata={"Date": None})


def bars(
    axes: Axes, results: Sequence[Result], numbers: Callable[[Reports], list[float]], unit: str
) -> None:
    """Draw one number of each contender of a panel."""
    measured = [numbers(result.reports) for result in results]
    middles = [median(each) for each in measured]
    below = [middle - min(each) for middle, each in zip(middles, measured, strict=True)]
    above = [max(each) - middle for middle, each in zip(middles, measured, strict=True)]
    drawn = axes.barh(
        [result.entry.label for result in results],
        middles,
        xerr=[below, above],
        color=[COLOURS.get(result.entry.contender.split()[0], "tab:gray") for result in results],
        capsize=2,
    )
    axes.bar_label(drawn, [f" {figure(middle)}" for middle in middles])
    axes.set_xlabel(unit)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
