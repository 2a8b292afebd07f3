"""Fixtures of all tests."""

from __future__ import annotations

import gc
import signal

import pytest
from hypothesis import settings

import csmtplib
from csmtplib.protocol import extension_policy

# How long an example takes says nothing on a machine that does something else too.
settings.register_profile("csmtplib", deadline=None)
settings.load_profile("csmtplib")


@pytest.fixture(autouse=True)
def no_host_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a server of another test has shown, at a port that is used again."""
    monkeypatch.setattr(extension_policy, "_hosts", type(extension_policy._hosts)())


def pytest_configure() -> None:
    """Make Ctrl-C raise where shells have it ignored: in the background. Tests wait for it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep garbage collections from looking through what pytest keeps of thousands of tests."""
    gc.collect()
    # PyPy has none.
    if hasattr(gc, "freeze"):
        gc.freeze()


def pytest_report_header() -> str:
    return f"csmtplib: {csmtplib.implementation} kernels, from {csmtplib.__path__[0]}"
