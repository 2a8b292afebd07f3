"""The rate of a campaign over time, as a picture."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from .conventions import Exit, Failure, lacking

if TYPE_CHECKING:
    from ..bulk.journal_view import JournalView

# A line has about so many points, a whole number of these seconds apart.
_POINTS = 120
_STEPS = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400)

_STATES = ("accepted", "rejected", "deferred", "in doubt")
_COLOURS = ("tab:blue", "tab:red", "tab:orange", "tab:purple")


def draw(view: JournalView, path: str) -> None:
    """Draws results a second, a line for each state. Raises Failure where that can't be done, and
    JournalError."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise lacking("--plot", "matplotlib") from error
    first, last = view.span()
    if first is None or last is None:
        raise Failure(Exit.DATAERR, "there are no results yet to be plotted")
    step = next((each for each in _STEPS if (last - first) / each <= _POINTS), _STEPS[-1])
    counts = {(at, state): count for at, state, count in view.over_time(step)}
    begin, end = (int(time // step) * step for time in (first, last))
    # From zero and back to it: one point alone would be no line.
    times = range(begin - step, end + 2 * step, step)
    with rc_context({"date.converter": "concise"}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes: Any = figure.add_subplot()
        for state, colour in zip(_STATES, _COLOURS, strict=True):
            rates = [counts.get((at, state), 0) / step for at in times]
            if any(rates):
                moments = [datetime.fromtimestamp(at) for at in times]
                axes.plot(moments, rates, label=state, color=colour)
        axes.set_ylabel("recipients a second")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
        try:
            figure.savefig(path)
        except OSError as error:
            raise Failure(Exit.IOERR, f"--plot {path}: {error.strerror or error}") from error
