"""Suppression lists: addresses that nothing is to be sent to, one a line."""

from __future__ import annotations

from ..compose.addresses import envelope_address
from .conventions import Exit, Failure


def read(path: str) -> frozenset[str]:
    """The addresses in a file, in lower case, as BulkSender wants them. Empty lines count for
    nothing.

    Raises Failure for what can't be read and for a line that is no address: somebody may rely on
    it.
    """
    addresses = set()
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    try:
                        addresses.add(envelope_address(line.strip()).lower())
                    except ValueError as error:
                        raise Failure(Exit.DATAERR, f"{path}:{number}: {error}") from error
    except OSError as error:
        raise Failure(Exit.NOINPUT, f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Failure(Exit.DATAERR, f"{path}: not UTF-8: save it with that encoding") from error
    return frozenset(addresses)
