"""The journal of a campaign: what may have left, and what became of it, through a kill -9."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, TypeAlias

from . import journal_format
from .journal_format import JournalError as JournalError
from .ownership import Owned, Ownership

# State, due, code, enhanced code, text, host, time and id.
Settled: TypeAlias = (
    "tuple[str, float | None, int | None, str | None, str | None, str | None, float, int]"
)

# What a long reader made the write-ahead log grow to is cut back to this.
_LOG_BYTES = 16 << 20

# By nameless placeholders: others take names, from Python 3.14 on.
_NEW = "INSERT INTO recipient (id, key, address, state, attempts) VALUES (?, ?, ?, 'armed', 1)"
_AGAIN = "UPDATE recipient SET state = 'armed', attempts = ?, due = NULL WHERE id = ?"
_SETTLED = """UPDATE recipient SET state = ?, due = ?, code = ?, enhanced = ?, reply = ?,
host = ?, time = ?, first = CASE ? WHEN 'queued' THEN first ELSE coalesce(first, ?) END
WHERE id = ?"""
_RECOVER = """UPDATE recipient SET state = 'in doubt', code = NULL, enhanced = NULL,
reply = 'the sender ended before an outcome was recorded' WHERE state = 'armed'"""
_FORMER = """SELECT id, address, state, attempts, due, first
FROM temp.former JOIN recipient USING (id) WHERE former.key = ? ORDER BY id"""


class Entry(NamedTuple):
    """What a journal has of a job for one recipient.

    state: "queued", "accepted", "rejected", "deferred" or "in doubt". due: the Unix time when it is
    to be sent again. first: the Unix time of the first attempt's outcome, None without one.
    """

    id: int
    recipient: str
    state: str
    attempts: int
    due: float | None
    first: float | None


class Journal:
    """A file that makes a campaign survive the death of its process.

    A recipient is armed on disk before the end of its message can leave, and settled on disk after
    the reply. What was armed without an outcome when the process died is in doubt from then on: the
    server may have it or not (RFC 1047).

    recovered: how many recipients a former run left like that.

    write() and commit() may be called in two threads, one after the other, and entries() at any
    time by one thread. After a failure everything is refused but close().
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        group_rows: int = 200,
        group_seconds: float = 0.02,
    ) -> None:
        """Opens the journal, or creates it, and owns it until close() or the death of the process.

        group_rows, group_seconds: how many outcomes wait for a commit at most, and how long.
        Raises JournalError where somebody else owns it, it can't be written, or it is no journal;
        ValueError for groups that can't be.
        """
        if group_rows < 1 or not 0 <= group_seconds < math.inf:
            raise ValueError("group_rows is 1 or more, group_seconds is 0 or more")
        self._group_rows = group_rows
        self._group_seconds = group_seconds
        # A journal has one owner by whatever name it is opened.
        self._path = os.path.realpath(os.fspath(path))
        self._refusal: str | None = None
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(Ownership(self._path))
                self._connection = stack.enter_context(contextlib.closing(_connect(self._path)))
                self.recovered, last = self._open()
                self._former = None
                if last:
                    former = _former_runs(self._path)
                    self._former = stack.enter_context(contextlib.closing(former))
            except Owned as error:
                who = "another process" if error.process is None else f"process {error.process}"
                raise JournalError(
                    f"the journal {self._path} is in use by {who}: wait until it ends, or stop it"
                ) from error
            except (OSError, sqlite3.Error) as error:
                raise journal_format.unusable(self._path, error) from error
            self._ids = itertools.count(last + 1)
            self._stack = stack.pop_all()

    def _open(self) -> tuple[int, int]:
        connection = self._connection
        # Before the first octet of a file that may be somebody else's is written.
        new = journal_format.is_new(connection, self._path)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise JournalError(
                f"the journal {self._path} can't have a write-ahead log there: put it on a local "
                "disk"
            )
        # With less, what is committed may be gone after a loss of power; and where fsync() stops
        # short of the disk, as on macOS, this goes on.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        if new:
            journal_format.create(connection)
            _move_out_of_the_log(connection)
        recovered = connection.execute(_RECOVER).rowcount
        return recovered, journal_format.integer(connection, "SELECT max(id) FROM recipient")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def parameters(self) -> dict[str, str]:
        """The parameters of the campaign, as set_parameters() took them."""
        with self._failing_for_good():
            return dict(self._connection.execute(journal_format.PARAMETERS))

    def set_parameters(self, parameters: Mapping[str, str]) -> None:
        """Adds to the parameters of the campaign, or changes them, on disk."""
        with self._failing_for_good():
            self._begin()
            self._connection.executemany(
                "INSERT OR REPLACE INTO campaign (name, value) VALUES (?, ?)", parameters.items()
            )
        self.commit()

    def counts(self) -> dict[str, int]:
        """How many recipients each state has, without the states that none has."""
        with self._failing_for_good():
            return dict(self._connection.execute(journal_format.COUNTS))

    @property
    def has_history(self) -> bool:
        """Whether a former run has recorded anything."""
        return self._former is not None

    def entries(self, key: str | int) -> list[Entry]:
        """What former runs have recorded of a job, in the order of its recipients."""
        if self._former is None:
            return []
        with self._failing_for_good():
            return [Entry(*row) for row in self._former.execute(_FORMER, (key,))]

    def new_id(self) -> int:
        """The id of a recipient that is not in the journal yet. Ids ascend."""
        return next(self._ids)

    def due_in(self, now: float, outcomes: int, oldest: float | None) -> float:
        """In how many seconds a group is to be committed, 0.0 for at once: so many outcomes wait,
        the oldest since then, by the clock of `now`."""
        if outcomes >= self._group_rows:
            return 0.0
        return math.inf if oldest is None else max(0.0, oldest + self._group_seconds - now)

    def write(
        self,
        *,
        new: Sequence[tuple[int, str | int, str]],
        again: Sequence[tuple[int, int]],
        settled: Sequence[Settled],
    ) -> None:
        """Adds to the group that the next commit() brings to disk.

        new: id, key and address of recipients that become armed. settled: those that have an
        outcome. again: id and attempts of those that become armed another time; they come last, so
        that a recipient may be both settled and armed again.
        """
        with self._failing_for_good():
            self._begin()
            execute = self._connection.executemany
            if new:
                execute(_NEW, new)
            # The id of no row would be an outcome that is lost in silence.
            outcomes = [(*row[:7], row[0], row[6], row[7]) for row in settled]
            if settled and execute(_SETTLED, outcomes).rowcount != len(settled):
                raise sqlite3.DataError("an outcome of a recipient that is not in it")
            armed = [(attempts, id) for id, attempts in again]
            if again and execute(_AGAIN, armed).rowcount != len(again):
                raise sqlite3.DataError("a recipient armed again that is not in it")

    def commit(self) -> None:
        """Brings what was written to disk, and returns when it is there."""
        with self._failing_for_good():
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    def close(self) -> None:
        """Commits what was written, leaves one file, and gives the journal up."""
        try:
            if self._refusal is None:
                self.commit()
                # What can't be moved out of the log now, for a reader's sake, is safe there.
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA busy_timeout = 0")
                    _move_out_of_the_log(self._connection)
        finally:
            self._refusal = self._refusal or f"the journal {self._path} is closed"
            self._stack.close()

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        if self._refusal is not None:
            raise JournalError(self._refusal)
        try:
            yield
        # Python's own are for integers and text that SQLite has no octets for.
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            self._refusal = (
                f"the journal {self._path} failed ({error}): nothing may be sent without it; "
                "when that is put right, resume the campaign"
            )
            raise JournalError(self._refusal) from error


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(
        path,
        timeout=journal_format.PATIENCE_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _former_runs(path: str) -> sqlite3.Connection:
    """A connection that finds what there is now by its key, in a temporary table on disk.

    An index in the journal takes as long to make (0.5 s for a million rows), but would have to be
    logged, synced and taken away again. And through a connection of its own nobody waits for a
    commit.
    """
    connection = _connect(path)
    try:
        connection.execute("PRAGMA temp_store = FILE")
        connection.execute(
            "CREATE TEMP TABLE former (key, id INTEGER, PRIMARY KEY (key, id)) WITHOUT ROWID"
        )
        # In their order, the rows fill page after page.
        connection.execute("INSERT INTO former SELECT key, id FROM recipient ORDER BY key, id")
    except BaseException:
        connection.close()
        raise
    return connection


def _move_out_of_the_log(connection: sqlite3.Connection) -> None:
    """Writes what is in SQLite's log into the file itself."""
    # Its answer is read to the end: on PyPy a statement that has more to say hinders every commit.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
