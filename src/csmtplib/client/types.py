"""What passes through the methods of the client classes; for type checkers only."""

from __future__ import annotations

from typing import TypeAlias

Reply: TypeAlias = tuple[int, bytes]
Refusals: TypeAlias = dict[str, Reply]
SourceAddress: TypeAlias = tuple[bytearray | bytes | str, int]
Octets: TypeAlias = bytes | bytearray | memoryview
