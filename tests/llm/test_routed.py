"""A model for each request: by a function, by what the message asks for, in both faces and nested."""

import asyncio
from typing import Any

import pytest
from several import HELLO, add, ask, both, complete, replies

from loom.agent import Agent
from loom.config.model import Model, Price
from loom.config.models import FallbackModel, RoutedModel
from loom.errors import AuthenticationError, ConfigError, ProviderUnavailableError, RateLimitError
from loom.events import TextDelta
from loom.llm.fallback import Candidate, FallbackProvider
from loom.llm.routed import RoutedProvider
from loom.loop import Agent as LoopAgent
from loom.policies.profile import Runtime, RuntimeLimits
from loom.policies.restore import SessionRestorePolicy
from loom.routing import ModelStrengths
from loom.testing.model_server import ModelServer
from loom.testing.scripted import ScriptedProvider, call, say
from loom.tools.function import tool
from loom.tools.registry import ToolRegistry
from loom.types import ChatMessage, Role, RunState, Usage

STRENGTHS = {
    "quick": ModelStrengths(speed=9, cost=1, reasoning=3, coding=3),
    "coder": ModelStrengths(speed=3, cost=8, reasoning=6, coding=9),
    "thinker": ModelStrengths(speed=1, cost=9, reasoning=9, coding=7),
}


def answering(name: str, times: int = 20) -> ScriptedProvider:
    return ScriptedProvider([say(f"by {name}", model=name)] * times)


# --- the provider -------------------------------------------------------------------------------------


@both
async def test_the_model_named_is_asked_for_its_own_model(streamed: bool) -> None:
    a, b = answering("a"), answering("b")
    provider = RoutedProvider({"a": Candidate(a, "a-1", "v:a-1"), "b": b}, lambda messages: "a")
    reply = await ask(provider, streamed, model="of the kernel")
    assert reply.message.content == "by a"
    assert [(attempt.model, attempt.error) for attempt in reply.attempts] == [("v:a-1", None)]
    assert a.requests[0].model == "a-1"
    assert b.requests == []


@both
async def test_the_choice_may_be_awaited_and_may_be_none(streamed: bool) -> None:
    async def choose(messages: list[ChatMessage]) -> str | None:
        await asyncio.sleep(0)
        messages.clear()  # its own list
        return None

    b = answering("b")
    provider = RoutedProvider({"a": answering("a"), "b": b}, choose, default="b")
    assert (await ask(provider, streamed)).message.content == "by b"
    assert b.requests[0].messages == tuple(HELLO)


@both
async def test_a_choice_that_is_none_is_a_fault_of_the_declaration(streamed: bool) -> None:
    for chosen in ("c", "", None, 7, ["a"]):
        choice: Any = chosen
        provider = RoutedProvider({"a": answering("a"), "b": answering("b")}, lambda _, it=choice: it)  # type: ignore[misc]
        with pytest.raises(ConfigError, match="the models are a, b"):
            await ask(provider, streamed)

    def broken(messages: list[ChatMessage]) -> str:
        raise KeyError("what")

    async def broken_later(messages: list[ChatMessage]) -> str:
        await asyncio.sleep(0)
        raise RateLimitError("of another model that was to choose")

    for choose, kind in ((broken, KeyError), (broken_later, RateLimitError)):
        with pytest.raises(ConfigError, match="choosing a model failed: ") as caught:
            await ask(RoutedProvider({"a": answering("a")}, choose), streamed)
        assert isinstance(caught.value.__cause__, kind)


async def test_a_routed_provider_needs_models_and_a_default_among_them() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        RoutedProvider({}, lambda messages: "a")
    with pytest.raises(ConfigError, match=r"'c'.*the models are a"):
        RoutedProvider({"a": answering("a")}, lambda messages: "a", default="c")
    a, b = answering("a"), answering("b")
    await RoutedProvider({"a": a, "b": FallbackProvider([b])}, lambda messages: "a").aclose()
    assert a.closed
    assert b.closed


async def test_cancelling_the_choice_is_no_fault_of_it() -> None:
    begun = asyncio.Event()

    async def choose(messages: list[ChatMessage]) -> str:
        begun.set()
        await asyncio.Event().wait()
        return "a"

    task = asyncio.create_task(ask(RoutedProvider({"a": answering("a")}, choose), False))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- the declaration ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "needs models"),
        ({"models": {}}, "needs models"),
        ({"models": ["openai:a"]}, "mapping by name"),
        ({"models": 7}, "mapping by name"),
        ({"models": {7: Model.offline()}}, "names that are text"),
        ({"models": {"": Model.offline()}}, "names that are text"),
        ({"models": {"a": 7}}, "cannot ask 7"),
        ({"models": {"a": "gpt"}}, "provider:name"),
        ({"models": {"a": Model.offline()}, "default": "b"}, "default is 'b'; the models are a"),
        ({"models": {"a": Model.offline()}, "choose": "a"}, "choose must be a function"),
        (
            {"models": {"a": Model.offline()}, "strengths": {"b": ModelStrengths()}},
            "name 'b'; the models are a",
        ),
        ({"models": {"a": Model.offline()}, "strengths": {"a": 7}}, "must be ModelStrengths"),
        (
            {"models": {"a": Model.offline()}, "strengths": {"a": ModelStrengths()}, "choose": len},
            "choose or strengths",
        ),
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RoutedModel(**wrong)


