"""csmtplib.aio in the place of aiosmtplib, for programs that import that themselves."""

from __future__ import annotations

import sys
from importlib import import_module

# What programs import from.
_MODULES = ("api", "errors", "response", "smtp", "status", "typing")


def install() -> None:
    """Have `import aiosmtplib` give csmtplib.aio from now on, also to libraries. Call it before
    they import aiosmtplib: what has been imported stays as it is."""
    package = __name__.rpartition(".")[0]
    sys.modules["aiosmtplib"] = sys.modules[package]
    for name in _MODULES:
        sys.modules[f"aiosmtplib.{name}"] = import_module(f"{package}.{name}")
