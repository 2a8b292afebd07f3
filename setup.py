"""Builds the C kernels; everything else about the package is in pyproject.toml.

CSMTPLIB_BUILD says what to do about them: "require" fails where they can't be built, "no" makes a
pure package, "auto" (the default) tries, and installs the pure package where there is no compiler.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

CHOICES = ("no", "auto", "require")


def kernels(build: str) -> list[Extension]:
    """The extension modules to build."""
    if build == "no":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if build == "require":
            raise
        print("csmtplib: no Cython here, so this is a pure Python install", file=sys.stderr)
        return []

    csrc = Path("csrc")
    extension = Extension(
        "csmtplib.kernel._c",
        ["src/csmtplib/kernel/_c.pyx", *sorted(map(str, csrc.glob("*.c")))],
        include_dirs=[str(csrc)],
        depends=sorted(map(str, csrc.glob("*.h"))),
        extra_compile_args=[] if sys.platform == "win32" else ["-std=c11", "-O3"],
    )
    # build_dir keeps the generated C out of src/.
    extensions: list[Extension] = cythonize(  # type: ignore[no-untyped-call]
        [extension], build_dir="build/cython"
    )
    for each in extensions:
        # Set here, not above: cythonize() makes new Extension objects and drops it. setuptools then
        # warns and goes on where the compiler is missing or fails.
        each.optional = build == "auto"
    return extensions


build = os.environ.get("CSMTPLIB_BUILD") or "auto"
if build not in CHOICES:
    raise SystemExit(f"CSMTPLIB_BUILD is {build!r}; set it to one of {', '.join(CHOICES)}")
setup(ext_modules=kernels(build))
