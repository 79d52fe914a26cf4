"""Every limit ends a run as that limit, is never exceeded by a child, and never looks like success."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stage import Clock, Gate, Tool, agent, faults_of_pairing, no_strangers, of_type, soon, types

from loom.agent import Agent
from loom.config.model import Model
from loom.errors import ConfigError
from loom.policies.governance import GovernancePolicy
from loom.policies.profile import Runtime, RuntimeLimits
from loom.runtime.result import RunResult
from loom.testing.scripted import ScriptedProvider, call, say
from loom.tools.base import ToolContext
from loom.tools.function import tool
from loom.types import RunState, Usage

pytestmark = pytest.mark.timeout(20)


def _limits(**limits: Any) -> Runtime:
    return Runtime(limits=RuntimeLimits(**limits))


def _reached(result: RunResult[Any], limit: str) -> Any:
    assert result.state is RunState.LIMIT_REACHED, result
    assert result.error is not None
    assert result.error.code == "budget_exceeded"
    (event,) = of_type(result.events, "limit.reached")
    assert event.limit == limit
    assert types(result.events)[-1] == "run.finished"
    assert faults_of_pairing(result.messages) is None
    return event


@pytest.mark.parametrize("allowed", [1, 2, 5])
async def test_model_calls(allowed: int) -> None:
    provider = ScriptedProvider([call("t", n=n) for n in range(9)])
    built = Agent(model=provider, tools=[Tool("t")], runtime=_limits(max_iterations=allowed))
    result = await soon(built.run("go"))
    event = _reached(result, "max_iterations")
    assert len(provider.requests) == allowed == result.iterations
    assert (event.allowed, event.spent) == (allowed, allowed)


async def test_an_answer_with_the_last_model_call_is_success() -> None:
    result = await soon(agent([call("t"), "end"], Tool("t"), runtime=_limits(max_iterations=2)).run("go"))
    assert result.ok


@pytest.mark.parametrize("allowed", [0, 1, 3, 4])
async def test_tool_calls(allowed: int) -> None:
    t = Tool("t")
    replies = [[call("t", n=1), call("t", n=2)], [call("t", n=3)], [call("t", n=4), call("t", n=5)], "end"]
    result = await soon(agent(replies, t, runtime=_limits(max_tool_calls=allowed)).run("go"))
    _reached(result, "max_tool_calls")
    assert len(t.entered) <= allowed


async def test_exactly_the_tool_calls_allowed_is_success() -> None:
    t = Tool("t")
    result = await soon(
        agent([[call("t", n=1), call("t", n=2)], "end"], t, runtime=_limits(max_tool_calls=2)).run("go")
    )
    assert result.ok
    assert len(t.entered) == 2


async def test_calls_that_never_ran_do_not_count() -> None:
    """An unknown tool and a refused call are results, not tool calls."""
    t = Tool("t")
    runtime = _limits(max_tool_calls=1)
    result = await soon(agent([call("nope"), call("t"), "end"], t, runtime=runtime).run("go"))
    assert result.ok
    assert len(t.entered) == 1


async def test_tokens() -> None:
    usage = Usage(input_tokens=60, output_tokens=40)
    replies = [say("", call("t", n=n), usage=usage) for n in range(5)]
    result = await soon(agent(replies, Tool("t"), runtime=_limits(max_tokens=250)).run("go"))
    event = _reached(result, "max_tokens")
    assert result.iterations == 3
    assert event.spent == result.usage.total_tokens == 300


async def test_money() -> None:
    built = agent([call("t", n=n) for n in range(9)], Tool("t"))
    built.engine.price = lambda usage, model: 0.4
    session = built.session()
    session.limits = RuntimeLimits(max_cost=1.0).of_a_run()
    result = await soon(session.run("go"))
    event = _reached(result, "max_cost")
    assert event.spent == pytest.approx(1.2)
    assert result.cost == pytest.approx(1.2)


async def test_a_limit_on_money_needs_a_price() -> None:
    with pytest.raises(ConfigError, match="price"):
        await agent(["end"], runtime=_limits(max_cost=1.0)).run("go")
    with pytest.raises(ConfigError, match="price"):
        await Agent(model=Model.openai("unheard-of", api_key="k"), runtime=_limits(max_cost=1.0)).run("go")


async def test_an_unknown_cost_is_not_zero() -> None:
    result = await soon(agent(["end"]).run("go"))
    assert result.cost is None


async def test_one_unknown_price_does_not_lift_the_limit_on_money() -> None:
    """What the rest would cost can be held against nothing, so there is no rest."""
    built = agent([call("t", n=n) for n in range(9)], Tool("t"))
    prices = iter([0.4, None, *[0.4] * 9])
    built.engine.price = lambda usage, model: next(prices)
    session = built.session()
    session.limits = RuntimeLimits(max_cost=1.0).of_a_run()
    result = await soon(session.run("go"))
    assert (result.state, result.iterations) == (RunState.FAILED, 2)
    assert "max_cost cannot be held" in str(result.error)


async def test_wall_time_stops_a_tool() -> None:
    gate = Gate()
    runtime = _limits(max_seconds=0.03)
    result = await soon(agent([call("t"), "end"], Tool("t", gate), runtime=runtime).run("go"))
    _reached(result, "max_seconds")
    assert gate.interrupted == 1
    await no_strangers()


async def test_wall_time_stops_a_model() -> None:
    gate = Gate()

    class Silent(ScriptedProvider):
        async def chat(self, messages: Any, **options: Any) -> Any:
            await gate()

    result = await soon(Agent(model=Silent([]), runtime=_limits(max_seconds=0.03)).run("go"))
    _reached(result, "max_seconds")
    assert gate.interrupted == 1


async def test_waiting_for_a_human_is_no_wall_time() -> None:
    clock = Clock()

    def human(request: Any) -> bool:
        clock.now += 1000.0
        return True

    built = agent(
        [call("d"), "end"], Tool("d", destructive=True), human=human, runtime=_limits(max_seconds=50)
    )
    built.engine.clock = built.engine.pace = clock
    result = await soon(built.run("go"))
    assert result.ok
    assert result.duration_ms == 0


async def test_a_human_who_takes_long_before_a_cancel_is_no_wall_time() -> None:
    clock, gate = Clock(), Gate()

    async def human(request: Any) -> bool:
        await gate()
        return True

    built = agent([call("d"), "end"], Tool("d", destructive=True), human=human)
    built.engine.clock = built.engine.pace = clock
    run = built.session().start("go")
    await soon(gate.reached.wait())
    clock.now += 1000.0
    result = await soon(run.cancel())
    assert result.duration_ms == 0


async def test_a_process_that_was_dead_spent_no_time() -> None:
    clock = Clock()
    built = agent([call("d"), "end"], Tool("d", destructive=True), runtime=_limits(max_seconds=50))
    built.engine.clock = built.engine.pace = clock
    session = built.session()
    waiting = await soon(session.run("go"))
    clock.now += 1000.0
    result = await soon(session.resume(None, [waiting.pending[0].approve()]).wait())
    assert result.ok
    assert result.duration_ms == 0


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_review_f6_the_time_of_day_may_be_corrected_while_a_run_works(jump: float) -> None:
    clock = Clock()
    moves = Tool("t", lambda _: setattr(clock, "now", clock.now + jump) or "ok")
    built = agent([call("t"), "end"], moves, runtime=_limits(max_seconds=50))
    built.engine.clock = clock
    result = await soon(built.run("go"))
    assert result.ok
    assert result.duration_ms < 5000
    assert 0 <= of_type(result.events, "tool.finished")[0].duration_ms < 5000
    assert result.events[-1].at - result.events[0].at == jump


async def test_review_f6_time_worked_is_counted_by_what_is_written_down() -> None:
    pace = Clock()
    built = agent(
        [call("t"), call("t"), "end"],
        Tool("t", lambda _: setattr(pace, "now", pace.now + 20) or "ok"),
        runtime=_limits(max_seconds=30),
    )
    built.engine.pace = pace
    result = await soon(built.run("go"))
    event = _reached(result, "max_seconds")
    assert event.spent == 40
    assert result.duration_ms == 40_000
    assert sum(event.worked for event in result.events) == 40


async def test_review_f6_rates_do_not_follow_the_time_of_day() -> None:
    clock = Clock()
    moves = Tool("t", lambda _: setattr(clock, "now", clock.now + 3600) or "ok")
    policy = GovernancePolicy(max_calls_per_minute=1)
    built = agent([call("t"), call("t"), "end"], moves, governance=policy)
    built.engine.clock = clock
    await soon(built.run("go"))
    assert len(moves.entered) == 1


async def test_a_clock_that_steps_back_does_not_break_the_count() -> None:
    clock = Clock()
    built = agent([call("t"), "end"], Tool("t", lambda _: setattr(clock, "now", clock.now - 500) or "ok"))
    built.engine.clock = built.engine.pace = clock
    result = await soon(built.run("go"))
    assert result.ok
    assert result.duration_ms == 0


# --- the same failure, again and again ---------------------------------------------------------------


def _bad(_: Any) -> str:
    raise ValueError("no")


async def test_three_identical_failing_rounds_are_stuck() -> None:
    t = Tool("t", _bad)
    result = await soon(agent([call("t", x=1)] * 9, t).run("go"))
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "stuck"
    assert len(t.entered) == 3
    assert faults_of_pairing(result.messages) is None


@pytest.mark.parametrize(
    "replies",
    [
        [call("t", x=1), call("t", x=1), call("t", x=2), call("t", x=1), call("t", x=1), "end"],
        [call("t", x=1), call("t", x=1), call("ok"), call("t", x=1), call("t", x=1), "end"],
        [call("ok")] * 6 + ["end"],
        [[call("t", x=1), call("ok")]] * 4 + ["end"],
    ],
    ids=["other arguments", "a success between", "no failure", "beside a success"],
)
async def test_other_rounds_are_not_stuck(replies: list[Any]) -> None:
    assert (await soon(agent(replies, Tool("t", _bad), Tool("ok")).run("go"))).ok


async def test_refusals_and_unknown_tools_can_be_stuck_too() -> None:
    for replies in ([call("nope")] * 9, [call("d")] * 9, [call("d", x=1)] * 9):
        result = await soon(
            agent(replies, Tool("d", destructive=True), human=lambda request: False).run("go")
        )
        assert result.error is not None
        assert result.error.code == "stuck"


# --- children ----------------------------------------------------------------------------------------


async def test_fifty_children_at_once_never_exceed_the_parents_model_calls() -> None:
    asked = 0

    def count(messages: Any, tools: Any) -> Any:
        nonlocal asked
        asked += 1
        return call("t", n=asked)

    child = Agent(model=ScriptedProvider([count] * 10_000, latency=0.001), tools=[Tool("t")])
    parent_model = ScriptedProvider([[call("child", task=f"{n}") for n in range(50)], "end"])
    parent = Agent(
        model=parent_model,
        tools=[child.as_tool(name="child", description="a child")],
        runtime=_limits(max_iterations=40),
    )
    result = await soon(parent.run("go"), 15)
    assert result.state is RunState.LIMIT_REACHED
    assert asked + len(parent_model.requests) <= 40
    assert asked > 30
    assert faults_of_pairing(result.messages) is None
    await no_strangers()


async def test_children_draw_on_the_parents_tool_calls() -> None:
    t = Tool("t")
    replies = [call("t", n=n) for n in range(200)]
    child = Agent(model=ScriptedProvider(replies), tools=[t])
    parent = agent(
        [[call("child", task="x"), call("child", task="y")], "end"],
        child.as_tool(name="child", description="a child"),
        runtime=_limits(max_tool_calls=10),
    )
    await soon(parent.run("go"))
    assert len(t.entered) <= 10
    await no_strangers()


async def test_children_draw_on_the_parents_tokens() -> None:
    provider = ScriptedProvider([say("", call("t", n=n), usage=Usage(100, 0)) for n in range(50)])
    child = Agent(model=provider, tools=[Tool("t")])
    parent = agent(
        [call("child", task="x"), "end"],
        child.as_tool(name="child", description="a child"),
        runtime=_limits(max_tokens=1_000),
    )
    result = await soon(parent.run("go"))
    assert result.state is RunState.LIMIT_REACHED
    assert len(provider.requests) <= 11


async def test_grandchildren_count_too() -> None:
    """The work of a child's child is spent from the same budget, also when it is over."""
    grand_provider = ScriptedProvider([call("t", n=1), call("t", n=2), "grand"] * 10)
    grand = Agent(model=grand_provider, tools=[Tool("t")])
    child_provider = ScriptedProvider([call("grand", task="g"), "child"] * 10)
    child = Agent(model=child_provider, tools=[grand.as_tool(name="grand", description="g")])
    parent_provider = ScriptedProvider([call("child", task=f"{n}") for n in range(10)])
    parent = Agent(
        model=parent_provider,
        tools=[child.as_tool(name="child", description="c")],
        runtime=_limits(max_iterations=12),
    )
    result = await soon(parent.run("go"))
    spent = sum(len(p.requests) for p in (grand_provider, child_provider, parent_provider))
    assert result.state is RunState.LIMIT_REACHED
    assert spent <= 12


