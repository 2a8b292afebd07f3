"""What passes through the methods of the client classes; for type checkers only."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from ..kernel import Octets as Octets

Reply: TypeAlias = tuple[int, bytes]
Refusals: TypeAlias = dict[str, Reply]
# An address as the module socket has it: a tuple for the families of IP.
SourceAddress: TypeAlias = "tuple[Any, ...] | str | Octets"
StrOrBytesPath: TypeAlias = "str | bytes | PathLike[str] | PathLike[bytes]"
