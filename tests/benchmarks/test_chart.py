"""The chart of the README: its figures are those of benchmarks/results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ..requirements import unavailable

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "results.json"
THEMES = ("light", "dark")


@pytest.fixture(scope="module")
def chart() -> Any:
    if importlib.util.find_spec("matplotlib") is None:
        unavailable("there is no matplotlib: pip install matplotlib")
    from benchmarks import chart

    return chart


def texts(file: Path) -> list[str]:
    """Return the words in a picture."""
    return [
        "".join(each.itertext()).strip() for each in ElementTree.parse(file).iter() if is_text(each)
    ]


def is_text(element: ElementTree.Element) -> bool:
    return element.tag.endswith("}text")


def run(*arguments: str) -> int:
    from benchmarks.__main__ import main

    return main(arguments)


@pytest.mark.parametrize("theme", THEMES)
def test_the_chart_is_of_the_results(chart: Any, tmp_path: Path, theme: str) -> None:
    assert run("--from", str(RESULTS), "--chart", str(tmp_path)) == 0
    drawn = texts(tmp_path / f"speed-{theme}.svg")
    assert texts(ROOT / "docs" / "static" / f"speed-{theme}.svg") == drawn
    panels = json.loads(RESULTS.read_text())["panels"]
    ratios = [chart.ratio(panels, bar) for bars in chart.PARTS.values() for bar in bars]
    assert [each for each in drawn if each.endswith("x")] == [
        f"{chart.shown(each)}x" for each in ratios
    ]
    assert len(ratios) == 5
    assert (tmp_path / f"speed-{theme}.svg").stat().st_size < 20_000


def test_a_bar_that_was_not_measured(
    chart: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.loads(RESULTS.read_text())
    whole["panels"] = [each for each in whole["panels"] if each["scenario"] != "stream"]
    (tmp_path / "some.json").write_text(json.dumps(whole))
    assert run("--from", str(tmp_path / "some.json"), "--chart", str(tmp_path)) == 1
    assert capsys.readouterr().err == (
        "the chart needs csmtplib c, send_many and stdlib in the scenario stream\n"
    )
    assert not list(tmp_path.glob("*.svg"))


def test_from_measures_nothing(chart: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--from", str(RESULTS), "sendmail")
    assert "--from goes with --chart alone" in capsys.readouterr().err
