"""The driven machine, killed after every single event it ever wrote, ends as if nothing had happened."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage import of_type
from world import REPEATABLE, Recording, Script, World, answer, build

from loom.agent import Agent
from loom.runtime.result import RunResult
from loom.types import RunState

pytestmark = pytest.mark.timeout(60)


async def to_the_end(built: Agent[Any, Any], recovery: str, *, one_at_a_time: bool = False) -> RunResult[Any]:
    """Start or resume the one run, answering whatever is asked."""
    session = built.session("s")
    unfinished = await session.store.unfinished_runs("s")
    known = await session.store.read("s")
    if unfinished:
        result = await session.resume()
    elif known:
        result = await session.resume(known[0].run_id)
    else:
        result = await session.run("go")
    for _ in range(60):
        if result.state is not RunState.WAITING:
            return result
        assert result.pending, "the run waits for nothing"
        pending = result.pending[:1] if one_at_a_time else result.pending
        result = await session.resume(result.run_id, [answer(request, recovery) for request in pending])
    raise AssertionError("the run never ends")


def essence(result: RunResult[Any]) -> dict[str, Any]:
    """What must not depend on how often the process died."""
    ended = {(event.call_id, event.outcome) for event in of_type(result.events, "tool.finished")}
    return {
        "state": result.state,
        "output": result.output,
        "messages": msgspec.json.decode(msgspec.json.encode(list(result.messages))),
        "usage": result.usage,
        "iterations": result.iterations,
        "error": result.error.code if result.error else None,
        "ended": ended,
    }


async def check_every_cut(script: Script, child: Script = (), *, one_at_a_time: bool = False) -> int:
    """Run once whole, then cut after every event and go on; returns how many cuts there were."""
    world = World(Recording())
    whole = await to_the_end(build(world, script, child), "approve", one_at_a_time=one_at_a_time)
    assert whole.state is not RunState.WAITING
    wanted = essence(whole)
    done = Counter((name, arguments) for name, arguments, _ in world.effects)
    assert all(count == 1 for (name, _), count in done.items() if name not in REPEATABLE)
    for recovery in ("approve", "answer"):
        for length in range(1, len(world.store.order) + 1):
            again = World(world.store.cut(length))
            result = await asyncio.wait_for(
                to_the_end(build(again, script, child), recovery, one_at_a_time=one_at_a_time), 10
            )
            where = f"cut after event {length} ({world.store.order[length - 1][1].type}), {recovery}"
            assert essence(result) == wanted, where
            before = [effect for effect in world.effects if effect[2] <= length]
            total = Counter((name, arguments) for name, arguments, _ in [*before, *again.effects])
            asked = Counter(
                (event.request.tool_name, str(msgspec.json.decode(event.request.arguments)["n"]))
                for _, event in again.store.order[length:]
                if event.type == "request.opened" and event.request.origin == "recovery"  # type: ignore[attr-defined]
            )
            for (name, arguments), count in total.items():
                if name in REPEATABLE:
                    continue
                approved = recovery == "approve" or name == "fail"
                allowed = 1 + (asked[name, arguments] if approved else 0)
                assert count <= allowed, f"{where}: {name}({arguments}) ran {count} times, asked {asked}"
            for (name, arguments), count in done.items():
                assert total[name, arguments] >= min(count, 1) or asked[name, arguments], where
            ended = {(sid, e.call_id, e.run_id) for sid, e in again.store.order if e.type == "tool.finished"}  # type: ignore[attr-defined]
            finishes = [1 for _, e in again.store.order if e.type == "tool.finished"]
            assert len(ended) == len(finishes), f"{where}: a call has two results"
            for session_id in {sid for sid, _ in again.store.order}:
                assert await again.store.open_requests(session_id) == [], where
                assert await again.store.unfinished_runs(session_id) == [], where
    return len(world.store.order)


TOOLS = ["read", "note", "send", "post", "fail", "wipe", "shut", "ask", "nope"]
scripts = st.lists(st.lists(st.sampled_from(TOOLS), min_size=1, max_size=4), min_size=1, max_size=3)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(scripts, st.booleans())
def test_cut_after_every_event(script: list[list[str]], one_at_a_time: bool) -> None:
    asyncio.run(check_every_cut(script, one_at_a_time=one_at_a_time))


@pytest.mark.parametrize(
    "script",
    [
        [["read", "note", "send", "post"], ["wipe", "wipe", "send"], ["ask", "read"]],
        [["fail"], ["fail"], ["fail"]],
        [["ask", "ask"], ["wipe", "ask", "post", "post"]],
        [["nope", "shut", "send"]],
    ],
    ids=["all kinds", "stuck", "questions", "refusals"],
)
async def test_cut_after_every_event_of_chosen_scripts(script: Script) -> None:
    cuts = await check_every_cut(script)
    assert cuts > 10


@pytest.mark.parametrize("one_at_a_time", [False, True])
async def test_cut_after_every_event_of_a_parent_and_its_child(one_at_a_time: bool) -> None:
    cuts = await check_every_cut(
        [["child", "send"], ["note"]], [["send", "wipe", "wipe"], ["read"]], one_at_a_time=one_at_a_time
    )
    assert cuts > 30
