"""The journal of a campaign: which messages may have left, and their outcomes, even after a
kill -9."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from ..protocol.arguments import check_count, check_kind, check_real, refuse_value
from . import journal_format
from .journal_format import JournalError as JournalError
from .ownership import Owned, Ownership
from .retry import refused_by

# State, due, code, enhanced code, text, host, time and id.
Completed: TypeAlias = (
    "tuple[str, float | None, int | None, str | None, str | None, str | None, float, int]"
)

# A long reader makes the write-ahead log grow; it is cut back to this size.
_LOG_BYTES = 16 << 20

# The placeholders have no names: from Python 3.14 on, those with names need a mapping.
# A group may be written again. An id that belongs to another recipient is an error.
_NEW = """INSERT INTO recipient (id, key, address, state, attempts) VALUES (?, ?, ?, 'sending', 1)
ON CONFLICT (id) DO UPDATE SET state = 'sending'
WHERE key IS excluded.key AND address = excluded.address"""
_AGAIN = "UPDATE recipient SET state = 'sending', attempts = ?, due = NULL WHERE id = ?"
_COMPLETED = """UPDATE recipient SET state = ?, due = ?, code = ?, enhanced = ?, reply = ?,
host = ?, time = ?, first = CASE ? WHEN 'queued' THEN first ELSE coalesce(first, ?) END
WHERE id = ?"""
_RECOVER = """UPDATE recipient SET state = 'in doubt', code = NULL, enhanced = NULL,
reply = 'the sender ended before an outcome was recorded' WHERE state = 'sending'"""
# Their retry schedule starts over: otherwise a 4yz reply would reject them again at once.
_AGAIN_AFTER_ALL = """UPDATE recipient SET state = 'deferred', due = NULL, first = NULL
WHERE state = 'rejected'"""
_TAKEN_AS_ACCEPTED = """UPDATE recipient SET state = 'accepted', time = ?,
reply = 'was in doubt, and is taken as accepted' || coalesce('; ' || reply, '')
WHERE state = 'in doubt'"""
_FORMER = """SELECT id, address, state, attempts, due, first, code, reply
FROM temp.former JOIN recipient USING (id) WHERE former.key = ? ORDER BY id"""


class Entry(NamedTuple):
    """The entry in a journal of a job for one recipient.

    state: "queued", "accepted", "rejected", "deferred" or "in doubt". due: the Unix time when it is
    to be sent again. first: the Unix time of the first attempt's outcome, or None. code, text: of
    the last reply, or None.
    """

    id: int
    recipient: str
    state: str
    attempts: int
    due: float | None
    first: float | None
    code: int | None = None
    text: str | None = None


class Journal:
    """A file by which a campaign survives the death of its process.

    A recipient is recorded on disk as sending before the last byte of its message can leave, and
    its outcome after the reply. Recipients that were recorded as sending when the process died are
    in doubt from then on: the server may have the message or not (RFC 1047).

    recovered: how many recipients a former run left like that.

    write() and commit() may be called in two threads, one after the other, and entries() at any
    time by one thread. After a failure, everything but close() is refused. An exception such as
    KeyboardInterrupt, which may come at any moment, is no failure: an unfinished write() is undone.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        group_rows: int = 200,
        group_seconds: float = 0.02,
    ) -> None:
        """Open the journal, or create it, and own it until close() or the death of the process. A
        journal of an older csmtplib is updated.

        group_rows, group_seconds: at most how many outcomes wait for a commit, and how long. Raises
        JournalError if another process owns it, if it can't be written, if it is not a journal, or
        if it needs a newer csmtplib; TypeError and ValueError for arguments of the wrong type or
        out of range.
        """
        check_kind("path", path, (str, os.PathLike), "the path of a file, as a str or a Path")
        group_rows = check_count("group_rows", group_rows)
        group_seconds = check_real("group_seconds", group_seconds, "a number of seconds")
        if not 0 <= group_seconds < math.inf:
            refuse_value("group_seconds", group_seconds, "a number of seconds, 0 or more")
        self._group_rows = group_rows
        self._group_seconds = group_seconds
        # A journal has one owner, whatever name it is opened by.
        self._path = os.path.realpath(os.fspath(path))
        self._refusal: str | None = None
        self._is_writing = False
        self._committing = threading.Lock()
        with contextlib.ExitStack() as stack:
            try:
                self._ownership = stack.enter_context(Ownership(self._path))
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
        # Checked before anything is written: the file may not be ours.
        version = journal_format.version_of(connection, self._path)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise JournalError(
                f"the journal {self._path} can't have a write-ahead log there: put it on a local "
                "disk"
            )
        # With less, a power failure may undo a commit. On macOS, fsync() stops short of the disk,
        # and fullfsync does not.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        if version < journal_format.VERSION:
            if version:
                journal_format.update(connection)
            else:
                journal_format.create(connection)
            _move_out_of_the_log(connection)
        recovered = connection.execute(_RECOVER).rowcount
        return recovered, journal_format.integer(connection, "SELECT max(id) FROM recipient")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the campaign, as set_parameters() took them."""
        with self._failing_for_good():
            return dict(self._connection.execute(journal_format.PARAMETERS))

    def set_parameters(self, parameters: Mapping[str, str], *, replace: bool = False) -> None:
        """Add or change parameters of the campaign, on disk. replace: remove all others."""
        with self._failing_for_good():
            self._begin()
            if replace:
                self._connection.execute("DELETE FROM campaign")
            self._connection.executemany(
                "INSERT OR REPLACE INTO campaign (name, value) VALUES (?, ?)", parameters.items()
            )
        self.commit()

    def counts(self) -> dict[str, int]:
        """Return how many recipients are in each state, without states that have none."""
        with self._failing_for_good():
            return dict(self._connection.execute(journal_format.COUNTS))

    def retry_rejected(self, code: str | None = None) -> int:
        """Mark the recipients that former runs rejected as deferred and due, on disk. Return how
        many. code: only those refused with it (see retry.refused_by). Raises ValueError if it is
        not a code."""
        condition, values = ("1", ()) if code is None else refused_by(code)
        return self._decide(f"{_AGAIN_AFTER_ALL} AND {condition}", values)

    def accept_in_doubt(self, now: float) -> int:
        """Mark the recipients that former runs left in doubt as accepted, on disk. Return how many.
        now: the Unix time."""
        return self._decide(_TAKEN_AS_ACCEPTED, (now,))

    def _decide(self, statement: str, values: Sequence[str | float]) -> int:
        with self._failing_for_good():
            self._begin()
            changed = self._connection.execute(statement, values).rowcount
        self.commit()
        return changed

    @property
    def has_history(self) -> bool:
        """Whether a former run has recorded anything."""
        return self._former is not None

    def entries(self, key: str | int) -> list[Entry]:
        """Return what former runs have recorded of a job, in the order of its recipients."""
        if self._former is None:
            return []
        with self._failing_for_good():
            return [Entry(*row) for row in self._former.execute(_FORMER, (key,))]

    def new_ids(self, count: int) -> list[int]:
        """Return ids for `count` recipients that are not in the journal yet. Ids ascend."""
        return list(itertools.islice(self._ids, count))

    def due_in(self, now: float, outcomes: int, oldest: float | None) -> float:
        """Return the seconds until a group must be committed, 0.0 for at once. outcomes: how many
        are waiting. oldest: when the first of them began to wait, by the clock of `now`."""
        if outcomes >= self._group_rows:
            return 0.0
        return math.inf if oldest is None else max(0.0, oldest + self._group_seconds - now)

    def write(
        self,
        *,
        new: Sequence[tuple[int, str | int, str]],
        again: Sequence[tuple[int, int]],
        completed: Sequence[Completed],
    ) -> None:
        """Add to the group that the next commit() brings to disk: all of this, or nothing if an
        exception interrupts it. It may then be called again with the same rows and more, even if
        the first call was complete: nothing is recorded twice.

        new: id, key and address of recipients that are recorded as sending. completed: recipients
        that have an outcome. again: id and attempts of recipients that are recorded as sending
        another time; they come last, so that a recipient may have an outcome and be sent to again.
        """
        with self._failing_for_good():
            self._begin()
            self._connection.execute("SAVEPOINT written")
            self._is_writing = True
            execute = self._connection.executemany
            if new and execute(_NEW, new).rowcount != len(new):
                raise sqlite3.DataError("a new recipient has the id of another")
            # With an unknown id, an outcome would be lost silently.
            outcomes = [(*row[:7], row[0], row[6], row[7]) for row in completed]
            if completed and execute(_COMPLETED, outcomes).rowcount != len(completed):
                raise sqlite3.DataError("an outcome of a recipient that is not in it")
            sending = [(attempts, id) for id, attempts in again]
            if again and execute(_AGAIN, sending).rowcount != len(again):
                raise sqlite3.DataError("a recipient sent to again that is not in it")
            # The savepoint ends with the transaction.
            self._is_writing = False

    def commit(self) -> None:
        """Commit the group, and return when it is on disk."""
        # One thread at a time, even if another did not wait until this is done.
        with self._committing, self._failing_for_good():
            if self._connection.in_transaction:
                self._undo_half()
                self._connection.execute("COMMIT")

    def close(self) -> None:
        """Commit what was written, leave a single file, and give up the ownership."""
        try:
            if self._refusal is None:
                self.commit()
                # If a reader prevents this, the data is just as safe in the log.
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA busy_timeout = 0")
                    _move_out_of_the_log(self._connection)
        finally:
            self._refusal = self._refusal or f"the journal {self._path} is closed"
            try:
                self._stack.close()
            finally:
                # Once more, by single calls in C: an interrupt may have come before those above.
                try:
                    self._connection.close()
                finally:
                    self._ownership.give_up()

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        self._undo_half()

    def _undo_half(self) -> None:
        """Undo a write() that was interrupted."""
        if self._is_writing:
            self._connection.execute("ROLLBACK TO written")
            self._is_writing = False

    @contextlib.contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        if self._refusal is not None:
            raise JournalError(self._refusal)
        try:
            yield
        # Python itself raises the last two, for integers and text that SQLite can't hold.
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            self._refusal = (
                f"the journal {self._path} failed ({error}): nothing may be sent without it; "
                "correct that, then resume the campaign"
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
    """Return a connection that finds the existing rows by key, in a temporary table on disk.

    An index in the journal would take as long to make (0.5 s for a million rows), but would have to
    be logged, synced and removed again. And with a separate connection, no lookup waits for a
    commit.
    """
    connection = _connect(path)
    try:
        connection.execute("PRAGMA temp_store = FILE")
        connection.execute(
            "CREATE TEMP TABLE former (key, id INTEGER, PRIMARY KEY (key, id)) WITHOUT ROWID"
        )
        # In key order, the rows fill page after page.
        connection.execute("INSERT INTO former SELECT key, id FROM recipient ORDER BY key, id")
    except BaseException:
        connection.close()
        raise
    return connection


def _move_out_of_the_log(connection: sqlite3.Connection) -> None:
    """Move the content of SQLite's log into the file itself."""
    # The result is read to the end: on PyPy, a statement with rows left blocks every commit.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
