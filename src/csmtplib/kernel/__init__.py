"""The hot paths, in C if the extension is built, otherwise in pure Python.

This is the one place that chooses. CSMTPLIB_IMPL=c or =python selects one of them and raises
ImportError if it is missing. If it is not set, the compiled kernels are used if they import.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .transaction import BytesLike as BytesLike

_wanted = os.environ.get("CSMTPLIB_IMPL") or None
if _wanted not in (None, "c", "python"):
    raise ImportError(f"CSMTPLIB_IMPL is {_wanted!r}; set it to 'c' or 'python', or unset it")

implementation = "python"
if _wanted != "python":
    try:
        from . import _c as _kernels
        from . import _c_pipeline as _pipelines

        implementation = "c"
    except ImportError as error:
        if _wanted == "c":
            raise ImportError(
                "CSMTPLIB_IMPL=c, but the compiled kernels are not installed: install a wheel of "
                "csmtplib for this Python, or build with CSMTPLIB_BUILD=require to see what fails"
            ) from error
if implementation == "python":
    # The pure modules have the same names as the stubs.
    from . import _python as _kernels  # type: ignore[no-redef]
    from . import _python_pipeline as _pipelines  # type: ignore[no-redef]

ReplyBuffer = _kernels.ReplyBuffer
Content = _pipelines.Content
Pipeline = _pipelines.Pipeline
BodyEncoder = _kernels.BodyEncoder
fix_eols = _kernels.fix_eols
quote_periods = _kernels.quote_periods
scan = _kernels.scan
has_control = _kernels.has_control
envelope_lines = _kernels.envelope_lines
is_plain_address = _kernels.is_plain_address
