"""What holds a run up: its store, the order of its calls, and the count of what its tree has spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from stage import Tool, agent, of_type, soon

from loom.agent import Agent
from loom.errors import LeaseLost, SessionBusy, StoreError
from loom.events import Event
from loom.policies.profile import Runtime, RuntimeLimits
from loom.requests import Request
from loom.store.base import Lease, SessionStore
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import call
from loom.types import RunState

pytestmark = pytest.mark.timeout(20)


class ChildFails(InMemorySessionStore):
    """A store that refuses everything about a child's session from its n-th append on, until it is mended."""

    def __init__(self, fails_at: int, error: StoreError) -> None:
        super().__init__()
        self.fails_at, self.error, self.appends = fails_at, error, 0

    @property
    def down(self) -> bool:
        return 0 < self.fails_at <= self.appends

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        if "/" in lease.session_id:
            self.appends += 1
            if self.down:
                raise self.error
        await super().append(lease, events, taken=taken)

    async def renew(self, lease: Lease, *, ttl: float) -> Lease:
        if "/" in lease.session_id and self.down:
            raise self.error
        return await super().renew(lease, ttl=ttl)


class ChildIsBusy(InMemorySessionStore):
    """A store in which another process holds the child's session."""

    busy = True

    async def acquire(self, session_id: str, *, owner: str, ttl: float, instead_of: str = "") -> Lease:
        if self.busy and "/" in session_id:
            raise StoreError("the file is locked, try again")
        return await super().acquire(session_id, owner=owner, ttl=ttl, instead_of=instead_of)


def _house(store: SessionStore, pay: Tool, *beside: Tool, child: int = 0, parent: int = 0) -> Any:
    """A parent and its child, whose models have made the first ``parent`` and ``child`` of their replies."""
    below = agent([call("pay"), "paid"][child:], pay)
    tool = below.as_tool(name="child", description="the child")
    calls = [call("child", task="pay"), *(call(t.spec.name) for t in beside)]
    replies = [calls if beside else calls[0], "end"]
    return agent(replies[parent:], tool, *beside, session_store=store).session("s")


_CHILD_WRITES = 5
"""Appends of a child that makes one call: its start, the reply, the decision and start, the result, its end."""


@pytest.mark.parametrize("error", [StoreError("locked"), LeaseLost("lost"), SessionBusy("busy")], ids=repr)
@pytest.mark.parametrize("at", range(1, _CHILD_WRITES + 1))
async def test_review_e2_a_childs_store_that_fails_stops_the_parent(at: int, error: StoreError) -> None:
    store, pay = ChildFails(at, error), Tool("pay")
    result = await soon(_house(store, pay).run("go"))
    assert (result.state, result.error.code) == (RunState.FAILED, error.code)
    assert "resume" in result.error.message
    assert not of_type(result.events, "tool.finished")
    store.fails_at = 0
    [began] = of_type(result.events, "child.started")
    replied = len(of_type(await store.read(began.child_session_id), "model.replied"))
    again = _house(store, pay, child=replied, parent=1)
    resumed = await soon(again.resume(result.run_id).wait())
    if resumed.pending:  # it is not known whether the payment was made
        assert len(pay.entered) == 1
        answers = [request.answer("paid") for request in resumed.pending]
        resumed = await soon(again.resume(result.run_id, answers).wait())
    assert resumed.ok
    assert len(pay.entered) == 1
    assert resumed.messages[2].content == "paid"
    [finished] = of_type(resumed.events, "child.finished")
    assert (finished.iterations, finished.tool_calls) == (2, 1)


async def test_review_e2_a_childs_session_that_cannot_be_taken_stops_the_parent() -> None:
    store, pay = ChildIsBusy(), Tool("pay")
    session = _house(store, pay)
    result = await soon(session.run("go"))
    assert (result.state, result.error.code) == (RunState.FAILED, "store")
    assert "try again" in result.error.message
    store.busy = False
    assert (await soon(_house(store, pay, parent=1).resume(result.run_id).wait())).ok
    assert len(pay.entered) == 1


async def test_review_e2_what_ran_beside_the_child_is_written_down_first() -> None:
    store, pay, beside = ChildFails(1, StoreError("full")), Tool("pay"), Tool("beside", concurrency_safe=True)
    result = await soon(_house(store, pay, beside).run("go"))
    assert result.error.code == "store"
    assert [event.name for event in of_type(result.events, "tool.finished")] == ["beside"]
    store.fails_at = 0
    assert (await soon(_house(store, pay, beside, parent=1).resume(result.run_id).wait())).ok
    assert (len(pay.entered), len(beside.entered)) == (1, 1)


