"""A session's log while a run writes to it: the lease is taken, kept alive and given back here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from ..errors import LeaseLost, SessionBusy, StoreError
from ..events import Event
from ..store.base import Lease, SessionStore
from .owner import has_died

logger = logging.getLogger("loom.session")

LEASE_TTL = 15.0
"""Seconds a session stays ours when this machine dies; three missed renewals at the usual interval of a third."""
BUSY_WAIT = 20.0
"""Seconds to wait for a session that another process works in before giving up."""
_POLL = 0.05


class Logbook:
    """The kernel's ``EventLog`` over a store: seqs follow each other, and only the lease's holder writes."""

    def __init__(self, store: SessionStore, lease: Lease) -> None:
        self.seq = lease.head
        self.safe = not store.durable
        self._store = store
        self._lease = lease

    async def append(self, events: Sequence[Event]) -> None:
        """Keep all of these events or none."""
        try:
            await self._store.append(self._lease, events)
        except LeaseLost:
            # It may only have expired, in a process that slept; if nobody came in between it is still ours.
            self._lease = await self._store.renew(self._lease, ttl=LEASE_TTL)
            await self._store.append(self._lease, events)
        except OSError as error:
            raise StoreError(f"not saved: {error}") from error
        self.seq += len(events)

    async def has_kept(self, events: Sequence[Event]) -> bool:
        """See EventLog."""
        kept = await self._store.head(self._lease.session_id) == self.seq + len(events)
        if kept:
            self.seq += len(events)
        return kept

    async def keep_alive(self) -> None:
        """Renew the lease until cancelled or lost."""
        while True:
            await asyncio.sleep(LEASE_TTL / 3)
            try:
                self._lease = await self._store.renew(self._lease, ttl=LEASE_TTL)
            except LeaseLost:
                logger.warning("session %s was taken over", self._lease.session_id)
                return
            except StoreError:
                logger.warning("could not renew the lease on %s", self._lease.session_id, exc_info=True)


@asynccontextmanager
async def open_logbook(
    store: SessionStore, session_id: str, owner: str, patience: float, hurry: Callable[[], bool]
) -> AsyncGenerator[Logbook, None]:
    """Hold a session for the time of the block.

    Raises SessionBusy when another process does not let go within ``patience`` seconds, or at once when ``hurry()``.
    """
    lease = await _acquire(store, session_id, owner, patience, hurry)
    keeper: asyncio.Task[None] | None = None
    try:
        logbook = Logbook(store, lease)
        keeper = asyncio.create_task(logbook.keep_alive()) if store.durable else None
        yield logbook
    finally:
        if keeper is not None:
            keeper.cancel()
        try:
            await store.release(lease)
        except StoreError:
            logger.warning("the lease on session %s will have to expire", session_id, exc_info=True)


async def _acquire(
    store: SessionStore, session_id: str, owner: str, patience: float, hurry: Callable[[], bool]
) -> Lease:
    deadline, dead = asyncio.get_running_loop().time() + patience, ""
    while True:
        try:
            options = {"instead_of": dead} if dead else {}
            if not store.durable:
                return await store.acquire(session_id, owner=owner, ttl=float("inf"), **options)
            return await _taken(store, store.acquire(session_id, owner=owner, ttl=LEASE_TTL, **options))
        except SessionBusy as busy:
            if busy.owner != dead and has_died(busy.owner):
                dead = busy.owner  # it gives nothing back; its lease need not be waited out
                continue
            if hurry() or asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(_POLL)


async def _taken(store: SessionStore, acquire: Awaitable[Lease]) -> Lease:
    """Take a session. Cancelled meanwhile, it gives back what a store that works on its own has taken."""
    taking = asyncio.ensure_future(acquire)
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        if not taking.cancelled():
            taking.add_done_callback(lambda taken: _give_back(store, taken))
        raise


def _give_back(store: SessionStore, taken: asyncio.Future[Lease]) -> None:
    if taken.cancelled() or taken.exception() is not None:
        return
    giving = asyncio.ensure_future(store.release(taken.result()))
    _givings.add(giving)
    giving.add_done_callback(_given)


def _given(giving: asyncio.Future[None]) -> None:
    _givings.discard(giving)
    if not giving.cancelled() and (error := giving.exception()) is not None:
        logger.warning("a lease that nobody wants will have to expire: %s", error)


_givings: set[asyncio.Future[None]] = set()
"""Leases being given back: the event loop alone would not keep these tasks alive."""
