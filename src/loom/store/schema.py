"""The schema of a ``SqliteSessionStore``, its migrations, and how a database is opened and recognised."""

from __future__ import annotations

import os
import sqlite3

from ..errors import StoreCorrupted, StoreError

APPLICATION_ID = 0x4C6F6F6D
"""Marks a database as ours ("Loom" in ASCII), so that another program's is never written to."""

# Every row's text is one JSON ``body`` with a checksum; the other columns only find it. SQLite notices damage
# to its own structure, but not a changed byte in a value.
_VERSION_1 = """
CREATE TABLE sessions (
    ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE runs (
    ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, session_id TEXT NOT NULL,
    started INTEGER NOT NULL, unfinished INTEGER NOT NULL, body BLOB, crc INTEGER NOT NULL
);
CREATE INDEX runs_by_session ON runs (session_id);
CREATE INDEX runs_unfinished ON runs (session_id) WHERE unfinished;
CREATE TABLE transcripts (
    run_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL
);
CREATE INDEX transcripts_by_session ON transcripts (session_id);
CREATE TABLE events (
    session_id TEXT NOT NULL, seq INTEGER NOT NULL, run_id TEXT NOT NULL, body BLOB NOT NULL,
    crc INTEGER NOT NULL, PRIMARY KEY (session_id, seq)
) WITHOUT ROWID;
CREATE INDEX events_by_run ON events (run_id, session_id, seq);
CREATE TABLE requests (
    session_id TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, run_id TEXT NOT NULL,
    PRIMARY KEY (session_id, id)
) WITHOUT ROWID;
CREATE INDEX requests_by_run ON requests (run_id);
CREATE TABLE inbox (
    ordinal INTEGER PRIMARY KEY, session_id TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL,
    crc INTEGER NOT NULL, UNIQUE (session_id, id)
);
CREATE TABLE dedupe (
    session_id TEXT NOT NULL, key TEXT NOT NULL, at REAL NOT NULL, kept_until REAL NOT NULL,
    PRIMARY KEY (session_id, key)
) WITHOUT ROWID;
CREATE INDEX dedupe_by_age ON dedupe (kept_until);
CREATE TABLE leases (
    session_id TEXT PRIMARY KEY, owner TEXT NOT NULL, token INTEGER NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE tokens (newest INTEGER NOT NULL);
INSERT INTO tokens VALUES (0);
"""

# The size stands beside the body, so that making room does not read what is there.
_VERSION_2 = """
CREATE TABLE outputs (
    ordinal INTEGER PRIMARY KEY, session_id TEXT NOT NULL, reference TEXT NOT NULL, size INTEGER NOT NULL,
    body BLOB NOT NULL, crc INTEGER NOT NULL, UNIQUE (session_id, reference)
);
CREATE INDEX outputs_by_age ON outputs (session_id, ordinal, size);
"""

MIGRATIONS = (_VERSION_1, _VERSION_2)
"""``MIGRATIONS[n]`` leads from version n to n + 1. Published ones never change; new ones are added."""

_MAGIC = b"SQLite format 3\0"
_NOT_OPENED = "cannot be opened, nothing was read or saved"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def store_error(path: str, error: sqlite3.Error, outcome: str) -> StoreError:
    """What a database error means to whoever asked for ``outcome`` in vain; the error is its cause."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _DAMAGED:
        said: StoreError = StoreCorrupted(f"{path} is damaged or not a database: {error}; restore it")
    else:
        said = StoreError(f"{path}: {outcome}: {error}")
        if code in _BUSY:
            said = StoreError(f"{path} is locked by another process: {outcome}: try again ({error})")
            said.retryable = True
    said.__cause__ = error
    return said


def connect(path: str, *, busy_timeout: float) -> sqlite3.Connection:
    """Open a database for use by the calling thread, made and brought up to date if need be.

    A new file is its owner's only from the first moment. Raises StoreError, StoreCorrupted.
    """
    if path != ":memory:":
        _make_file(path)
        _refuse_other_files(path)
    try:
        connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
    except sqlite3.Error as error:
        raise store_error(path, error, _NOT_OPENED) from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise store_error(path, error, _NOT_OPENED) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _make_file(path: str) -> None:
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    except OSError as error:
        # A database on a disk that cannot be written to can still be read.
        if not os.path.isfile(path):
            raise StoreError(f"{path}: {_NOT_OPENED}: {error}") from error


def _refuse_other_files(path: str) -> None:
    # SQLite itself takes a file of one byte for an empty one, and would write over it.
    try:
        with open(path, "rb") as stream:
            start = stream.read(len(_MAGIC))
    except OSError as error:
        raise StoreError(f"{path}: {_NOT_OPENED}: {error}") from error
    if start not in (b"", _MAGIC):
        raise StoreCorrupted(f"{path} is damaged or not a database; it was left as it is: restore it")


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    # Recognised before the first pragma that writes: a file that is not ours is left as it is.
    version = _recognise(connection, path)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA synchronous = FULL")
    if version < len(MIGRATIONS):
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(connection, path)


def _recognise(connection: sqlite3.Connection, path: str) -> int:
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != APPLICATION_ID and (owner or version or tables):
        raise StoreError(f"{path} is a database, but not of Loom's sessions; it was left as it is")
    if version > len(MIGRATIONS):
        known = len(MIGRATIONS)
        raise StoreError(f"{path} was written by a newer Loom: upgrade (schema {version}, here {known})")
    return int(version)


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again inside the transaction: another process may have been faster.
        version = _recognise(connection, path)
        for script in MIGRATIONS[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
