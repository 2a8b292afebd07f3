"""The kinds of event loops."""

from __future__ import annotations

import sys

import pytest

from ..requirements import unavailable
from . import running


@pytest.fixture(params=["asyncio", "uvloop"])
def each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in asyncio's own loop, and in uvloop's."""
    if request.param == "asyncio":
        return
    if sys.platform == "win32":
        pytest.skip("uvloop is not for this system")
    try:
        import uvloop
    except ImportError:
        unavailable("uvloop is not installed: pip install uvloop")
    monkeypatch.setattr(running, "new_event_loop", uvloop.new_event_loop)
