"""The types of arguments."""

from __future__ import annotations

import enum
import os
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

from .response import SMTPStatus

__all__ = ("Default", "SMTPStatus", "SMTPTokenGenerator", "SocketPathType")

# Returns an OAuth 2 access token.
SMTPTokenGenerator: TypeAlias = Callable[[], Awaitable[str]]

SocketPathType: TypeAlias = "str | bytes | os.PathLike[str]"


class Default(enum.Enum):
    """Stands for an argument that was not given, where None means something."""

    token = 0


# Seconds; None for no limit, see SMTP; the token for the client's own timeout.
Timeout: TypeAlias = float | Literal[Default.token] | None
