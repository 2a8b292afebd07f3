"""What all tests share."""

from __future__ import annotations

import csmtplib


def pytest_report_header() -> str:
    return f"csmtplib: {csmtplib.implementation} kernels, from {csmtplib.__path__[0]}"
