"""A journal of an older version."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

VERSION_1 = """
CREATE TABLE recipient (
    id INTEGER PRIMARY KEY,     -- in the order in which they were first armed
    key NOT NULL,               -- names the message: an integer or text, the caller's
    address TEXT NOT NULL,      -- of the recipient
    state TEXT NOT NULL         -- armed: may have left; in doubt: may have been accepted
        CHECK (state = 'accepted' OR state = 'armed' OR state = 'rejected'
            OR state = 'deferred' OR state = 'queued' OR state = 'in doubt'),
    attempts INTEGER NOT NULL,  -- how often it was sent; armed and queued count the next try
    first REAL,                 -- when the first attempt had its outcome; Unix time
    due REAL,                   -- when it is to be sent again; Unix time
    code INTEGER,               -- of the last reply
    enhanced TEXT,              -- the enhanced status code of the last reply
    reply TEXT,                 -- the text of the last reply, and what went wrong
    host TEXT,                  -- the server that it was sent to
    time REAL                   -- of the last outcome; Unix time
);
CREATE TABLE campaign (
    name TEXT PRIMARY KEY,      -- of a parameter
    value TEXT NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = 0x63736D6A;
PRAGMA user_version = 1;
INSERT INTO recipient VALUES
(1,1,'b1@y.test','accepted',1,1e9,NULL,250,'2.0.0','2.0.0 ok','mx:25',1e9),
(2,'2','b2@y.test','deferred',2,1e9,1e9,451,'4.7.1','4.7.1 later','mx:25',1e9),
(3,3,'b3@y.test','armed',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL),
(5,5,'b5@y.test','queued',1,NULL,NULL,NULL,NULL,'stopped',NULL,1e9);
INSERT INTO campaign VALUES ('version','0.1');
"""


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    """A journal as the first version made it, whose process was killed."""
    path = tmp_path / "journal"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.executescript(VERSION_1)
    connection.close()
    return path
