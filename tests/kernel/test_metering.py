"""What a service does not report is unknown, not zero: limits hold on estimates, and estimates say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage import Tool, agent, of_type, soon

from loom.agent import Agent
from loom.config.model import Model, Price
from loom.errors import MalformedReplyError, ProviderUnavailableError
from loom.events import ModelReplied, decode_event, encode_event
from loom.folds.changes import fold
from loom.folds.state import State
from loom.kernel.budget import Budget
from loom.llm.fallback import FallbackProvider
from loom.llm.offline.provider import OfflineProvider
from loom.loop import Agent as LoopAgent
from loom.policies.governance import GovernancePolicy
from loom.policies.profile import Runtime, RuntimeLimits
from loom.store.memory import InMemorySessionStore
from loom.testing.model_server import ModelServer
from loom.testing.recording import record
from loom.testing.scripted import ScriptedProvider, call, interrupted, say
from loom.types import (
    ChatMessage,
    ChatResponse,
    ImagePart,
    Limits,
    Role,
    RunState,
    StopReason,
    TextPart,
    ToolResult,
    Usage,
)

pytestmark = pytest.mark.timeout(20)

PRICE = Price(input=1_000.0, output=2_000.0)
MODELS: dict[str, Callable[[str], Model]] = {
    "chat": lambda url: Model.compatible("m", base_url=f"{url}/v1", price=PRICE),
    "responses": lambda url: Model.compatible("m", base_url=f"{url}/v1", wire="responses", price=PRICE),
    "anthropic": lambda url: Model.anthropic("m", base_url=url, api_key="k", price=PRICE),
    "gemini": lambda url: Model.parse("gemini:m", base_url=f"{url}/v1beta", api_key="k", price=PRICE),
}


def _limited(**limits: Any) -> Runtime:
    return Runtime(limits=RuntimeLimits(**limits))


def _silent(count: int = 9, usage: Usage | None = None) -> list[ChatResponse]:
    return [say("thinking about it", call("t", n=n), usage=usage) for n in range(count)]


@pytest.mark.parametrize("usage", [None, Usage()], ids=["nothing", "zeros"])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("wire", MODELS)
@pytest.mark.parametrize(("limit", "allowed"), [("max_cost", 0.05), ("max_tokens", 60)])
async def test_review_h1_a_limit_holds_where_a_service_reports_no_usage(
    wire: str, streamed: bool, limit: str, allowed: float, usage: Usage | None
) -> None:
    async with ModelServer(_silent(usage=usage)) as server:
        model = MODELS[wire](server.base_url.removesuffix("/v1"))
        built: Agent[Any, Any] = Agent(model=model, tools=[Tool("t")], runtime=_limited(**{limit: allowed}))
        session = built.session()
        run = session.start("go")
        if streamed:
            [_ async for _ in run.events()]
        result = await soon(run.wait())
        await built.aclose()
    assert result.state is RunState.LIMIT_REACHED, result
    (reached,) = of_type(result.events, "limit.reached")
    assert (reached.limit, reached.estimated) == (limit, True)
    assert reached.spent >= allowed
    assert "estimated" in str(result.error)
    assert result.cost is None
    assert result.estimated_cost == pytest.approx(
        (result.usage.input_tokens * 1_000 + result.usage.output_tokens * 2_000) / 1e6
    )
    replied = of_type(result.events, "model.replied")
    assert all(event.usage.estimated and event.cost is None for event in replied)
    assert all(event.usage.input_tokens and event.usage.output_tokens for event in replied)
    assert result.usage.estimated


async def test_review_h1_what_is_reported_is_not_estimated() -> None:
    result = await soon(agent([say("hello", usage=Usage(input_tokens=10, output_tokens=5))]).run("go"))
    assert result.usage == Usage(10, 5)
    assert result.estimated_cost is None


async def test_review_h1_an_empty_reply_may_have_written_nothing() -> None:
    reply = ChatResponse(ChatMessage(Role.ASSISTANT), None, StopReason.STOP)
    result = await soon(agent([reply]).run("go"))
    assert result.usage.output_tokens == 0 < result.usage.input_tokens


@pytest.mark.parametrize("redact", [False, True])
async def test_review_h1_the_offline_model_uses_nothing(redact: bool, tmp_path: Path) -> None:
    """Whatever stands around it."""
    runtime = Runtime(governance=GovernancePolicy(redact_outbound=redact))
    for model in (Model.offline(), record(OfflineProvider(), tmp_path / "made.jsonl")):
        built: Agent[Any, Any] = Agent(model=model, tools=[Tool("t")], runtime=runtime)
        result = await soon(built.run("call t {}"))
        assert result.state is RunState.COMPLETED
        assert result.usage == Usage()


async def test_review_h1_a_chat_object_may_say_that_it_asks_no_service() -> None:
    class Rules:
        unmetered = True

        async def chat(self, messages: Any, *, tools: Any = None, model: Any = None) -> ChatResponse:
            return ChatResponse(ChatMessage(Role.ASSISTANT, "hello"), stop_reason=StopReason.STOP)

    built: Agent[Any, Any] = Agent(model=Rules())
    assert (await soon(built.run("go"))).usage == Usage()


async def test_review_h1_a_chat_object_without_usage_is_estimated() -> None:
    class Plain:
        async def chat(self, messages: Any, *, tools: Any = None, model: Any = None) -> ChatResponse:
            return ChatResponse(ChatMessage(Role.ASSISTANT, "hello"), stop_reason=StopReason.STOP)

    built: Agent[Any, Any] = Agent(model=Plain())  # type: ignore[arg-type]
    result = await soon(built.run("go"))
    assert result.usage.estimated
    assert result.usage.input_tokens
    assert result.usage.output_tokens


async def test_review_h1_an_image_is_not_free() -> None:
    picture = ChatMessage(Role.USER, (TextPart("what is this"), ImagePart("data:image/png;base64,AA==")))
    agent_ = LoopAgent(ScriptedProvider([say("a cat", usage=None)]))
    turn = await soon(agent_.run_turn([picture]))
    assert turn.estimated
    assert turn.input_tokens > 500


async def test_review_h1_the_loop_face_says_that_it_estimates() -> None:
    for usage, estimated in ((None, True), (Usage(1, 1), False)):
        turn = await soon(
            LoopAgent(ScriptedProvider([say("hello", usage=usage)])).run_turn([ChatMessage(Role.USER, "hi")])
        )
        assert turn.estimated is estimated
        assert turn.output_tokens > 0


# --- children ---------------------------------------------------------------------------------------


async def test_review_h1_a_child_hands_its_estimate_up() -> None:
    child = agent([say("found it", usage=None)])
    child.engine.price = priced
    parent = agent([call("child", task="x"), "end"], child.as_tool(name="child", description="c"))
    parent.engine.price = priced
    result = await soon(parent.run("go"))
    (finished,) = of_type(result.events, "child.finished")
    assert finished.usage.estimated
    assert finished.cost is None
    assert finished.estimated_cost > 0
    assert result.cost is None
    assert result.estimated_cost > finished.estimated_cost
    assert result.usage.estimated


async def test_review_h1_a_child_stops_at_its_parents_limit_on_estimates() -> None:
    child = agent(_silent(), Tool("t"))
    parent = agent(
        [call("child", task="x"), "end"],
        child.as_tool(name="child", description="c"),
        runtime=_limited(max_tokens=80),
    )
    result = await soon(parent.run("go"))
    assert result.state is RunState.LIMIT_REACHED
    (reached,) = of_type(result.events, "limit.reached")
    assert reached.estimated


async def test_review_h1_a_childs_own_stop_says_it_is_estimated() -> None:
    budget = Budget(Limits(max_tokens=10))
    below = Budget(Limits(), budget)
    below.charge(usage=Usage(20, 0, estimated=True), cost=None)
    stop = below.reserve(iterations=1)
    assert stop is not None
    assert stop.estimated
    budget = Budget(Limits(max_iterations=1))
    below = Budget(Limits(), budget)
    below.charge(iterations=1, usage=Usage(20, 0, estimated=True), cost=None)
    stop = below.reserve(iterations=1)
    assert stop is not None
    assert not stop.estimated


def priced(usage: Usage, model: str) -> float | None:
    return PRICE.cost(usage)


# --- prices nobody knows ----------------------------------------------------------------------------


async def test_review_h1_a_child_without_a_price_is_not_asked_under_a_limit_on_money() -> None:
    provider = ScriptedProvider(["from below"])
    child: Agent[Any, Any] = Agent(model=provider)
    above: Agent[Any, Any] = Agent(
        model=Model.compatible("m", base_url="http://127.0.0.1:9/v1", price=PRICE),
        tools=[child.as_tool(name="child", description="c")],
        runtime=_limited(max_cost=1.0),
    )
    above.engine.provider = ScriptedProvider([call("child", task="x"), "end"])
    result = await soon(above.run("go"))
    assert provider.requests == []
    (told,) = [m for m in result.messages if m.role is Role.TOOL]
    assert "max_cost cannot be held" in str(told.content)


async def test_review_h1_a_cost_nobody_knows_stops_a_run_with_a_limit_on_money() -> None:
    built = agent([call("t", n=n) for n in range(9)], Tool("t"))
    prices = iter([0.4, None, *[0.4] * 9])
    built.engine.price = lambda usage, model: next(prices)
    session = built.session()
    session.limits = RuntimeLimits(max_cost=9.0).of_a_run()
    result = await soon(session.run("go"))
    assert result.iterations == 2
    assert result.error is not None
    assert result.error.code == "config"
    assert "Price(" in result.error.message
    assert (result.cost, result.estimated_cost) == (None, None)


async def test_review_h1_a_cost_below_that_nobody_knows_stops_the_next_call_below() -> None:
    """The price was thought to be known, and was not for this reply."""
    budget = Budget(Limits(max_cost=1.0))
    below = Budget(Limits(), Budget(Limits(), budget))
    assert not below.blind_to(())
    assert below.blind_to(("m",))
    below.charge(usage=Usage(1, 1), cost=None)
    assert below.blind_to(())
    free = Budget(Limits(), Budget(Limits()))
    free.charge(usage=Usage(1, 1), cost=None)
    assert not free.blind_to(("m",))


def test_review_h1_what_a_run_spent_before_is_taken_over_as_it_was_counted() -> None:
    """A child that goes on in another process: its parent's limits see estimates, and costs nobody knows."""
    paid = State(run_id="paid", usage=Usage(20, 10, estimated=True), spent_cost=0.4, priced=False)
    above = Budget(Limits(max_cost=1.0, max_tokens=30))
    below = Budget.of(paid, Limits(), above)
    assert (above.cost, above.tokens, above.unpriced) == (0.4, 30, False)
    assert not below.blind_to(())
    stop = below.reserve(iterations=1)
    assert stop is not None
    assert (stop.limit, stop.estimated) == ("max_tokens", True)
    unknown = State(run_id="unknown", usage=Usage(1, 1), spent_cost=0.1, priced=False, unpriced=True)
    above = Budget(Limits(max_cost=1.0))
    below = Budget.of(unknown, Limits(), above)
    assert (above.cost, above.unpriced) == (0.1, True)
    assert Budget(Limits(), below).blind_to(())


