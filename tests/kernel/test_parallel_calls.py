"""Calls of one reply: safe ones together, others in order, results always in the order of the calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stage import Tool, agent, faults_of_pairing, of_type, soon

from loom.testing.scripted import call
from loom.tools.base import ToolContext
from loom.tools.function import tool
from loom.types import Role

pytestmark = pytest.mark.timeout(20)


class Floor:
    """Counts who is inside at once."""

    def __init__(self) -> None:
        self.inside: list[int] = []
        self.most = 0
        self.order: list[tuple[str, int]] = []

    async def work(self, args: dict[str, Any]) -> str:
        n = args["n"]
        self.inside.append(n)
        self.most = max(self.most, len(self.inside))
        self.order.append(("in", n))
        for _ in range(args.get("turns", 3)):
            await asyncio.sleep(0)
        self.inside.remove(n)
        self.order.append(("out", n))
        return f"did {n}"


async def test_safe_calls_overlap_and_results_keep_their_order() -> None:
    floor = Floor()
    safe = Tool("safe", floor.work, concurrency_safe=True)
    calls = [call("safe", n=n, turns=20 - n) for n in range(16)]
    result = await soon(agent([calls, "end"], safe).run("go"))
    assert result.ok
    assert floor.most == 16
    assert [m.content for m in result.messages if m.role is Role.TOOL] == [f"did {n}" for n in range(16)]
    ended = [event.call_id for event in of_type(result.events, "tool.finished")]
    assert ended != sorted(ended, key=lambda name: int(name[5:])), (
        "they ended in another order than they began"
    )
    assert faults_of_pairing(result.messages) is None


async def test_other_calls_run_one_by_one_in_order() -> None:
    floor = Floor()
    result = await soon(agent([[call("t", n=n) for n in range(5)], "end"], Tool("t", floor.work)).run("go"))
    assert result.ok
    assert floor.most == 1
    assert floor.order == [(word, n) for n in range(5) for word in ("in", "out")]


async def test_a_mixture_keeps_neighbours_together_and_the_order_between_groups() -> None:
    floor = Floor()
    safe, t = Tool("safe", floor.work, concurrency_safe=True), Tool("t", floor.work)
    calls = [
        call("safe", n=0),
        call("safe", n=1),
        call("t", n=2),
        call("safe", n=3),
        call("t", n=4),
        call("t", n=5),
    ]
    result = await soon(agent([calls, "end"], safe, t).run("go"))
    assert result.ok
    assert floor.most == 2
    assert [n for word, n in floor.order if word == "in"] == list(range(6))
    position = {step: i for i, step in enumerate(floor.order)}
    assert (
        max(position["out", 0], position["out", 1])
        < position["in", 2]
        < position["out", 2]
        < position["in", 3]
    )


async def test_what_is_not_read_only_is_recorded_before_it_runs() -> None:
    """Also when several start together: every start is durable before the first effect."""
    seen: list[int] = []
    session: Any = None

    async def look(args: dict[str, Any]) -> str:
        log = await session.store.read(session.id)
        seen.append(len(of_type(log, "tool.started")))
        return "ok"

    t = Tool("t", look, concurrency_safe=True)
    session = agent([[call("t", n=n) for n in range(4)], "end"], t).session()
    await soon(session.run("go"))
    assert seen == [4, 4, 4, 4]


async def test_one_that_fails_leaves_the_others_alone() -> None:
    floor = Floor()

    def fails(_: Any) -> str:
        raise ValueError("no")

    tools = [Tool("safe", floor.work, concurrency_safe=True), Tool("bad", fails, concurrency_safe=True)]
    result = await soon(agent([[call("safe", n=0), call("bad"), call("safe", n=1)], "end"], *tools).run("go"))
    assert result.ok
    assert [m.is_error for m in result.messages if m.role is Role.TOOL] == [False, True, False]


async def test_progress_comes_while_the_tools_run_and_is_not_kept() -> None:
    @tool(concurrency_safe=True)
    async def work(n: int, context: ToolContext) -> str:
        """Say how far."""
        for step in range(3):
            context.emit(f"{n}:{step}")
            await asyncio.sleep(0)
        return "done"

    session = agent([[call("work", n=1), call("work", n=2)], "end"], work).session()
    seen = [event async for event in session.stream("go")]
    progress = of_type(seen, "tool.progress")
    assert sorted(event.text for event in progress) == [f"{n}:{step}" for n in (1, 2) for step in range(3)]
    assert not of_type(await session.store.read(session.id), "tool.progress")
    last_progress = max(i for i, event in enumerate(seen) if event.type == "tool.progress")
    first_end = min(i for i, event in enumerate(seen) if event.type == "tool.finished")
    assert last_progress < len(seen)
    assert first_end > 0


async def test_sync_functions_run_beside_each_other_on_threads() -> None:
    import threading

    barrier = threading.Barrier(2, timeout=5)

    @tool(concurrency_safe=True)
    def meet() -> str:
        """Wait for the other."""
        barrier.wait()
        return "met"

    result = await soon(agent([[call("meet"), call("meet")], "end"], meet).run("go"), 10)
    assert [m.content for m in result.messages if m.role is Role.TOOL] == ["met", "met"]


async def test_each_call_gets_its_own_key_and_the_same_key_at_each_attempt() -> None:
    keys: list[str] = []

    @tool(idempotent=True)
    def note(context: ToolContext) -> str:
        """Note the key; ask once."""
        keys.append(context.idempotency_key)
        context.ask("go on?")
        return "ok"

    session = agent([[call("note"), call("note")], "end"], note, human=lambda request: "yes").session()
    result = await soon(session.run("go"))
    assert result.ok
    assert len(set(keys)) == 2
    assert len(keys) == 4
    attempts = [event.attempt for event in of_type(result.events, "tool.started")]
    assert sorted(attempts) == [1, 1, 2, 2]
