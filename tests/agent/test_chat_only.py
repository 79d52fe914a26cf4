"""Any object with ``chat`` is a provider, everywhere; what is none is refused where it is declared."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from loom import Agent, FallbackModel, Generation, GovernancePolicy, RoutedModel, RunState, tool
from loom.errors import ConfigError
from loom.llm.base import ContentDeltaEvent, as_provider
from loom.llm.fallback import Candidate, FallbackProvider
from loom.llm.registry import ProviderRegistry
from loom.llm.scrubbed import scrubbed
from loom.loop import Agent as LoopAgent
from loom.loop import AgentConfig
from loom.testing import ScriptedProvider, call, record
from loom.types import ChatMessage, ChatResponse, Role, ToolSpec

pytestmark = pytest.mark.timeout(20)

PAID: list[str] = []


@tool(destructive=True)
def pay(to: str) -> str:
    """Pay."""
    PAID.append(to)
    return f"paid {to}"


class Chat:
    """The least there can be."""

    def __init__(self, *script: Any) -> None:
        self.script = ScriptedProvider(script)

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
    ) -> ChatResponse:
        return await self.script.chat(messages, tools=tools, model=model)


SAID = [ChatMessage(Role.USER, "go")]
Around = Callable[[Any], Any]
AROUND: dict[str, Around] = {
    "itself": lambda chat: chat,
    "fallback": lambda chat: FallbackModel([chat]),
    "routed": lambda chat: RoutedModel(models={"one": chat}, default="one"),
    "fallback provider": lambda chat: FallbackProvider([Candidate(chat)]),
    "scrubbed": scrubbed,
}


@pytest.fixture(params=AROUND.values(), ids=AROUND.keys())
def around(request: pytest.FixtureRequest) -> Around:
    PAID.clear()
    found: Around = request.param
    return found


async def test_review_i_every_verb_takes_an_object_with_chat(around: Around) -> None:
    agent: Agent[str, Any] = Agent(model=around(Chat("one", "two", "three", "four")))
    assert (await agent.run("go")).unwrap() == "one"
    events = [event async for event in agent.stream("go")]
    assert [event.text for event in events if event.type == "text.delta"] == ["two"], "one whole delta"
    session = agent.session("s")
    assert (await session.start("go")).unwrap() == "three"
    assert (await session.run("go")).unwrap() == "four"
    await agent.aclose()


async def test_review_i_an_approved_effect_is_answered_for(around: Around) -> None:
    agent: Agent[str, Any] = Agent(model=around(Chat(call("pay", to="ana"), "Paid.")), tools=[pay])
    session = agent.session("s")
    waiting = await session.run("go")
    result = await session.resume(waiting.run_id, [waiting.pending[0].approve(by="ana")])
    assert (result.unwrap(), PAID) == ("Paid.", ["ana"])


async def test_review_i_it_does_behind_a_scrubber_and_a_recorder(tmp_path: Path) -> None:
    agent: Agent[str, Any] = Agent(
        model=Chat("one", "two"), governance=GovernancePolicy(redact_outbound=True)
    )
    assert (await agent.session().start("go")).unwrap() == "one"
    async with record(Chat("one"), tmp_path / "calls.jsonl") as recorded:  # type: ignore[arg-type]
        assert (await Agent(model=recorded).session().start("go")).unwrap() == "one"


@pytest.mark.parametrize("redact", [False, True])
async def test_review_i_both_faces_take_it(redact: bool) -> None:
    config = AgentConfig(governance=GovernancePolicy(redact_outbound=redact))
    registry = ProviderRegistry()
    registry.register("m", Chat("three"), "upstream")
    agent = LoopAgent(Chat("one", "two"), config=config)
    assert (await agent.run_turn(SAID)).unwrap() == "one"
    first, *_ = [event async for event in agent.run_turn_stream(SAID)]
    assert first == ContentDeltaEvent("two")
    by_name = LoopAgent(provider_registry=registry, config=config)
    events = [event async for event in by_name.run_turn_stream(SAID)]
    assert events[0] == ContentDeltaEvent("three")


async def test_review_i_typed_output_does_not_need_settings() -> None:
    agent = Agent(model=Chat("[1, 2]"), output_type=list[int])
    assert (await agent.run("go")).unwrap() == [1, 2]


async def test_review_i_settings_nobody_can_pass_on_are_refused() -> None:
    agent = Agent(model=Chat("x"), generation=Generation(temperature=0.5))
    with pytest.raises(ConfigError, match="settings"):
        await agent.run("go")


def test_review_i_what_it_also_has_is_used() -> None:
    class More(Chat):
        closed = False

        def secrets(self) -> list[str]:
            return ["sesame"]

        async def aclose(self) -> None:
            self.closed = True

    more = More("x")
    provider = as_provider(more)
    assert provider.secrets() == ["sesame"]
    asyncio.run(provider.aclose())
    assert more.closed
    assert repr(provider) == repr(more)
    assert as_provider(provider) is provider


class Alone:
    """Takes no tools."""

    async def chat(self, messages: Sequence[ChatMessage]) -> ChatResponse:
        raise NotImplementedError


DECLARING: list[Callable[[Any], Any]] = [
    lambda wrong: Agent(model=wrong),
    lambda wrong: FallbackModel([wrong]),
    lambda wrong: RoutedModel(models={"a": wrong}, default="a"),
    lambda wrong: FallbackProvider([wrong]),
    lambda wrong: ProviderRegistry().register("a", wrong, "b"),
    lambda wrong: LoopAgent(wrong),
    scrubbed,
]


@pytest.mark.parametrize("declare", DECLARING)
@pytest.mark.parametrize("wrong", [object(), ScriptedProvider, Alone()], ids=["nothing", "class", "alone"])
def test_review_i_what_is_no_provider_is_refused_where_it_is_declared(
    declare: Callable[[Any], Any], wrong: Any
) -> None:
    with pytest.raises(ConfigError) as raised:
        declare(wrong)
    if wrong is ScriptedProvider:
        assert "missing" not in str(raised.value), "what is wrong is that it is a class"


# --- run_sync ---------------------------------------------------------------------------------------------

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


@tool(read_only=True)
async def who() -> str:
    """Whose request this is."""
    return TENANT.get()


def _asked() -> str:
    agent = Agent(model=ScriptedProvider([call("who"), "done"]), tools=[who])
    result = agent.run_sync("go")
    return next(event.result.text for event in result.events if event.type == "tool.finished")


def test_review_i_run_sync_keeps_context_variables() -> None:
    async def inside() -> str:
        TENANT.set("ana")
        return _asked()

    assert asyncio.run(inside()) == "ana", "in a running loop, on a thread of its own"
    assert contextvars.copy_context().run(lambda: (TENANT.set("bo"), _asked())[1]) == "bo"


# --- people -----------------------------------------------------------------------------------------------


class Clerk:
    """Answers without being awaited."""

    def ask(self, request: Any) -> Any:
        return request.approve(by="clerk")


async def test_review_i_a_human_who_answers_at_once_is_heard() -> None:
    PAID.clear()
    agent = Agent(model=ScriptedProvider([call("pay", to="bo"), "Paid."]), tools=[pay], human=Clerk())
    result = await agent.run("go")
    assert (result.state, PAID) == (RunState.COMPLETED, ["bo"])
