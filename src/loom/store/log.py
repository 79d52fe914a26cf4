"""The log half of a store in this process's memory, and the lease that guards any log.

It is what ``SessionStore`` inherits by default. One lock makes it safe for threads; nothing here awaits.
"""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from operator import attrgetter
from typing import TypeVar

import msgspec
from msgspec import Struct

from ..errors import ConfigError, LeaseLost, SessionBusy, StoreError
from ..events import (
    Event,
    RequestAnswered,
    RequestOpened,
    RequestWithdrawn,
    RunFinished,
    RunResumed,
    RunStarted,
)
from ..requests import Request
from ..signals import RuntimeSignal

SIGNAL_WINDOW = 24 * 3600.0
"""How long a dedupe key counts, in seconds: a day, the longest redelivery window of the usual gateways."""

OUTPUT_ROOM = 16_000_000
"""Bytes of outputs that a session keeps: about a hundred times what a model can read at once."""

T = TypeVar("T")
_seq_of = attrgetter("seq")
_PLAIN_NAME = re.compile(r"[a-z0-9_]{1,64}")


class Lease(Struct, frozen=True):
    """The right to append to a session's log until ``expires_at`` (Unix seconds).

    ``head`` is the seq of the log's last event at the time the session was taken.
    """

    session_id: str
    owner: str
    token: int
    expires_at: float
    head: int = 0


class DedupeKeys:
    """The dedupe keys of one session and when each was last offered, oldest first.

    Keys older than every window asked for so far (a day at least) are forgotten, so the cost of one offer
    does not grow with the number of signals.
    """

    __slots__ = ("_kept", "_seen")

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._kept = SIGNAL_WINDOW

    def fresh(self, key: str, now: float, window: float) -> bool:
        """True when ``key`` was not offered less than ``window`` seconds before ``now``."""
        at = self._seen.get(key)
        return at is None or now - at >= window

    def add(self, key: str, now: float, window: float) -> None:
        """Remember that ``key`` was offered at ``now`` by someone who will ask with ``window`` again."""
        self._kept = max(self._kept, window)
        self._seen.pop(key, None)
        self._seen[key] = now
        while (oldest := next(iter(self._seen))) != key and self._seen[oldest] <= now - self._kept:
            del self._seen[oldest]

    def items(self) -> list[tuple[str, float]]:
        """Keys and when they were last offered, oldest first."""
        return list(self._seen.items())

    @property
    def kept(self) -> float:
        """For how many seconds keys are kept."""
        return self._kept


class _Session:
    __slots__ = ("events", "inbox", "lease", "outputs", "requests", "runs", "seen", "unfinished")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.runs: dict[str, list[Event]] = {}
        self.unfinished: dict[str, None] = {}
        self.requests: dict[str, tuple[str, Request]] = {}
        self.inbox: dict[str, RuntimeSignal] = {}
        self.seen = DedupeKeys()
        self.outputs: dict[str, bytes] = {}
        self.lease: Lease | None = None