async def test_what_a_run_and_its_children_spent_is_in_the_result() -> None:
    grand = agent([call("t"), "grand"], Tool("t"))
    child = agent([call("grand", task="g"), "child"], grand.as_tool(name="grand", description="g"))
    parent = agent([call("child", task="c"), "end"], child.as_tool(name="child", description="c"))
    result = await soon(parent.run("go"))
    assert result.ok
    assert result.usage.total_tokens == 6 * 15
    (finished,) = of_type(result.events, "child.finished")
    assert finished.iterations == 4
    assert finished.tool_calls == 2


@pytest.mark.parametrize("deepest", [0, 1, 2, 3])
async def test_the_roots_depth_binds_all_below(deepest: int) -> None:
    ran: list[int] = []

    def level(n: int) -> Agent[Any, Any]:
        def reply(messages: Any, tools: Any) -> Any:
            if n not in ran:
                ran.append(n)
                return call("down", task="deeper") if n < 5 else "bottom"
            return "up"

        tools = [level(n + 1).as_tool(name="down", description="d")] if n < 5 else []
        runtime = _limits(max_depth=deepest) if n == 0 else Runtime()
        return Agent(model=ScriptedProvider([reply] * 9), tools=tools, runtime=runtime)

    await soon(level(0).run("go"))
    assert ran == list(range(deepest + 1))


