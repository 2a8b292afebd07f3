"""Journals for reports: read while a sender owns them, or later."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..protocol.arguments import check_count, check_kind, check_seconds
from . import journal_format

# Rows per query. Between two queries, the owner can empty the log.
_ROWS = 1000

# The part of an address after the last "@", or all of it if there is none.
_DOMAIN = "lower(substr(address, length(rtrim(address, replace(address, '@', ''))) + 1))"

_BY_DOMAIN = f"""SELECT {_DOMAIN}, count(*), sum(state = 'queued'), sum(state = 'sending'),
sum(state = 'accepted'), sum(state = 'rejected'), sum(state = 'deferred'), sum(state = 'in doubt')
FROM recipient GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?"""
# In SQLite, max() takes the other columns from its row.
_BY_CODE = """SELECT code, enhanced, state, count(*), reply, max(time) FROM recipient
WHERE state NOT IN ('queued', 'sending') GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT ?"""
_OVER_TIME = """SELECT CAST(time / ? AS INTEGER) * ?, state, count(*) FROM recipient
WHERE time IS NOT NULL AND state NOT IN ('queued', 'sending') GROUP BY 1, 2 ORDER BY 1, 2"""
_SPAN = "SELECT min(first), max(CASE WHEN state <> 'queued' THEN time END) FROM recipient"


class Recipient(NamedTuple):
    """A row of a journal. first, due, time: Unix times. reply: the text of the last reply, and what
    went wrong. The other columns are those of bulk.delivery.Delivery."""

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
WHERE id > ? AND (? IS NULL OR state = ?) ORDER BY id LIMIT {_ROWS}"""


class DomainTally(NamedTuple):
    """How many recipients a domain has, and how many of them are in each state."""

    domain: str
    recipients: int
    queued: int
    sending: int
    accepted: int
    rejected: int
    deferred: int
    in_doubt: int


class CodeTally(NamedTuple):
    """How many recipients a reply brought to a state, with the text of the latest one as an
    example. code is None if there was no reply."""

    code: int | None
    enhanced: str | None
    state: str
    recipients: int
    example: str | None


class JournalView:
    """A journal that is only read. Each method sees the commits made before its call; rows() also
    sees later ones.

    All methods raise journal.JournalError if the file can't be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a journal. Raises journal.JournalError if it does not exist or can't be read;
        journal_format.NoCampaign if the file is empty; TypeError if path is not a path."""
        check_kind("path", path, (str, os.PathLike), "the path of a file, as a str or a Path")
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
            version = journal_format.version_of(self._connection, self._path)
            if not version:
                raise journal_format.NoCampaign(f"the journal {self._path} holds no campaign yet")
            if version < journal_format.VERSION:
                journal_format.show_as_updated(self._connection)
            self._connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            self.close()
            raise journal_format.unusable(self._path, error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> JournalView:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the campaign."""
        return dict(self._all(journal_format.PARAMETERS))

    def counts(self) -> dict[str, int]:
        """Return how many recipients are in each state, without states that have none."""
        return dict(self._all(journal_format.COUNTS))

    def rows(self, state: str | None = None) -> Iterator[Recipient]:
        """Yield the recipients, or those in a state, in the order of their ids."""
        last = 0
        while rows := self._all(_NEXT_ROWS, last, state, state):
            yield from map(Recipient._make, rows)
            last = rows[-1][0]

    def by_domain(self, limit: int = -1) -> list[DomainTally]:
        """Return the domains with the most recipients, in lower case; without a limit, all."""
        limit = check_count("limit", limit, least=-1)
        return [DomainTally(*row) for row in self._all(_BY_DOMAIN, limit)]

    def by_code(self, limit: int = -1) -> list[CodeTally]:
        """Return the replies with the most recipients; without a limit, all."""
        limit = check_count("limit", limit, least=-1)
        return [CodeTally(*row[:5]) for row in self._all(_BY_CODE, limit)]

    def span(self) -> tuple[float | None, float | None]:
        """Return the Unix times of the first and the last outcome, None if there is none yet."""
        first, last = self._all(_SPAN)[0]
        return first, last

    def over_time(self, seconds: float) -> list[tuple[float, str, int]]:
        """Return the outcomes over time, in intervals of `seconds`: the Unix time at which one
        begins, a state, and how many recipients reached that state then and are still in it."""
        seconds = float(check_seconds("seconds", seconds))
        return self._all(_OVER_TIME, seconds, seconds)

    def _all(self, query: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise journal_format.unusable(self._path, error) from error


def _how(path: str) -> str:
    """Return the parameters of the URI for a path."""
    # In a directory that is not writable, such as an archive, SQLite has to be told that nobody
    # else writes the file: it can't create the index there that readers of a log need.
    if not os.access(os.path.dirname(path), os.W_OK) and not os.path.exists(f"{path}-wal"):
        return "mode=ro&immutable=1"
    return "mode=rw"
