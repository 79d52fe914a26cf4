"""The public contract over every store of the package, and over one a user wrote with three methods."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from loom.store.base import RunRecord, SessionRecord, SessionStore
from loom.store.file import FileSessionStore
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.store_contract import StoreContract


class TestInMemorySessionStore(StoreContract):
    def make_store(self, directory: Path) -> SessionStore:
        return InMemorySessionStore()


class TestFileSessionStore(StoreContract):
    def make_store(self, directory: Path) -> SessionStore:
        return FileSessionStore(directory / "made" / "for" / "it" / "sessions.json")


class TestSqliteSessionStore(StoreContract):
    def make_store(self, directory: Path) -> SessionStore:
        return SqliteSessionStore(directory / "made" / "sessions.db")


class ThreeMethods(SessionStore):
    """What the seeds print: a user's own store, without a log."""

    def __init__(self) -> None:
        self.rows: dict[str, SessionRecord] = {}
        self.saved: list[RunRecord] = []

    def load_session(self, session_id: str) -> SessionRecord | None:
        row = self.rows.get(session_id)
        return (
            None if row is None else SessionRecord(row.id, dict(row.metadata), row.created_at, row.updated_at)
        )

    def save_session(self, record: SessionRecord) -> None:
        self.rows[record.id] = replace(record, metadata=dict(record.metadata))

    def save_run(self, record: RunRecord) -> None:
        self.saved.append(record)


class TestThreeMethods(StoreContract):
    keeps_rows = False

    def make_store(self, directory: Path) -> SessionStore:
        return ThreeMethods()

    def test_it_says_that_it_is_not_durable(self) -> None:
        assert ThreeMethods().durable is False


class TestSqliteInMemory(StoreContract):
    """A database in this process keeps no promise about reopening, so it is tried as if it were volatile."""

    def make_store(self, directory: Path) -> SessionStore:
        class InThisProcess(SqliteSessionStore):
            durable = False

        return InThisProcess(":memory:")
