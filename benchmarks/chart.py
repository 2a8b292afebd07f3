"""The small bar chart of the README: throughput relative to smtplib, as two SVG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from .columns import rates

INCHES = (7.2, 2.5)
CAPTION = "messages/s relative to smtplib (dotted line), one connection"
OURS = "csmtplib c, "


@dataclass(frozen=True)
class Theme:
    """The colours of a chart. The background is transparent."""

    text: str
    ours: str
    others: str


THEMES = {
    "light": Theme(text="#1f2328", ours="#0969da", others="#818b98"),
    "dark": Theme(text="#f0f6fc", ours="#4493f8", others="#656c76"),
}


@dataclass(frozen=True)
class Bar:
    """A bar: its label, and the panel and the contender that it shows."""

    label: str
    scenario: str
    server: str
    contender: str


# Each part has an axis of its own.
PARTS = {
    "server on the same machine": (
        Bar("aiosmtplib", "sendmail", "smtp-sink", "aiosmtplib"),
        Bar("csmtplib, sendmail()", "sendmail", "smtp-sink", f"{OURS}sendmail"),
        Bar("csmtplib, send_many()", "stream", "smtp-sink", f"{OURS}send_many"),
    ),
    "server 50 ms away": (
        Bar("aiosmtplib", "rtt-sendmail", "smtp-sink, 50 ms", "aiosmtplib"),
        Bar("csmtplib, send_many()", "rtt-chunking", "Postfix, 50 ms", f"{OURS}send_many"),
    ),
}


class NotMeasured(Exception):
    """The results do not contain a bar."""


def ratio(panels: Sequence[Mapping[str, Any]], bar: Bar) -> float:
    """Return the messages/s of a bar relative to smtplib's. panels: as in the JSON file.

    Raises NotMeasured if one of the two is missing.
    """
    for panel in panels:
        if (panel["scenario"], panel["server"]) == (bar.scenario, bar.server):
            measured = {
                each["name"]: median(rates(each["reports"]))
                for each in panel["contenders"]
                if each["reports"]
            }
            if {"stdlib", bar.contender} <= measured.keys():
                return measured[bar.contender] / measured["stdlib"]
    raise NotMeasured(f"the chart needs {bar.contender} and stdlib in the scenario {bar.scenario}")


def shown(value: float) -> str:
    """Return a ratio with the digits that another run would confirm."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def draw(panels: Sequence[Mapping[str, Any]], directory: Path) -> None:
    """Draw the chart for light and dark pages: speed-light.svg and speed-dark.svg.

    Raises NotMeasured.
    """
    parts = {
        title: [(bar.label, ratio(panels, bar)) for bar in bars] for title, bars in PARTS.items()
    }
    for name, theme in THEMES.items():
        _draw(parts, theme, directory / f"speed-{name}.svg")


def _draw(parts: Mapping[str, Sequence[tuple[str, float]]], theme: Theme, file: Path) -> None:
    settings: dict[Any, Any] = {
        # Text stays text, and two drawings of the same data are the same.
        "svg.fonttype": "none",
        "svg.hashsalt": "csmtplib",
        "text.color": theme.text,
    }
    with rc_context(settings):
        canvas = Figure(figsize=INCHES, layout="constrained")
        heights = [len(bars) for bars in parts.values()]
        for axes, (title, bars) in zip(
            canvas.subplots(len(parts), 1, height_ratios=heights), parts.items(), strict=True
        ):
            labels = [label for label, _ in bars]
            colours = [theme.ours if "csmtplib," in each else theme.others for each in labels]
            values = [value for _, value in bars]
            axes.barh(labels, values, color=colours, height=0.7)
            for place, value in enumerate(values):
                # Right of the dotted line, too.
                right = max(value, 1) + max(values) / 100
                axes.text(right, place, f"{shown(value)}x", verticalalignment="center")
            axes.axvline(1, color=theme.text, linewidth=0.8, linestyle=":")
            axes.set_title(title, loc="left", fontsize="medium")
            axes.invert_yaxis()
            axes.margins(x=0.12)
            axes.set_xticks([])
            axes.tick_params(length=0, labelcolor=theme.text)
            axes.spines[:].set_visible(False)
        canvas.supxlabel(CAPTION, fontsize="medium")
        canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None})
