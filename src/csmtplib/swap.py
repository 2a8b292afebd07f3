"""Replaces smtplib with csmtplib for a whole program."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

_replaced: list[ModuleType | None] = []


def install() -> None:
    """Makes `import smtplib` give csmtplib, from now on and everywhere in the process.

    Modules that imported smtplib before keep what they have: call this first. Calling it again
    changes nothing.
    """
    ours = sys.modules[__package__]
    theirs = sys.modules.get("smtplib")
    if theirs is not ours:
        _replaced.append(theirs)
        sys.modules["smtplib"] = ours


def uninstall() -> None:
    """Undoes install(): `import smtplib` gives the standard library's module again."""
    if sys.modules.get("smtplib") is sys.modules[__package__]:
        theirs = _replaced.pop() if _replaced else None
        if theirs is not None:
            sys.modules["smtplib"] = theirs
        else:
            # The next import loads it.
            del sys.modules["smtplib"]
