"""The gate: may a call of the drop-in class do what is not in the stdlib's call graph?

Programs subclass SMTP, and patch its methods on the class or on one object; what those do is theirs
to know. Whatever looks ahead of them, or takes a shorter way, asks here first, at each call.
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
    """Class decorator: remember the methods that a class of ours has, before anybody can patch
    them."""
    _original.append({name: getattr(cls, name) for name in dir(cls)})
    return cls


def is_overridden(client: object, *names: str) -> bool:
    """Return whether one of these methods of the object is not what a class of ours defines."""
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
