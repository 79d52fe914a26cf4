"""Sessions in one JSON Lines file: readable with any text tool, shared by processes, only appended to."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from ..errors import LeaseLost, RecordNotFound, SessionBusy, StoreCorrupted, StoreError
from ..events import Event, RequestOpened
from ..folds.records import fold_run
from ..requests import Request
from ..signals import RuntimeSignal
from . import lines
from .base import RunRecord, SessionRecord, TranscriptRecord
from .durable import DurableLog, ThreadedStore
from .linefile import LineFile
from .lineindex import LineIndex, OpenRequest, RunIndex, SessionIndex
from .lines import Place
from .log import Lease, check_seqs, check_source, family, seen_key
from .outputfiles import OutputFiles
from .writer import Job

T = TypeVar("T")
EntryT = TypeVar("EntryT", SessionIndex, RunIndex)


class FileSessionStore(ThreadedStore):
    """A durable store in the file ``path``, with its lock in ``<path>.lock`` and outputs in ``<path>.outputs/``.

    Several processes may use it at once; the file is for a local disk, and for systems with ``flock``.
    An append is one line, on disk before it returns. A tail that a crash cut short is removed by the next
    append; any other damage is ``StoreCorrupted`` and leaves the file as it is. Deleting a session hides
    it at once; ``compact`` gives its space back. The file and the folders made for it are the owner's only.

    ``create_dirs`` makes missing parent folders at the first write, ``clock`` gives Unix seconds for leases
    and dedupe keys, ``lock_timeout`` is how many seconds to wait for another process before a retryable
    StoreError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create_dirs: bool = True,
        clock: Callable[[], float] = time.time,
        lock_timeout: float = 10.0,
    ) -> None:
        self.path = Path(path)
        # Absolute and without links from now on: the program may change its directory before the thread opens
        # the file, and one file must have one lock, under whatever names it is reached.
        real = Path(os.path.realpath(path))
        file = partial(LineFile, real, create_dirs=create_dirs, lock_timeout=lock_timeout)
        super().__init__(lambda: FileLog(file(), clock), name=f"loom-store {self.path.name}")

    async def compact(self) -> None:
        """Write the file anew without what was deleted or replaced. Other processes notice and go on."""
        await self._writer.run(_compact, writes=True)


def _compact(log: DurableLog) -> None:
    if isinstance(log, FileLog):
        log.compact()


