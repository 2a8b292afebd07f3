"""Prints how much faster than the first of its group each benchmark of a run was."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import pytest

from csmtplib.kernel import _python

IMPLEMENTATIONS: dict[str, ModuleType] = {"python": _python}
if importlib.util.find_spec("csmtplib.kernel._c"):
    IMPLEMENTATIONS["c"] = importlib.import_module("csmtplib.kernel._c")


@pytest.fixture(params=["stdlib", *IMPLEMENTATIONS])
def side(request: pytest.FixtureRequest) -> str:
    """Whose work is measured."""
    name: str = request.param
    return name


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    if session is None or not session.benchmarks:
        return
    groups: dict[str, dict[str, Any]] = {}
    for bench in session.benchmarks:
        groups.setdefault(bench.group, {})[bench.params["side"]] = bench.stats
    terminalreporter.section("times as fast as the standard library (medians; minima in brackets)")
    for group, sides in groups.items():
        baseline = sides["stdlib"]
        ratios = [
            f"{name} {baseline.median / stats.median:.1f} [{baseline.min / stats.min:.1f}]"
            for name, stats in sides.items()
        ]
        terminalreporter.line(f"{group}: {', '.join(ratios)}")
