"""The tables of a study file. Older versions are read as they are, and brought up to date when a study goes on."""

from __future__ import annotations

import contextlib
import re
import sqlite3

APPLICATION_ID = int.from_bytes(b"qkvl", "big")
_RESULTS = """
CREATE TABLE study (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    registration TEXT NOT NULL,  -- canonical JSON
    qkvlab TEXT NOT NULL,        -- the version that registered it
    checksum BLOB NOT NULL
) STRICT;
CREATE TABLE result (
    id INTEGER PRIMARY KEY,
    cell BLOB NOT NULL,          -- digest of the six columns that follow
    task TEXT NOT NULL,
    setting TEXT NOT NULL,
    design TEXT NOT NULL,
    role TEXT NOT NULL,
    seed INTEGER NOT NULL,
    lr REAL,                     -- never missing, so NULL is NaN; the same for seconds
    diverged INTEGER NOT NULL,
    losses BLOB NOT NULL,        -- little-endian float64
    steps INTEGER NOT NULL,
    seconds REAL,
    models_in_group INTEGER NOT NULL,
    device TEXT NOT NULL,
    versions TEXT NOT NULL,      -- JSON
    source TEXT NOT NULL,
    reason TEXT,                 -- why it was kept aside; NULL when accepted
    checksum BLOB NOT NULL       -- of this row and its metrics
) STRICT;
CREATE INDEX result_cell ON result (cell);
CREATE UNIQUE INDEX one_accepted ON result (cell) WHERE reason IS NULL;
CREATE TABLE metric (
    result INTEGER NOT NULL REFERENCES result (id),
    name TEXT NOT NULL,
    value REAL,
    is_nan INTEGER NOT NULL CHECK (is_nan = (value IS NULL)),
    PRIMARY KEY (result, name)
) STRICT, WITHOUT ROWID;
"""
_SESSIONS = """
CREATE TABLE session (
    number INTEGER PRIMARY KEY,
    begun REAL NOT NULL,         -- seconds since 1970
    seconds REAL NOT NULL,       -- on the wall, until it was last noted
    cores INTEGER,               -- of this machine; NULL on a cluster
    workers INTEGER NOT NULL,    -- most that there were at the same time
    before INTEGER NOT NULL,     -- results that were stored when it began
    checksum BLOB NOT NULL
) STRICT;
"""
STEPS = (_RESULTS, _SESSIONS)
"""What each version added to the one before it, the first version first."""
VERSION = len(STEPS)


def making() -> str:
    """Return the statements that make an empty file a study's."""
    return f"PRAGMA application_id={APPLICATION_ID}; {renewing(0)}"


def renewing(version: int) -> str:
    """Return the statements that bring the tables of an older version up to date; none for those of this version."""
    return "".join(STEPS[version:]) + f"PRAGMA user_version={VERSION};" if version < VERSION else ""


def found(db: sqlite3.Connection) -> list[str]:
    """Return the statements that made the tables of a file, without comments and line breaks."""
    statements = [sql for (sql,) in db.execute("SELECT coalesce(sql, 'index of a key') FROM sqlite_schema")]
    return sorted(" ".join(re.sub(r"--.*", "", sql).split()) for sql in statements)


def expected(version: int = VERSION) -> list[str]:
    """Return the statements that a version stands for; a test pins them."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript("".join(STEPS[:version]))
        return found(db)
