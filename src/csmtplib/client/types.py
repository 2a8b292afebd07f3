"""What passes through the methods of the client classes; for type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ..kernel import Octets as Octets

Reply: TypeAlias = tuple[int, bytes]
Refusals: TypeAlias = dict[str, Reply]
SourceAddress: TypeAlias = tuple[bytearray | bytes | str, int]
