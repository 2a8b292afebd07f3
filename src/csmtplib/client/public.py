"""The names that programs patch, where they patch them: in the package, which they use as smtplib.

A program that sets `smtplib.socket` or `smtplib._fix_eols` expects the classes to see that. So they
read each of these names from `public` at each call. It is the package itself, looked up and not
imported, as imports point downwards.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from ..kernel import BytesLike

    class Names(Protocol):
        """The names that the classes read from the package."""

        socket: Any
        ssl: Any
        hmac: Any
        encode_base64: Callable[..., str]
        _MAXCHALLENGE: int
        _MAXLINE: int
        _have_cram_md5_support: bool
        _have_ssl: bool

        # Functions that a program may have replaced by anything callable.
        @property
        def quoteaddr(self) -> Callable[[str], str]: ...
        @property
        def _addr_only(self) -> Callable[[str], str]: ...
        @property
        def _fix_eols(self) -> Callable[[str], str]: ...
        @property
        def _quote_periods(self) -> Callable[[BytesLike], bytes]: ...


public: Names = sys.modules[__name__.partition(".")[0]]
