"""Every kernel test runs over both implementations, wherever the compiled one is built."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

import csmtplib
from csmtplib.kernel import _python, _python_pipeline

from .talking import Core

# The one that the session is about comes first. The other may be missing only if it is the
# compiled one: CSMTPLIB_IMPL=c would not have got this far.
IMPLEMENTATIONS: dict[str, ModuleType] = {"python": _python}
CORES = {"python": Core(_python, _python_pipeline)}
if csmtplib.implementation == "c":
    IMPLEMENTATIONS["c"] = importlib.import_module("csmtplib.kernel._c")
    CORES["c"] = Core(IMPLEMENTATIONS["c"], importlib.import_module("csmtplib.kernel._c_pipeline"))


@pytest.fixture(params=list(IMPLEMENTATIONS))
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    """The kernels of one implementation."""
    return IMPLEMENTATIONS[request.param]


@pytest.fixture(params=list(CORES))
def core(request: pytest.FixtureRequest) -> Core:
    """The kernels and the pipeline of one implementation."""
    return CORES[request.param]
