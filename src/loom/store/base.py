"""Port: who keeps sessions, runs and their events.

One class, two halves. The *records* half (synchronous) is what the seeds print: implement ``load_session``,
``save_session`` and ``save_run`` and you have a store. The *log* half (asynchronous) is what makes a run
durable: an append-only event log per session, open requests, an inbox, outputs, and leases with fencing tokens. A
subclass without a log half inherits one that lives in this process's memory; its ``durable`` is then False:
finished runs are recorded, but a crash loses the run that was going on, and a waiting run cannot be resumed
elsewhere.

An adapter of the log half keeps these promises, and ``loom.testing.store_contract`` tries to break each:

* ``append`` is atomic: all events of a call or none, and its cost does not depend on the log's length.
* Events of one session have the seqs 1, 2, 3, ... without gaps, in every process's eyes.
* Only the newest lease of a session may append; a writer that slept past its lease is refused.
* What ``append`` returned from survives the death of the process at any instant.
* An output that ``keep_output`` returned for survives as the log does, until newer ones need its room. It is read
  by its session alone, and reading the log does not read it.
* Damage is a ``StoreCorrupted`` that names the file; the damaged file is left as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from ..events import Event
from ..requests import Request
from ..signals import RuntimeSignal
from .log import OUTPUT_ROOM, SIGNAL_WINDOW, Lease, MemoryLog

__all__ = [
    "OUTPUT_ROOM",
    "SIGNAL_WINDOW",
    "Lease",
    "RunRecord",
    "SessionRecord",
    "SessionStore",
    "TranscriptRecord",
]


def _now() -> datetime:
    return datetime.now(UTC)


class SessionRecord(Struct, omit_defaults=True):
    """A session's row. ``parent`` is the id of the session that it belongs to and ends with, if there is one."""

    id: str
    metadata: dict[str, Any] = {}
    created_at: datetime = msgspec.field(default_factory=_now)
    updated_at: datetime = msgspec.field(default_factory=_now)
    parent: str | None = None


class RunRecord(Struct, omit_defaults=True):
    """A run's row. ``state`` is a value of ``RunState``; ``error`` is an ``ErrorInfo`` as a dict."""

    id: str
    session_id: str
    state: str
    output: str = ""
    error: dict[str, Any] | None = None
    created_at: datetime = msgspec.field(default_factory=_now)
    updated_at: datetime = msgspec.field(default_factory=_now)
    metadata: dict[str, Any] = {}


class TranscriptRecord(Struct, omit_defaults=True):
    """What a run said, as plain data: ``messages`` are ChatMessages as dicts, ``events`` Events as dicts."""

    id: str
    session_id: str
    prompt: str
    output: str = ""
    messages: list[dict[str, Any]] = []
    context: dict[str, Any] = {}
    events: list[dict[str, Any]] = []
    artifacts: list[dict[str, Any]] = []
    created_at: datetime = msgspec.field(default_factory=_now)
    updated_at: datetime = msgspec.field(default_factory=_now)
    metadata: dict[str, Any] = {}


