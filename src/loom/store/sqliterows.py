"""Rows of a SQLite database as typed values: what is not of the type that was written is damage."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Collection
from typing import TypeVar

import msgspec
from msgspec import Struct

from ..errors import StoreCorrupted
from ..events import Event, decode_event
from .base import RunRecord, SessionRecord
from .sqliteknown import Known, RunRow
from .sqlitetally import Tally

T = TypeVar("T")
StructT = TypeVar("StructT", bound=Struct)

UNREADABLE = (ValueError, RecursionError, msgspec.DecodeError)
"""What decoding damaged bytes raises: bad JSON, bad UTF-8, the wrong type, nesting without end."""


class Row(Struct, frozen=True, array_like=True):
    """Base of the rows that queries return, column by column."""


class Text(Row, frozen=True):
    """One text."""

    value: str


class Numbers(Row, frozen=True):
    """Two whole numbers, or none."""

    first: int | None
    second: int | None


class Body(Row, frozen=True):
    """A value as JSON, and its checksum."""

    body: bytes
    crc: int


class EventRow(Row, frozen=True):
    """An event. The checksum covers where it stands, too."""

    seq: int
    run_id: str
    body: bytes
    crc: int


class RequestRow(Row, frozen=True):
    """Where the event stands that opened a request."""

    id: str
    seq: int


class SessionRow(Row, frozen=True):
    """A session's row, and the columns it is found by."""

    id: str
    parent: str | None
    body: bytes
    crc: int


class SeenRow(Row, frozen=True):
    """When a dedupe key was last offered."""

    at: float


class OutputSize(Row, frozen=True):
    """How large a kept output is."""

    ordinal: int
    size: int


class OutputRow(Row, frozen=True):
    """A kept output."""

    reference: str
    body: bytes
    crc: int


class Rows:
    """A connection whose rows are checked, and what is known of them."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.path = path
        self.known = Known()

    def begin(self, how: str) -> None:
        """Begin a transaction. What another connection changed since the last one is not known any more."""
        self.execute(how)
        ((version,),) = self.execute("PRAGMA data_version").fetchall()
        if version != self.known.version:
            self.known.forget()
            self.known.version = version
        self.known.limit()

    def roll_back(self) -> None:
        """End the transaction, if one is open, as if it had never begun."""
        self.known.forget()
        if self.connection.in_transaction:
            self.execute("ROLLBACK")

    def all(self, kind: type[StructT], query: str, *given: object) -> list[StructT]:
        """What a query finds. Raises StoreCorrupted, sqlite3.Error."""
        # Fetched to the end: a statement that is only begun would hold its snapshot, or spoil a rollback.
        rows = self.execute(query, given).fetchall()
        try:
            return [msgspec.convert(row, kind) for row in rows]
        except UNREADABLE as error:
            raise self.damaged(f"a row of kind {kind.__name__}") from error

    def one(self, kind: type[StructT], query: str, *given: object) -> StructT | None:
        """The first row that a query finds."""
        found = self.all(kind, query, *given)
        return found[0] if found else None

    def number(self, query: str, *given: object) -> int:
        """The one number that a query answers with; 0 for none."""
        rows = self.execute(query, given).fetchall()
        value: object = rows[0][0] if rows else None
        if value is None:
            return 0
        if type(value) is not int:
            raise self.damaged("a number")
        return value

    def body(self, body: bytes, crc: int, kind: type[T]) -> T:
        """A value out of its JSON. Raises StoreCorrupted."""
        if zlib.crc32(body) != crc:
            raise self.damaged(f"a row of kind {kind.__name__}")
        try:
            return msgspec.json.decode(body, type=kind)
        except UNREADABLE as error:
            raise self.damaged(f"a row of kind {kind.__name__}") from error

    def bodies(self, kind: type[T], query: str, *given: object) -> list[T]:
        """The values that a query finds as JSON."""
        return [self.body(row.body, row.crc, kind) for row in self.all(Body, query, *given)]

    def session(self, row: SessionRow) -> SessionRecord:
        """The record of a session's row."""
        record = self.body(row.body, row.crc, SessionRecord)
        if (record.id, record.parent) != (row.id, row.parent):
            raise self.damaged(f"the row of session {record.id!r}")
        return record

    def run(self, row: RunRow) -> RunRecord:
        """The record of a run's row."""
        record = self.body(row.body, row.crc, RunRecord)
        if record.id != row.id:
            raise self.damaged(f"the row of run {record.id!r}")
        return record

    def event(self, session_id: str, row: EventRow) -> Event:
        """The event of a row."""
        if row.crc != event_crc(session_id, row.seq, row.run_id, row.body):
            raise self.damaged(f"event {row.seq} of session {session_id!r}")
        try:
            return decode_event(row.body, where=self.path)
        except UNREADABLE as error:
            raise self.damaged(f"event {row.seq} of session {session_id!r}") from error

    def tally(self, session_id: str) -> Tally:
        """What the session's rows must amount to; nothing for a session that there is not."""
        found = self.known.tallies.get(session_id)
        if found is None:
            found = self.one(Tally, "SELECT * FROM tallies WHERE session_id = ?", session_id)
            if found is None:
                return Tally(session_id)
            if not found.intact or found.session_id != session_id:
                raise self.damaged(f"the tally of session {session_id!r}")
            self.known.tallies[session_id] = found
        return found

    def keep(self, tally: Tally) -> None:
        """Write a tally that has changed."""
        self.known.tallies[tally.session_id] = tally
        self.execute(
            "INSERT OR REPLACE INTO tallies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", tally.sealed()
        )

    def agree(self, what: str, found: int, expected: int) -> None:
        """Raise StoreCorrupted unless as many were found as there must be."""
        if found != expected:
            raise self.damaged(f"{what}: {found} found, {expected} were written; it")

    def distinct(self, what: str, names: Collection[str]) -> None:
        """Raise StoreCorrupted when a name comes twice."""
        self.agree(what, len(set(names)), len(names))

    def damaged(self, what: str) -> StoreCorrupted:
        """The error that says what is damaged."""
        return StoreCorrupted(f"{self.path}: {what} is damaged; the file was left as it is: restore it")


def event_row(session_id: str, event: Event, body: bytes) -> tuple[str, int, str, bytes, int]:
    """An event as a row of its table."""
    return session_id, event.seq, event.run_id, body, event_crc(session_id, event.seq, event.run_id, body)


def event_crc(session_id: str, seq: int, run_id: str, body: bytes) -> int:
    """The checksum of an event and its place."""
    return zlib.crc32(body, zlib.crc32(f"{session_id}\0{seq}\0{run_id}".encode()))


def output_crc(session_id: str, reference: str, body: bytes) -> int:
    """The checksum of an output and what it is called."""
    return zlib.crc32(body, zlib.crc32(f"{session_id}\0{reference}".encode()))
