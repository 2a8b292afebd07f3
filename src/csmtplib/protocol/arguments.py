"""Checks of arguments where they are given: an error names the argument, the value, and what to
pass instead."""

from __future__ import annotations

import math
import numbers
import operator
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def refuse_type(name: str, value: object, wanted: str, advice: str = "") -> NoReturn:
    """Raises TypeError: the value of the argument has the wrong type."""
    raise TypeError(f"{name} must be {wanted}, not {_shown(value)}{advice}")


def refuse_value(name: str, value: object, wanted: str) -> NoReturn:
    """Raises ValueError: the argument has the right type, but its value is not allowed."""
    raise ValueError(f"{name} must be {wanted}, not {_shown(value)}")


def check_kind(
    name: str, value: object, kind: type | tuple[type, ...], wanted: str, *, optional: bool = False
) -> None:
    """Raises TypeError unless the value is an instance, or None where it is optional."""
    if not isinstance(value, kind) and not (optional and value is None):
        refuse_type(name, value, wanted)


def check_flag(name: str, value: object) -> None:
    """Raises TypeError unless the value is True or False: "no" would count as true."""
    if value is not True and value is not False:
        refuse_type(name, value, "True or False")


def check_count(name: str, value: object, *, least: int = 1, most: int = sys.maxsize) -> int:
    """Returns the value as an int if it is a whole number (has __index__). Raises TypeError if it
    is not, ValueError if it is out of range."""
    wanted = f"a whole number from {least} to {most}"
    if most == sys.maxsize:
        wanted = f"a whole number of at least {least}"
    try:
        if isinstance(value, bool):
            raise TypeError
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        refuse_type(name, value, wanted, _conversion(value, int))
    if count > most:
        wanted = f"a whole number from {least} to {most}"
    if not least <= count <= most:
        refuse_value(name, value, wanted)
    return count


def check_real(name: str, value: object, wanted: str) -> float:
    """Returns a real number as an int or a float: what other types can do, such as Fraction and
    NumPy's, differs from version to version. Raises TypeError for anything else, and for a Decimal,
    which can't be mixed with floats; ValueError for what is too large for a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        refuse_type(name, value, wanted, _conversion(value, float))
    try:
        real = float(value)
    except OverflowError:
        refuse_value(name, value, f"{wanted}, and not beyond what a float holds")
    return int(value) if isinstance(value, int) else real


def check_seconds(name: str, value: object) -> float:
    """Returns a number of seconds. Raises TypeError or ValueError unless it is finite and above
    0."""
    wanted = "a number of seconds above 0"
    seconds = check_real(name, value, wanted)
    if not 0 < seconds < math.inf:
        refuse_value(name, value, wanted)
    return seconds


def _conversion(value: object, kind: Callable[..., object]) -> str:
    """Returns the advice to convert a number of another type, unless that would change its
    value."""
    if isinstance(value, bool) or not isinstance(value, numbers.Number):
        return ""
    try:
        converted = kind(value)
    except (ArithmeticError, TypeError, ValueError):
        return ""
    if kind is int and converted != value:
        return ""
    return f"; convert it with {kind.__name__}()"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        # Even an int can have too many digits for repr().
        return f"this {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"
