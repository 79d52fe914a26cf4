"""The writing side of a run's log: stamps events, makes them durable, and keeps the state that they fold to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Protocol

from msgspec.structs import force_setattr

from ..events import Event
from ..folds.changes import ENDS_WORK, apply
from ..folds.state import State
from .endings import what_follows


class EventLog(Protocol):
    """Where a run's events are kept; ``seq`` is that of the last one kept.

    ``safe`` means that ``append`` never waits, so that nothing can interrupt it half way.
    """

    seq: int
    safe: bool

    async def append(self, events: Sequence[Event]) -> None:
        """Keep all of these or none. Raises StoreError."""
        ...

    async def has_kept(self, events: Sequence[Event]) -> bool:
        """Whether an ``append`` of these that was cancelled kept them all the same. Raises StoreError."""
        ...


class Journal:
    """One run's pen. Only the loop writes with it.

    ``outbox`` holds events that are durable and applied but not yet handed to the loop's consumer. ``judged``
    says that final replies are held against something before the run may end.
    """

    def __init__(
        self,
        log: EventLog,
        state: State,
        *,
        session_id: str,
        run_id: str,
        clock: Callable[[], float],
        pace: Callable[[], float] = monotonic,
        judged: bool = False,
    ) -> None:
        self.state = state
        self._judged = judged
        self.outbox: deque[Event] = deque()
        self._log = log
        self._unsaved: Sequence[Event] = ()
        self._session_id = session_id
        self._run_id = run_id
        self._clock = clock
        self._pace = pace
        self._counted = pace()

    def stamp(self, event: Event) -> None:
        """Give a fresh event that is not kept its place and time."""
        self._place(event, self._log.seq, self._clock())

    def _place(self, event: Event, seq: int, at: float) -> None:
        # Nobody has seen the event yet, so it may still be written to.
        force_setattr(event, "run_id", self._run_id)
        force_setattr(event, "session_id", self._session_id)
        force_setattr(event, "seq", seq)
        force_setattr(event, "at", at)

    def _count_work(self, event: Event) -> None:
        """Write down the time since the last time, in whole milliseconds; what is less is counted with the next."""
        passed = int((self._pace() - self._counted) * 1000) / 1000
        if passed > 0:
            force_setattr(event, "worked", passed)
            self._counted += passed

    async def write(self, events: Sequence[Event]) -> None:
        """Stamp, keep, apply and queue these events, in order, all or none, with what follows from them.

        When the waiting task is cancelled while the store works, the write is seen through first: what is
        in the log and what this run believes never differ.
        """
        batch: list[Event] = []
        state, seq, now = self.state, self._log.seq, self._clock()
        while events:
            for event in events:
                seq += 1
                self._place(event, seq, now)
                if type(event) in ENDS_WORK:
                    self._count_work(event)
                state = apply(state, event)
                batch.append(event)
            events = what_follows(state, judged=self._judged)
        self._unsaved = batch
        if self._log.safe:
            await self._log.append(batch)
            self._accept(state, batch)
        else:
            try:
                await _uninterrupted(self._log.append(batch), lambda: self._accept(state, batch))
            except asyncio.CancelledError:
                # At its end ``asyncio.run`` cancels what nothing else can: the store may have written all the same.
                if self._unsaved and await self._log.has_kept(batch):
                    self._accept(state, batch)
                raise

    @property
    def seq(self) -> int:
        """The seq of the last event kept in the session's log."""
        return self._log.seq

    def unsaved_state(self) -> State:
        """The state with what could not be kept applied as well, so that an answer is not lost with the disk."""
        state = self.state
        for event in self._unsaved:
            state = apply(state, event)
        return state

    def _accept(self, state: State, batch: Sequence[Event]) -> None:
        self.state, self._unsaved = state, ()
        self.outbox.extend(batch)


async def _uninterrupted(work: Awaitable[Any], accept: Callable[[], None]) -> None:
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:  # told by the task below, once it is certain how it ended
            break
    task.result()
    accept()
    if cancelled is not None:
        raise cancelled
