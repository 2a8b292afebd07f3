"""The file of a journal: an SQLite database that the sqlite3 shell reads too."""

from __future__ import annotations

import sqlite3

# "csmj", where file(1) and others look for whose database it is.
APPLICATION_ID = 0x63736D6A
VERSION = 1

# How long a reader that is in the way is waited for.
PATIENCE_SECONDS = 10.0

# There is no index: with keys in no order, one would have a page written for every row.
# The states stand in a chain of comparisons, as with IN a row costs 2 us more.
_TABLES = (
    """CREATE TABLE recipient (
    id INTEGER PRIMARY KEY,     -- in the order in which they were first armed
    key NOT NULL,               -- names the message: an integer or text, the caller's
    address TEXT NOT NULL,      -- of the recipient
    state TEXT NOT NULL         -- armed: may have left; in doubt: may have been accepted
        CHECK (state = 'accepted' OR state = 'armed' OR state = 'rejected'
            OR state = 'deferred' OR state = 'queued' OR state = 'in doubt'),
    attempts INTEGER NOT NULL,  -- how often it was sent, or is being sent
    first REAL,                 -- when the first attempt had its outcome; Unix time
    due REAL,                   -- when it is to be sent again; Unix time
    code INTEGER,               -- of the last reply
    enhanced TEXT,              -- the enhanced status code of the last reply
    reply TEXT,                 -- the text of the last reply, and what went wrong
    host TEXT,                  -- the server that it was sent to
    time REAL                   -- of the last outcome; Unix time
)""",
    """CREATE TABLE campaign (
    name TEXT PRIMARY KEY,      -- of a parameter
    value TEXT NOT NULL
) WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

COUNTS = "SELECT state, count(*) FROM recipient GROUP BY state"
PARAMETERS = "SELECT name, value FROM campaign"


class JournalError(Exception):
    """A journal that can't be used, or that failed. It says what to do."""


def unusable(path: str, error: Exception) -> JournalError:
    """What is told of a journal that could not be opened or read."""
    # Those of SQLite's errors that have no class of their own are about what is in the file.
    if type(error) is sqlite3.DatabaseError:
        return JournalError(f"{path} is no journal, or it is damaged ({error}): give another file")
    reason = getattr(error, "strerror", None) or error
    return JournalError(
        f"the journal {path} can't be used ({reason}): its directory has to exist, both have to be "
        "readable and writable, and the disk needs room"
    )


def is_new(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the database is empty yet. Raises JournalError where it is neither that nor a journal
    that can be read, and sqlite3.Error where it is no database."""
    application = integer(connection, "PRAGMA application_id")
    version = integer(connection, "PRAGMA user_version")
    if application == APPLICATION_ID:
        if version > VERSION:
            raise JournalError(
                f"the journal {path} has format {version}, of a newer csmtplib; this one knows "
                f"{VERSION}: update csmtplib"
            )
        return False
    if application or version or integer(connection, "SELECT count(*) FROM sqlite_master"):
        raise JournalError(f"{path} is a database, but no journal of csmtplib: give another file")
    return True


def create(connection: sqlite3.Connection) -> None:
    """Makes a journal of an empty database, whole or not at all. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("COMMIT")


def integer(connection: sqlite3.Connection, query: str) -> int:
    """The first column of the first row; 0 for NULL."""
    return int(connection.execute(query).fetchone()[0] or 0)
