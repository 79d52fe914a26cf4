"""A store that forgets with the process: dictionaries for the records, the inherited log for the events."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import dropwhile, islice
from typing import TypeVar

from msgspec.structs import replace

from ..errors import RecordNotFound
from ..folds.records import transcript_record
from .base import RunRecord, SessionRecord, SessionStore, TranscriptRecord
from .log import MemoryLog, checked_limit, family

RowT = TypeVar("RowT", SessionRecord, RunRecord)


class InMemorySessionStore(SessionStore):
    """Keeps everything in this process. The fastest store; nothing survives.

    ``sessions``, ``runs`` and ``transcripts`` are the rows by id (a transcript's id is its run's).
    ``clock`` gives Unix seconds and decides when leases expire and dedupe keys are forgotten.
    """

    durable = False
    volatile = True

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.sessions: dict[str, SessionRecord] = {}
        self.runs: dict[str, RunRecord] = {}
        self.transcripts: dict[str, TranscriptRecord] = {}
        self._memory_log = MemoryLog(clock)

    def load_session(self, session_id: str) -> SessionRecord | None:
        """See SessionStore."""
        record = self.sessions.get(session_id)
        return None if record is None else _copy_session(record)

    def save_session(self, record: SessionRecord) -> None:
        """See SessionStore."""
        self.sessions[record.id] = _copy_session(record)

    def save_run(self, record: RunRecord) -> None:
        """See SessionStore."""
        self.runs[record.id] = _copy_run(record)

    def load_run(self, run_id: str) -> RunRecord | None:
        """See SessionStore."""
        record = self.runs.get(run_id)
        return None if record is None else _copy_run(record)

    def list_runs(
        self, session_id: str | None = None, *, after: str | None = None, limit: int | None = None
    ) -> list[RunRecord]:
        """See SessionStore."""
        rows = _after(self.runs, after, limit)
        found = (_copy_run(row) for row in rows if session_id is None or row.session_id == session_id)
        return list(islice(found, limit))

    def save_transcript(self, record: TranscriptRecord) -> None:
        """See SessionStore."""
        self.transcripts[record.id] = _copy_transcript(record)

    def load_transcript(self, run_id: str) -> TranscriptRecord | None:
        """See SessionStore."""
        record = self.transcripts.get(run_id)
        return self._said(run_id) if record is None else _copy_transcript(record)

    def list_transcripts(self, session_id: str | None = None) -> list[TranscriptRecord]:
        """See SessionStore."""
        saved = [row.id for row in list(self.transcripts.values())]
        found = map(self.load_transcript, dict.fromkeys([*self.log.runs(), *saved]))
        return [row for row in found if row is not None and session_id in (None, row.session_id)]

    def _said(self, run_id: str) -> TranscriptRecord | None:
        """What a run's events amount to so far, as with a store on disk."""
        home = self.log.find_run(run_id)
        if home is None:
            return None
        return transcript_record(self.log.read(home, run_id=run_id), session_id=home)

    def list_sessions(
        self,
        *,
        parent: str | None = None,
        children: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SessionRecord]:
        """See SessionStore."""
        rows = _after(self.sessions, after, limit)
        everything = children and parent is None
        found = (_copy_session(row) for row in rows if everything or row.parent == parent)
        return list(islice(found, limit))

    def delete_session(self, session_id: str) -> None:
        """See SessionStore."""
        gone = set(family(session_id, [(row.id, row.parent) for row in list(self.sessions.values())]))
        for member in gone:
            self.sessions.pop(member, None)
            self.log.forget(member)
        for run_id in [row.id for row in list(self.runs.values()) if row.session_id in gone]:
            self.runs.pop(run_id, None)
        for run_id in [row.id for row in list(self.transcripts.values()) if row.session_id in gone]:
            self.transcripts.pop(run_id, None)


def _after(rows: dict[str, RowT], after: str | None, limit: int | None) -> list[RowT]:
    """The rows from the one after ``after``. Raises RecordNotFound, ConfigError."""
    checked_limit(limit)
    if after is None:
        return list(rows.values())
    if after not in rows:
        raise RecordNotFound(f"the store holds no {after!r} to list on after")
    return list(dropwhile(lambda row: row.id != after, list(rows.values())))[1:]


# A row handed in or out must not change when its holder writes to it later, as with a store on disk.


def _copy_session(row: SessionRecord) -> SessionRecord:
    return replace(row, metadata=dict(row.metadata))


def _copy_run(row: RunRecord) -> RunRecord:
    return replace(row, metadata=dict(row.metadata), error=None if row.error is None else dict(row.error))


def _copy_transcript(row: TranscriptRecord) -> TranscriptRecord:
    return replace(
        row,
        messages=list(row.messages),
        context=dict(row.context),
        events=list(row.events),
        artifacts=list(row.artifacts),
        metadata=dict(row.metadata),
    )
