"""The kernels that the session is about, and both twins for what compares them."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

import csmtplib
from csmtplib.kernel import _python, _python_pipeline

from .talking import Core

TWINS = [Core(_python, _python_pipeline)]
if csmtplib.implementation == "c":
    modules = map(importlib.import_module, ("csmtplib.kernel._c", "csmtplib.kernel._c_pipeline"))
    TWINS.append(Core(*modules))

# A session about the pure ones does without the compiled ones, which may not be there.
compares_twins = pytest.mark.skipif(
    len(TWINS) == 1, reason="the session about the compiled kernels compares them with the pure"
)


# For the whole session, so that Hypothesis takes them.
@pytest.fixture(scope="session")
def kernels(core: Core) -> ModuleType:
    """The kernels that the session is about."""
    return core.kernels


@pytest.fixture(scope="session")
def core() -> Core:
    """The kernels that the session is about, and their pipeline."""
    return TWINS[-1]
