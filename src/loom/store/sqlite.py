"""Sessions in one SQLite database, the durable default. The queries are here, the schema is beside it."""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..errors import LeaseLost, SessionBusy, StoreCorrupted
from ..events import (
    Event,
    RequestAnswered,
    RequestOpened,
    RequestWithdrawn,
    RunFinished,
    RunStarted,
    decode_event,
)
from ..requests import Request
from ..signals import RuntimeSignal
from .base import RunRecord, SessionRecord, TranscriptRecord
from .durable import DurableLog, ThreadedStore
from .log import SIGNAL_WINDOW, Lease, check_seqs
from .records import ROW_EVENTS, encode_row, fold_run
from .schema import connect, store_error
from .writer import Job

T = TypeVar("T")


class SqliteSessionStore(ThreadedStore):
    """A durable store in the SQLite database ``path``, or in this process with ``":memory:"``.

    Write-ahead log, full synchronisation, one transaction for everything that waits while the one before is
    being committed. Any number of threads and processes may use one database on a local disk. The file and
    the folders made for it are the owner's only.

    ``clock`` gives Unix seconds for leases and dedupe keys; ``busy_timeout`` is how many seconds to wait for
    another process's transaction before a retryable StoreError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        busy_timeout: float = 10.0,
    ) -> None:
        self.path = Path(path)
        name = os.fspath(path)
        # Absolute from now on: the program may change its directory before the thread opens the file.
        place = name if name == ":memory:" else os.path.abspath(name)
        super().__init__(lambda: SqliteLog(place, clock, busy_timeout), name=f"loom-store {self.path.name}")


class SqliteLog(DurableLog):
    """The operations on one connection. ``perform`` holds a transaction around every group that writes."""

    def __init__(self, path: str, clock: Callable[[], float], busy_timeout: float) -> None:
        self._path = path
        self._clock = clock
        self._connection = connect(path, busy_timeout=busy_timeout)
        self._execute = self._connection.execute

    def close(self) -> None:
        """See Desk."""
        with suppress(sqlite3.Error):  # what was acknowledged is in the write-ahead log, closed or not
            self._connection.close()

    # --- groups of jobs -------------------------------------------------------------------------------

    def perform(self, jobs: Sequence[Job]) -> None:
        """See Desk. What reads goes first and does not wait for the disk."""
        reading = [job for job in jobs if not job.writes]
        writing = [job for job in jobs if job.writes]
        for group, work, outcome in ((reading, self._read, "not read"), (writing, self._write, "not saved")):
            try:
                if group:
                    work(group)
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._execute("ROLLBACK")
                for job in group:
                    job.error = job.error or store_error(self._path, error, outcome)
            for job in group:
                if isinstance(job.error, sqlite3.Error):
                    job.error = store_error(self._path, job.error, outcome)

    def _read(self, jobs: Sequence[Job]) -> None:
        self._execute("BEGIN")  # all queries of a job see one state
        for job in jobs:
            job.run(self)
        self._execute("COMMIT")

    def _write(self, jobs: Sequence[Job]) -> None:
        self._execute("BEGIN IMMEDIATE")
        for job in jobs:
            self._execute("SAVEPOINT job")
            job.run(self)
            if isinstance(job.error, sqlite3.Error) and not self._connection.in_transaction:
                raise job.error  # SQLite gave the whole transaction up, as it does when the disk is full
            if job.error is not None:
                self._execute("ROLLBACK TO job")
            self._execute("RELEASE job")
        self._execute("COMMIT")

    # --- leases ---------------------------------------------------------------------------------------

    def acquire(self, session_id: str, owner: str, ttl: float, instead_of: str = "") -> Lease:
        """See SessionStore."""
        now = self._clock()
        held = self._one("SELECT owner, expires_at FROM leases WHERE session_id = ?", session_id)
        if held is not None and held[0] not in (owner, instead_of) and held[1] > now:
            raise SessionBusy(f"session {session_id!r} is in use by {held[0]}", owner=held[0])
        self._execute("UPDATE tokens SET newest = newest + 1")
        ((token,),) = self._rows("SELECT newest FROM tokens")
        row = (session_id, owner, token, now + ttl)
        self._execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", row)
        return Lease(*row, head=self.head(session_id))

    def renew(self, lease: Lease, ttl: float) -> Lease:
        """See SessionStore."""
        self._expiry(lease)
        until = self._clock() + ttl
        self._execute("UPDATE leases SET expires_at = ? WHERE session_id = ?", (until, lease.session_id))
        return Lease(lease.session_id, lease.owner, lease.token, until)

    def release(self, lease: Lease) -> None:
        """See SessionStore."""
        held = (lease.session_id, lease.token)
        self._execute("DELETE FROM leases WHERE session_id = ? AND token = ?", held)

    def _expiry(self, lease: Lease) -> float:
        held = self._one("SELECT token, expires_at FROM leases WHERE session_id = ?", lease.session_id)
        # guard: tests/contract/test_stores.py -k sqlite
        if held is None or held[0] != lease.token:
            raise LeaseLost(f"session {lease.session_id!r} was taken over")
        return float(held[1])

    # --- events ---------------------------------------------------------------------------------------

    def append(
        self, lease: Lease, events: Sequence[Event], bodies: Sequence[bytes], taken: Sequence[str]
    ) -> None:
        """See SessionStore."""
        session_id = lease.session_id
        if self._expiry(lease) <= self._clock():
            raise LeaseLost(f"the lease on session {session_id!r} has expired")
        check_seqs(events, self.head(session_id))
        rows = [_event_row(session_id, event, body) for event, body in zip(events, bodies, strict=True)]
        self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
        for event in events:
            if event.run_id and type(event) in ROW_EVENTS:
                self._follow(session_id, event)
        for signal_id in taken:
            self._execute("DELETE FROM inbox WHERE session_id = ? AND id = ?", (session_id, signal_id))

    def _follow(self, session_id: str, event: Event) -> None:
        run_id = event.run_id
        if isinstance(event, RequestOpened):
            row = (session_id, event.request.id, event.seq, run_id)
            self._execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?)", row)
        elif isinstance(event, RequestAnswered | RequestWithdrawn):
            closed = (session_id, event.request_id)
            self._execute("DELETE FROM requests WHERE session_id = ? AND id = ?", closed)
        elif isinstance(event, RunFinished):
            self._execute("DELETE FROM requests WHERE session_id = ? AND run_id = ?", (session_id, run_id))
        waiting = self._one("SELECT 1 FROM requests WHERE run_id = ? LIMIT 1", run_id) is not None
        row_now = fold_run(self.load_run(run_id), event, session_id=session_id, waiting=waiting)
        if row_now is not None:
            self.save(row_now)
        if isinstance(event, RunStarted):
            started = "UPDATE runs SET started = 1, unfinished = 1, session_id = ? WHERE id = ?"
            self._execute(started, (session_id, run_id))
        elif isinstance(event, RunFinished):
            self._execute("UPDATE runs SET unfinished = 0 WHERE id = ?", (run_id,))

    def read(self, session_id: str, after: int, run_id: str | None, limit: int | None) -> list[Event]:
        """See SessionStore."""
        where, given = "session_id = ? AND seq > ?", [session_id, after]
        if run_id is not None:
            where, given = f"run_id = ? AND {where}", [run_id, *given]
        query = f"SELECT seq, run_id, body, crc FROM events WHERE {where} ORDER BY seq LIMIT ?"
        events: list[Event] = []
        expected = max(after, 0)
        for seq, run, body, crc in self._rows(query, *given, -1 if limit is None else limit):
            expected += 1
            if crc != _event_crc(session_id, seq, run, body) or (run_id is None and seq != expected):
                raise self._damaged(f"event {expected} of session {session_id!r}")
            events.append(decode_event(body, where=self._path))
        return events

    def head(self, session_id: str) -> int:
        """See SessionStore."""
        newest = self._one("SELECT max(seq) FROM events WHERE session_id = ?", session_id)
        return int(newest[0] or 0) if newest is not None else 0

    def unfinished_runs(self, session_id: str) -> list[str]:
        """See SessionStore."""
        query = "SELECT id FROM runs WHERE session_id = ? AND unfinished ORDER BY ordinal"
        return [run_id for (run_id,) in self._rows(query, session_id)]

    def find_run(self, run_id: str) -> str | None:
        """See SessionStore."""
        found = self._one("SELECT session_id FROM runs WHERE id = ? AND started", run_id)
        return found[0] if found is not None else None

    def open_requests(self, session_id: str) -> list[Request]:
        """See SessionStore."""
        query = "SELECT seq FROM requests WHERE session_id = ? ORDER BY seq"
        requests: list[Request] = []
        for (seq,) in self._rows(query, session_id):
            for event in self.read(session_id, seq - 1, None, 1):
                if not isinstance(event, RequestOpened):
                    raise self._damaged(f"request {seq} of session {session_id!r}")
                requests.append(event.request)
        return requests

    # --- inbox ----------------------------------------------------------------------------------------

    def offer(self, session_id: str, signal: RuntimeSignal, window: float) -> bool:
        """See SessionStore."""
        key, now = signal.dedupe_key, self._clock()
        if key is not None:
            seen = self._one("SELECT at FROM dedupe WHERE session_id = ? AND key = ?", session_id, key)
            if seen is not None and now - seen[0] < window:
                return False
            self._execute("DELETE FROM dedupe WHERE kept_until <= ?", (now,))
            row = (session_id, key, now, now + max(window, SIGNAL_WINDOW))
            self._execute("INSERT OR REPLACE INTO dedupe VALUES (?, ?, ?, ?)", row)
        body = encode_row(signal)
        self._execute(
            "INSERT INTO inbox (session_id, id, body, crc) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (session_id, id) DO UPDATE SET body = excluded.body, crc = excluded.crc",
            (session_id, signal.id, body, zlib.crc32(body)),
        )
        return True

    def inbox(self, session_id: str) -> list[RuntimeSignal]:
        """See SessionStore."""
        query = "SELECT body, crc FROM inbox WHERE session_id = ? ORDER BY ordinal"
        return self._bodies(self._rows(query, session_id), RuntimeSignal)

    # --- outputs --------------------------------------------------------------------------------------

    def keep_output(self, session_id: str, reference: str, body: bytes, room: int) -> None:
        """See SessionStore."""
        self._execute("DELETE FROM outputs WHERE session_id = ? AND reference = ?", (session_id, reference))
        left = room - len(body)
        query = "SELECT ordinal, size FROM outputs WHERE session_id = ? ORDER BY ordinal DESC"
        for ordinal, size in self._rows(query, session_id):
            left -= size
            if left < 0:
                self._execute(
                    "DELETE FROM outputs WHERE session_id = ? AND ordinal <= ?", (session_id, ordinal)
                )
                break
        crc = _output_crc(session_id, reference, body)
        row = (session_id, reference, len(body), body, crc)
        self._execute("INSERT INTO outputs VALUES (NULL, ?, ?, ?, ?, ?)", row)

    def read_output(self, session_id: str, reference: str) -> str | None:
        """See SessionStore."""
        query = "SELECT body, crc FROM outputs WHERE session_id = ? AND reference = ?"
        found = self._one(query, session_id, reference)
        if found is None:
            return None
        body, crc = found
        if crc != _output_crc(session_id, reference, body):
            raise self._damaged(f"output {reference} of session {session_id!r}")
        text: str = body.decode()
        return text

    # --- records --------------------------------------------------------------------------------------

    def load_session(self, session_id: str) -> SessionRecord | None:
        """See SessionStore."""
        return self._body("SELECT body, crc FROM sessions WHERE id = ?", session_id, SessionRecord)

    def list_sessions(self) -> list[SessionRecord]:
        """See SessionStore."""
        return self._bodies(self._rows("SELECT body, crc FROM sessions ORDER BY ordinal"), SessionRecord)

    def load_run(self, run_id: str) -> RunRecord | None:
        """See SessionStore."""
        return self._body("SELECT body, crc FROM runs WHERE id = ?", run_id, RunRecord)

    def list_runs(self, session_id: str | None) -> list[RunRecord]:
        """See SessionStore."""
        where, given = ("", ()) if session_id is None else ("WHERE session_id = ?", (session_id,))
        rows = self._rows(f"SELECT body, crc FROM runs {where} ORDER BY ordinal", *given)
        return self._bodies(rows, RunRecord)

    def saved_transcript(self, run_id: str) -> TranscriptRecord | None:
        """See DurableLog."""
        return self._body("SELECT body, crc FROM transcripts WHERE run_id = ?", run_id, TranscriptRecord)

    def transcript_ids(self, session_id: str | None) -> list[str]:
        """See DurableLog."""
        where, given = ("", ()) if session_id is None else ("WHERE session_id = ?1", (session_id,))
        query = (
            f"SELECT id FROM (SELECT id, ordinal, session_id FROM runs {where} UNION ALL "
            f"SELECT run_id, 1 << 62, session_id FROM transcripts {where}) GROUP BY id ORDER BY min(ordinal)"
        )
        return [run_id for (run_id,) in self._rows(query, *given)]

    def save(self, record: SessionRecord | RunRecord | TranscriptRecord) -> None:
        """See DurableLog."""
        body = encode_row(record)
        crc = zlib.crc32(body)
        if isinstance(record, SessionRecord):
            self._execute(
                "INSERT INTO sessions (id, body, crc) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET body = excluded.body, crc = excluded.crc",
                (record.id, body, crc),
            )
        elif isinstance(record, RunRecord):
            self._execute(
                "INSERT INTO runs (id, session_id, started, unfinished, body, crc) VALUES (?, ?, 0, 0, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET body = excluded.body, crc = excluded.crc",
                (record.id, record.session_id, body, crc),
            )
        else:
            row = (record.id, record.session_id, body, crc)
            self._execute("INSERT OR REPLACE INTO transcripts VALUES (?, ?, ?, ?)", row)

    def delete_session(self, session_id: str) -> None:
        """See SessionStore."""
        self._execute("DELETE FROM sessions WHERE id = ?", (session_id,))
        for table in ("runs", "transcripts", "events", "requests", "inbox", "dedupe", "outputs", "leases"):
            self._execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))

    # --- rows -----------------------------------------------------------------------------------------

    def _rows(self, query: str, *given: Any) -> list[Any]:
        # Fetched to the end: a statement that is only begun would hold its snapshot, or spoil a rollback.
        return self._execute(query, given).fetchall()

    def _one(self, query: str, *given: Any) -> tuple[Any, ...] | None:
        rows = self._rows(query, *given)
        return rows[0] if rows else None

    def _body(self, query: str, key: str, kind: type[T]) -> T | None:
        found = self._bodies(self._rows(query, key), kind)
        return found[0] if found else None

    def _bodies(self, rows: Iterable[tuple[bytes, int]], kind: type[T]) -> list[T]:
        found: list[T] = []
        for body, crc in rows:
            if zlib.crc32(body) != crc:
                raise self._damaged(f"a row of kind {kind.__name__}")
            try:
                found.append(msgspec.json.decode(body, type=kind))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise self._damaged(f"a row of kind {kind.__name__}") from error
        return found

    def _damaged(self, what: str) -> StoreCorrupted:
        return StoreCorrupted(f"{self._path}: {what} is damaged; the file was left as it is: restore it")


def _event_row(session_id: str, event: Event, body: bytes) -> tuple[str, int, str, bytes, int]:
    crc = _event_crc(session_id, event.seq, event.run_id, body)
    return session_id, event.seq, event.run_id, body, crc


def _event_crc(session_id: str, seq: int, run_id: str, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{session_id}\0{seq}\0{run_id}".encode()))


def _output_crc(session_id: str, reference: str, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{session_id}\0{reference}".encode()))
