"""What every part of the contract starts from: a store in a folder, opened, reopened and closed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ...events import Event, encode_event
from ...store.base import Lease, SessionStore
from .samples import placed

TTL = 60.0
"""Longer than any test. A lease of 0 seconds has expired at once, so nothing here waits for time to pass."""


class Promises:
    """Base of the parts. See ``StoreContract``."""

    keeps_rows = True
    """False for a store that implements only ``load_session``, ``save_session`` and ``save_run``."""

    @abstractmethod
    def make_store(self, directory: Path) -> SessionStore:
        """A store whose sessions live in ``directory``, an empty folder at first."""

    @asynccontextmanager
    async def opened(self, directory: Path) -> AsyncGenerator[SessionStore]:
        """A store, closed at the end."""
        store = self.make_store(directory)
        try:
            yield store
        finally:
            await store.aclose()

    async def reopen(self, store: SessionStore, directory: Path) -> SessionStore:
        """The same sessions as a new process would see them; ``store`` itself when it is not durable."""
        if not store.durable:
            return store
        await store.aclose()
        return self.make_store(directory)


async def write(
    store: SessionStore, lease: Lease, *events: Event, run_id: str = "run_1", taken: Sequence[str] = ()
) -> list[Event]:
    """Append events after the last one of the lease's session, and return them as they stand there."""
    head = await store.head(lease.session_id)
    ready = placed(events, head=head, run_id=run_id, session_id=lease.session_id)
    await store.append(lease, ready, taken=taken)
    return ready


def same(found: Sequence[Event], expected: Sequence[Event]) -> bool:
    """True when both are the same events, as written: a sequence may come back as a list or a tuple."""
    return [type(event) for event in found] == [type(event) for event in expected] and [
        encode_event(event) for event in found
    ] == [encode_event(event) for event in expected]


async def refused(kind: type[Exception], work: Awaitable[object]) -> str:
    """Await ``work``, which must raise ``kind`` (or a subclass), and return what it said."""
    try:
        await work
    except kind as error:
        return str(error)
    raise AssertionError(f"nothing was refused, {kind.__name__} was expected")
