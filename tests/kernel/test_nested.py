"""An agent as a tool: its child pauses, resumes, is cancelled and is paid for through its parent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stage import Gate, Tool, agent, faults_of_pairing, no_strangers, of_type, soon, strangers, types

from loom.agent import Agent
from loom.requests import Request
from loom.store.base import SessionStore
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import call
from loom.tools.base import ToolContext
from loom.tools.function import tool
from loom.types import Role, RunState

pytestmark = pytest.mark.timeout(20)


class House:
    """A parent and its child over one store. A new house over the same store is a new process."""

    def __init__(
        self,
        store: SessionStore,
        parent: list[Any],
        child: list[Any],
        *tools: Any,
        **options: Any,
    ) -> None:
        self.child = agent(child, *tools)
        as_tool = self.child.as_tool(name="child", description="the child")
        self.parent = agent(parent, as_tool, session_store=store, **options)
        self.session = self.parent.session("s")


def _wiper(**facts: Any) -> Tool:
    return Tool("d", destructive=True, **facts)


async def test_a_child_answers_its_parent() -> None:
    house = House(InMemorySessionStore(), [call("child", task="sub"), "end"], ["from below"])
    result = await soon(house.session.run("go"))
    assert result.ok
    told = next(m for m in result.messages if m.role is Role.TOOL)
    assert told.content == "from below"
    started, finished = (
        of_type(result.events, "child.started")[0],
        of_type(result.events, "child.finished")[0],
    )
    assert started.child_run_id == finished.child_run_id
    assert finished.state is RunState.COMPLETED
    log = await house.session.store.read(started.child_session_id)
    assert log[0].parent_run_id == result.run_id
    assert log[0].depth == 1


@pytest.mark.parametrize("verdict", ["approve", "deny"])
async def test_a_child_that_needs_approval_pauses_and_resumes_through_its_parent(verdict: str) -> None:
    store = InMemorySessionStore()
    first = House(store, [call("child", task="sub")], [call("d")], _wiper())
    waiting = await soon(first.session.run("go"))
    assert waiting.state is RunState.WAITING
    (request,) = waiting.pending
    assert request.tool_name == "d"
    assert request.kind == "approval"
    assert await first.session.pending() == list(waiting.pending)

    d = _wiper()
    second = House(store, ["end"], ["child done"], d)
    (found,) = await second.session.pending()
    answer = found.approve() if verdict == "approve" else found.deny("no")
    done = await soon(second.session.resume(None, [answer]).wait())
    assert done.ok
    assert done.run_id == waiting.run_id
    assert len(d.entered) == (1 if verdict == "approve" else 0)
    assert next(m for m in done.messages if m.role is Role.TOOL).content == "child done"
    assert faults_of_pairing(done.messages) is None
    assert len(of_type(done.events, "child.started")) == 1 == len(of_type(done.events, "child.finished"))
    assert done.usage.total_tokens == 4 * 15
    assert await second.session.pending() == []


async def test_a_grandchild_pauses_and_resumes_through_both() -> None:
    store = InMemorySessionStore()

    def build(parent: list[Any], child: list[Any], grand: list[Any], d: Tool) -> Agent[Any, Any]:
        g = agent(grand, d)
        c = agent(child, g.as_tool(name="grand", description="g"))
        return agent(parent, c.as_tool(name="child", description="c"), session_store=store)

    first = build([call("child", task="x")], [call("grand", task="y")], [call("d")], _wiper())
    waiting = await soon(first.session("s").run("go"))
    assert waiting.state is RunState.WAITING
    assert len(waiting.pending) == 1
    d = _wiper()
    second = build(["end"], ["c"], ["g"], d)
    done = await soon(second.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert done.ok
    assert len(d.entered) == 1
    assert done.usage.total_tokens == 6 * 15


async def test_a_child_with_two_open_requests_and_one_answer() -> None:
    """The parent goes on waiting for the other; it must not spin."""
    store = InMemorySessionStore()
    d = _wiper()
    house = House(store, [call("child", task="x"), "end"], [[call("d", n=1), call("d", n=2)], "c"], d)
    waiting = await soon(house.session.run("go"))
    one, two = waiting.pending
    again = await soon(house.session.resume(None, [one.approve()]).wait(), 3)
    assert again.state is RunState.WAITING
    assert d.entered == [{"n": 1}]
    assert [request.id for request in again.pending] == [two.id]
    done = await soon(house.session.resume(None, [two.approve()]).wait(), 3)
    assert done.ok
    assert d.entered == [{"n": 1}, {"n": 2}]


async def test_a_child_that_asks_again_and_again() -> None:
    d = _wiper()
    house = House(
        InMemorySessionStore(), [call("child", task="x"), "end"], [call("d", n=1), call("d", n=2), "c"], d
    )
    result = await soon(house.session.run("go"))
    for n in (1, 2):
        assert result.state is RunState.WAITING
        result = await soon(house.session.resume(None, [result.pending[0].approve()]).wait())
        assert len(d.entered) == n
    assert result.ok


async def test_two_children_wait_beside_each_other() -> None:
    d = _wiper()
    house = House(
        InMemorySessionStore(),
        [[call("child", task="x"), call("child", task="y")], "end"],
        [call("d", n=1), call("d", n=2), "one done", "other done"],
        d,
    )
    waiting = await soon(house.session.run("go"))
    assert len(waiting.pending) == 2
    assert len({r.run_id for r in waiting.pending}) == 2
    again = await soon(house.session.resume(None, [waiting.pending[1].approve()]).wait(), 3)
    assert again.state is RunState.WAITING
    assert len(d.entered) == 1
    done = await soon(house.session.resume(None, [waiting.pending[0].approve()]).wait(), 3)
    assert done.ok
    assert len(d.entered) == 2


async def test_a_childs_request_answered_twice_is_one_effect() -> None:
    d = _wiper()
    house = House(InMemorySessionStore(), [call("child", task="x"), "end"], [call("d"), "c"], d)
    waiting = await soon(house.session.run("go"))
    runs = [house.session.resume(waiting.run_id, [waiting.pending[0].approve()]) for _ in range(5)]
    await soon(asyncio.gather(*(run.wait() for run in runs), return_exceptions=True))
    assert len(d.entered) == 1


async def test_a_childs_tool_that_changed_is_asked_about_again_through_the_parent() -> None:
    store = InMemorySessionStore()
    first = House(store, [call("child", task="x")], [call("d")], _wiper())
    waiting = await soon(first.session.run("go"))
    d = _wiper(idempotent=True)
    second = House(store, ["end"], ["c"], d)
    again = await soon(second.session.resume(None, [waiting.pending[0].approve()]).wait(), 3)
    assert again.state is RunState.WAITING
    assert d.entered == []
    assert again.pending[0].id != waiting.pending[0].id
    done = await soon(second.session.resume(None, [again.pending[0].approve()]).wait(), 3)
    assert done.ok
    assert len(d.entered) == 1


async def test_the_child_asks_its_parents_human() -> None:
    asked: list[Request] = []

    def human(request: Request) -> bool:
        asked.append(request)
        return True

    d = _wiper()
    house = House(InMemorySessionStore(), [call("child", task="x"), "end"], [call("d"), "c"], d, human=human)
    result = await soon(house.session.run("go"))
    assert result.ok
    assert len(d.entered) == 1
    assert len(asked) == 1


@pytest.mark.parametrize("how", ["cancel", "task", "stream"])
async def test_cancelling_the_parent_stops_the_child(how: str) -> None:
    gate, before = Gate(), strangers()
    house = House(InMemorySessionStore(), [call("child", task="x"), "end"], [call("t"), "c"], Tool("t", gate))
    if how == "stream":
        stream = house.session.stream("go")
        reading = asyncio.create_task(_drain(stream))
        await soon(gate.reached.wait())
        reading.cancel()
        await soon(asyncio.wait([reading]))
        await stream.aclose()
    elif how == "task":
        caller = asyncio.create_task(house.session.run("go"))
        await soon(gate.reached.wait())
        caller.cancel()
        await soon(asyncio.wait([caller]))
    else:
        run = house.session.start("go")
        await soon(gate.reached.wait())
        result = await soon(run.cancel())
        assert result.state is RunState.CANCELLED
        assert faults_of_pairing(result.messages) is None
    assert gate.interrupted == 1, "the child goes on without its parent"
    log = await house.session.store.read("s")
    child = of_type(log, "child.started")[0]
    below = await house.session.store.read(child.child_session_id)
    assert types(below)[-1] == "run.finished"
    assert below[-1].state is RunState.CANCELLED
    await no_strangers(before)


async def test_cancelling_the_parent_while_the_child_waits_for_a_human() -> None:
    gate, before = Gate(), strangers()

    async def human(request: Request) -> bool:
        await gate()
        return True

    d = _wiper()
    house = House(InMemorySessionStore(), [call("child", task="x"), "end"], [call("d"), "c"], d, human=human)
    run = house.session.start("go")
    await soon(gate.reached.wait())
    result = await soon(run.cancel())
    assert result.state is RunState.CANCELLED
    await no_strangers(before)
    gate.open.set()
    await asyncio.sleep(0)
    assert d.entered == []


async def test_cancelling_a_parked_parent_closes_the_childs_request() -> None:
    d = _wiper()
    house = House(InMemorySessionStore(), [call("child", task="x"), "end"], [call("d"), "c"], d)
    waiting = await soon(house.session.run("go"))
    result = await house.session.resume(waiting.run_id).cancel()
    assert result is not None
    assert result.state is RunState.CANCELLED
    child = of_type(result.events, "child.started")[0]
    below = house.child.session(child.child_session_id)
    assert below.store is not None
    assert await house.session.store.open_requests(child.child_session_id) == []
    assert await house.session.store.unfinished_runs(child.child_session_id) == []


async def test_a_failing_child_is_an_error_the_parent_reads() -> None:
    house = House(InMemorySessionStore(), [call("child", task="x"), "end"], [RuntimeError("gone")])
    result = await soon(house.session.run("go"))
    assert result.ok
    (finished,) = of_type(result.events, "tool.finished")
    assert finished.outcome == "error"
    assert "failed" in finished.result.text
    assert of_type(result.events, "child.finished")[0].state is RunState.FAILED


@pytest.mark.parametrize(
    "arguments", [{}, {"task": 3}, {"task": ""}, {"task": " "}, {"task": "x", "deps": 1}]
)
async def test_a_task_that_is_none_is_told_to_the_parent(arguments: dict[str, Any]) -> None:
    house = House(InMemorySessionStore(), [call("child", **arguments), "end"], ["c"])
    result = await soon(house.session.run("go"))
    (finished,) = of_type(result.events, "tool.finished")
    assert result.ok
    assert finished.outcome == "error"
    assert finished.error.code == "tool_arguments"


async def test_the_same_call_id_in_two_replies_starts_two_children() -> None:
    from loom.types import ToolCall

    replies = [ToolCall("same", "child", '{"task": "a"}'), ToolCall("same", "child", '{"task": "b"}'), "end"]
    house = House(InMemorySessionStore(), replies, ["one", "two"])
    result = await soon(house.session.run("go"))
    assert [m.content for m in result.messages if m.role is Role.TOOL] == ["one", "two"]


async def test_children_never_see_their_parents_session() -> None:
    seen: list[Any] = []

    def look(messages: Any, tools: Any) -> str:
        seen.extend(m.content for m in messages)
        return "c"

    house = House(InMemorySessionStore(), [call("child", task="only this"), "end"], [look])
    await soon(house.session.run("a secret"))
    assert seen == ["only this"]


async def test_a_run_that_a_tool_starts_by_itself_is_stopped_with_it() -> None:
    gate, before = Gate(), strangers()
    inner = agent([call("t"), "end"], Tool("t", gate))

    @tool
    async def delegate(context: ToolContext) -> str:
        """Let another agent do it."""
        return (await inner.session().run("inner", parent=context)).status

    run = agent([call("delegate"), "end"], delegate).session().start("go")
    await soon(gate.reached.wait())
    result = await soon(run.cancel())
    assert result.state is RunState.CANCELLED
    assert gate.interrupted == 1
    await no_strangers(before)


async def _drain(stream: Any) -> None:
    async for _ in stream:
        pass