class SessionStore(ABC):
    """Base of all stores. See the module's docstring for what an implementer owes."""

    durable: ClassVar[bool] = False
    """True when the log half survives the process."""
    volatile: ClassVar[bool] = False
    """True when nothing in the store is meant to survive the process."""

    # --- records: the seeds' half -----------------------------------------------------------------

    @abstractmethod
    def load_session(self, session_id: str) -> SessionRecord | None:
        """The session's row, or None."""

    @abstractmethod
    def save_session(self, record: SessionRecord) -> None:
        """Insert or replace a session's row."""

    @abstractmethod
    def save_run(self, record: RunRecord) -> None:
        """Insert or replace a run's row. Called when a run starts, waits and ends."""

    def load_run(self, run_id: str) -> RunRecord | None:
        """The run's row, or None."""
        return None

    def list_runs(
        self, session_id: str | None = None, *, after: str | None = None, limit: int | None = None
    ) -> list[RunRecord]:
        """Rows of the runs of one session or of all, oldest first: those after the run ``after``, at most ``limit``.

        Raises RecordNotFound when there is no row ``after``, ConfigError for a negative ``limit``.
        """
        return []

    def save_transcript(self, record: TranscriptRecord) -> None:
        """Insert or replace what a run said. Called when a run ends, for stores without a durable log."""

    def load_transcript(self, run_id: str) -> TranscriptRecord | None:
        """What a run said, or None."""
        return None

    def list_transcripts(self, session_id: str | None = None) -> list[TranscriptRecord]:
        """What the runs of one session or of all said, oldest first."""
        return []

    def list_sessions(
        self,
        *,
        parent: str | None = None,
        children: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SessionRecord]:
        """Rows of the sessions that belong to no other, oldest first.

        With ``parent``: of the sessions that belong to that one; with ``children``: of all sessions. Those after
        the session ``after``, at most ``limit``. Raises RecordNotFound when there is no row ``after``, ConfigError
        for a negative ``limit``.
        """
        return []

    def delete_session(self, session_id: str) -> None:
        """Forget a session and those that belong to it, with runs, transcripts, events, signals and outputs.

        Unknown ids are fine. The inherited one forgets the inherited log: call it when yours is done.
        """
        self.log.forget(session_id)

    # --- log: the durable half --------------------------------------------------------------------

    @property
    def log(self) -> MemoryLog:
        """The inherited log, in this process's memory."""
        attributes: dict[str, MemoryLog] = vars(self)
        # setdefault, not assignment: two threads may come here at once and must get the same log.
        return attributes.get("_memory_log") or attributes.setdefault("_memory_log", MemoryLog())

    async def acquire(self, session_id: str, *, owner: str, ttl: float, instead_of: str = "") -> Lease:
        """Take the session for ``ttl`` seconds. Raises SessionBusy while another owner's lease lives.

        Each success has a higher ``token`` than all before it, which is what fences off older writers.
        The same owner may acquire again; its older lease is void from then on. ``head`` says how far the log is.
        ``instead_of`` names an owner known to be dead, whose lease need not be waited out; SessionBusy's ``owner``
        says who holds the session.
        """
        return self.log.acquire(session_id, owner=owner, ttl=ttl, instead_of=instead_of)

    async def renew(self, lease: Lease, *, ttl: float) -> Lease:
        """Extend a lease, even one that has expired, as long as nobody took the session since.

        Raises LeaseLost when somebody did, or when it was released.
        """
        return self.log.renew(lease, ttl=ttl)

    async def release(self, lease: Lease) -> None:
        """Give the session back. Releasing a lost lease does nothing."""
        self.log.release(lease)

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        """Add events to the session's log, and remove the signals ``taken`` (ids) from its inbox, atomically.

        The events carry the seqs that follow the last one. Raises LeaseLost when the lease is not the
        session's newest or has expired, StoreError when the seqs do not follow or nothing could be saved.
        """
        self.log.append(lease, events, taken=taken)

    async def read(
        self, session_id: str, *, after: int = 0, run_id: str | None = None, limit: int | None = None
    ) -> list[Event]:
        """Events with a seq over ``after``, in order: of one run when ``run_id``, at most ``limit``."""
        return self.log.read(session_id, after=after, run_id=run_id, limit=limit)

    async def head(self, session_id: str) -> int:
        """The seq of the last event, 0 when there is none."""
        return self.log.head(session_id)

    async def unfinished_runs(self, session_id: str) -> list[str]:
        """Ids of the runs that started and have not finished, oldest first."""
        return self.log.unfinished_runs(session_id)

    async def find_run(self, run_id: str) -> str | None:
        """The id of the session whose log holds that run, or None."""
        return self.log.find_run(run_id)

    async def open_requests(self, session_id: str) -> list[Request]:
        """Requests of unfinished runs that nobody has answered, oldest first."""
        return self.log.open_requests(session_id)

    async def offer(self, session_id: str, signal: RuntimeSignal, *, window: float = SIGNAL_WINDOW) -> bool:
        """Put a signal into the session's inbox; needs no lease.

        False, and nothing is stored, when a signal of its ``source`` with its ``dedupe_key`` was offered less than
        ``window`` seconds ago. A signal takes the place of a waiting one of its ``source`` with its id. Raises
        StoreError when one of another source waits under that id: each source makes ids of its own.
        """
        return self.log.offer(session_id, signal, window=window)

    async def inbox(self, session_id: str) -> list[RuntimeSignal]:
        """The signals waiting, oldest first."""
        return self.log.inbox(session_id)

    async def keep_output(
        self, session_id: str, reference: str, text: str, *, room: int = OUTPUT_ROOM
    ) -> None:
        """Keep the whole text of an output that the conversation shows cut; needs no lease.

        ``reference`` is 1 to 64 of ``a-z``, ``0-9`` and ``_``, and names one text for ever: keeping it again makes
        it the newest. Of the session's outputs the oldest go until all take at most ``room`` bytes (of UTF-8). A
        store without a log half of its own keeps outputs in this process only, like the log it inherits.
        Raises ValueError for another reference, StoreError for a text that is larger than ``room`` or could not
        be saved; nothing has changed then.
        """
        self.log.keep_output(session_id, reference, text, room=room)

    async def read_output(self, session_id: str, reference: str) -> str | None:
        """The whole text that the session keeps under that reference, or None."""
        return self.log.read_output(session_id, reference)

    async def copy_outputs(self, source_id: str, target_id: str) -> None:
        """Let the session ``target_id`` keep what ``source_id`` keeps, in the same order. Raises StoreError."""
        self.log.copy_outputs(source_id, target_id)

    async def aclose(self) -> None:
        """Let go of files and connections. Safe to call twice."""
        return
