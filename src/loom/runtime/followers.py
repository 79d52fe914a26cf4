"""Any number of readers of one run's events, each at its own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from ..events import AnyEvent

DELTAS_HELD = 1024
"""Unkept events one slow reader may be behind before the next ones pass it by; kept events never do."""


class Follower:
    """One reader. Events arrive by ``put``, in order; ``close`` ends the reading."""

    __slots__ = ("_closed", "_events", "_waker")

    def __init__(self) -> None:
        self._events: deque[AnyEvent] = deque()
        self._waker = asyncio.Event()
        self._closed = False

    def put(self, event: AnyEvent) -> None:
        """Hand over one event."""
        if event.durable or len(self._events) < DELTAS_HELD:
            self._events.append(event)
            self._waker.set()

    def close(self) -> None:
        """No more will come."""
        self._closed = True
        self._waker.set()

    async def read(self) -> AsyncIterator[AnyEvent]:
        """Yield events until closed."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._closed:
                return
            self._waker.clear()
            await self._waker.wait()


class Followers:
    """The readers of one run."""

    __slots__ = ("_closed", "_readers")

    def __init__(self) -> None:
        self._readers: list[Follower] = []
        self._closed = False

    def put(self, event: AnyEvent) -> None:
        """Hand one event to every reader."""
        for reader in self._readers:
            reader.put(event)

    def close(self) -> None:
        """No more will come."""
        self._closed = True
        for reader in self._readers:
            reader.close()

    def reopen(self) -> None:
        """More will come after all."""
        self._closed = False

    async def follow(self, past: Callable[[], list[AnyEvent]]) -> AsyncIterator[AnyEvent]:
        """Yield what ``past`` returns and then everything new. Nothing is missed or told twice between."""
        reader = Follower()
        known = past()
        self._readers.append(reader)
        if self._closed:
            reader.close()
        try:
            for event in known:
                yield event
            async for event in reader.read():
                yield event
        finally:
            self._readers.remove(reader)
