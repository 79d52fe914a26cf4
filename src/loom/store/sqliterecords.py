"""The records of a ``SqliteSessionStore``: sessions, runs and transcripts, and what is deleted with them."""

from __future__ import annotations

import zlib

from ..errors import RecordNotFound
from ..events import Event, RunFinished, RunResumed, RunStarted
from .base import RunRecord, SessionRecord, TranscriptRecord
from .durable import DurableLog
from .records import encode_row
from .sqliteknown import RunRow
from .sqliterows import Rows, SessionRow, Text
from .sqlitetally import Tally

RUN_QUERY = "SELECT id, session_id, started, unfinished, first, last, body, crc FROM runs"
"""Begins a query for whole rows of runs."""


class RecordTables(DurableLog):
    """The operations on rows, in whatever transaction is open."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._execute = rows.execute

    def load_session(self, session_id: str) -> SessionRecord | None:
        """See SessionStore."""
        query = "SELECT id, parent, body, crc FROM sessions WHERE id = ?"
        row = self._rows.one(SessionRow, query, session_id)
        listed = self._rows.tally(session_id).listed
        self._rows.agree(f"the row of session {session_id!r}", int(row is not None), listed)
        return None if row is None else self._rows.session(row)

    def list_sessions(
        self, parent: str | None, children: bool, after: str | None, limit: int | None
    ) -> list[SessionRecord]:
        """See SessionStore."""
        written = self._rows.number("SELECT sum(listed) FROM tallies")
        kept = self._rows.number("SELECT count(*) FROM sessions NOT INDEXED WHERE ordinal > 0")
        self._rows.agree("the list of sessions", kept, written)
        start = self._place("sessions", after) if after is not None else 0
        query = (
            "SELECT id, parent, body, crc FROM sessions NOT INDEXED WHERE ordinal > ? "
            "AND (? OR parent IS ?) ORDER BY ordinal LIMIT ?"
        )
        given = (start, children and parent is None, parent, -1 if limit is None else limit)
        found = self._rows.all(SessionRow, query, *given)
        self._rows.distinct("the list of sessions", [row.id for row in found])
        return [self._rows.session(row) for row in found]

    def _place(self, table: str, record_id: str) -> int:
        found = self._rows.number(f"SELECT ordinal FROM {table} WHERE id = ?", record_id)
        if not found:
            raise RecordNotFound(f"{self._rows.path} holds no {record_id!r} to list on after")
        return found

    def load_run(self, run_id: str) -> RunRecord | None:
        """See SessionStore."""
        row = self._rows.one(RunRow, f"{RUN_QUERY} WHERE id = ?", run_id)
        if row is None:
            self._must_not_have_started(run_id)
            return None
        return self._rows.run(row)

    def list_runs(self, session_id: str | None, after: str | None, limit: int | None) -> list[RunRecord]:
        """See SessionStore."""
        self._count_runs(session_id)
        given: tuple[str, ...] = () if session_id is None else (session_id,)
        where = (
            "NOT INDEXED WHERE ordinal > ?" if session_id is None else "WHERE session_id = ? AND ordinal > ?"
        )
        start = self._place("runs", after) if after is not None else 0
        query = f"{RUN_QUERY} {where} ORDER BY ordinal LIMIT ?"
        rows = self._rows.all(RunRow, query, *given, start, -1 if limit is None else limit)
        self._rows.distinct("the list of runs", [row.id for row in rows])
        return [self._rows.run(row) for row in rows]

    def _count_runs(self, session_id: str | None) -> None:
        if session_id is None:
            written = self._rows.number("SELECT sum(runs) FROM tallies")
            kept = self._rows.number("SELECT count(*) FROM runs NOT INDEXED WHERE ordinal > 0")
        else:
            written = self._rows.tally(session_id).runs
            kept = self._rows.number("SELECT count(*) FROM runs WHERE session_id = ?", session_id)
        self._rows.agree("the list of runs", kept, written)

    def _count_transcripts(self, session_id: str | None) -> None:
        where, given = ("", ()) if session_id is None else ("WHERE session_id = ?", (session_id,))
        kept = self._rows.number(f"SELECT count(*) FROM transcripts {where}", *given)
        written = self._rows.number(f"SELECT sum(transcripts) FROM tallies {where}", *given)
        self._rows.agree("the list of transcripts", kept, written)

    def saved_transcript(self, run_id: str) -> TranscriptRecord | None:
        """See DurableLog."""
        query = "SELECT body, crc FROM transcripts WHERE run_id = ?"
        found = self._rows.bodies(TranscriptRecord, query, run_id)
        if found and found[0].id != run_id:
            raise self._rows.damaged(f"the transcript of run {run_id!r}")
        if not found:
            self._must_have_none_saved(run_id)
        return found[0] if found else None

    def _must_have_none_saved(self, run_id: str) -> None:
        """Look for a transcript past the tree that did not have it: in its session, if that is known."""
        home = self._rows.one(Text, "SELECT session_id FROM runs WHERE id = ?", run_id)
        self._count_transcripts(home.value if home is not None else None)
        given: tuple[str, ...] = ()
        if home is not None:
            where, given = (
                "INDEXED BY transcripts_by_session WHERE session_id = ? AND run_id = ?",
                (home.value,),
            )
        else:
            where = "NOT INDEXED WHERE run_id = ?"
        there = self._rows.number(f"SELECT count(*) FROM transcripts {where}", *given, run_id)
        self._rows.agree(f"the transcript of run {run_id!r}", 0, there)

    def transcript_ids(self, session_id: str | None) -> list[str]:
        """See DurableLog."""
        self._count_runs(session_id)
        self._count_transcripts(session_id)
        where, given = ("", ()) if session_id is None else ("WHERE session_id = ?1", (session_id,))
        query = (
            f"SELECT id FROM (SELECT id, ordinal, session_id FROM runs {where} UNION ALL "
            f"SELECT run_id, 1 << 62, session_id FROM transcripts {where}) GROUP BY id ORDER BY min(ordinal)"
        )
        return [row.value for row in self._rows.all(Text, query, *given)]

    def save(self, record: SessionRecord | RunRecord | TranscriptRecord) -> None:
        """See DurableLog."""
        body = encode_row(record)
        crc = zlib.crc32(body)
        if isinstance(record, SessionRecord):
            self._save_session(record, body, crc)
        elif isinstance(record, RunRecord):
            self._rows.known.runs.pop(record.id, None)
            if not self._change("UPDATE runs SET body = ?, crc = ? WHERE id = ?", body, crc, record.id):
                self._execute(
                    "INSERT INTO runs (id, session_id, started, unfinished, body, crc) VALUES (?, ?, 0, 0, ?, ?)",
                    (record.id, record.session_id, body, crc),
                )
                self._count(record.session_id, runs=1)
        else:
            self._save_transcript(record, body, crc)

    def _save_session(self, record: SessionRecord, body: bytes, crc: int) -> None:
        tally, columns = self._rows.tally(record.id), (record.parent, body, crc, record.id)
        found = self._change("UPDATE sessions SET parent = ?, body = ?, crc = ? WHERE id = ?", *columns)
        self._rows.agree(f"the row of session {record.id!r}", found, tally.listed)
        if not found:
            self._execute("INSERT INTO sessions (parent, body, crc, id) VALUES (?, ?, ?, ?)", columns)
            tally.listed = 1
            self._rows.keep(tally)

    def _save_transcript(self, record: TranscriptRecord, body: bytes, crc: int) -> None:
        before = self._rows.one(Text, "SELECT session_id FROM transcripts WHERE run_id = ?", record.id)
        if before is not None:
            self._count(before.value, transcripts=-1)
        row = (record.id, record.session_id, body, crc)
        self._execute("INSERT OR REPLACE INTO transcripts VALUES (?, ?, ?, ?)", row)
        self._count(record.session_id, transcripts=1)

    def _count(self, session_id: str, *, runs: int = 0, transcripts: int = 0) -> None:
        tally = self._rows.tally(session_id)
        tally.runs += runs
        tally.transcripts += transcripts
        self._rows.keep(tally)

    def delete_session(self, session_id: str) -> None:
        """See SessionStore."""
        self._rows.known.forget()
        for member in self._rows.all(Text, _FAMILY, session_id):
            self._execute("DELETE FROM sessions WHERE id = ?", (member.value,))
            for table in _OF_A_SESSION:
                self._execute(f"DELETE FROM {table} WHERE session_id = ?", (member.value,))

    def _put_run(self, record: RunRecord, row: RunRow | None, event: Event, tally: Tally) -> None:
        """Write a run's row as it is after ``event``, and count it where it belongs."""
        body = encode_row(record)
        session_id = row.session_id if row is not None else tally.session_id
        started, unfinished, first, last = (
            (row.started, row.unfinished, row.first, row.last) if row is not None else (0, 0, 0, 0)
        )
        if isinstance(event, RunStarted):
            session_id, started, unfinished, first, last = tally.session_id, 1, 1, event.seq, 0
        elif isinstance(event, RunFinished):
            unfinished, last = 0, event.seq
        elif isinstance(event, RunResumed) and started:
            unfinished, last = 1, 0  # one that had ended may go on
        crc = zlib.crc32(body)
        if unfinished:
            known = RunRow(record.id, session_id, started, unfinished, first, last, body, crc)
            self._rows.known.runs[record.id] = known, record
        values = (session_id, started, unfinished, first, last, body, crc, record.id)
        if row is None:
            self._execute(
                "INSERT INTO runs (session_id, started, unfinished, first, last, body, crc, id) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        else:
            self._execute(
                "UPDATE runs SET session_id = ?, started = ?, unfinished = ?, first = ?, last = ?, "
                "body = ?, crc = ? WHERE id = ?",
                values,
            )
            before = tally if row.session_id == tally.session_id else self._rows.tally(row.session_id)
            before.runs -= 1
            before.unfinished -= row.unfinished
            if before is not tally:
                self._rows.keep(before)
        after = tally if session_id == tally.session_id else self._rows.tally(session_id)
        after.runs += 1
        after.unfinished += unfinished
        if after is not tally:
            self._rows.keep(after)

    def _must_not_have_started(self, run_id: str) -> None:
        """Look for a run past the tree that did not have it, among as many as there must be."""
        self._count_runs(None)
        there = self._rows.number("SELECT count(*) FROM runs NOT INDEXED WHERE id = ? AND started", run_id)
        self._rows.agree(f"the row of run {run_id!r}", 0, there)

    def _change(self, statement: str, *given: object) -> int:
        """Run a statement that changes rows, and return how many there were."""
        return self._execute(statement, given).rowcount


_FAMILY = """
WITH RECURSIVE family (id) AS (
    VALUES (?) UNION SELECT sessions.id FROM sessions JOIN family ON sessions.parent = family.id
) SELECT id FROM family
"""
"""A session, its children, theirs, and so on; each once, whatever the rows say."""

_OF_A_SESSION = (
    "runs",
    "transcripts",
    "events",
    "requests",
    "inbox",
    "dedupe",
    "outputs",
    "leases",
    "tallies",
)
"""The tables with rows of one session, besides its own."""
