"""Sessions in one SQLite database, the durable default: what each operation does to its log, outputs and leases."""

from __future__ import annotations

import math
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import ConfigError, LeaseLost, SessionBusy, StoreError
from ..events import (
    Event,
    RequestAnswered,
    RequestOpened,
    RequestWithdrawn,
    RunFinished,
    RunStarted,
)
from ..folds.records import ROW_EVENTS, fold_run
from ..requests import Request
from ..signals import RuntimeSignal
from .base import RunRecord
from .durable import ThreadedStore
from .log import SIGNAL_WINDOW, Lease, check_seqs, check_source, seen_key
from .records import encode_row
from .schema import connect, store_error
from .sqliteknown import LeaseRow, RunRow
from .sqlitemerge import MOST_GROUPS, Merging, check_main, has_log
from .sqliterecords import RUN_QUERY, RecordTables
from .sqliterows import (
    EventRow,
    Numbers,
    OutputRow,
    OutputSize,
    RequestRow,
    Rows,
    SeenRow,
    Text,
    event_row,
    output_crc,
)
from .sqlitetally import DIGEST_SIZE, Tally, chained, token_crc
from .writer import Job

_CLOSE = "DELETE FROM requests WHERE session_id = ? AND id = ?"
_WAITS = "SELECT 1 FROM requests WHERE run_id = ? LIMIT 1"

REST = 0.5
"""Seconds without anything to do, after a run has ended, until the write-ahead log is merged into the main file."""


