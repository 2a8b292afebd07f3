"""A JSON object for each result, on a line of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from ..bulk.delivery import Delivery

_encode = json.JSONEncoder(ensure_ascii=False).encode


def write(file: IO[str], result: Mapping[str, object]) -> None:
    """Writes an object and the end of its line, at once. Raises OSError."""
    file.write(f"{_encode(result)}\n")


def of_delivery(delivery: Delivery) -> dict[str, object]:
    """What is written of a result."""
    return {
        "key": delivery.key,
        "recipient": delivery.recipient,
        "state": delivery.state.value,
        "code": delivery.code,
        "enhanced": delivery.enhanced,
        "text": delivery.text,
        "attempts": delivery.attempts,
        "host": delivery.host,
        "time": iso(delivery.time),
    }


def iso(time: float | None) -> str | None:
    """A Unix time as ISO 8601 has it, in UTC."""
    if time is None:
        return None
    return datetime.fromtimestamp(time, timezone.utc).isoformat(timespec="milliseconds")