class MemoryLog:
    """Event logs by session id, with the meanings that ``SessionStore`` documents."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        _logs.add(self)
        self._sessions: dict[str, _Session] = {}
        self._home: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        # One count for all sessions: a session that was deleted and begun again never repeats a token.
        self._tokens = count(1)

    def acquire(self, session_id: str, *, owner: str, ttl: float, instead_of: str = "") -> Lease:
        """See SessionStore.acquire."""
        with self._lock:
            session = self._session(session_id)
            held, now = session.lease, self._clock()
            # guard: tests/contract/test_stores.py -k memory
            if held is not None and held.owner not in (owner, instead_of) and held.expires_at > now:
                raise SessionBusy(f"session {session_id!r} is in use by {held.owner}", owner=held.owner)
            session.lease = Lease(session_id, owner, next(self._tokens), now + ttl, len(session.events))
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
            check_seqs(events, len(session.events))
            for event in events:
                if event.run_id:
                    self._index(session, lease.session_id, event)
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
            events = session.events if run_id is None else session.runs.get(run_id, [])
            start = max(after, 0) if run_id is None else bisect_right(events, after, key=_seq_of)
            return events[start:] if limit is None else events[start : start + limit]

    def head(self, session_id: str) -> int:
        """See SessionStore.head."""
        session = self._sessions.get(session_id)
        return len(session.events) if session else 0

    def unfinished_runs(self, session_id: str) -> list[str]:
        """See SessionStore.unfinished_runs."""
        with self._lock:
            session = self._sessions.get(session_id)
            return list(session.unfinished) if session else []

    def find_run(self, run_id: str) -> str | None:
        """See SessionStore.find_run."""
        return self._home.get(run_id)

    def open_requests(self, session_id: str) -> list[Request]:
        """See SessionStore.open_requests."""
        with self._lock:
            session = self._sessions.get(session_id)
            return [request for _, request in session.requests.values()] if session else []

    def offer(self, session_id: str, signal: RuntimeSignal, *, window: float) -> bool:
        """See SessionStore.offer."""
        with self._lock:
            session, now = self._session(session_id), self._clock()
            key = seen_key(signal.source, signal.dedupe_key)
            if key is not None and not session.seen.fresh(key, now, window):
                return False
            waiting = session.inbox.get(signal.id)
            if waiting is not None:
                check_source(signal, waiting.source)
            if key is not None:
                session.seen.add(key, now, window)
            session.inbox[signal.id] = signal
            return True

    def inbox(self, session_id: str) -> list[RuntimeSignal]:
        """See SessionStore.inbox."""
        with self._lock:
            session = self._sessions.get(session_id)
            return list(session.inbox.values()) if session else []

    def keep_output(self, session_id: str, reference: str, text: str, *, room: int) -> None:
        """See SessionStore.keep_output."""
        body = checked_output(reference, text, room)
        with self._lock:
            outputs = self._session(session_id).outputs
            outputs.pop(reference, None)
            outputs[reference] = body
            size = sum(map(len, outputs.values()))
            while size > room:
                size -= len(outputs.pop(next(iter(outputs))))

    def read_output(self, session_id: str, reference: str) -> str | None:
        """See SessionStore.read_output."""
        with self._lock:
            session = self._sessions.get(session_id)
            body = session.outputs.get(reference) if session else None
        return None if body is None else body.decode()

    def runs(self) -> list[str]:
        """Ids of the runs that began here, oldest first."""
        with self._lock:
            return list(self._home)

    def sessions(self) -> list[str]:
        """Ids of the sessions that have events."""
        with self._lock:
            return [session_id for session_id, session in self._sessions.items() if session.events]

    def copy_outputs(self, source_id: str, target_id: str) -> None:
        """See SessionStore.copy_outputs."""
        with self._lock:
            source = self._sessions.get(source_id)
            if source is not None:
                self._session(target_id).outputs |= source.outputs

    def adopt(self, session_id: str, parent: str) -> None:
        """Say that a session belongs to another and is forgotten with it."""
        with self._lock:
            self._parents[session_id] = parent

    def forget(self, session_id: str) -> None:
        """Drop the logs, inboxes, outputs and leases of a session and of those that belong to it."""
        with self._lock:
            for member in family(session_id, self._parents.items()):
                self._forget(member)

    def _forget(self, session_id: str) -> None:
        self._parents.pop(session_id, None)
        session = self._sessions.pop(session_id, None)
        for run_id in session.runs if session else ():
            if self._home.get(run_id) == session_id:
                del self._home[run_id]

    def _session(self, session_id: str) -> _Session:
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = _Session()
        return session

    def _held(self, lease: Lease) -> _Session:
        session = self._sessions.get(lease.session_id)
        if session is None or session.lease is None or session.lease.token != lease.token:
            raise LeaseLost(f"session {lease.session_id!r} was taken over")
        return session

    def _index(self, session: _Session, session_id: str, event: Event) -> None:
        run_id, kind = event.run_id, type(event)
        run = session.runs.get(run_id)
        if run is None:
            run = session.runs[run_id] = []
        run.append(event)
        if kind is RunStarted:
            self._home[run_id] = session_id
            session.unfinished[run_id] = None
        elif kind is RunResumed:
            session.unfinished.setdefault(run_id)
        elif isinstance(event, RequestOpened):
            session.requests[event.request.id] = (run_id, event.request)
        elif isinstance(event, RequestAnswered | RequestWithdrawn):
            session.requests.pop(event.request_id, None)
        elif kind is RunFinished:
            session.unfinished.pop(run_id, None)
            for request_id in [key for key, (opener, _) in session.requests.items() if opener == run_id]:
                del session.requests[request_id]

    def hold(self) -> None:
        """Let nobody else in until ``let_go``: a child that is forked now finds everything whole, and can go on."""
        self._lock.acquire()

    def let_go(self) -> None:
        """See ``hold``."""
        self._lock.release()


_logs: weakref.WeakSet[MemoryLog] = weakref.WeakSet()
_held: list[MemoryLog] = []


def _before_fork() -> None:
    _held[:] = members(_logs)
    for log in _held:
        log.hold()


def _after_fork() -> None:
    while _held:
        _held.pop().let_go()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def members(of: weakref.WeakSet[T]) -> list[T]:
    """What is in a set that other threads add to meanwhile."""
    while True:
        try:
            return list(of)
        except RuntimeError:  # it grew while it was read
            continue


def check_seqs(events: Sequence[Event], head: int) -> None:
    """Raise StoreError unless the events carry the seqs that follow ``head``."""
    for seq, event in enumerate(events, start=head + 1):
        # guard: tests/store/test_memory_store.py tests/contract/test_stores.py
        if event.seq != seq:
            raise StoreError(f"event {event.seq} does not follow {seq - 1}: nothing was saved")


def checked_output(reference: str, text: str, room: int) -> bytes:
    """The text as UTF-8. Raises ValueError for what is no plain name, StoreError for what cannot be kept."""
    if not is_reference(reference):
        raise ValueError(f"{reference!r} cannot name an output: 1 to 64 of a-z, 0-9 and _")
    try:
        body = text.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"the output {reference} was not saved, it is not text: {error}") from error
    if len(body) > room:
        raise StoreError(f"the output {reference} was not saved: {len(body)} bytes, there is room for {room}")
    return body


def check_source(signal: RuntimeSignal, waiting: str) -> None:
    """Raise StoreError unless the signal may replace one of the source ``waiting`` that waits under its id."""
    if signal.source != waiting:
        raise StoreError(
            f"the signal {signal.id!r} of {signal.source!r} was not saved: one of {waiting!r} waits under that id; "
            "give each signal an id of its own"
        )


def seen_key(source: str, dedupe_key: str | None) -> str | None:
    """What a dedupe key of a source is remembered as, in a session; None for a signal without one."""
    return None if dedupe_key is None else msgspec.json.encode((source, dedupe_key)).decode()


def family(session_id: str, parents: Iterable[tuple[str, str | None]]) -> list[str]:
    """The session and those that belong to it, directly or not, out of pairs of a session and its parent."""
    children: dict[str, list[str]] = {}
    for child, parent in parents:
        if parent is not None:
            children.setdefault(parent, []).append(child)
    found = [session_id]
    for member in found:
        found += [child for child in children.get(member, ()) if child not in found]
    return found


def checked_limit(limit: int | None) -> None:
    """Raise ConfigError for a number of rows that cannot be meant."""
    if limit is not None and limit < 0:
        raise ConfigError(f"limit={limit}: give how many rows to return at most, or None for all")


def is_reference(reference: str) -> bool:
    """Whether an output can be called that: the name comes from a model when it is read."""
    return _PLAIN_NAME.fullmatch(reference) is not None
