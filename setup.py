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


def extension(module: str, *sources: str) -> Extension:
    """An extension module of the package, from its .pyx and the files of csrc/ that it wraps."""
    csrc = Path("csrc")
    return Extension(
        f"csmtplib.{module.replace('/', '.')}",
        [f"src/csmtplib/{module}.pyx", *(str(csrc / f"{source}.c") for source in sources)],
        include_dirs=[str(csrc)],
        # What Cython keeps for a module, and its types, are then each interpreter's own, as the
        # modules declare. (Without the second a second interpreter crashes.)
        define_macros=[("CYTHON_USE_MODULE_STATE", "1"), ("CYTHON_USE_TYPE_SPECS", "1")],
        depends=sorted(map(str, csrc.glob("*.h"))),
        # MSVC takes what is used here of C11 as it is, and setuptools has it optimise.
        extra_compile_args=[] if sys.platform == "win32" else ["-std=c11", "-O3"],
    )


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

    pipeline = ("pipeline", "pipeline_send", "pipeline_answer", "steps", "message", "ring")
    extensions = [
        extension("kernel/_c", "receive", "reply", "body", "command"),
        extension("kernel/_c_pipeline", *pipeline, "receive", "reply", "body"),
    ]
    if sys.platform != "win32":
        # Elsewhere the pump of drive/pump.py serves.
        extensions.append(extension("drive/_fd", "fdloop", *pipeline, "receive", "reply"))
    # build_dir keeps the generated C out of src/.
    made: list[Extension] = cythonize(  # type: ignore[no-untyped-call]
        extensions, build_dir="build/cython", include_path=["src"]
    )
    for each in made:
        # Set here, not above: cythonize() makes new Extension objects and drops it. setuptools then
        # warns and goes on where the compiler is missing or fails.
        each.optional = build == "auto"
    return made


build = os.environ.get("CSMTPLIB_BUILD") or "auto"
if build not in CHOICES:
    raise SystemExit(f"CSMTPLIB_BUILD is {build!r}; set it to one of {', '.join(CHOICES)}")
setup(ext_modules=kernels(build))
