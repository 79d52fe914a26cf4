"""Falling back in whole runs of both faces: the declaration, the log, the money."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from several import DOWN, HELLO, Raw, add, both, complete, names, replies

from loom.agent import Agent
from loom.config.model import Model, Price, Secret
from loom.config.models import FallbackModel, RoutedModel
from loom.errors import AuthenticationError, ConfigError, ProviderUnavailableError, RateLimitError
from loom.events import ModelReplied, TextDelta, decode_event, encode_event
from loom.llm.base import UsageEvent
from loom.llm.fallback import Candidate, FallbackProvider
from loom.loop import Agent as LoopAgent
from loom.loop import AgentConfig
from loom.policies.profile import Runtime, RuntimeLimits
from loom.testing.model_server import ModelServer
from loom.testing.scripted import ScriptedProvider, call, say
from loom.tools.registry import ToolRegistry
from loom.types import Attempt, ChatMessage, ChatResponse, Role, RunState, Usage

# --- the declaration ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [[], (), "openai:gpt-4o", {"a": "openai:gpt-4o"}, 7, None, Model.offline()])
def test_models_are_a_list_of_some(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="list of models"):
        FallbackModel(wrong)


@pytest.mark.parametrize("wrong", [7, None, object(), ScriptedProvider, Secret("x"), b"openai:x"])
def test_an_entry_is_a_model_or_a_provider(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="cannot ask"):
        FallbackModel([Model.offline(), wrong])


@pytest.mark.parametrize(
    "wrong", [(), RateLimitError, "rate_limit", (RateLimitError("x"),), (int,), (KeyboardInterrupt,)]
)
def test_on_is_a_tuple_of_errors(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="on must be"):
        FallbackModel([Model.offline()], on=wrong)


def test_names_are_read_at_once() -> None:
    with pytest.raises(ConfigError, match="provider:name"):
        FallbackModel(["gpt-4o"])
    assert FallbackModel(["openai:a"]) == FallbackModel([Model.openai("a")])


def test_a_declaration_shows_models_and_no_keys() -> None:
    key = "sk-test-5f3a9c1e7b2d4860aabbccdd"
    model = FallbackModel(
        [
            Model.openai("a", api_key=key),
            FallbackModel(["groq:b", ScriptedProvider()]),
            RoutedModel(models={"x": Model.offline()}),
        ]
    )
    assert model.identifier == (
        "fallback(openai:a, fallback(groq:b, ScriptedProvider), routed(x: offline:offline))"
    )
    assert key not in repr(model) + repr(Agent(model=model))
    with pytest.raises(AttributeError):
        model.models = ()  # type: ignore[misc]


# --- whole runs ---------------------------------------------------------------------------------------


def paired(messages: Sequence[ChatMessage]) -> bool:
    calls = [call.id for message in messages for call in message.tool_calls or ()]
    results = [message.tool_call_id for message in messages if message.role is Role.TOOL]
    return calls == results


@both
async def test_a_second_model_goes_on_with_the_conversation(streamed: bool) -> None:
    first = ScriptedProvider([call("add", a=1, b=2), DOWN, DOWN])
    second = ScriptedProvider([say("", call("add", a=3, b=4), model="m2"), say("Seven.", model="m2")])
    agent = Agent(model=FallbackModel([first, second]), tools=[add], instructions="Be brief.")
    if streamed:
        run = agent.session().start("add them")
        told = [event async for event in run.events()]
        assert "".join(event.text for event in told if isinstance(event, TextDelta)) == "Seven."
        result = await run
    else:
        result = await agent.run("add them")
    assert result.output == "Seven."
    assert paired(result.messages)
    seen = second.requests[0].messages
    assert [message.role for message in seen] == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL]
    assert seen[3].content == "3"
    log = replies(result)
    assert [event.model for event in log] == ["scripted", "m2", "m2"]
    assert [names(event.attempts) for event in log] == [
        [],
        [("scripted", "provider_unavailable"), ("scripted#2", None)],
        [("scripted", "provider_unavailable"), ("scripted#2", None)],
    ]
    await agent.aclose()
    assert first.closed
    assert second.closed


@both
async def test_the_loop_agent_falls_back_as_well(streamed: bool) -> None:
    first = ScriptedProvider([call("add", a=1, b=2), DOWN])
    second = ScriptedProvider([say("Three.", model="m2")])
    provider = FallbackProvider([Candidate(first, "m1"), Candidate(second, "m2")])
    agent = LoopAgent(provider, tool_registry=ToolRegistry([add]), config=AgentConfig(model="elsewhere"))
    if streamed:
        done: Any = [event async for event in agent.run_turn_stream(HELLO)][-1]
        assert done.model == "m2"
    else:
        turn = await agent.run_turn(HELLO)
        assert (turn.reply, turn.model, turn.state) == ("Three.", "m2", RunState.COMPLETED)
        assert paired(turn.messages or ())
    assert {request.model for request in first.requests} == {"m1"}
    assert second.requests[0].model == "m2"


async def test_a_run_whose_models_all_fail_tells_of_each() -> None:
    model = FallbackModel([ScriptedProvider([DOWN]), ScriptedProvider([AuthenticationError("refused")])])
    result = await Agent(model=model).run("go")
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "authentication"
    assert (
        "refused (asked before, in vain: scripted: provider_unavailable: it is down)" in result.error.message
    )
    turn = LoopAgent(FallbackProvider([ScriptedProvider([DOWN]), ScriptedProvider([DOWN])])).run_turn(HELLO)
    with pytest.raises(ProviderUnavailableError, match="in vain"):
        await turn


# --- the log ------------------------------------------------------------------------------------------


def test_a_log_without_attempts_still_reads_and_one_success_adds_none() -> None:
    message = ChatMessage(Role.ASSISTANT, "hi")
    old = b'{"type":"model.replied","iteration":1,"message":{"role":"assistant","content":"hi"},"model":"m"}'
    assert decode_event(old) == ModelReplied(iteration=1, message=message, model="m")
    assert b"attempts" not in encode_event(ModelReplied(iteration=1, message=message))
    attempts = (Attempt("a", DOWN.info(), Usage(3), 0.5), Attempt("b"))
    told = ModelReplied(iteration=1, message=message, usage=Usage(1, 1), attempts=attempts)
    assert decode_event(encode_event(told)) == told
    assert told.spent == Usage(4, 1)
    assert msgspec.json.decode(encode_event(told))["attempts"][0]["error"]["code"] == "provider_unavailable"


@pytest.mark.parametrize(
    "odd", [None, 7, ("x",), (Attempt("\udcff"),), (Attempt("a", "no error"),), (Usage(),)]
)  # type: ignore[arg-type]
async def test_attempts_that_are_none_cost_nothing_but_themselves(odd: Any) -> None:
    reply = say("fine")
    told = ChatResponse(reply.message, reply.usage, reply.stop_reason, reply.model, odd)
    result = await Agent(model=ScriptedProvider([told])).run("go")
    assert result.output == "fine"
    assert replies(result)[0].attempts == ()


# --- money --------------------------------------------------------------------------------------------


def limited(max_cost: float) -> Runtime:
    return Runtime(limits=RuntimeLimits(max_cost=max_cost))


async def test_each_reply_costs_what_its_own_model_costs() -> None:
    usage = Usage(1_000_000, 0)
    reply = say("ok", usage=usage, model="one-name")
    async with ModelServer([reply, DOWN]) as one, ModelServer([reply]) as two:
        dear = Model.compatible("m", base_url=one.base_url, max_retries=0, price=Price(8, 8))
        cheap = Model.compatible("m", base_url=two.base_url, price=Price(2, 2))
        agent = Agent(model=FallbackModel([dear, cheap]), runtime=limited(100.0))
        assert (await agent.run("go")).cost == pytest.approx(8)
        again = await agent.run("go")
        assert again.cost == pytest.approx(2), "the same name, at the price of the one that answered"
        assert names(replies(again)[0].attempts) == [
            ("compatible:m", "provider_unavailable"),
            ("compatible:m#2", None),
        ]
        await agent.aclose()


async def test_what_a_failed_attempt_had_counted_is_spent_too() -> None:
    spent = Usage(1_000_000, 0)
    failed = FallbackProvider([Candidate(Raw(UsageEvent(spent), DOWN), label="dear")])
    agent = Agent(model=FallbackModel([failed, ScriptedProvider([say("ok", usage=spent)])]))
    agent.engine.price = lambda usage, name: usage.input_tokens * {"dear": 3.0}.get(name, 1.0) / 1_000_000
    result = await complete(agent, "go", True)
    assert result.usage == Usage(2_000_000, 0)
    assert result.cost == pytest.approx(4.0)
    assert replies(result)[0].usage == spent, "the reply alone: it says how full the window is"


async def test_an_unknown_price_is_unknown_and_not_nothing() -> None:
    async with ModelServer([DOWN, "b"]) as one, ModelServer(["a"]) as two:
        priced = Model.compatible("p", base_url=one.base_url, max_retries=0, price=Price(1, 1))
        agent = Agent(model=FallbackModel([priced, Model.compatible("u", base_url=two.base_url)]))
        assert (await agent.run("go")).cost is None
        assert (await agent.run("go")).cost is not None, "the price of this reply is known"
        await agent.aclose()


async def test_a_limit_on_money_needs_every_price() -> None:
    price = Price(1, 1)
    priced = Model.openai("a", api_key="k", price=price)
    nested = RoutedModel(models={"x": priced, "y": Model.groq("b", api_key="k")})
    with pytest.raises(ConfigError, match="groq:b") as caught:
        await Agent(model=FallbackModel([priced, nested]), runtime=limited(1.0)).run("go")
    assert "openai:a" not in str(caught.value)
    with pytest.raises(ConfigError, match="scripted"):
        await Agent(model=FallbackModel([priced, ScriptedProvider()]), runtime=limited(1.0)).run("go")
