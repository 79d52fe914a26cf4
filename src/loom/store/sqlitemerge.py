"""The write-ahead log of a ``SqliteSessionStore`` and its main file: when one is merged into the other, and a witness.

What was acknowledged may be in ``<path>-wal`` alone, and a main file without it is a sound database of an earlier time.
So the main file says itself when it lacks something: ``ahead`` is 1 in the main file from before anything is written
that is not merged, and 0 in the log, from its first commit on. Whoever reads 1 where no log is reads a main file whose
log is gone. ``armed`` says that somebody may write; a merge takes it back first.

Any program may merge at any time and so move the 0 into the main file. So what the main file says is not remembered:
after each commit, and before it is acknowledged, the main file is asked, by a connection that does not see the log.

To say something in the main file alone, one connection holds the right to write, so that nothing is committed, while
another merges.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from ..errors import StoreCorrupted
from .sqliterows import Numbers, Rows

_UNSAID = "UPDATE witness SET ahead = 0, armed = 0 WHERE ahead OR armed"
"""Takes back what was left by a process that died, or a transaction that failed, between the two steps of ``arm``."""

MOST_GROUPS = 256
"""Groups of jobs after which the log is merged even when no run has ended: it would grow without bounds."""


class Merging:
    """The part of one connection in this. ``path`` is that of a database in WAL mode."""

    def __init__(self, rows: Rows, path: str, *, had_log: bool) -> None:
        self._execute = rows.execute
        self._rows = rows
        self._path = path
        self._other: sqlite3.Connection | None = None
        self._main: sqlite3.Connection | None = None
        self.groups = 0
        # guard: tests/store/test_sqlite_store.py
        if self._left_ahead(had_log):
            with suppress(sqlite3.OperationalError):  # a disk that can only be read
                self._execute(_UNSAID)

    def _left_ahead(self, had_log: bool) -> bool:
        # In one transaction: while it lasts nobody can empty the log in which, or beside which, the row was found.
        self._execute("BEGIN")
        try:
            ahead = self._state()[0] == 1
            # Asked again: the log may have been begun by another opener meanwhile, and by no one else, since whoever
            # finds it gone writes nothing.
            if ahead and not had_log and not has_log(self._path):
                raise StoreCorrupted(
                    f"{self._path} lacks what was written last: its write-ahead log {self._path}-wal is gone. Put it "
                    "back beside the database, or restore both from a backup; docs/security.md says how to go on "
                    "without it"
                )
        finally:
            self._execute("ROLLBACK")
        return ahead

    def close(self) -> None:
        """Let go of the other connections. Call before the first is closed, which may merge the log and remove it."""
        for connection in (self._other, self._main):
            if connection is not None:
                connection.close()
        if not self._rows.known.armed and self._state()[0]:
            self._execute(_UNSAID)

    def arm(self) -> None:
        """Make sure that the main file says that it lacks something. Call in a writing transaction, before all else."""
        self.groups += 1
        if self._rows.known.armed:
            return  # as nearly always; settle looks
        while True:  # once more for every opener that comes in between
            ahead = self._state()[0]
            if ahead:
                self._merge()
            if self._main_lacks():
                break
            if ahead:
                return  # somebody reads an older state; the log goes on saying it, and the next group tries again
            self._execute("UPDATE witness SET ahead = 1, armed = 1")
            self._execute("COMMIT")
            self._rows.begin("BEGIN IMMEDIATE")
        if ahead:
            self._execute("UPDATE witness SET ahead = 0")
        self._rows.known.armed = True

    def settle(self) -> None:
        """Make good what a merge by another program took back. Call after a commit, before it is acknowledged."""
        if self._rows.known.armed and not self._main_lacks():
            self._rows.known.armed = False
            with suppress(sqlite3.Error):  # what was committed is in the log; the next group merges, or fails
                self._merge()

    def merge(self) -> bool:
        """Merge everything into the main file, which then lacks nothing. Call outside of a transaction.

        False when somebody reads an older state, and not all could be merged.
        """
        self.groups = 0
        self._rows.known.armed = False
        self._execute(_UNSAID)
        self._execute("BEGIN IMMEDIATE")
        try:
            return self._state() != (0, 0) or self._merge()
        finally:
            self._execute("ROLLBACK")

    def _merge(self) -> bool:
        if self._other is None:
            self._other = sqlite3.connect(self._path, isolation_level=None)
        ((busy, logged, merged),) = self._other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return not busy and logged == merged

    def _main_lacks(self) -> bool:
        """Whether the main file, without its log, says that it lacks something."""
        try:
            if self._main is None:
                # Through SQLite, because to open and close the file would drop the locks this process has on it.
                alone = f"{Path(os.path.abspath(self._path)).as_uri()}?immutable=1"
                self._main = sqlite3.connect(alone, uri=True, isolation_level=None)
            self._main.execute("PRAGMA shrink_memory")  # no page of the last look is kept
            return self._main.execute("SELECT ahead FROM witness").fetchall() == [(1,)]
        except sqlite3.Error:  # the schema itself may not be merged yet
            if self._main is not None:
                self._main.close()
            self._main = None
            return False

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


def check_main(path: str) -> None:
    """Raise StoreCorrupted for a log without its database, which SQLite would remove. Ask before it is opened."""
    with suppress(FileNotFoundError):
        if os.stat(path).st_size > 0:
            return
    raise StoreCorrupted(
        f"{path} is gone, and its write-ahead log {path}-wal is not: restore both from a backup, "
        f"or remove {path}-wal to begin anew"
    )