class SqliteSessionStore(ThreadedStore):
    """A durable store in the SQLite database ``path``, or in this process with ``":memory:"``.

    Write-ahead log, full synchronisation, one transaction for everything that waits while the one before is
    being committed. Any number of threads and processes may use one database on a local disk. The file and
    the folders made for it are the owner's only.

    ``clock`` gives Unix seconds for leases and dedupe keys; ``busy_timeout`` is how many seconds to wait for
    another process's transaction before a retryable StoreError. Raises ConfigError for an option that can mean nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        busy_timeout: float = 10.0,
    ) -> None:
        _check_options(path, clock, busy_timeout)
        name = os.fspath(path)
        self.path = Path(path)
        # Absolute from now on: the program may change its directory before the thread opens the file.
        place = name if name == ":memory:" else os.path.abspath(name)
        super().__init__(
            lambda: SqliteLog(place, clock, busy_timeout),
            name=f"loom-store {self.path.name}",
            lasting=name != ":memory:",
        )


def _check_options(path: object, clock: object, busy_timeout: object) -> None:
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else path  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f'path must be that of a file, or ":memory:", not {name!r:.80}')
    if not callable(clock):
        raise ConfigError(f"clock must be a function that gives Unix seconds, not {clock!r:.80}")
    number = isinstance(busy_timeout, int | float) and not isinstance(busy_timeout, bool)
    if not number or not 0 <= busy_timeout < math.inf:  # type: ignore[operator]
        raise ConfigError(f"busy_timeout must be a number of seconds from 0, not {busy_timeout!r:.80}")


class SqliteLog(RecordTables):
    """The operations on one connection. ``perform`` holds a transaction around every group that writes."""

    def __init__(self, path: str, clock: Callable[[], float], busy_timeout: float) -> None:
        self._path = path
        self._clock = clock
        had_log = has_log(path)
        if had_log:
            check_main(path)
        self._connection = connect(path, busy_timeout=busy_timeout)
        super().__init__(Rows(self._connection, path))
        self._merging = self._with_log(had_log)
        self._due = False
        self._synced = True

    def _with_log(self, had_log: bool) -> Merging | None:
        try:
            ((mode,),) = self._execute("PRAGMA journal_mode").fetchall()
            return Merging(self._rows, self._path, had_log=had_log) if mode == "wal" else None
        except sqlite3.Error as error:
            self._connection.close()
            raise store_error(self._path, error, "cannot be opened, nothing was read or saved") from error
        except StoreError:
            self._connection.close()
            raise

    def close(self) -> None:
        """See Desk."""
        with suppress(sqlite3.Error, StoreError):
            if self._merging is not None:
                self._merging.close()
        with suppress(sqlite3.Error):  # what was acknowledged is in the write-ahead log, closed or not
            self._connection.close()

    @property
    def patience(self) -> float | None:
        """See Desk. Soon after a run has ended the main file has it, too."""
        return REST if self._due else None

    def rest(self) -> None:
        """See Desk."""
        self._due = False
        with suppress(
            sqlite3.Error, StoreError
        ):  # it stays in the log; the next operation says what is wrong
            if self._merging is not None:
                self._synchronise(True)
                self._due = not self._merging.merge()

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
                self._rows.roll_back()
                for job in group:
                    job.error = job.error or store_error(self._path, error, outcome)
            for job in group:
                if isinstance(job.error, sqlite3.Error):
                    job.error = store_error(self._path, job.error, outcome)

    def _read(self, jobs: Sequence[Job]) -> None:
        self._rows.begin("BEGIN")  # all queries of a job see one state
        for job in jobs:
            job.run(self)
        self._execute("COMMIT")

    def _write(self, jobs: Sequence[Job]) -> None:
        if self._merging is not None:
            self._synchronise(any(job.sync for job in jobs))
        self._rows.begin("BEGIN IMMEDIATE")
        if self._merging is not None:
            self._merging.arm()
        if len(jobs) == 1:
            jobs[0].run(self)
            if jobs[0].error is not None:
                self._rows.roll_back()
                return
        else:
            for job in jobs:
                self._write_one(job)
        self._execute("COMMIT")
        if self._merging is not None:
            self._merging.settle()
            if self._merging.groups > MOST_GROUPS:
                self.rest()

    def _synchronise(self, sync: bool) -> None:
        """Say whether the next commit must reach the disk."""
        if sync != self._synced:
            # A script, because this happens when a statement is prepared, and prepared statements are kept.
            self._connection.executescript(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._synced = sync

    def _write_one(self, job: Job) -> None:
        """Do one job of several: what it wrote goes when it fails, and what the others wrote stays."""
        self._execute("SAVEPOINT job")
        job.run(self)
        if job.error is not None:
            self._rows.known.forget()
            if isinstance(job.error, sqlite3.Error) and not self._connection.in_transaction:
                raise job.error  # SQLite gave the whole transaction up, as it does when the disk is full
            self._execute("ROLLBACK TO job")
        self._execute("RELEASE job")

    # --- leases ---------------------------------------------------------------------------------------

    def acquire(self, session_id: str, owner: str, ttl: float, instead_of: str = "") -> Lease:
        """See SessionStore."""
        now, held = self._clock(), self._held(session_id)
        if held is not None and held.owner not in (owner, instead_of) and held.expires_at > now:
            raise SessionBusy(f"session {session_id!r} is in use by {held.owner}", owner=held.owner)
        token, until, head = self._new_token(), now + ttl, self.head(session_id)
        self._execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (session_id, owner, token, until))
        self._rows.known.leases[session_id] = LeaseRow(owner, token, until)
        return Lease(session_id, owner, token, until, head)

    def renew(self, lease: Lease, ttl: float) -> Lease:
        """See SessionStore."""
        self._expiry(lease)
        until = self._clock() + ttl
        self._execute("UPDATE leases SET expires_at = ? WHERE session_id = ?", (until, lease.session_id))
        self._rows.known.leases[lease.session_id] = LeaseRow(lease.owner, lease.token, until)
        return Lease(lease.session_id, lease.owner, lease.token, until)

    def release(self, lease: Lease) -> None:
        """See SessionStore."""
        held = (lease.session_id, lease.token)
        self._execute("DELETE FROM leases WHERE session_id = ? AND token = ?", held)
        self._rows.known.leases.pop(lease.session_id, None)

    def _new_token(self) -> int:
        token = (self._rows.known.token or self._newest_token()) + 1
        self._execute("UPDATE tokens SET newest = ?, crc = ?", (token, token_crc(token)))
        self._rows.known.token = token
        return token

    def _newest_token(self) -> int:
        found = self._rows.all(Numbers, "SELECT newest, crc FROM tokens")
        newest = found[0].first if len(found) == 1 else None
        if newest is None or found[0].second != token_crc(newest):
            raise self._rows.damaged("the newest token")  # a token given twice would let two write
        return newest

    def _held(self, session_id: str) -> LeaseRow | None:
        known = self._rows.known.leases
        if session_id not in known:
            query = "SELECT owner, token, expires_at FROM leases WHERE session_id = ?"
            known[session_id] = self._rows.one(LeaseRow, query, session_id)
        return known[session_id]

    def _expiry(self, lease: Lease) -> float:
        held = self._held(lease.session_id)
        # guard: tests/contract/test_stores.py -k sqlite
        if held is None or held.token != lease.token:
            raise LeaseLost(f"session {lease.session_id!r} was taken over")
        return held.expires_at

    # --- events ---------------------------------------------------------------------------------------

    def append(
        self, lease: Lease, events: Sequence[Event], bodies: Sequence[bytes], taken: Sequence[str]
    ) -> None:
        """See SessionStore."""
        session_id = lease.session_id
        if self._expiry(lease) <= self._clock():
            raise LeaseLost(f"the lease on session {session_id!r} has expired")
        tally = self._rows.tally(session_id)
        check_seqs(events, tally.head)
        rows = [event_row(session_id, event, body) for event, body in zip(events, bodies, strict=True)]
        self._rows.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
        tally.head += len(rows)
        tally.digest = chained(tally.digest, bodies)
        for event in events:
            if event.run_id and type(event) in ROW_EVENTS:
                self._follow(tally, event)
        for signal_id in taken:
            tally.signals -= self._change(
                "DELETE FROM inbox WHERE session_id = ? AND id = ?", session_id, signal_id
            )
        self._rows.keep(tally)

    def _follow(self, tally: Tally, event: Event) -> None:
        session_id, run_id = tally.session_id, event.run_id
        if isinstance(event, RequestOpened):
            request = (session_id, event.request.id)
            tally.requests -= self._change(_CLOSE, *request)
            self._execute("INSERT INTO requests VALUES (?, ?, ?, ?)", (*request, event.seq, run_id))
            tally.requests += 1
        elif isinstance(event, RequestAnswered | RequestWithdrawn):
            closed = (session_id, event.request_id)
            tally.requests -= self._change(_CLOSE, *closed)
        elif isinstance(event, RunFinished):
            self._due = True
            if tally.requests:
                left = (session_id, run_id)
                gone = "DELETE FROM requests WHERE session_id = ? AND run_id = ?"
                tally.requests -= self._change(gone, *left)
        waiting = tally.requests > 0 and self._rows.number(_WAITS, run_id) > 0
        row, record = self._run(run_id)
        now = fold_run(record, event, session_id=session_id, waiting=waiting)
        if now is not None:
            self._put_run(now, row, event, tally)

    def _run(self, run_id: str) -> tuple[RunRow | None, RunRecord | None]:
        known = self._rows.known.runs.pop(run_id, None)
        if known is not None:
            return known
        row = self._rows.one(RunRow, f"{RUN_QUERY} WHERE id = ?", run_id)
        return row, None if row is None else self._rows.run(row)

    def read(self, session_id: str, after: int, run_id: str | None, limit: int | None) -> list[Event]:
        """See SessionStore. What is read to its end must reach the session's head, and a whole log its digest."""
        tally, after = self._rows.tally(session_id), max(after, 0)
        run = None if run_id is None else self._rows.one(RunRow, f"{RUN_QUERY} WHERE id = ?", run_id)
        if run_id is not None and (run is None or not run.first or run.session_id != session_id):
            elsewhere = run is not None and run.session_id != session_id
            return self._read_loose(session_id, after, run_id, limit, started=elsewhere)
        first, last = (run.first, run.last or tally.head) if run is not None else (1, tally.head)
        if run is not None and not first <= last <= tally.head:
            raise self._rows.damaged(f"the row of run {run_id!r}, or the tally of session {session_id!r},")
        start = max(after, first - 1)
        most = -1 if limit is None or run_id is not None else limit
        query = (
            "SELECT seq, run_id, body, crc FROM events WHERE session_id = ? AND seq > ? AND seq <= ? "
            "ORDER BY seq LIMIT ?"
        )
        top = last if run_id is not None else 1 << 62
        rows = self._rows.all(EventRow, query, session_id, start, top, most)
        self._check_span(tally, rows, start, last if most < 0 else min(last, start + most))
        if start <= tally.base:
            self._check_digest(tally, rows)
        events = [self._rows.event(session_id, row) for row in rows if run_id in (None, row.run_id)]
        return events if limit is None else events[:limit]

    def _check_span(self, tally: Tally, rows: Sequence[EventRow], start: int, last: int) -> None:
        for expected, row in enumerate(rows, start=start + 1):
            if row.seq != expected:
                raise self._rows.damaged(f"event {expected} of session {tally.session_id!r}")
        if start < last or rows:
            self._rows.agree(f"the log of session {tally.session_id!r}", start + len(rows), last)

    def _check_digest(self, tally: Tally, rows: Sequence[EventRow]) -> None:
        if not rows or rows[-1].seq != tally.head:
            return
        bodies = (row.body for row in rows if row.seq > tally.base)
        if chained(bytes(DIGEST_SIZE), bodies) != tally.digest:
            raise self._rows.damaged(f"the log of session {tally.session_id!r}")

    def _read_loose(
        self, session_id: str, after: int, run_id: str, limit: int | None, *, started: bool = False
    ) -> list[Event]:
        """Events of a run of which no row says that it began here; only with ``started`` may it have."""
        query = (
            "SELECT seq, run_id, body, crc FROM events WHERE session_id = ? AND seq > ? AND run_id = ? "
            "ORDER BY seq LIMIT ?"
        )
        rows = self._rows.all(EventRow, query, session_id, after, run_id, -1 if limit is None else limit)
        found = [self._rows.event(session_id, row) for row in rows]
        if found and not started and after == 0 and isinstance(found[0], RunStarted):
            raise self._rows.damaged(f"the row of run {run_id!r}")
        return found

    def head(self, session_id: str) -> int:
        """See SessionStore."""
        tally = self._rows.tally(session_id)
        newest = self._rows.number("SELECT max(seq) FROM events WHERE session_id = ?", session_id)
        self._rows.agree(f"the log of session {session_id!r}", newest, tally.head)
        return newest

    def unfinished_runs(self, session_id: str) -> list[str]:
        """See SessionStore."""
        query = "SELECT id FROM runs WHERE session_id = ? AND unfinished ORDER BY ordinal"
        found = [row.value for row in self._rows.all(Text, query, session_id)]
        expected = self._rows.tally(session_id).unfinished
        self._rows.agree(f"the list of unfinished runs of session {session_id!r}", len(found), expected)
        self._rows.distinct(f"the list of unfinished runs of session {session_id!r}", found)
        return found

    def find_run(self, run_id: str) -> str | None:
        """See SessionStore."""
        found = self._rows.one(Text, "SELECT session_id FROM runs WHERE id = ? AND started", run_id)
        if found is None:
            self._must_not_have_started(run_id)
            return None
        return found.value

    def open_requests(self, session_id: str) -> list[Request]:
        """See SessionStore."""
        query = "SELECT id, seq FROM requests WHERE session_id = ? ORDER BY seq"
        rows = self._rows.all(RequestRow, query, session_id)
        expected = self._rows.tally(session_id).requests
        self._rows.agree(f"the list of open requests of session {session_id!r}", len(rows), expected)
        self._rows.distinct(f"the list of open requests of session {session_id!r}", [row.id for row in rows])
        return [self._request(session_id, row) for row in rows]

    def _request(self, session_id: str, row: RequestRow) -> Request:
        for event in self.read(session_id, row.seq - 1, None, 1):
            if isinstance(event, RequestOpened) and event.request.id == row.id:
                return event.request
        raise self._rows.damaged(f"request {row.id} of session {session_id!r}")

    # --- inbox ----------------------------------------------------------------------------------------

    def offer(self, session_id: str, signal: RuntimeSignal, window: float) -> bool:
        """See SessionStore."""
        key, now = seen_key(signal.source, signal.dedupe_key), self._clock()
        if key is not None:
            query = "SELECT at FROM dedupe WHERE session_id = ? AND key = ?"
            seen = self._rows.one(SeenRow, query, session_id, key)
            if seen is not None and now - seen.at < window:
                return False
            self._execute("DELETE FROM dedupe WHERE kept_until <= ?", (now,))
            row = (session_id, key, now, now + max(window, SIGNAL_WINDOW))
            self._execute("INSERT OR REPLACE INTO dedupe VALUES (?, ?, ?, ?)", row)
        body, tally = encode_row(signal), self._rows.tally(session_id)
        waiting = "SELECT body, crc FROM inbox WHERE session_id = ? AND id = ?"
        for other in self._rows.bodies(RuntimeSignal, waiting, session_id, signal.id):
            check_source(signal, other.source)
        offered = (body, zlib.crc32(body), session_id, signal.id)
        changed = "UPDATE inbox SET body = ?, crc = ? WHERE session_id = ? AND id = ?"
        if not self._change(changed, *offered):
            self._execute("INSERT INTO inbox (body, crc, session_id, id) VALUES (?, ?, ?, ?)", offered)
            tally.signals += 1
            self._rows.keep(tally)
        return True

    def inbox(self, session_id: str) -> list[RuntimeSignal]:
        """See SessionStore."""
        query = "SELECT body, crc FROM inbox WHERE session_id = ? ORDER BY ordinal"
        found = self._rows.bodies(RuntimeSignal, query, session_id)
        expected = self._rows.tally(session_id).signals
        self._rows.agree(f"the inbox of session {session_id!r}", len(found), expected)
        self._rows.distinct(f"the inbox of session {session_id!r}", [signal.id for signal in found])
        return found

    # --- outputs --------------------------------------------------------------------------------------

    def keep_output(self, session_id: str, reference: str, body: bytes, room: int) -> None:
        """See SessionStore."""
        tally = self._rows.tally(session_id)
        gone = "DELETE FROM outputs WHERE session_id = ? AND "
        tally.outputs -= self._change(f"{gone} reference = ?", session_id, reference)
        left = room - len(body)
        query = "SELECT ordinal, size FROM outputs WHERE session_id = ? ORDER BY ordinal DESC"
        for old in self._rows.all(OutputSize, query, session_id):
            left -= old.size
            if left < 0:
                tally.outputs -= self._change(f"{gone} ordinal <= ?", session_id, old.ordinal)
                break
        row = (session_id, reference, len(body), body, output_crc(session_id, reference, body))
        self._execute("INSERT INTO outputs VALUES (NULL, ?, ?, ?, ?, ?)", row)
        tally.outputs += 1
        self._rows.keep(tally)

    def read_output(self, session_id: str, reference: str) -> str | None:
        """See SessionStore."""
        query = "SELECT reference, body, crc FROM outputs WHERE session_id = ? AND reference = ?"
        found = self._rows.one(OutputRow, query, session_id, reference)
        if found is None:
            self._must_not_be_kept(session_id, reference)
            return None
        if found.crc != output_crc(session_id, reference, found.body):
            raise self._rows.damaged(f"output {reference} of session {session_id!r}")
        try:
            return found.body.decode()
        except UnicodeDecodeError as error:
            raise self._rows.damaged(f"output {reference} of session {session_id!r}") from error

    def copy_outputs(self, source_id: str, target_id: str) -> None:
        """See SessionStore."""
        query = "SELECT reference FROM outputs WHERE session_id = ? ORDER BY ordinal"
        for row in self._rows.all(Text, query, source_id):
            text = self.read_output(source_id, row.value)
            if text is not None:
                self.keep_output(target_id, row.value, text.encode(), 1 << 62)

    def _must_not_be_kept(self, session_id: str, reference: str) -> None:
        """Look for an output past the tree that did not have it."""
        rows = "FROM outputs INDEXED BY outputs_by_age WHERE session_id = ?"
        kept = self._rows.number(f"SELECT count(*) {rows}", session_id)
        self._rows.agree(f"the outputs of session {session_id!r}", kept, self._rows.tally(session_id).outputs)
        there = self._rows.number(f"SELECT count(*) {rows} AND reference = ?", session_id, reference)
        self._rows.agree(f"output {reference} of session {session_id!r}", 0, there)