def test_a_declaration_is_a_value() -> None:
    models: dict[str, Any] = {"a": "openai:a"}
    model = RoutedModel(models=models)
    models["b"] = "openai:b"
    assert model == RoutedModel(models={"a": Model.openai("a")})
    assert model.identifier == "routed(a: openai:a)"
    assert repr(model) == "<RoutedModel a: openai:a>"


# --- by what the message asks for ---------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("hello there", "quick"),
        ("what class is my flight?", "quick"),
        ("Fix this TypeError in def foo()", "coder"),
        ("What are the trade-offs of renting?", "thinker"),
    ],
)
async def test_without_a_function_the_last_user_message_decides(task: str, name: str, streamed: bool) -> None:
    agent = Agent(model=RoutedModel(models={n: answering(n) for n in STRENGTHS}, strengths=STRENGTHS))
    assert (await complete(agent, task, streamed)).output == f"by {name}"


async def test_without_strengths_the_default_answers_and_else_the_first() -> None:
    models = {name: answering(name) for name in STRENGTHS}
    assert (await Agent(model=RoutedModel(models=models)).run("def f():")).output == "by quick"
    model = RoutedModel(models=models, default="coder")
    assert (await Agent(model=model).run("hello")).output == "by coder"


@both
async def test_a_run_stays_with_its_model(streamed: bool) -> None:
    """Whatever its tools say: the route follows the last user message, and that stays the same."""

    @tool
    def search(text: str) -> str:
        """Search."""
        return "Traceback (most recent call last): def f(): analyze the trade-offs"

    quick = ScriptedProvider([call("search", text="def f(): x()"), call("search", text="analyze"), "done"])
    models = {"quick": quick, "coder": answering("coder"), "thinker": answering("thinker")}
    agent = Agent(model=RoutedModel(models=models, strengths=STRENGTHS), tools=[search])
    result = await complete(agent, "hello", streamed)
    assert result.output == "done"
    assert len(quick.requests) == 3


async def test_a_session_is_routed_by_what_is_asked_now() -> None:
    """Neither by earlier turns, nor by what a policy carries over around the question."""
    models = {name: answering(name) for name in STRENGTHS}
    runtime = Runtime(session_restore=SessionRestorePolicy.window())
    session = Agent(model=RoutedModel(models=models, strengths=STRENGTHS), runtime=runtime).session()
    first = await session.run("Traceback: fix this TypeError in def foo() and analyze the root cause")
    second = await session.run("thanks!")
    third = await session.run("What are the trade-offs?")
    assert [run.output for run in (first, second, third)] == ["by coder", "by quick", "by thinker"]
    assert any("<earlier>" in str(message.content) for message in models["quick"].requests[0].messages)


async def test_a_message_without_text_is_trivial() -> None:
    model = RoutedModel(models={name: answering(name) for name in STRENGTHS}, strengths=STRENGTHS)
    provider = Agent(model=model).engine.provider
    for messages in ([], [ChatMessage(Role.USER, ())], [ChatMessage(Role.SYSTEM, "def f(): x()")]):
        assert (await provider.chat(messages)).message.content == "by quick"


# --- whole runs ---------------------------------------------------------------------------------------


@both
async def test_a_failing_choice_ends_the_run_as_config(streamed: bool) -> None:
    agent = Agent(model=RoutedModel(lambda messages: "nowhere", models={"a": answering("a")}))
    result = await complete(agent, "go", streamed)
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "config"
    assert "'nowhere'" in result.error.message


@both
async def test_a_choice_may_change_models_between_calls(streamed: bool) -> None:
    """Then each goes on with the conversation of the other."""

    def in_turn(messages: list[ChatMessage]) -> str:
        return "b" if messages[-1].role is Role.TOOL else "a"

    a, b = ScriptedProvider([call("add", a=1, b=2)]), ScriptedProvider(["three"])
    agent = Agent(model=RoutedModel(in_turn, models={"a": a, "b": b}), tools=[add])
    result = await complete(agent, "go", streamed)
    assert result.output == "three"
    assert [message.role for message in b.requests[0].messages] == [Role.USER, Role.ASSISTANT, Role.TOOL]


