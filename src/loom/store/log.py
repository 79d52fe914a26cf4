"""The log half of a store in this process's memory, and the lease that guards any log.

It is what ``SessionStore`` inherits by default. One lock makes it safe for threads; nothing here awaits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from ..errors import LeaseLost, SessionBusy, StoreError
from ..events import Event, RequestAnswered, RequestOpened, RunFinished, RunStarted
from ..requests import Request
from ..signals import RuntimeSignal


class Lease(Struct, frozen=True):
    """The right to append to a session's log until ``expires_at`` (Unix seconds)."""

    session_id: str
    owner: str
    token: int
    expires_at: float


class _Session:
    __slots__ = ("events", "inbox", "lease", "requests", "runs", "seen", "token")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.runs: dict[str, list[Event]] = {}
        self.requests: dict[str, Request] = {}
        self.inbox: dict[str, RuntimeSignal] = {}
        self.seen: dict[str, float] = {}
        self.lease: Lease | None = None
        self.token = 0


class MemoryLog:
    """Event logs by session id, with the meanings that ``SessionStore`` documents."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._sessions: dict[str, _Session] = {}
        self._finished: set[str] = set()
        self._home: dict[str, str] = {}

    def acquire(self, session_id: str, *, owner: str, ttl: float) -> Lease:
        """See SessionStore.acquire."""
        with self._lock:
            session = self._sessions.setdefault(session_id, _Session())
            held, now = session.lease, self._clock()
            if held is not None and held.owner != owner and held.expires_at > now:
                raise SessionBusy(f"session {session_id!r} is in use by {held.owner}")
            session.token += 1
            session.lease = Lease(session_id, owner, session.token, now + ttl)
            return session.lease

    def renew(self, lease: Lease, *, ttl: float) -> Lease:
        """See SessionStore.renew."""
        with self._lock:
            session = self._held(lease)
            session.lease = Lease(lease.session_id, lease.owner, lease.token, self._clock() + ttl)
            return session.lease

    def release(self, lease: Lease) -> None:
        """See SessionStore.release."""
        with self._lock:
            session = self._sessions.get(lease.session_id)
            if session is not None and session.lease is not None and session.lease.token == lease.token:
                session.lease = None

    def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        """See SessionStore.append."""
        with self._lock:
            session = self._held(lease)
            if session.lease is None or session.lease.expires_at <= self._clock():
                raise LeaseLost(f"the lease on session {lease.session_id!r} has expired")
            head = len(session.events)
            for offset, event in enumerate(events, start=1):
                if event.seq != head + offset:
                    raise StoreError(f"event {event.seq} does not follow {head + offset - 1}")
            for event in events:
                self._index(session, event)
            session.events.extend(events)
            for signal_id in taken:
                session.inbox.pop(signal_id, None)

    def read(
        self, session_id: str, *, after: int = 0, run_id: str | None = None, limit: int | None = None
    ) -> list[Event]:
        """See SessionStore.read."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None:
                return []
            if run_id is None:
                found = session.events[after:]
            else:
                found = [event for event in session.runs.get(run_id, ()) if event.seq > after]
            return found if limit is None else found[:limit]

    def head(self, session_id: str) -> int:
        """See SessionStore.head."""
        with self._lock:
            session = self._sessions.get(session_id)
            return len(session.events) if session else 0

    def unfinished_runs(self, session_id: str) -> list[str]:
        """See SessionStore.unfinished_runs."""
        with self._lock:
            session = self._sessions.get(session_id)
            return [run for run in session.runs if run not in self._finished] if session else []

    def find_run(self, run_id: str) -> str | None:
        """See SessionStore.find_run."""
        return self._home.get(run_id)

    def open_requests(self, session_id: str) -> list[Request]:
        """See SessionStore.open_requests."""
        with self._lock:
            session = self._sessions.get(session_id)
            return list(session.requests.values()) if session else []

    def offer(self, session_id: str, signal: RuntimeSignal, *, window: float) -> bool:
        """See SessionStore.offer."""
        with self._lock:
            session = self._sessions.setdefault(session_id, _Session())
            if signal.dedupe_key is not None:
                now = self._clock()
                session.seen = {key: at for key, at in session.seen.items() if at > now - window}
                if signal.dedupe_key in session.seen:
                    return False
                session.seen[signal.dedupe_key] = now
            session.inbox[signal.id] = signal
            return True

    def inbox(self, session_id: str) -> list[RuntimeSignal]:
        """See SessionStore.inbox."""
        with self._lock:
            session = self._sessions.get(session_id)
            return list(session.inbox.values()) if session else []

    def sessions(self) -> list[str]:
        """Ids of the sessions that have events."""
        with self._lock:
            return [session_id for session_id, session in self._sessions.items() if session.events]

    def forget(self, session_id: str) -> None:
        """Drop a session's log, inbox and lease."""
        with self._lock:
            session = self._sessions.pop(session_id, None)
            for run_id in session.runs if session else ():
                self._home.pop(run_id, None)
                self._finished.discard(run_id)

    def _held(self, lease: Lease) -> _Session:
        session = self._sessions.get(lease.session_id)
        if session is None or session.lease is None or session.lease.token != lease.token:
            raise LeaseLost(f"session {lease.session_id!r} was taken over")
        return session

    def _index(self, session: _Session, event: Event) -> None:
        if event.run_id:
            session.runs.setdefault(event.run_id, []).append(event)
        if isinstance(event, RunStarted):
            self._home[event.run_id] = event.session_id
        elif isinstance(event, RequestOpened):
            session.requests[event.request.id] = event.request
        elif isinstance(event, RequestAnswered):
            session.requests.pop(event.answer.request_id, None)
        elif isinstance(event, RunFinished):
            self._finished.add(event.run_id)
            for request in [r for r in session.requests.values() if r.run_id == event.run_id]:
                del session.requests[request.id]
