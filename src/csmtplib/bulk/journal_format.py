"""The file of a journal: an SQLite database, which the sqlite3 shell can read too."""

from __future__ import annotations

import sqlite3

# "csmj", by which file(1) and other programs recognise the database.
APPLICATION_ID = 0x63736D6A

# 1: the state "sending" was called "armed".
VERSION = 2

# How long to wait for a reader that is in the way.
PATIENCE_SECONDS = 10.0

# There is no index: keys are in no order, so each row would write a page of it.
# The states are compared one by one: with IN, a row costs 2 us more.
_RECIPIENT = """CREATE TABLE recipient (
    id INTEGER PRIMARY KEY,     -- in the order in which they were first recorded
    key NOT NULL,               -- names the message: an integer or text, the caller's
    address TEXT NOT NULL,      -- of the recipient
    state TEXT NOT NULL         -- sending: may have left; in doubt: may have been accepted
        CHECK (state = 'accepted' OR state = 'sending' OR state = 'rejected'
            OR state = 'deferred' OR state = 'queued' OR state = 'in doubt'),
    attempts INTEGER NOT NULL,  -- how often it was sent; sending and queued count the next try
    first REAL,                 -- when the first attempt had its outcome; Unix time
    due REAL,                   -- when it is to be sent again; Unix time
    code INTEGER,               -- of the last reply
    enhanced TEXT,              -- the enhanced status code of the last reply
    reply TEXT,                 -- the text of the last reply, and what went wrong
    host TEXT,                  -- the server that it was sent to
    time REAL                   -- of the last outcome; Unix time
)"""
_TABLES = (
    _RECIPIENT,
    """CREATE TABLE campaign (
    name TEXT PRIMARY KEY,      -- of a parameter
    value TEXT NOT NULL
) WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

_FROM_VERSION_1 = """SELECT id, key, address,
CASE state WHEN 'armed' THEN 'sending' ELSE state END AS state,
attempts, first, due, code, enhanced, reply, host, time FROM main."""
_UPDATE = (
    "ALTER TABLE recipient RENAME TO recipient_1",
    _RECIPIENT,
    f"INSERT INTO recipient {_FROM_VERSION_1}recipient_1",
    "DROP TABLE recipient_1",
    f"PRAGMA user_version = {VERSION}",
)
# Hides the table of that name.
_VIEW = f"CREATE TEMP VIEW recipient AS {_FROM_VERSION_1}recipient"

COUNTS = "SELECT state, count(*) FROM recipient GROUP BY state"
PARAMETERS = "SELECT name, value FROM campaign"


class JournalError(Exception):
    """A journal that can't be used, or that failed. The text says what to do."""


class NoCampaign(JournalError):
    """A file that could be a journal, but is still empty."""


def unusable(path: str, error: Exception) -> JournalError:
    """Return the error to raise for a journal that could not be opened or read."""
    # SQLite errors without a class of their own concern the content of the file.
    if type(error) is sqlite3.DatabaseError:
        return JournalError(f"{path} is no journal, or it is damaged ({error}): give another file")
    reason = getattr(error, "strerror", None) or error
    return JournalError(
        f"the journal {path} can't be used ({reason}): its directory has to exist, both have to be "
        "readable and writable, and the disk needs room"
    )


def version_of(connection: sqlite3.Connection, path: str) -> int:
    """Return the version of a journal, 0 if the database is still empty. Raises JournalError for a
    version that is too new and for any other database, and sqlite3.Error if it is not one."""
    application = integer(connection, "PRAGMA application_id")
    version = integer(connection, "PRAGMA user_version")
    if application == APPLICATION_ID:
        if version > VERSION:
            raise JournalError(
                f"the journal {path} has format {version}, of a newer csmtplib; this one knows "
                f"formats up to {VERSION}: update csmtplib"
            )
        return version
    if application or version or integer(connection, "SELECT count(*) FROM sqlite_master"):
        raise JournalError(f"{path} is a database, but no journal of csmtplib: give another file")
    return 0


def create(connection: sqlite3.Connection) -> None:
    """Turn an empty database into a journal, completely or not at all. Raises sqlite3.Error."""
    _execute(connection, _TABLES)


def update(connection: sqlite3.Connection) -> None:
    """Update a journal of version 1, completely or not at all. Raises sqlite3.Error."""
    _execute(connection, _UPDATE)


def show_as_updated(connection: sqlite3.Connection) -> None:
    """Let this connection read a journal of version 1 as if it were updated. Raises
    sqlite3.Error."""
    connection.execute(_VIEW)


def _execute(connection: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def integer(connection: sqlite3.Connection, query: str) -> int:
    """Return the first column of the first row of a query; 0 for NULL."""
    return int(connection.execute(query).fetchone()[0] or 0)