@both
async def test_the_loop_agent_routes_as_well(streamed: bool) -> None:
    a = ScriptedProvider([call("add", a=1, b=2), say("three", model="a-1")])
    provider = RoutedProvider({"a": Candidate(a, "a-1"), "b": answering("b")}, lambda messages: "a")
    agent = LoopAgent(provider, tool_registry=ToolRegistry([add]))
    if streamed:
        done: Any = [event async for event in agent.run_turn_stream(HELLO)][-1]
        assert done.model == "a-1"
    else:
        turn = await agent.run_turn(HELLO)
        assert (turn.reply, turn.model) == ("three", "a-1")
    assert {request.model for request in a.requests} == {"a-1"}


# --- together -----------------------------------------------------------------------------------------


@both
async def test_a_fallback_in_a_route_and_a_route_in_a_fallback(streamed: bool) -> None:
    down = ProviderUnavailableError("down")
    backed = FallbackModel([ScriptedProvider([down]), answering("spare")])
    agent = Agent(model=RoutedModel(lambda messages: "a", models={"a": backed, "b": answering("b")}))
    result = await complete(agent, "go", streamed)
    assert result.output == "by spare"
    assert [attempt.model for attempt in replies(result)[0].attempts] == ["scripted", "scripted#2"]

    routed = RoutedModel(lambda messages: "a", models={"a": ScriptedProvider([down]), "b": answering("b")})
    result = await complete(Agent(model=FallbackModel([routed, answering("spare")])), "go", streamed)
    assert result.output == "by spare"
    failed = replies(result)[0].attempts[0]
    assert failed.model == "scripted", "the model that failed, not the route"

    broken = RoutedModel(lambda messages: "nowhere", models={"a": answering("a")})
    result = await complete(Agent(model=FallbackModel([broken, answering("spare")])), "go", streamed)
    assert result.error is not None, "a wrong declaration is not what falling back is for"
    assert result.error.code == "config"


async def test_each_route_has_its_price() -> None:
    million = say("ok", usage=Usage(1_000_000, 0))
    async with ModelServer([million]) as one, ModelServer([million]) as two:
        model = RoutedModel(
            lambda messages: messages[-1].text_content,
            models={
                "dear": Model.compatible("d", base_url=one.base_url, price=Price(9, 9)),
                "cheap": Model.compatible("c", base_url=two.base_url, price=Price(1, 1)),
            },
        )
        agent = Agent(model=model, runtime=Runtime(limits=RuntimeLimits(max_cost=50.0)))
        assert (await agent.run("dear")).cost == pytest.approx(9)
        assert (await agent.run("cheap")).cost == pytest.approx(1)
        assert (one.requests[0].body["model"], two.requests[0].body["model"]) == ("d", "c")
        await agent.aclose()


async def test_every_route_needs_its_key() -> None:
    models: dict[str, Any] = {"a": Model.offline(), "b": Model.groq("x")}
    with pytest.raises(AuthenticationError, match="GROQ_API_KEY"):
        await Agent(model=RoutedModel(lambda messages: "a", models=models)).run("go")


async def test_leaving_a_stream_early_lets_go_of_the_model() -> None:
    async with ModelServer(["A long story. " * 50], chunk=4) as server:
        model = Model.compatible("m", base_url=server.base_url)
        agent = Agent(model=RoutedModel(lambda messages: "a", models={"a": FallbackModel([model])}))
        stream = agent.stream("go")
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        await stream.aclose()
        await agent.aclose()
    assert len(server.requests) == 1


async def test_review_g6_what_a_user_writes_is_not_cut_before_it_is_routed() -> None:
    """The words that would decide stand after what looks like the beginning of a context."""
    task = "Hello.\n\n<context>\nPlease refactor this Python code and debug the function."
    models = {name: answering(name) for name in ("quick", "coder")}
    strengths = {name: STRENGTHS[name] for name in models}
    agent = Agent(model=RoutedModel(models=models, strengths=strengths, default="quick"))
    assert (await agent.run(task)).output == "by coder"


async def test_review_g6_the_context_beside_a_task_does_not_route() -> None:
    from loom.tools.base import RunContext

    models = {name: answering(name) for name in ("quick", "coder")}
    strengths = {name: STRENGTHS[name] for name in models}
    agent = Agent(model=RoutedModel(models=models, strengths=strengths, default="quick"))
    inputs = {"note": "refactor this Python code and debug the function"}
    assert (await agent.run("Hello.", context=RunContext(inputs=inputs))).output == "by quick"
