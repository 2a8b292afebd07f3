"""The gate: may a call of the drop-in class do what is not in the stdlib's call graph?

Programs subclass SMTP, and patch its methods on the class or on one object; what those do is theirs
to know. Whatever looks ahead of them, or takes a shorter way, asks here first, at each call.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Class = TypeVar("Class", bound=type)

_genuine: dict[str, list[Callable[..., Any]]] = {}


def genuine(cls: Class) -> Class:
    """Class decorator: remembers the methods that are this class's own."""
    for name, value in vars(cls).items():
        if callable(value):
            _genuine.setdefault(name, []).append(value)
    return cls


def untouched(client: object, *names: str) -> bool:
    """Whether all these methods of the object are still what a class of ours defines."""
    return all(
        name not in client.__dict__
        and any(getattr(type(client), name) is method for method in _genuine[name])
        for name in names
    )