class FileLog(DurableLog):
    """The operations on one open file. Needs the lock, which ``perform`` holds around every group of jobs."""

    def __init__(self, file: LineFile, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._outputs = OutputFiles(Path(f"{file.path}.outputs"))
        self._index = LineIndex()
        self._plan = file.plan()
        self._sync = False

    def close(self) -> None:
        """See Desk."""
        self._file.close()

    # --- groups of jobs -------------------------------------------------------------------------------

    def perform(self, jobs: Sequence[Job]) -> None:
        """See Desk. What reads goes first and does not wait for the disk."""
        for writes, work in ((False, self._read), (True, self._write)):
            group = [job for job in jobs if job.writes == writes]
            if not group:
                continue
            try:
                with self._file.locked(writes=writes):
                    self._catch_up(writes)
                    work(group)
            except OSError as error:
                self._start_over()
                for job in group:
                    job.error = job.error or self._failed(error, writes)
            except StoreError as error:
                for job in group:
                    job.error = job.error or error

    def _read(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._run(job)

    def _write(self, jobs: Sequence[Job]) -> None:
        self._plan, self._sync = self._file.plan(), False
        for job in jobs:
            self._run(job)
        if self._plan.lines:
            self._file.commit(self._plan, sync=self._sync)

    def _run(self, job: Job) -> None:
        job.run(self)
        if isinstance(job.error, OSError):
            job.error = self._failed(job.error, job.writes)

    def _catch_up(self, writes: bool) -> None:
        if self._file.replaced():
            self._start_over()
        self._file.read_on(self._index.apply, writes=writes)

    def _start_over(self) -> None:
        self._file.forget()
        self._index = LineIndex()

    def _failed(self, error: OSError, writes: bool) -> StoreError:
        said = StoreError(f"{self._file.path}: {'not saved' if writes else 'cannot be read'}: {error}")
        said.__cause__ = error
        return said

    def _add(self, record: bytes, *, sync: bool = True) -> None:
        self._plan.add(record, self._index.apply)
        self._sync = self._sync or sync

    def _get(self, place: Place, decode: Callable[[bytes], T]) -> T:
        record = self._file.read(place)
        try:
            return decode(record)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise StoreCorrupted(f"{self._file.path} holds a record that cannot be read: {error}") from error

    # --- leases ---------------------------------------------------------------------------------------

    def acquire(self, session_id: str, owner: str, ttl: float, instead_of: str = "") -> Lease:
        """See SessionStore."""
        session, now = self._index.sessions.get(session_id), self._clock()
        held = session.lease if session is not None else None
        if held is not None and held.owner not in (owner, instead_of) and held.expires_at > now:
            raise SessionBusy(f"session {session_id!r} is in use by {held.owner}", owner=held.owner)
        head = session.head if session is not None else 0
        return self._lease(Lease(session_id, owner, self._index.token + 1, now + ttl, head))

    def renew(self, lease: Lease, ttl: float) -> Lease:
        """See SessionStore."""
        self._held(lease)
        return self._lease(Lease(lease.session_id, lease.owner, lease.token, self._clock() + ttl))

    def release(self, lease: Lease) -> None:
        """See SessionStore."""
        session = self._index.sessions.get(lease.session_id)
        if session is not None and session.lease is not None and session.lease.token == lease.token:
            self._add(lines.write_line(lines.ReleaseLine(lease.session_id)), sync=False)

    def _lease(self, lease: Lease) -> Lease:
        line = lines.LeaseLine(lease.session_id, lease.owner, lease.token, lease.expires_at)
        self._add(lines.write_line(line), sync=False)
        return lease

    def _held(self, lease: Lease) -> tuple[SessionIndex, Lease]:
        session = self._index.sessions.get(lease.session_id)
        if session is None or session.lease is None or session.lease.token != lease.token:
            raise LeaseLost(f"session {lease.session_id!r} was taken over")
        return session, session.lease

    # --- events ---------------------------------------------------------------------------------------

    def append(
        self, lease: Lease, events: Sequence[Event], bodies: Sequence[bytes], taken: Sequence[str]
    ) -> None:
        """See SessionStore."""
        session, held = self._held(lease)
        if held.expires_at <= self._clock():
            raise LeaseLost(f"the lease on session {lease.session_id!r} has expired")
        check_seqs(events, session.head)
        if events or taken:
            self._add(lines.write_events(lease.session_id, bodies, taken))

    def read(self, session_id: str, after: int, run_id: str | None, limit: int | None) -> list[Event]:
        """See SessionStore."""
        session = self._index.sessions.get(session_id)
        if session is None:
            return []
        found: list[Event] = []
        for position in _positions(session, after, run_id):
            if limit is not None and len(found) >= limit:
                break
            events = self._get(session.lines[position], lines.read_events)
            found += (e for e in events if e.seq > after and (run_id is None or e.run_id == run_id))
        return found if limit is None else found[:limit]

    def head(self, session_id: str) -> int:
        """See SessionStore."""
        session = self._index.sessions.get(session_id)
        return session.head if session is not None else 0

    def unfinished_runs(self, session_id: str) -> list[str]:
        """See SessionStore."""
        session = self._index.sessions.get(session_id)
        return list(session.unfinished) if session is not None else []

    def find_run(self, run_id: str) -> str | None:
        """See SessionStore."""
        run = self._index.runs.get(run_id)
        return run.session_id if run is not None and run.started else None

    def open_requests(self, session_id: str) -> list[Request]:
        """See SessionStore."""
        session = self._index.sessions.get(session_id)
        return [self._request(found) for found in session.requests.values()] if session is not None else []

    def _request(self, found: OpenRequest) -> Request:
        event = self._event(found.place, found.seq)
        if not isinstance(event, RequestOpened):
            raise StoreCorrupted(f"{self._file.path}: event {found.seq} is not the request that it was")
        return event.request

    def _event(self, place: Place, seq: int) -> Event:
        for event in self._get(place, lines.read_events):
            if event.seq == seq:
                return event
        raise StoreCorrupted(f"{self._file.path}: event {seq} is not where it was")

    # --- inbox ----------------------------------------------------------------------------------------

    def offer(self, session_id: str, signal: RuntimeSignal, window: float) -> bool:
        """See SessionStore."""
        session, now = self._index.sessions.get(session_id), self._clock()
        key = seen_key(signal.source, signal.dedupe_key)
        if session is not None and key is not None and not session.seen.fresh(key, now, window):
            return False
        waiting = session.inbox.get(signal.id) if session is not None else None
        if waiting is not None:
            check_source(signal, waiting.source)
        self._add(lines.write_signal(session_id, now, window, signal))
        return True

    def inbox(self, session_id: str) -> list[RuntimeSignal]:
        """See SessionStore."""
        session = self._index.sessions.get(session_id)
        waiting = session.inbox.values() if session is not None else ()
        return [self._get(signal.place, lines.read_signal) for signal in waiting]

    # --- outputs --------------------------------------------------------------------------------------

    def keep_output(self, session_id: str, reference: str, body: bytes, room: int) -> None:
        """See SessionStore."""
        self._outputs.keep(session_id, reference, body, room)

    def read_output(self, session_id: str, reference: str) -> str | None:
        """See SessionStore."""
        return self._outputs.read(session_id, reference)

    def copy_outputs(self, source_id: str, target_id: str) -> None:
        """See SessionStore."""
        self._outputs.copy(source_id, target_id)

    # --- records --------------------------------------------------------------------------------------

    def load_session(self, session_id: str) -> SessionRecord | None:
        """See SessionStore."""
        session = self._index.sessions.get(session_id)
        if session is None or session.row is None:
            return None
        return self._session(session.row, session)

    def _session(self, row: Place, session: SessionIndex) -> SessionRecord:
        record = self._get(row, lines.read_session)
        record.parent = session.parent  # which an older version did not write into the row, but into the log
        return record

    def list_sessions(
        self, parent: str | None, children: bool, after: str | None, limit: int | None
    ) -> list[SessionRecord]:
        """See SessionStore."""
        everything = children and parent is None
        rows = (
            (session.row, session)
            for session in self._after(self._index.sessions, after, lambda found: found.row is not None)
            if session.row is not None and (everything or session.parent == parent)
        )
        return [self._session(row, session) for row, session in islice(rows, limit)]

    def _after(
        self, entries: dict[str, EntryT], after: str | None, there: Callable[[EntryT], bool]
    ) -> Iterator[EntryT]:
        """The entries from the one after ``after``. Raises RecordNotFound when that is not there."""
        if after is None:
            yield from entries.values()
            return
        if after not in entries or not there(entries[after]):
            raise RecordNotFound(f"{self._file.path} holds no {after!r} to list on after")
        names = iter(entries)
        next(name for name in names if name == after)
        yield from (entries[name] for name in names)

    def load_run(self, run_id: str) -> RunRecord | None:
        """See SessionStore."""
        run = self._index.runs.get(run_id)
        return self._row(run) if run is not None else None

    def list_runs(self, session_id: str | None, after: str | None, limit: int | None) -> list[RunRecord]:
        """See SessionStore."""
        if after is None:
            runs = (run for _, run in self._runs(session_id))
        else:
            later = self._after(self._index.runs, after, lambda found: bool(found.steps))
            runs = (run for run in later if session_id in (None, run.session_id))
        rows = map(self._row, runs)
        return list(islice((row for row in rows if row is not None), limit))

    def saved_transcript(self, run_id: str) -> TranscriptRecord | None:
        """See DurableLog."""
        run = self._index.runs.get(run_id)
        if run is None or run.transcript is None:
            return None
        return self._get(run.transcript, lines.read_transcript)

    def transcript_ids(self, session_id: str | None) -> list[str]:
        """See DurableLog."""
        return [run_id for run_id, run in self._runs(session_id) if run.transcript is not None or run.started]

    def save(self, record: SessionRecord | RunRecord | TranscriptRecord) -> None:
        """See DurableLog."""
        self._add(lines.write_row(record))

    def delete_session(self, session_id: str) -> None:
        """See SessionStore."""
        parents = [(name, session.parent) for name, session in self._index.sessions.items()]
        for member in family(session_id, parents):
            self._outputs.drop(member)
            if member in self._index.sessions:
                self._add(lines.write_line(lines.DeleteLine(member)))

    def _runs(self, session_id: str | None) -> Iterator[tuple[str, RunIndex]]:
        if session_id is None:
            yield from self._index.runs.items()
            return
        session = self._index.sessions.get(session_id)
        for run_id in session.runs if session is not None else ():
            run = self._index.runs.get(run_id)
            if run is not None and run.session_id == session_id:
                yield run_id, run

    def _row(self, run: RunIndex) -> RunRecord | None:
        row: RunRecord | None = None
        for step in run.steps:
            if step.seq == 0:
                row = self._get(step.place, lines.read_run)
            else:
                event = self._event(step.place, step.seq)
                row = fold_run(row, event, session_id=run.session_id, waiting=step.waiting)
        return row

    # --- compaction -----------------------------------------------------------------------------------

    def compact(self) -> None:
        """See FileSessionStore.compact. What other jobs of the group planned is written first."""
        if self._plan.lines:
            self._file.commit(self._plan, sync=True)
            self._plan = self._file.plan()
        self._file.replace(self._kept())
        self._start_over()
        self._catch_up(writes=True)
        self._plan = self._file.plan()

    def _kept(self) -> Iterator[bytes]:
        # Sessions first: their order in the file is the order in which they are listed.
        sessions = self._index.sessions
        seen = {
            session_id: [(key, at, session.seen.kept) for key, at in session.seen.items()]
            for session_id, session in sessions.items()
        }
        yield lines.write_line(lines.CarriedLine(self._index.token, seen))
        for place in sorted(set(self._index.places())):
            yield self._file.read(place)
        for session in sessions.values():
            if session.lease is not None:
                held = session.lease
                yield lines.write_line(
                    lines.LeaseLine(held.session_id, held.owner, held.token, held.expires_at)
                )


def _positions(session: SessionIndex, after: int, run_id: str | None) -> Sequence[int]:
    """Positions of the lines that may hold what is asked for, in order."""
    first = max(bisect_right(session.firsts, after + 1) - 1, 0)
    if run_id is None:
        return range(first, len(session.lines))
    return [position for position in session.runs.get(run_id, ()) if position >= first]
