"""The contract, tried: each store here breaks one promise, and the contract must say so."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from loom.errors import LeaseLost, LoomError
from loom.events import Event
from loom.requests import Request
from loom.signals import RuntimeSignal
from loom.store.base import Lease, SessionRecord, SessionStore
from loom.store.log import MemoryLog
from loom.store.memory import InMemorySessionStore
from loom.testing.store_contract import StoreContract
from loom.testing.store_contract.processes import ProcessPromises


class NeverBusy(InMemorySessionStore):
    async def acquire(self, session_id: str, *, owner: str, ttl: float, instead_of: str = "") -> Lease:
        return await super().acquire(session_id, owner="anybody", ttl=ttl)


class HeedlessHeir(InMemorySessionStore):
    async def acquire(self, session_id: str, *, owner: str, ttl: float, instead_of: str = "") -> Lease:
        heir = owner if not instead_of else "anybody"
        held = self.log._session(session_id).lease
        return await super().acquire(
            session_id, owner=heir, ttl=ttl, instead_of=held.owner if instead_of and held else ""
        )


class ForgetsTokens(InMemorySessionStore):
    def delete_session(self, session_id: str) -> None:
        super().delete_session(session_id)
        self._memory_log = MemoryLog()


class ExpiredForGood(InMemorySessionStore):
    async def renew(self, lease: Lease, *, ttl: float) -> Lease:
        if lease.expires_at <= self.log._clock():
            raise LeaseLost("expired")
        return await super().renew(lease, ttl=ttl)


class ReleasesAnybody(InMemorySessionStore):
    async def release(self, lease: Lease) -> None:
        held = await super().acquire(lease.session_id, owner="o0", ttl=0)
        await super().release(held)


class AppendsWithoutLease(InMemorySessionStore):
    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        try:
            await super().append(lease, events, taken=taken)
        except LeaseLost:
            if events:
                raise


class AppendsOneByOne(InMemorySessionStore):
    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        await super().append(lease, [], taken=taken)
        for event in events:
            await super().append(lease, [event])


class TakesFirst(InMemorySessionStore):
    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        await super().append(lease, [], taken=taken)
        await super().append(lease, events)


class ForgetsTaken(InMemorySessionStore):
    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        await super().append(lease, events)


class LimitsBeforeRun(InMemorySessionStore):
    async def read(
        self, session_id: str, *, after: int = 0, run_id: str | None = None, limit: int | None = None
    ) -> list[Event]:
        found = await super().read(session_id, after=after, limit=limit)
        return [event for event in found if run_id in (None, event.run_id)]


class RequestsOfTheirOwnRun(InMemorySessionStore):
    async def open_requests(self, session_id: str) -> list[Request]:
        unfinished = await self.unfinished_runs(session_id)
        return [r for r in await super().open_requests(session_id) if r.run_id in unfinished]


class TakesEverySignal(InMemorySessionStore):
    async def offer(self, session_id: str, signal: RuntimeSignal, *, window: float = 0) -> bool:
        return await super().offer(session_id, signal, window=0)


class OneInbox(InMemorySessionStore):
    async def offer(self, session_id: str, signal: RuntimeSignal, *, window: float = 9e9) -> bool:
        return await super().offer("all", signal, window=window)

    async def inbox(self, session_id: str) -> list[RuntimeSignal]:
        return await super().inbox("all")


class HandsOutItsRows(InMemorySessionStore):
    def load_session(self, session_id: str) -> SessionRecord | None:
        return self.sessions.get(session_id)


class DeletesRowsOnly(InMemorySessionStore):
    def delete_session(self, session_id: str) -> None:
        self.sessions.pop(session_id, None)


class LeavesChildrenBehind(InMemorySessionStore):
    def delete_session(self, session_id: str) -> None:
        self.sessions = {row.id: replace(row, parent=None) for row in self.sessions.values()}
        super().delete_session(session_id)


class ListsChildren(InMemorySessionStore):
    def list_sessions(
        self,
        *,
        parent: str | None = None,
        children: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SessionRecord]:
        return super().list_sessions(parent=parent, children=True, after=after, limit=limit)


class SharesOutputs(InMemorySessionStore):
    async def keep_output(self, session_id: str, reference: str, text: str, *, room: int = 10**7) -> None:
        await super().keep_output("all", reference, text, room=room)

    async def read_output(self, session_id: str, reference: str) -> str | None:
        return await super().read_output("all", reference)


class KeepsEveryOutput(InMemorySessionStore):
    async def keep_output(self, session_id: str, reference: str, text: str, *, room: int = 10**7) -> None:
        await super().keep_output(session_id, reference, text, room=10**9)


class KeepsTheOldestOutputs(InMemorySessionStore):
    async def keep_output(self, session_id: str, reference: str, text: str, *, room: int = 10**7) -> None:
        try:
            await super().keep_output(session_id, reference, text, room=room)
        finally:
            outputs = self.log._session(session_id).outputs
            for name in sorted(outputs, reverse=True):
                outputs[name] = outputs.pop(name)


class TakesAnyReference(InMemorySessionStore):
    async def keep_output(self, session_id: str, reference: str, text: str, *, room: int = 10**7) -> None:
        await super().keep_output(session_id, reference.replace("/", "_"), text, room=room)


class OutlivesItsSession(InMemorySessionStore):
    def delete_session(self, session_id: str) -> None:
        outputs = self.log._session(session_id).outputs
        super().delete_session(session_id)
        self.log._session(session_id).outputs = outputs


class TidiesTexts(InMemorySessionStore):
    async def read_output(self, session_id: str, reference: str) -> str | None:
        found = await super().read_output(session_id, reference)
        return None if found is None else found.replace("\r\n", "\n")


class SaysItIsDurable(InMemorySessionStore):
    durable = True


BROKEN = [kind for kind in list(globals().values()) if inspect.isclass(kind) and kind.__module__ == __name__]


async def broken_promises(kind: type[SessionStore], directory: Path) -> list[str]:
    class Contract(StoreContract):
        def make_store(self, directory: Path) -> SessionStore:
            return kind()

    broken = []
    for name, _ in inspect.getmembers(Contract, inspect.iscoroutinefunction):
        if not name.startswith("test_") or hasattr(ProcessPromises, name):
            continue  # a class made here cannot be found by another process
        test: Any = getattr(Contract(), name)
        try:
            await test(directory)
        except (AssertionError, LoomError):
            broken.append(name)
    return broken


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
async def test_a_broken_promise_is_noticed(kind: type[SessionStore], tmp_path: Path) -> None:
    assert await broken_promises(kind, tmp_path) != []


async def test_a_kept_promise_is_not_blamed(tmp_path: Path) -> None:
    assert await broken_promises(InMemorySessionStore, tmp_path) == []
