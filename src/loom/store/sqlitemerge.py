"""The write-ahead log of a ``SqliteSessionStore`` and its main file: when one is merged into the other, and a witness.

What was acknowledged may be in ``<path>-wal`` alone, and a main file without it is a sound database of an earlier time.
So the main file says itself when it lacks something: ``ahead`` is 1 in the main file from before anything is written
that is not merged, and 0 in the log, from its first commit on. Whoever reads 1 where no log is reads a main file whose
log is gone. ``armed`` says that the main file says so; a merge takes it back first.

To say something in the main file alone, one connection holds the right to write, so that nothing is committed, while
another merges.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress

from ..errors import StoreCorrupted
from .sqliterows import Numbers, Rows

_UNSAID = "UPDATE witness SET ahead = 0, armed = 0"
"""Takes back what was left by a process that died, or a transaction that failed, between the two steps of ``arm``."""

MOST_GROUPS = 256
"""Groups of jobs after which the log is merged even when no run has ended: it would grow without bounds."""


class Merging:
    """The part of one connection in this. ``path`` is that of a database in WAL mode."""

    def __init__(self, rows: Rows, path: str, *, had_log: bool) -> None:
        self._execute = rows.execute
        self._rows = rows
        self._path = path
        self._certain = had_log
        self._other: sqlite3.Connection | None = None
        self.groups = 0
        if self._state()[0]:
            # Asked again: the log may have been begun by another opener meanwhile, and by no one else, since whoever
            # finds it gone writes nothing.
            if not had_log and not has_log(path):
                raise StoreCorrupted(
                    f"{path} lacks what was written last: its write-ahead log {path}-wal is gone. Put it back beside "
                    "the database, or restore both from a backup; docs/security.md says how to go on without it"
                )
            with suppress(sqlite3.OperationalError):  # a disk that can only be read
                self._execute(_UNSAID)

    def close(self) -> None:
        """Let go of the second connection. Call before the first is closed, which may merge the log and remove it."""
        if self._other is not None:
            self._other.close()
        if not self._rows.known.armed and self._state()[0]:
            self._execute(_UNSAID)

    def arm(self) -> None:
        """Make sure that the main file says that it lacks something. Call in a writing transaction, before all else."""
        self.groups += 1
        if self._rows.known.armed:
            return  # as nearly always
        while True:  # once more for every opener that comes in between
            ahead, armed = self._state()
            if armed and not ahead and self._certain:
                break
            self._certain = True
            if ahead:
                self._merge()
                self._execute("UPDATE witness SET ahead = 0")
                break
            self._execute("UPDATE witness SET ahead = 1, armed = 1")
            self._execute("COMMIT")
            self._rows.begin("BEGIN IMMEDIATE")
        self._rows.known.armed = True

    def merge(self) -> None:
        """Merge everything into the main file, which then lacks nothing. Call outside of a transaction."""
        self.groups = 0
        self._rows.known.armed = False
        self._execute("UPDATE witness SET armed = 0")
        self._execute("BEGIN IMMEDIATE")
        try:
            if self._state() == (0, 0):
                self._merge()
        finally:
            self._execute("ROLLBACK")

    def _merge(self) -> None:
        if self._other is None:
            self._other = sqlite3.connect(self._path, isolation_level=None)
        self._other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _state(self) -> tuple[int, int]:
        found = self._rows.all(Numbers, "SELECT ahead, armed FROM witness")
        if len(found) != 1 or found[0].first not in (0, 1) or found[0].second not in (0, 1):
            raise self._rows.damaged("the witness of the write-ahead log")
        return found[0].first, found[0].second


def has_log(path: str) -> bool:
    """Whether a write-ahead log with anything in it is beside the database. Ask before it is opened."""
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except OSError:
        return False
