"""Every kernel test runs over both implementations, wherever the compiled one is built."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

import csmtplib
from csmtplib.kernel import _python

# The one that the session is about comes first. The other may be missing only if it is the
# compiled one: CSMTPLIB_IMPL=c would not have got this far.
IMPLEMENTATIONS: dict[str, ModuleType] = {"python": _python}
if csmtplib.implementation == "c":
    IMPLEMENTATIONS["c"] = importlib.import_module("csmtplib.kernel._c")


@pytest.fixture(params=list(IMPLEMENTATIONS))
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    """The kernels of one implementation."""
    return IMPLEMENTATIONS[request.param]