# --- calls that fail --------------------------------------------------------------------------------


async def test_review_h1_a_stream_cut_in_the_middle_was_not_free() -> None:
    provider = ScriptedProvider([interrupted("many words before it breaks off", after=1)])
    built: Agent[Any, Any] = Agent(model=provider)
    built.engine.price = priced
    run = built.session().start("go")
    [_ async for _ in run.events()]
    result = await soon(run.wait())
    assert result.state is RunState.FAILED
    assert result.usage.estimated
    assert result.usage.input_tokens
    assert result.usage.output_tokens
    assert result.cost is None
    (failed,) = of_type(result.events, "error")
    assert failed.estimated_cost == pytest.approx(PRICE.cost(result.usage))


async def test_review_h1_a_refused_connection_costs_nothing() -> None:
    result = await soon(agent([ProviderUnavailableError("nobody there")]).run("go"))
    assert result.usage == Usage()
    assert of_type(result.events, "error")[0].usage is None


async def test_review_h1_a_malformed_reply_was_paid_for() -> None:
    result = await soon(agent([MalformedReplyError("half a call")]).run("go"))
    assert result.usage.estimated
    assert result.usage.input_tokens > 0


async def test_review_h1_what_is_no_reply_was_paid_for_too() -> None:
    class Odd:
        async def chat(self, messages: Any, *, tools: Any = None, model: Any = None) -> Any:
            return {"role": "assistant"}

    built: Agent[Any, Any] = Agent(model=Odd())  # type: ignore[arg-type]
    result = await soon(built.run("go"))
    assert result.state is RunState.FAILED
    assert result.usage.estimated


