"""What the stores with a durable log share: every operation runs in one thread, on one desk.

An adapter of this kind is a ``DurableLog`` (the operations, blocking, on its file or database) and a
constructor. What a desk owes is what ``SessionStore`` promises, word for word.
"""

from __future__ import annotations

import asyncio
import weakref
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from ..errors import StoreCorrupted, StoreError
from ..events import Event, decode_event, encode_event
from ..folds.records import transcript_record
from ..requests import Request
from ..signals import RuntimeSignal
from .base import RunRecord, SessionRecord, SessionStore, TranscriptRecord
from .log import OUTPUT_ROOM, SIGNAL_WINDOW, Lease, checked_limit, checked_output, is_reference
from .records import NOT_PLAIN
from .writer import Desk, Writer


class DurableLog(Desk):
    """The operations of a store, blocking, for one thread. See ``SessionStore`` for their meanings."""

    @abstractmethod
    def acquire(self, session_id: str, owner: str, ttl: float, instead_of: str = "") -> Lease:
        """See SessionStore.acquire."""

    @abstractmethod
    def renew(self, lease: Lease, ttl: float) -> Lease:
        """See SessionStore.renew."""

    @abstractmethod
    def release(self, lease: Lease) -> None:
        """See SessionStore.release."""

    @abstractmethod
    def append(
        self, lease: Lease, events: Sequence[Event], bodies: Sequence[bytes], taken: Sequence[str]
    ) -> None:
        """See SessionStore.append; ``bodies`` are the events as JSON, one for each."""

    @abstractmethod
    def read(self, session_id: str, after: int, run_id: str | None, limit: int | None) -> list[Event]:
        """See SessionStore.read."""

    @abstractmethod
    def head(self, session_id: str) -> int:
        """See SessionStore.head."""

    @abstractmethod
    def unfinished_runs(self, session_id: str) -> list[str]:
        """See SessionStore.unfinished_runs."""

    @abstractmethod
    def find_run(self, run_id: str) -> str | None:
        """See SessionStore.find_run."""

    @abstractmethod
    def open_requests(self, session_id: str) -> list[Request]:
        """See SessionStore.open_requests."""

    @abstractmethod
    def offer(self, session_id: str, signal: RuntimeSignal, window: float) -> bool:
        """See SessionStore.offer."""

    @abstractmethod
    def inbox(self, session_id: str) -> list[RuntimeSignal]:
        """See SessionStore.inbox."""

    @abstractmethod
    def keep_output(self, session_id: str, reference: str, body: bytes, room: int) -> None:
        """See SessionStore.keep_output; ``body`` is the text as UTF-8, and fits."""

    @abstractmethod
    def read_output(self, session_id: str, reference: str) -> str | None:
        """See SessionStore.read_output; the reference is a plain name."""

    @abstractmethod
    def copy_outputs(self, source_id: str, target_id: str) -> None:
        """See SessionStore.copy_outputs."""

    @abstractmethod
    def load_session(self, session_id: str) -> SessionRecord | None:
        """See SessionStore.load_session."""

    @abstractmethod
    def list_sessions(
        self, parent: str | None, children: bool, after: str | None, limit: int | None
    ) -> list[SessionRecord]:
        """See SessionStore.list_sessions."""

    @abstractmethod
    def load_run(self, run_id: str) -> RunRecord | None:
        """See SessionStore.load_run."""

    @abstractmethod
    def list_runs(self, session_id: str | None, after: str | None, limit: int | None) -> list[RunRecord]:
        """See SessionStore.list_runs."""

    @abstractmethod
    def saved_transcript(self, run_id: str) -> TranscriptRecord | None:
        """The transcript saved for a run, or None."""

    @abstractmethod
    def transcript_ids(self, session_id: str | None) -> list[str]:
        """Ids of the runs that have a saved transcript or events, oldest first."""

    @abstractmethod
    def save(self, record: SessionRecord | RunRecord | TranscriptRecord) -> None:
        """Insert or replace a row."""

    @abstractmethod
    def delete_session(self, session_id: str) -> None:
        """See SessionStore.delete_session."""

    def load_transcript(self, run_id: str) -> TranscriptRecord | None:
        """The transcript saved for a run, else what its events amount to, else None."""
        saved = self.saved_transcript(run_id)
        if saved is not None:
            return saved
        session_id = self.find_run(run_id)
        if session_id is None:
            return None
        return transcript_record(self.read(session_id, 0, run_id, None), session_id=session_id)

    def list_transcripts(self, session_id: str | None) -> list[TranscriptRecord]:
        """See SessionStore.list_transcripts."""
        found = (self.load_transcript(run_id) for run_id in self.transcript_ids(session_id))
        return [record for record in found if record is not None]


