"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

import csmtplib

# How long an example takes says nothing on a machine that does something else too.
settings.register_profile("csmtplib", deadline=None)
settings.load_profile("csmtplib")


def pytest_report_header() -> str:
    return f"csmtplib: {csmtplib.implementation} kernels, from {csmtplib.__path__[0]}"