async def test_wall_time_of_the_parent_stops_the_child() -> None:
    gate = Gate()
    child = agent([call("t"), "end"], Tool("t", gate))
    parent = agent(
        [call("child", task="x"), "end"],
        child.as_tool(name="child", description="c"),
        runtime=_limits(max_seconds=0.05),
    )
    result = await soon(parent.run("go"))
    _reached(result, "max_seconds")
    assert gate.interrupted == 1
    await no_strangers()


async def test_a_child_that_asks_the_parents_human_costs_the_parent_no_wall_time() -> None:
    async def human(request: Any) -> bool:
        await asyncio.sleep(0.15)
        return True

    child = agent([call("d"), "done"], Tool("d", destructive=True))
    parent = agent(
        [call("child", task="x"), "end"],
        child.as_tool(name="child", description="c"),
        runtime=_limits(max_seconds=0.1),
        human=human,
    )
    result = await soon(parent.run("go"))
    assert result.ok


async def test_a_run_started_by_a_tool_shares_the_budget() -> None:
    provider = ScriptedProvider([call("t", n=n) for n in range(50)])
    inner = Agent(model=provider, tools=[Tool("t")])

    @tool
    async def delegate(context: ToolContext) -> str:
        """Let another agent do it."""
        result = await inner.session().run("inner", parent=context)
        return result.status

    result = await soon(
        agent([call("delegate"), "end"], delegate, runtime=_limits(max_iterations=5)).run("go")
    )
    assert len(provider.requests) <= 4
    assert result.state in (RunState.COMPLETED, RunState.LIMIT_REACHED)
