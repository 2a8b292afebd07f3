"""The gate: may a call of the drop-in class leave the stdlib's call graph?

Programs subclass SMTP, and patch its methods on the class or on one object; what those methods do
is unknown here. So code that would bypass or anticipate them asks here first, at each call.
"""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Class = TypeVar("Class", bound=type)

_original: list[dict[str, object]] = []


def original(cls: Class) -> Class:
    """Remember the methods of a class of ours before anybody can patch them (class decorator)."""
    _original.append({name: getattr(cls, name) for name in dir(cls)})
    return cls


def is_overridden(client: object, *names: str) -> bool:
    """Return whether any of these methods of the object is not the one that our classes define."""
    methods_of, known = _methods(names)
    return methods_of(type(client)) not in known or not client.__dict__.keys().isdisjoint(names)


@lru_cache
def _methods(names: tuple[str, ...]) -> tuple[Callable[[type], Any], set[Any]]:
    methods_of = attrgetter(*names)
    known = {
        tuple(methods[name] for name in names) if len(names) > 1 else methods[names[0]]
        for methods in _original
        if all(name in methods for name in names)
    }
    return methods_of, known