class ThreadedStore(SessionStore):
    """A store whose log is a ``DurableLog`` in a thread of its own.

    The asynchronous half never blocks the event loop; the synchronous half blocks until its row is on
    disk. Cancelling a task that waits takes nothing back: an append, a signal or an output may be kept, and a lease
    that is given back is. The exception is a lease that is taken, which is given back.
    """

    durable: ClassVar[bool] = True

    def __init__(self, open_log: Callable[[], DurableLog], *, name: str, lasting: bool = True) -> None:
        self._writer: Writer[DurableLog] = Writer(open_log, name=name, lasting=lasting)
        # Refers to the writer and not to this store, which could not be collected otherwise.
        weakref.finalize(self, self._writer.close)

    # --- log ----------------------------------------------------------------------------------------
    # Leases are not synced: they matter between living processes only, and these see what the system holds in memory.

    async def acquire(self, session_id: str, *, owner: str, ttl: float, instead_of: str = "") -> Lease:
        """See SessionStore."""
        # Who is cancelled on the way never learns of its lease, which nobody would then give back.
        return await self._writer.run(
            lambda log: log.acquire(session_id, owner, ttl, instead_of),
            writes=True,
            sync=False,
            undo=lambda log, lease: log.release(lease),
        )

    async def renew(self, lease: Lease, *, ttl: float) -> Lease:
        """See SessionStore."""
        return await self._writer.run(lambda log: log.renew(lease, ttl), writes=True, sync=False)

    async def release(self, lease: Lease) -> None:
        """See SessionStore."""
        await self._writer.run(lambda log: log.release(lease), writes=True, sync=False)

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        """See SessionStore. Returns when the events are on disk."""
        # Encoded here, so that a value inside an event that changes later does not change the log.
        events, bodies, taken = tuple(events), [_encode(event) for event in events], tuple(taken)
        await self._writer.run(lambda log: log.append(lease, events, bodies, taken), writes=True)

    async def read(
        self, session_id: str, *, after: int = 0, run_id: str | None = None, limit: int | None = None
    ) -> list[Event]:
        """See SessionStore."""
        return await self._writer.run(lambda log: log.read(session_id, after, run_id, limit), writes=False)

    async def head(self, session_id: str) -> int:
        """See SessionStore."""
        return await self._writer.run(lambda log: log.head(session_id), writes=False)

    async def unfinished_runs(self, session_id: str) -> list[str]:
        """See SessionStore."""
        return await self._writer.run(lambda log: log.unfinished_runs(session_id), writes=False)

    async def find_run(self, run_id: str) -> str | None:
        """See SessionStore."""
        return await self._writer.run(lambda log: log.find_run(run_id), writes=False)

    async def open_requests(self, session_id: str) -> list[Request]:
        """See SessionStore."""
        return await self._writer.run(lambda log: log.open_requests(session_id), writes=False)

    async def offer(self, session_id: str, signal: RuntimeSignal, *, window: float = SIGNAL_WINDOW) -> bool:
        """See SessionStore."""
        return await self._writer.run(lambda log: log.offer(session_id, signal, window), writes=True)

    async def inbox(self, session_id: str) -> list[RuntimeSignal]:
        """See SessionStore."""
        return await self._writer.run(lambda log: log.inbox(session_id), writes=False)

    async def keep_output(
        self, session_id: str, reference: str, text: str, *, room: int = OUTPUT_ROOM
    ) -> None:
        """See SessionStore. Returns when the text is on disk."""
        body = checked_output(reference, text, room)
        await self._writer.run(lambda log: log.keep_output(session_id, reference, body, room), writes=True)

    async def read_output(self, session_id: str, reference: str) -> str | None:
        """See SessionStore."""
        if not is_reference(reference):
            return None
        return await self._writer.run(lambda log: log.read_output(session_id, reference), writes=False)

    async def copy_outputs(self, source_id: str, target_id: str) -> None:
        """See SessionStore."""
        await self._writer.run(lambda log: log.copy_outputs(source_id, target_id), writes=True)

    async def aclose(self) -> None:
        """Finish what is queued and let go of files. Using the store again opens them again."""
        await asyncio.to_thread(self._writer.close)

    # --- records ------------------------------------------------------------------------------------

    def load_session(self, session_id: str) -> SessionRecord | None:
        """See SessionStore."""
        return self._writer.run_sync(lambda log: log.load_session(session_id), writes=False)

    def save_session(self, record: SessionRecord) -> None:
        """See SessionStore."""
        self._writer.run_sync(lambda log: log.save(record), writes=True)

    def save_run(self, record: RunRecord) -> None:
        """See SessionStore."""
        self._writer.run_sync(lambda log: log.save(record), writes=True)

    def save_transcript(self, record: TranscriptRecord) -> None:
        """See SessionStore."""
        self._writer.run_sync(lambda log: log.save(record), writes=True)

    def load_run(self, run_id: str) -> RunRecord | None:
        """See SessionStore. Kept up to date from the log, also for a run whose process died."""
        return self._writer.run_sync(lambda log: log.load_run(run_id), writes=False)

    def list_runs(
        self, session_id: str | None = None, *, after: str | None = None, limit: int | None = None
    ) -> list[RunRecord]:
        """See SessionStore."""
        checked_limit(limit)
        return self._writer.run_sync(lambda log: log.list_runs(session_id, after, limit), writes=False)

    def load_transcript(self, run_id: str) -> TranscriptRecord | None:
        """See SessionStore. Without a saved one, what the run's events amount to so far."""
        return self._writer.run_sync(lambda log: log.load_transcript(run_id), writes=False)

    def list_transcripts(self, session_id: str | None = None) -> list[TranscriptRecord]:
        """See SessionStore."""
        return self._writer.run_sync(lambda log: log.list_transcripts(session_id), writes=False)

    def list_sessions(
        self,
        *,
        parent: str | None = None,
        children: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SessionRecord]:
        """See SessionStore."""
        checked_limit(limit)
        return self._writer.run_sync(
            lambda log: log.list_sessions(parent, children, after, limit), writes=False
        )

    def delete_session(self, session_id: str) -> None:
        """See SessionStore."""
        self._writer.run_sync(lambda log: log.delete_session(session_id), writes=True)


def _encode(event: Event) -> bytes:
    try:
        body = encode_event(event)
        decode_event(body)  # a field of the wrong type would make the whole log unreadable
    except (*NOT_PLAIN, StoreCorrupted) as error:
        raise StoreError(f"the event {event.type} was not saved, it is not plain data: {error}") from error
    return body
