"""What a run may not do, the runs it starts may not do either: rules, modes, vetoes, gates, rates, receipts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stage import Clock, Tool, agent, of_type, soon

from loom.agent import Agent
from loom.errors import ConfigError
from loom.loop import Agent as LoopAgent
from loom.loop import AgentConfig
from loom.policies.governance import GovernancePolicy
from loom.policies.profile import Runtime
from loom.safety.permissions import PermissionMode, PermissionRule
from loom.safety.veto import SafetyRule
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import ScriptedProvider, call
from loom.tools.registry import ToolRegistry
from loom.types import ChatMessage, Role, RunState

pytestmark = pytest.mark.timeout(20)

ALLOW_ALL = {"governance": GovernancePolicy.allow_all()}


def _family(generations: int, wipe: Tool, **parent: Any) -> Agent[Any, Any]:
    """A parent over ``generations`` children that allow everything, the last of which has ``wipe``."""
    below = agent([call("wipe", n=n) for n in range(3)] + ["tried"], wipe, **ALLOW_ALL)
    for _ in range(generations - 1):
        tool = below.as_tool(name="helper", description="helps")
        below = agent([call("helper", task="wipe"), "passed on"], tool, **ALLOW_ALL)
    tool = below.as_tool(name="helper", description="helps")
    return agent([call("helper", task="wipe"), "end"], tool, **parent)


def _governed(**policy: Any) -> dict[str, Any]:
    return {"governance": GovernancePolicy(**policy)}


def _deny_gate(built: Agent[Any, Any]) -> None:
    built.on("before_tool", lambda tool_name, **_: "deny" if tool_name == "wipe" else None)


def _edit_gate(built: Agent[Any, Any]) -> None:
    built.on("before_llm", lambda prompt, **_: "deny" if prompt == "wipe" else None)


FORBIDDING: dict[str, tuple[dict[str, Any], Callable[[Agent[Any, Any]], None] | None]] = {
    "a rule": (_governed(rules=[PermissionRule.deny("wipe")]), None),
    "a veto": ({"safety_rules": [SafetyRule.block_tool(name="n", tool_names=["wipe"], reason="r")]}, None),
    "a gate": ({}, _deny_gate),
    "a gate of the model": ({}, _edit_gate),
    "a runtime": (
        {"runtime": Runtime(governance=GovernancePolicy(rules=(PermissionRule.deny("wipe"),)))},
        None,
    ),
}


@pytest.mark.parametrize("generations", [1, 2])
@pytest.mark.parametrize(("options", "gate"), FORBIDDING.values(), ids=FORBIDDING.keys())
async def test_review_b_what_a_parent_forbids_its_children_do_not_do(
    options: dict[str, Any], gate: Callable[[Agent[Any, Any]], None] | None, generations: int
) -> None:
    wipe = Tool("wipe")
    parent = _family(generations, wipe, **options)
    if gate:
        gate(parent)
    await soon(parent.run("go"))
    assert wipe.entered == []


async def test_review_b_without_a_parent_that_forbids_it_the_child_works() -> None:
    wipe = Tool("wipe")
    assert (await soon(_family(2, wipe).run("go"))).ok
    assert len(wipe.entered) == 3


@pytest.mark.parametrize("mode", [PermissionMode.SUPERVISED, PermissionMode.DEFAULT])
async def test_review_b_what_a_parents_mode_asks_about_is_asked_of_the_parents_human(
    mode: PermissionMode,
) -> None:
    wipe = Tool("wipe", destructive=True)
    rules = [PermissionRule.allow("helper")]
    parent = _family(1, wipe, session_store=InMemorySessionStore(), **_governed(mode=mode, rules=rules))
    result = await soon(parent.session("s").run("go"))
    assert result.state is RunState.WAITING
    assert [request.tool_name for request in result.pending] == ["wipe"]
    assert wipe.entered == []


async def test_review_b_a_childs_own_human_does_not_answer_for_the_parents() -> None:
    wipe = Tool("wipe", destructive=True)
    child = agent([call("wipe"), "tried"], wipe, human=lambda request: True, **ALLOW_ALL)
    tool = child.as_tool(name="helper", description="helps")
    parent = agent([call("helper", task="x"), "end"], tool, human=lambda request: False)
    await soon(parent.run("go"))
    assert wipe.entered == []


async def test_review_b_a_parents_plan_mode_holds_for_a_tool_that_calls_itself_read_only() -> None:
    wipe = Tool("wipe")
    child = agent([call("wipe"), "tried"], wipe, **ALLOW_ALL)
    tool = child.as_tool(name="helper", description="helps")
    allowed = _governed(mode=PermissionMode.PLAN, rules=[PermissionRule.allow("helper")])
    await soon(agent([call("helper", task="x"), "end"], tool, **allowed).run("go"))
    assert wipe.entered == []


async def test_review_b_a_parents_gate_sees_and_edits_what_runs_below() -> None:
    wipe, seen = Tool("wipe"), []

    def gate(tool_name: str, arguments: dict[str, Any], **_: Any) -> Any:
        seen.append((tool_name, arguments))
        return {"decision": "allow", "arguments": {"n": 7}} if tool_name == "wipe" else None

    parent = _family(2, wipe)
    parent.on("before_tool", gate)
    await soon(parent.run("go"))
    assert [name for name, _ in seen] == ["helper", "helper", "wipe", "wipe", "wipe"]
    assert wipe.entered == [{"n": 7}] * 3


async def test_review_b_calls_below_count_against_the_parents_rate() -> None:
    wipe = Tool("wipe")
    await soon(_family(2, wipe, **_governed(max_calls_per_minute=2)).run("go"))
    assert len(wipe.entered) == 2


async def test_review_b_a_childs_own_rate_holds_over_all_its_calls() -> None:
    wipe = Tool("wipe")
    child = agent([call("wipe"), "one", call("wipe"), "two"], wipe, **_governed(max_calls_per_minute=1))
    tool = child.as_tool(name="helper", description="helps")
    parent = agent([call("helper", task="a"), call("helper", task="b"), "end"], tool)
    assert (await soon(parent.run("go"))).ok
    assert len(wipe.entered) == 1


async def test_review_b_a_call_refused_above_is_not_counted_below() -> None:
    wipe, clock = Tool("wipe"), Clock()
    child = agent([call("wipe"), call("wipe"), "tried"], wipe, **_governed(max_calls_per_minute=1))
    tool = child.as_tool(name="helper", description="helps")
    parent = agent([call("helper", task="x"), "end"], tool, **_governed(max_calls_per_minute=5))
    child.engine.pace = parent.engine.pace = clock
    await soon(parent.run("go"))
    assert len(wipe.entered) == 1


async def test_review_b_on_denial_stop_of_the_parent_stops_the_tree() -> None:
    wipe = Tool("wipe")
    policy = _governed(rules=[PermissionRule.deny("wipe")], on_denial="stop")
    result = await soon(_family(2, wipe, **policy).run("go"))
    assert (result.state, result.error.code) == (RunState.FAILED, "tool_denied")


async def test_review_b_an_approval_lasts_as_long_as_the_strictest_says() -> None:
    wipe, clock = Tool("wipe", destructive=True), Clock()
    parent = _family(1, wipe, session_store=InMemorySessionStore(), **_governed(approval_ttl=10.0))
    child = parent.tools[0]._grounds().engine()
    parent.engine.clock = child.clock = clock
    session = parent.session("s")
    waiting = await soon(session.run("go"))
    answer = waiting.pending[0].approve()

    child.hooks.on("request.answered", lambda **_: setattr(clock, "now", clock.now + 11))
    result = await soon(session.resume(waiting.run_id, [answer]).wait())
    assert wipe.entered == []
    assert result.state is RunState.WAITING


async def test_review_b_secrets_the_parent_keeps_in_are_kept_in_below() -> None:
    secret = "sk-ant-api03-" + "a1B2" * 24
    child_model = ScriptedProvider(["fine"])
    child = Agent(model=child_model)
    tool = child.as_tool(name="helper", description="helps")
    parent = agent([call("helper", task=f"use {secret}"), "end"], tool, **_governed(redact_outbound=True))
    await soon(parent.run("go"))
    assert child_model.requests
    assert secret not in str(child_model.requests)


async def test_review_b_a_child_is_not_resumed_past_its_parent() -> None:
    store, wipe = InMemorySessionStore(), Tool("wipe", destructive=True)
    child = agent([call("wipe"), "tried"], wipe, session_store=store)
    tool = child.as_tool(name="helper", description="helps")
    parent = agent([call("helper", task="x"), "end"], tool, session_store=store)
    waiting = await soon(parent.session("s").run("go"))
    [started] = of_type(waiting.events, "child.started")
    past = child.session(started.child_session_id).resume(
        started.child_run_id, [request.approve() for request in waiting.pending]
    )
    with pytest.raises(ConfigError, match=waiting.run_id):
        await soon(past.wait())
    assert wipe.entered == []


@pytest.mark.parametrize("denied", [False, True])
async def test_review_b_a_loop_agent_binds_the_agents_among_its_tools(denied: bool) -> None:
    wipe = Tool("wipe")
    child = agent([call("wipe"), "tried"], wipe, **ALLOW_ALL)
    tool = child.as_tool(name="helper", description="helps")
    rules = (PermissionRule.deny("wipe"),) if denied else ()
    model = ScriptedProvider([call("helper", task="x"), "end"])
    config = AgentConfig(governance=GovernancePolicy(rules=rules))
    loop = LoopAgent(model, tool_registry=ToolRegistry([tool]), config=config)
    turn = await soon(loop.run_turn([ChatMessage(Role.USER, "go")]))
    assert len(wipe.entered) == (0 if denied else 1)
    assert turn.messages
    assert turn.messages[2].content == "tried"
    assert child._scratch_store().list_sessions() == []


async def test_review_a_a_loop_agent_refuses_rules_that_guard_nothing() -> None:
    config = AgentConfig(governance=GovernancePolicy(rules=(PermissionRule.deny("wpie"),)))
    registry = ToolRegistry([Tool("wipe")])
    loop = LoopAgent(ScriptedProvider(["end"]), tool_registry=registry, config=config)
    with pytest.raises(ConfigError, match="did you mean 'wipe'"):
        await soon(loop.run_turn([ChatMessage(Role.USER, "go")]))
