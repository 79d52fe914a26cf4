"""What is special about the stores in memory: their attributes, their clock, and forgetting."""

from __future__ import annotations

import pytest

from loom.errors import LeaseLost, SessionBusy
from loom.events import RequestOpened
from loom.signals import RuntimeSignal
from loom.store.base import SIGNAL_WINDOW, RunRecord, SessionRecord, TranscriptRecord
from loom.store.log import DedupeKeys
from loom.store.memory import InMemorySessionStore
from loom.testing.store_contract.samples import finished, opened, placed, started


async def test_rows_are_attributes_by_id() -> None:
    store = InMemorySessionStore()
    store.save_session(SessionRecord("s"))
    store.save_run(RunRecord("r", "s", "running"))
    store.save_transcript(TranscriptRecord("r", "s", "hi"))
    assert (list(store.sessions), list(store.runs), list(store.transcripts)) == (["s"], ["r"], ["r"])
    store.delete_session("s")
    assert (store.sessions, store.runs, store.transcripts) == ({}, {}, {})
    assert store.durable is False


async def test_the_clock_given_decides_about_leases_and_dedupe_keys() -> None:
    now = 1000.0
    store = InMemorySessionStore(clock=lambda: now)
    lease = await store.acquire("s", owner="a", ttl=10)
    assert await store.offer("s", RuntimeSignal.create("x", dedupe_key="k"), window=10)
    now = 1009.0
    with pytest.raises(SessionBusy):
        await store.acquire("s", owner="b", ttl=10)
    assert not await store.offer("s", RuntimeSignal.create("x", dedupe_key="k"), window=10)
    now = 1010.0
    with pytest.raises(LeaseLost, match="expired"):
        await store.append(lease, placed([started()]))
    assert await store.offer("s", RuntimeSignal.create("x", dedupe_key="k"), window=10)


async def test_a_forwarded_request_is_dropped_with_the_run_that_opened_it() -> None:
    store = InMemorySessionStore()
    lease = await store.acquire("s", owner="a", ttl=10)
    await store.append(lease, placed([started(), opened("r", run_id="child", session_id="other")]))
    (request,) = await store.open_requests("s")
    assert request.run_id == "child"
    await store.append(lease, placed([finished()], head=2))
    assert await store.open_requests("s") == []


async def test_what_is_kept_is_the_very_event() -> None:
    store = InMemorySessionStore()
    lease = await store.acquire("s", owner="a", ttl=10)
    events = placed([started(), opened("r")])
    await store.append(lease, events)
    assert all(found is event for found, event in zip(await store.read("s"), events, strict=True))
    assert isinstance(events[1], RequestOpened)
    assert (await store.open_requests("s"))[0] is events[1].request


def test_dedupe_keys_are_forgotten_when_nobody_can_ask_for_them_any_more() -> None:
    keys = DedupeKeys()
    for number in range(100):
        keys.add(str(number), float(number), 10.0)
    assert len(keys.items()) == 100
    keys.add("late", SIGNAL_WINDOW + 49.0, 10.0)
    assert [key for key, _ in keys.items()] == [*map(str, range(50, 100)), "late"]
    keys.add("wide", SIGNAL_WINDOW + 60.0, 3 * SIGNAL_WINDOW)
    assert len(keys.items()) == 52
    assert not keys.fresh("50", SIGNAL_WINDOW + 60.0, 2 * SIGNAL_WINDOW)
    assert keys.fresh("50", SIGNAL_WINDOW + 60.0, SIGNAL_WINDOW)
