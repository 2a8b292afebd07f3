"""The code that the processes started by the tests share."""

from __future__ import annotations

import os
import sys

import csmtplib


def environment() -> dict[str, str]:
    """The environment in which they import what is imported here, with the same implementation."""
    return {
        **os.environ,
        "CSMTPLIB_IMPL": csmtplib.implementation,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
