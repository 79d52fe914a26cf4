"""The schema of a ``SqliteSessionStore``, its migrations, and how a database is opened and recognised."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable

from ..errors import StoreCorrupted, StoreError
from .sqlitetally import take_stock

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

# A tally says what a session's rows must amount to (see sqlitetally.py); first and last are where a run's events stand,
# which is all that the index of events by runs was for.
_VERSION_3 = """
ALTER TABLE sessions ADD COLUMN parent TEXT;
CREATE INDEX sessions_by_parent ON sessions (parent);
ALTER TABLE runs ADD COLUMN first INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN last INTEGER NOT NULL DEFAULT 0;
DROP INDEX events_by_run;
ALTER TABLE tokens ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
CREATE TABLE tallies (
    session_id TEXT PRIMARY KEY, head INTEGER NOT NULL, base INTEGER NOT NULL, digest BLOB NOT NULL,
    listed INTEGER NOT NULL, runs INTEGER NOT NULL, unfinished INTEGER NOT NULL, requests INTEGER NOT NULL,
    transcripts INTEGER NOT NULL, signals INTEGER NOT NULL, outputs INTEGER NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE witness (ahead INTEGER NOT NULL, armed INTEGER NOT NULL);
INSERT INTO witness VALUES (0, 0);
"""

MIGRATIONS = (_VERSION_1, _VERSION_2, _VERSION_3)
"""``MIGRATIONS[n]`` leads from version n to n + 1. Published ones never change; new ones are added."""

_AFTERWARDS: dict[int, Callable[[sqlite3.Connection], None]] = {3: take_stock}
"""What a version needs beyond its statements, by the version."""

_NOT_OPENED = "cannot be opened, nothing was read or saved"
_SMALLEST = 512
_DAMAGED = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_CONSTRAINT,  # nothing here asks for what the schema forbids
    }
)
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def store_error(path: str, error: sqlite3.Error, outcome: str) -> StoreError:
    """What a database error means to whoever asked for ``outcome`` in vain; the error is its cause."""
    code = getattr(error, "sqlite_errorcode", None)
    kind = None if code is None else code & 0xFF
    if kind in _DAMAGED or _unreadable(error, kind):
        said: StoreError = StoreCorrupted(f"{path} is damaged or not a database: {error}; restore it")
    else:
        said = StoreError(f"{path}: {outcome}: {error}")
        if kind in _BUSY:
            said = StoreError(f"{path} is locked by another process: {outcome}: try again ({error})")
            said.retryable = True
    said.__cause__ = error
    return said


def _unreadable(error: sqlite3.Error, kind: int | None) -> bool:
    """True for a text that is none (which has no code), and when a table or column that we made is not there."""
    if kind is None:
        return isinstance(error, sqlite3.OperationalError)
    return kind == sqlite3.SQLITE_ERROR and "no such" in str(error)


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
        _prepare(connection, path, busy_timeout)
    except sqlite3.Error as error:
        connection.close()
        raise store_error(path, error, _NOT_OPENED) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _make_file(path: str) -> None:
    """Make an empty file under the name, if there is none.

    It is made under another name and linked, because to close a file that SQLite has open in this process
    would drop the locks that this process holds on it.
    """
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        if os.path.lexists(path):
            return
        made = f"{path}.{secrets.token_hex(4)}"
        os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            os.link(made, path)
        except FileExistsError:
            return  # another opener was faster
        except OSError:  # a file system without links
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        finally:
            os.unlink(made)
    except OSError as error:
        # A database on a disk that cannot be written to can still be read.
        if not os.path.isfile(path):
            raise StoreError(f"{path}: {_NOT_OPENED}: {error}") from error


def _refuse_other_files(path: str) -> None:
    # SQLite takes a file that is too short to be a database for an empty one, and would write over it. Asked by
    # size, because to open and close the file would drop the locks that this process holds on it.
    try:
        size = os.stat(path).st_size
        if not os.path.isfile(path) or not os.access(path, os.R_OK):
            raise StoreError(f"{path}: {_NOT_OPENED}: not a file that can be read")
    except OSError as error:
        raise StoreError(f"{path}: {_NOT_OPENED}: {error}") from error
    if 0 < size < _SMALLEST:
        raise StoreCorrupted(f"{path} is damaged or not a database; it was left as it is: restore it")


def _prepare(connection: sqlite3.Connection, path: str, busy_timeout: float) -> None:
    # Recognised before the first pragma that writes: a file that is not ours is left as it is.
    version = _in_transaction(connection, "BEGIN", lambda: _recognise(connection, path))
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA secure_delete = FAST")  # a damaged page must not show rows of the past
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # see sqlitemerge.py
    if version < len(MIGRATIONS):
        _switch_to_log(connection, busy_timeout)
        _in_transaction(connection, "BEGIN IMMEDIATE", lambda: _migrate(connection, path))
        # Into the main file, which is then ours whatever becomes of the log beside it.
        # Not emptied, because another opener may be at work with it: see sqlitemerge.py.
        connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()


def _switch_to_log(connection: sqlite3.Connection, busy_timeout: float) -> None:
    # SQLite does not wait here when another opener is at the same point: it calls one of the two busy at once.
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


def _in_transaction(connection: sqlite3.Connection, begin: str, work: Callable[[], int]) -> int:
    connection.execute(begin)
    try:
        done = work()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return done


def _recognise(connection: sqlite3.Connection, path: str) -> int:
    """The version of the schema. Call in a transaction: the answers belong together."""
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if owner != APPLICATION_ID and (owner or version or tables):
        raise StoreError(f"{path} is a database, but not of Loom's sessions; it was left as it is")
    if version > len(MIGRATIONS):
        known = len(MIGRATIONS)
        raise StoreError(f"{path} was written by a newer Loom: upgrade (schema {version}, here {known})")
    return int(version)


def _migrate(connection: sqlite3.Connection, path: str) -> int:
    # Asked again inside the writing transaction: another process may have been faster.
    version = _recognise(connection, path)
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in script.split(";"):
            connection.execute(statement)
        if number in _AFTERWARDS:
            _AFTERWARDS[number](connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    return len(MIGRATIONS)
