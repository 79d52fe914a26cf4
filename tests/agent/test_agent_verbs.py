"""The declaration and its verbs: what an application touches first."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest

from loom import (
    Agent,
    CallbackHuman,
    GovernancePolicy,
    LoomError,
    PermissionRule,
    RunState,
    Runtime,
    RuntimeLimits,
    SafetyRule,
    SessionConfig,
    ToolContext,
    tool,
)
from loom.errors import AuthenticationError, ConfigError
from loom.testing import ScriptedHuman, ScriptedProvider, call


@tool(destructive=True)
def wipe(path: str) -> str:
    """Delete everything below a path."""
    return f"wiped {path}"


@tool(read_only=True)
async def who(context: ToolContext[str]) -> str:
    """Say who is asking."""
    return context.deps


def agent(*replies: Any, **options: Any) -> Agent[Any, Any]:
    return Agent(model=ScriptedProvider(replies), **options)


def test_run_sync_without_a_loop() -> None:
    assert agent("hello").run_sync("hi").output == "hello"


async def test_run_sync_inside_a_running_loop_does_not_block_it_for_ever() -> None:
    result = await asyncio.to_thread(agent("hello").run_sync, "hi")
    assert result.output == "hello"
    assert agent("from the loop's own thread").run_sync("hi").ok


async def test_run_sync_raises_what_run_raises() -> None:
    with pytest.raises(ValueError, match="text"):
        agent("x").run_sync("  ")


async def test_the_same_session_is_the_same_object_while_it_is_held() -> None:
    one = agent("a", "b")
    session = one.session(SessionConfig(id="desk", metadata={"tier": "gold"}))
    assert one.session("desk") is session
    assert one.session(SessionConfig(id="desk", metadata={"lang": "pt"})).metadata == {
        "tier": "gold",
        "lang": "pt",
    }
    assert one.session() is not one.session()


async def test_a_one_off_run_that_waits_is_found_again_and_then_forgotten() -> None:
    one = agent(call("wipe", path="/tmp/x"), "done", tools=[wipe])
    waiting = await one.run("clean up")
    assert waiting.state is RunState.WAITING
    session = one.session(waiting.session_id)
    done = await session.resume(answers=[waiting.pending[0].approve(by="ana")])
    assert (done.run_id, done.output) == (waiting.run_id, "done")
    assert await one.session(waiting.session_id).pending() == []
    assert one._waiting == {}


async def test_one_off_runs_leave_nothing_behind() -> None:
    one = agent(*["x"] * 5)
    for _ in range(5):
        await one.run("hi")
    assert one.grounds().store.log.sessions() == []


@pytest.mark.parametrize(
    "human", [ScriptedHuman([True]), lambda request: True, CallbackHuman(lambda r: r.approve())]
)
async def test_whoever_is_attached_answers_in_place(human: Any) -> None:
    result = await agent(call("wipe", path="/a"), "gone", tools=[wipe], human=human).run("go")
    assert result.output == "gone"
    assert [e.type for e in result.events if e.type.startswith("request")] == [
        "request.opened",
        "request.answered",
    ]


async def test_dependencies_reach_tools_and_nothing_else() -> None:
    one = agent(call("who"), "ok", call("who"), "ok", tools=[who], deps="ana")
    assert "ana" in [m.content for m in (await one.run("?")).messages]
    second = await one.run("?", deps="rui")
    assert "rui" in [m.content for m in second.messages]
    assert all("rui" not in str(e.payload.get("inputs", "")) for e in second.events)


class Point(TypedDict):
    x: int
    y: int


async def test_typed_output_is_asked_for_again_and_then_fails_honestly() -> None:
    result = await agent("one and two", '{"x": 1, "y": 2}', output_type=Point).run("where?")
    assert result.output == {"x": 1, "y": 2}
    assert result.iterations == 2
    never = await agent(*["nonsense"] * 9, output_type=Point, runtime=Runtime(output_attempts=2)).run(
        "where?"
    )
    assert never.state is RunState.FAILED
    assert never.error is not None
    assert (never.error.code, never.iterations) == ("output_invalid", 2)


async def test_governance_and_safety_rules_are_added_to_the_runtime() -> None:
    rules = GovernancePolicy.default(rules=[PermissionRule.allow("wipe", path="/tmp/*")])
    veto = SafetyRule.when_argument_contains_any(
        name="keep", tool_name="wipe", argument="path", values=["keep"], reason="that stays"
    )
    one = agent(
        [call("wipe", path="/tmp/a"), call("wipe", path="/tmp/KEEP")], "done",
        tools=[wipe], governance=rules, safety_rules=[veto],
    )  # fmt: skip
    result = await one.run("go")
    assert result.output == "done"
    assert [finished.result.text for finished in result.denied] == ["Vetoed: that stays"]
    stop = GovernancePolicy.default(rules=[PermissionRule.deny("wipe")], on_denial="stop")
    ended = await agent(call("wipe", path="/a"), "x", tools=[wipe], governance=stop).run("go")
    assert ended.state is RunState.FAILED
    assert ended.error is not None
    assert ended.error.code == "tool_denied"


def test_contradictions_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match="wipe"):
        agent("x", tools=[wipe, wipe])
    with pytest.raises(ConfigError, match="max_iterations"):
        RuntimeLimits(max_iterations=-1)
    with pytest.raises(ConfigError, match="happens"):
        agent("x").on("before_lunch", print)


async def test_a_cost_limit_without_a_price_is_refused() -> None:
    limits = Runtime(limits=RuntimeLimits(max_cost=1.0))
    with pytest.raises(ConfigError, match="price"):
        await agent("x", runtime=limits).run("go")


async def test_a_missing_key_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        await Agent(model="openai:gpt-5.1").run("go")
    with pytest.raises(LoomError):
        await Agent(model="nobody:nothing").run("go")


async def test_a_child_agent_spends_from_its_parent() -> None:
    child = agent(call("who"), "child done", tools=[who], deps="x")
    parent = agent(
        call("ask_child", task="look"), "all done", tools=[child.as_tool(name="ask_child", description="d")]
    )
    result = await parent.run("go")
    assert result.output == "all done"
    assert result.usage.total_tokens == 4 * 15
    assert {"child.started", "child.finished"} <= {event.type for event in result.events}
