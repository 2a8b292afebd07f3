"""Journals for reports: read while a sender owns them, or after it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from . import journal_format

# Rows that are read in one go. Between two goes nobody is kept from emptying the log.
_ROWS = 1000

# What is behind the last "@"; all of an address without one.
_DOMAIN = "lower(substr(address, length(rtrim(address, replace(address, '@', ''))) + 1))"

_BY_DOMAIN = f"""SELECT {_DOMAIN}, count(*), sum(state = 'queued'), sum(state = 'armed'),
sum(state = 'accepted'), sum(state = 'rejected'), sum(state = 'deferred'), sum(state = 'in doubt')
FROM recipient GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?"""
# Beside max(), the other columns are those of its row.
_BY_CODE = """SELECT code, enhanced, state, count(*), reply, max(time) FROM recipient
WHERE state NOT IN ('queued', 'armed') GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT ?"""
_OVER_TIME = """SELECT CAST(time / ? AS INTEGER) * ?, state, count(*) FROM recipient
WHERE time IS NOT NULL AND state NOT IN ('queued', 'armed') GROUP BY 1, 2 ORDER BY 1, 2"""
_SPAN = "SELECT min(first), max(CASE WHEN state <> 'queued' THEN time END) FROM recipient"


class Recipient(NamedTuple):
    """A row of the journal. first, due, time: Unix times. reply: the text of the last reply, and
    what went wrong. The other columns are those of bulk.delivery.Delivery."""

    id: int
    key: str | int
    address: str
    state: str
    attempts: int
    first: float | None
    due: float | None
    code: int | None
    enhanced: str | None
    reply: str | None
    host: str | None
    time: float | None


_NEXT_ROWS = f"""SELECT {", ".join(Recipient._fields)} FROM recipient
WHERE id > ? ORDER BY id LIMIT {_ROWS}"""


class DomainTally(NamedTuple):
    """How many recipients a domain has, and how many of them each state."""

    domain: str
    recipients: int
    queued: int
    armed: int
    accepted: int
    rejected: int
    deferred: int
    in_doubt: int


class CodeTally(NamedTuple):
    """How many recipients ended in a state by a reply; the text of the latest as an example. No
    code: it was no reply that had them end so."""

    code: int | None
    enhanced: str | None
    state: str
    recipients: int
    example: str | None


class JournalView:
    """A journal that is only read. Each method sees the commits there are when it is called;
    rows() those there are when it comes to them.

    All of them raise journal.JournalError where the file can't be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens a journal. Raises journal.JournalError where there is none, or none that can be
        read."""
        self._path = os.path.realpath(os.fspath(path))
        if not os.path.exists(self._path):
            raise journal_format.JournalError(f"there is no journal {self._path}")
        try:
            # Opened with mode=ro, it would leave the log and its index behind.
            self._connection = sqlite3.connect(
                f"{Path(self._path).as_uri()}?{_how(self._path)}",
                uri=True,
                timeout=journal_format.PATIENCE_SECONDS,
                isolation_level=None,
            )
        except sqlite3.Error as error:
            raise journal_format.unusable(self._path, error) from error
        try:
            self._connection.execute("PRAGMA query_only = ON")
            if journal_format.is_new(self._connection, self._path):
                raise journal_format.JournalError(f"the journal {self._path} holds no campaign yet")
        except sqlite3.Error as error:
            self.close()
            raise journal_format.unusable(self._path, error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> JournalView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def parameters(self) -> dict[str, str]:
        """The parameters of the campaign."""
        return dict(self._all(journal_format.PARAMETERS))

    def counts(self) -> dict[str, int]:
        """How many recipients each state has, without the states that none has."""
        return dict(self._all(journal_format.COUNTS))

    def rows(self) -> Iterator[Recipient]:
        """The recipients in the order of their ids."""
        last = 0
        while rows := self._all(_NEXT_ROWS, last):
            yield from map(Recipient._make, rows)
            last = rows[-1][0]

    def by_domain(self, limit: int = -1) -> list[DomainTally]:
        """The domains with the most recipients, in lower case; all without a limit."""
        return [DomainTally(*row) for row in self._all(_BY_DOMAIN, limit)]

    def by_code(self, limit: int = -1) -> list[CodeTally]:
        """What most recipients ended by, or are deferred by; all of it without a limit."""
        return [CodeTally(*row[:5]) for row in self._all(_BY_CODE, limit)]

    def span(self) -> tuple[float | None, float | None]:
        """The Unix times of the first and the last outcome, None before there is one."""
        first, last = self._all(_SPAN)[0]
        return first, last

    def over_time(self, seconds: float) -> list[tuple[float, str, int]]:
        """When outcomes came: the Unix time at which so many seconds begin, a state, and how many
        recipients came to that state then and are in it still."""
        return self._all(_OVER_TIME, float(seconds), float(seconds))

    def _all(self, query: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise journal_format.unusable(self._path, error) from error


def _how(path: str) -> str:
    """The parameters of the URI for a path."""
    # Where nothing may be written, as on a medium of old campaigns, SQLite has to be told that
    # nobody else will. It can't make the index that readers of a log need there.
    if not os.access(os.path.dirname(path), os.W_OK) and not os.path.exists(f"{path}-wal"):
        return "mode=ro&immutable=1"
    return "mode=rw"
