"""A store that fails: the run says so, keeps its answer, and can be resumed from what was saved."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from stage import FailingStore, Tool, agent, faults_of_pairing, no_strangers, of_type, soon, types

from loom.errors import LeaseLost, StoreError
from loom.events import Event
from loom.folds.changes import fold
from loom.store.base import Lease
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import call
from loom.types import RunState

pytestmark = pytest.mark.timeout(20)


def _script() -> list[Any]:
    return [[call("r"), call("w")], "the answer"]


def _tools() -> list[Tool]:
    return [Tool("r", read_only=True), Tool("w")]


async def _appends() -> int:
    store = FailingStore(0)
    assert (await soon(agent(_script(), *_tools(), session_store=store).session().run("go"))).ok
    return store.appends


@pytest.mark.parametrize("error", [StoreError("full"), OSError(28, "No space left")], ids=["typed", "os"])
async def test_the_disk_is_full_at_the_nth_save(error: Exception) -> None:
    appends = await _appends()
    assert appends > 6
    for n in range(2, appends + 1):
        store, tools = FailingStore(n, error), _tools()
        session = agent(_script(), *tools, session_store=store).session("s")
        result = await soon(session.run("go"))
        assert result.state is RunState.FAILED, n
        assert result.error is not None, n
        assert result.error.code == "store", n
        if n == appends:
            assert result.text == "the answer", "the answer is lost with the disk"
        log = await store.read("s")
        assert not {"run.finished", "run.cancelling"} & set(types(log)), n
        fold(log)

        store.fails_at = 0
        left = [call("w"), "the answer"] if n <= 2 else ["the answer"] * 2
        mended = _script() if n <= 2 else left
        again = agent(mended, *tools, session_store=store, human=lambda request: True).session("s")
        done = await soon(again.resume().wait())
        assert done.ok, (n, done)
        assert done.output == "the answer", n
        assert faults_of_pairing(done.messages) is None, n
        asked = [e for e in of_type(done.events, "request.opened") if e.request.origin == "recovery"]
        assert len(tools[1].entered) == 1 or asked, n
    await no_strangers()


async def test_the_very_first_save_fails() -> None:
    session = agent(_script(), *_tools(), session_store=FailingStore(1)).session("s")
    with pytest.raises(StoreError):
        await soon(session.run("go"))
    with pytest.raises(StoreError):
        await soon(session.start("go").wait())
    with pytest.raises(StoreError):
        async for _ in session.stream("go"):
            pass


async def test_a_run_that_never_began_does_not_wait_for_anybody() -> None:
    """Nothing of it is in the log: its handle must not say that it can be resumed."""
    run = agent(_script(), *_tools(), session_store=FailingStore(1)).session("s").start("go")
    with pytest.raises(StoreError):
        await soon(run.wait())
    assert run.state is not RunState.WAITING
    assert run.result is None or run.result.state is RunState.FAILED
    with pytest.raises(StoreError, match="full"):
        await soon(run.cancel())


async def test_nothing_runs_that_could_not_be_written_down_before() -> None:
    for n in range(2, await _appends() + 1):
        store, tools = FailingStore(n), _tools()
        await soon(agent(_script(), *tools, session_store=store).session("s").run("go"))
        log = await store.read("s")
        started = {event.name for event in of_type(log, "tool.started")}
        assert {t.spec.name for t in tools if t.entered} <= started, n


async def test_cancel_with_a_broken_store() -> None:
    store = FailingStore(0)
    reached, never = asyncio.Event(), asyncio.Event()

    async def wait(_: Any) -> str:
        reached.set()
        await never.wait()
        return ""

    run = agent([call("t"), "end"], Tool("t", wait), session_store=store).session("s").start("go")
    await soon(reached.wait())
    store.fails_at = 1
    result = await soon(run.cancel())
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "store"
    await no_strangers()


class Careless(InMemorySessionStore):
    """A store of which one method fails."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    def _check(self, method: str) -> None:
        if method == self.method:
            raise StoreError(f"{method} failed")

    async def release(self, lease: Lease) -> None:
        self._check("release")
        await super().release(lease)

    async def read(self, session_id: str, **options: Any) -> list[Event]:
        self._check("read")
        return await super().read(session_id, **options)

    async def acquire(self, session_id: str, *, owner: str, ttl: float) -> Lease:
        self._check("acquire")
        return await super().acquire(session_id, owner=owner, ttl=ttl)


async def test_a_lease_that_cannot_be_given_back_does_not_hide_the_result() -> None:
    session = agent(_script(), *_tools(), session_store=Careless("release")).session("s")
    result = await soon(session.run("go"))
    assert result.ok
    assert result.output == "the answer"


@pytest.mark.parametrize("method", ["read", "acquire"])
async def test_a_store_that_cannot_be_opened_is_a_typed_error_and_locks_nobody_out(method: str) -> None:
    store = Careless("")
    assert (await soon(agent(["one"], session_store=store).session("s").run("go"))).ok
    store.method = method
    session = agent(_script(), *_tools(), session_store=store).session("s")
    with pytest.raises(StoreError):
        await soon(session.run("go"))
    with pytest.raises(StoreError):
        await soon(session.resume().wait())
    await no_strangers()
    store.method = ""
    assert (await store.acquire("s", owner="another", ttl=1)).owner == "another"


class TakenOver(InMemorySessionStore):
    """Another process takes the session while the run works."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.appends = 0

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        self.appends += 1
        if self.appends == self.at:
            self.log.release(lease)
            self.log.acquire(lease.session_id, owner="thief", ttl=1e9)
        await super().append(lease, events, taken=taken)


async def test_a_session_that_was_taken_over_is_left_alone() -> None:
    for at in range(2, await _appends() + 1):
        store, tools = TakenOver(at), _tools()
        session = agent(_script(), *tools, session_store=store).session("s")
        result = await soon(session.run("go"))
        assert result.state is RunState.FAILED
        assert result.error is not None
        assert result.error.code == LeaseLost.code
        assert len(await store.read("s")) == store.log.head("s")
        started = {event.name for event in of_type(await store.read("s"), "tool.started")}
        assert {t.spec.name for t in tools if t.entered} <= started