async def test_review_h1_a_failed_attempt_that_had_begun_is_estimated() -> None:
    first = ScriptedProvider([MalformedReplyError("half a call")])
    both = FallbackProvider([first, ScriptedProvider([say("hello", usage=Usage(10, 5))])])
    built: Agent[Any, Any] = Agent(model=both)
    result = await soon(built.run("go"))
    (replied,) = of_type(result.events, "model.replied")
    assert replied.usage == Usage(10, 5)
    assert replied.attempts[0].usage.estimated
    assert result.usage.input_tokens > 10
    assert result.usage.estimated


async def test_review_h1_attempts_all_in_vain_are_counted() -> None:
    both = FallbackProvider(
        [ScriptedProvider([MalformedReplyError("a")]), ScriptedProvider([MalformedReplyError("b")])]
    )
    one: Agent[Any, Any] = Agent(model=ScriptedProvider([MalformedReplyError("a")]))
    two: Agent[Any, Any] = Agent(model=both)
    single, double = await soon(one.run("go")), await soon(two.run("go"))
    assert double.usage.input_tokens == 2 * single.usage.input_tokens


async def test_review_h1_a_paused_reply_without_usage_has_none() -> None:
    from loom.llm.turns import Turn

    turn = Turn([ChatMessage(Role.USER, "x")])
    paused = ChatResponse(ChatMessage(Role.ASSISTANT, "a"), Usage(5, 5), StopReason.PAUSED)
    assert turn.add(paused) is None
    whole = turn.add(ChatResponse(ChatMessage(Role.ASSISTANT, "b"), None, StopReason.STOP))
    assert whole is not None
    assert whole.usage is None


# --- the log ----------------------------------------------------------------------------------------


def test_review_h1_a_log_of_0_9_0_still_reads() -> None:
    """Usage of nothing was left out, and so was a cost that nobody knew."""
    old = b'{"type":"model.replied","iteration":1,"message":{"role":"assistant","content":"hi"},"model":"m"}'
    event = decode_event(old)
    assert isinstance(event, ModelReplied)
    assert event.usage == Usage()
    state = fold([event])
    assert (state.cost, state.estimated_cost) == (None, None)
    assert decode_event(encode_event(event)) == event


async def test_review_h1_estimates_survive_a_resume() -> None:
    store = InMemorySessionStore()
    d = Tool("d", lambda args: ToolResult("done"), destructive=True)
    first = agent([say("", call("d"), usage=None)], d, session_store=store)
    waiting = await soon(first.session("s").run("go"))
    assert waiting.state is RunState.WAITING
    second = agent(["end"], d, session_store=store, runtime=_limited(max_tokens=1))
    done = await soon(second.session("s").resume(None, [waiting.pending[0].approve()]).wait())
    assert done.usage.estimated
    assert done.usage.total_tokens == waiting.usage.total_tokens + 15