async def _died_inside(
    store: SessionStore, *facts: dict[str, Any]
) -> tuple[Agent[Any, Any], str, list[Tool]]:
    """A run that died when the first of two calls of one reply had started, seen by the next process."""
    calls = [call("one"), call("two")]
    first = [Tool("one", **facts[0]), Tool("two", **facts[1])]
    built = agent([calls, "end"], *first, session_store=store)
    result = await soon(built.session("whole").run("go"))
    [started, *_] = of_type(result.events, "tool.started")
    other = InMemorySessionStore()
    lease = await other.acquire("whole", owner="dead", ttl=60)
    await other.append(lease, result.events[: started.seq])
    await other.release(lease)
    tools = [Tool("one", **facts[0]), Tool("two", **facts[1])]
    return agent(["end"], *tools, session_store=other), result.run_id, tools


@pytest.mark.parametrize("safe", [False, True])
async def test_review_e3_a_later_call_waits_until_it_is_known_what_the_first_did(safe: bool) -> None:
    built, run_id, (one, two) = await _died_inside(InMemorySessionStore(), {}, {"concurrency_safe": safe})
    waiting = await soon(built.session("whole").resume(run_id).wait())
    assert waiting.state is RunState.WAITING
    assert [request.tool_name for request in waiting.pending] == ["one"]
    assert (len(one.entered), len(two.entered)) == (0, int(safe))
    answers = [waiting.pending[0].answer("it was done")]
    done = await soon(built.session("whole").resume(run_id, answers).wait())
    assert done.ok
    assert (len(one.entered), len(two.entered)) == (0, 1)


async def test_review_e3_a_later_call_waits_while_the_first_one_asks() -> None:
    order: list[str] = []

    class Asks(Tool):
        async def invoke_in_context(self, args: dict[str, Any], context: Any) -> str:
            order.append(f"one:{context.ask('Which?')}")
            return "asked"

    two = Tool("two", lambda _: str(order.append("two")))
    built = agent([[call("one"), call("two")], "end"], Asks("one", idempotent=True), two)
    session = built.session("s")
    waiting = await soon(session.run("go"))
    assert order == []
    assert (await soon(session.resume(waiting.run_id, [waiting.pending[0].answer("a")]).wait())).ok
    assert order == ["one:a", "two"]


async def test_review_e3_time_that_only_people_take_is_not_counted_while_a_call_is_held() -> None:
    built, run_id, _ = await _died_inside(InMemorySessionStore(), {}, {})
    waiting = await soon(built.session("whole").resume(run_id).wait())
    clock = [waiting.events[-1].at + 1000]
    built.engine.clock = built.engine.pace = lambda: clock[0]
    answers = [waiting.pending[0].answer("done")]
    done = await soon(built.session("whole").resume(run_id, answers).wait())
    assert done.duration_ms < 1000_000


async def test_review_e8_what_an_ended_child_spent_counts_after_a_crash() -> None:
    """The parent died when its child had ended and before it heard of it; then another child is started."""
    first, store = InMemorySessionStore(), InMemorySessionStore()

    def house(parent: list[Any], below: list[Any], keeper: SessionStore) -> Any:
        child = agent(below, Tool("step"))
        tool = child.as_tool(name="child", description="the child")
        runtime = Runtime(limits=RuntimeLimits(max_iterations=9))
        return agent(parent, tool, session_store=keeper, runtime=runtime).session("s")

    spends_five = [*(call("step", n=n) for n in range(4)), "five"]
    whole = await soon(
        house([call("child", task="a"), call("child", task="b"), "end"], spends_five, first).run("go")
    )
    [began, *_] = of_type(whole.events, "child.started")
    for session_id, until in ((began.child_session_id, None), ("s", began.seq)):
        events = await first.read(session_id)
        lease = await store.acquire(session_id, owner="dead", ttl=60)
        await store.append(lease, events[:until])
        await store.release(lease)
    after = house([call("child", task="b"), "end"], spends_five, store)
    result = await soon(after.resume(whole.run_id).wait())
    assert result.state is RunState.LIMIT_REACHED
    spent = sum(event.iterations for event in of_type(result.events, "child.finished")) + result.iterations
    assert spent <= 9


async def test_review_e8_a_call_that_waited_counts_once() -> None:
    class Asks(Tool):
        async def invoke_in_context(self, args: dict[str, Any], context: Any) -> str:
            return str([context.ask(f"{n}?") for n in range(4)])

    def human(request: Request) -> Any:
        return request.answer("yes")

    child = agent([call("one"), call("two"), "end"], Asks("one", idempotent=True), Tool("two"))
    tool = child.as_tool(name="child", description="the child")
    runtime = Runtime(limits=RuntimeLimits(max_tool_calls=3))
    result = await soon(agent([call("child", task="x"), "end"], tool, runtime=runtime, human=human).run("go"))
    assert result.ok
    assert "budget" not in str(result.messages)
