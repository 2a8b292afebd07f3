"""The gate: may a call of the drop-in class leave the stdlib's call graph?

Programs subclass SMTP, and patch its methods on the class or on one object; then every call has to
go through those methods, in the stdlib's order. Whatever takes a shorter way asks here first, at
each call.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Class = TypeVar("Class", bound=type)

_genuine: dict[str, set[Callable[..., Any]]] = {}


def genuine(cls: Class) -> Class:
    """Class decorator: remembers the methods that are this class's own."""
    for name, value in vars(cls).items():
        if callable(value):
            _genuine.setdefault(name, set()).add(value)
    return cls


def untouched(client: object, *names: str) -> bool:
    """Whether all these methods of the object are still what a class of ours defines."""
    return not any(
        name in client.__dict__ or getattr(type(client), name) not in _genuine[name]
        for name in names
    )
