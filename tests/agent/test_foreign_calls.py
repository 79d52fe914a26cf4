"""Code of the application that the SDK face calls: whatever it raises is the outcome of what it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from loom import (
    Agent,
    InMemorySessionStore,
    RunState,
    SafetyEvaluator,
    SafetyRule,
    SessionStore,
    tool,
)
from loom.errors import ConfigError, StoreError, ToolError
from loom.kernel.foreign import described
from loom.llm.base import ContentDeltaEvent, LLMProvider, ProviderEvent
from loom.llm.fallback import FallbackProvider
from loom.testing import ScriptedProvider, call, say
from loom.types import ChatMessage, ChatResponse

pytestmark = pytest.mark.timeout(20)

DONE: list[str] = []


@tool
def wipe(where: str = "here") -> str:
    """Wipe."""
    DONE.append(where)
    return "wiped"


@pytest.fixture(autouse=True)
def _nothing_is_done() -> None:  # pyright: ignore[reportUnusedFunction]
    DONE.clear()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("even its text fails")


# --- vetoes -----------------------------------------------------------------------------------------------


class NoTruth:
    def __bool__(self) -> bool:
        raise ValueError("the truth of this is ambiguous")


class Odd:
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError("theirs")

    __hash__ = None  # type: ignore[assignment]


def _raises(error: BaseException) -> Callable[..., Any]:
    def judge(tool_name: str, arguments: dict[str, Any]) -> Any:
        raise error

    return judge


@pytest.mark.parametrize(
    "judge",
    [
        _raises(ZeroDivisionError()),
        _raises(asyncio.CancelledError()),
        _raises(SystemExit(3)),
        lambda name, arguments: NoTruth(),
    ],
    ids=["error", "cancelled", "exit", "no truth"],
)
async def test_review_i_a_veto_that_cannot_decide_is_one(judge: Callable[..., Any]) -> None:
    rule = SafetyRule.custom(name="mine", reason="not today", evaluator=SafetyEvaluator.callable(judge))
    agent = Agent(model=ScriptedProvider([call("wipe"), "no"]), tools=[wipe], safety_rules=[rule])
    result = await agent.run("go")
    assert (result.state, DONE) == (RunState.COMPLETED, [])
    assert [event.outcome for event in result.denied] == ["denied"]


def test_review_i_a_veto_over_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be text, a finite number"):
        SafetyRule.when_argument_equals(
            name="odd", tool_name="wipe", argument="where", value=Odd(), reason="not today"
        )


# --- errors that cannot be told ---------------------------------------------------------------------------


async def test_review_i_an_error_without_a_text_is_named() -> None:
    assert described(Unspeakable()).startswith("Unspeakable")

    @tool
    def broken() -> str:
        """Break."""
        raise Unspeakable

    @tool
    def worse() -> str:
        """Break."""

        class Mine(ToolError, Unspeakable):
            pass

        raise Mine

    agent = Agent(model=ScriptedProvider([call("broken"), call("worse"), "noted"]), tools=[broken, worse])
    result = await agent.run("go")
    assert result.state is RunState.COMPLETED
    told = [event.result.text for event in result.events if event.type == "tool.finished"]
    assert "Unspeakable" in told[0]
    failed = await Agent(model=ScriptedProvider([Unspeakable()])).run("go")
    assert failed.error is not None
    assert (failed.error.code, "Unspeakable" in failed.error.message) == ("provider", True)


@pytest.mark.parametrize("name", ["before_tool", "before_llm", "after_tool", "tool.finished"])
async def test_review_i_a_hook_may_fail_without_a_text(name: str) -> None:
    def hook(**event: Any) -> None:
        raise Unspeakable

    agent = Agent(model=ScriptedProvider([call("wipe"), "done"]), tools=[wipe])
    agent.on(name, hook)
    result = await agent.run("go")
    expected = RunState.FAILED if name == "before_llm" else RunState.COMPLETED
    assert result.state is expected, result.error
    assert ([] if name.startswith("before") else ["here"]) == DONE


# --- hooks that edit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [["hello"], [None], [{"role": "user"}]])
async def test_review_i_messages_a_hook_cannot_have_meant_end_the_run_by_its_name(odd: list[Any]) -> None:
    provider = ScriptedProvider(["done"])
    agent = Agent(model=provider)
    agent.on("before_llm", lambda **event: {"arguments": odd})
    result = await agent.run("go")
    assert result.error is not None
    assert (result.state, result.error.code) == (RunState.FAILED, "hook_error")
    assert "before_llm" in result.error.message
    assert provider.requests == []


# --- streams that do not close ----------------------------------------------------------------------------


class BadlyClosed(LLMProvider):
    """Says everything, and fails while tidying up."""

    async def chat(self, messages: Any, **options: Any) -> ChatResponse:
        return say("whole")

    def chat_stream(self, messages: Any, **options: Any) -> AsyncIterator[ProviderEvent]:
        class Stream:
            left: list[Any] = [ContentDeltaEvent("whole"), say("whole")]

            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> Any:
                if not self.left:
                    raise StopAsyncIteration
                return self.left.pop(0)

            async def aclose(self) -> None:
                raise ConnectionError("already gone")

        return Stream()


@pytest.mark.parametrize(
    "provider", [BadlyClosed(), FallbackProvider([BadlyClosed()])], ids=["one", "fallback"]
)
async def test_review_i_a_reply_is_not_lost_because_its_stream_does_not_close(provider: LLMProvider) -> None:
    assert (await Agent(model=provider).session().start("go")).unwrap() == "whole"


async def test_review_i_closing_an_agent_closes_all_of_it() -> None:
    closed: list[str] = []

    class Stuck(ScriptedProvider):
        async def aclose(self) -> None:
            raise ConnectionError("already gone")

    class Store(InMemorySessionStore):
        async def aclose(self) -> None:
            closed.append("store")

    agent = Agent(model=Stuck(["x"]), session_store=Store())
    await agent.session("s").run("go")
    with pytest.raises(ConnectionError):
        await agent.aclose()
    assert closed == ["store"]


# --- a value that can be made only once -------------------------------------------------------------------


async def test_review_i_a_validator_that_fails_the_second_time_does_not_lose_the_run() -> None:
    from pydantic import BaseModel, field_validator

    class Once(BaseModel):
        token: str

        @field_validator("token")
        @classmethod
        def spend(cls, token: str) -> str:
            if DONE.count(token):
                raise RuntimeError("spent already")
            DONE.append(token)
            return token

    result = await Agent(model=ScriptedProvider(['{"token": "t"}']), output_type=Once).run("go")
    assert (result.state, result.output, result.text) == (RunState.FAILED, None, '{"token": "t"}')
    assert result.error is not None
    assert (result.error.code, "spent already" in str(result.error)) == ("output_invalid", True)


# --- stores of the application ----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["load_session", "save_session", "list_transcripts"])
async def test_review_i_a_store_that_cannot_tell_is_a_store_error(verb: str) -> None:
    class Theirs(SessionStore):
        def load_session(self, session_id: str) -> Any:
            return self._fail("load_session")

        def save_session(self, record: Any) -> None:
            self._fail("save_session")

        def list_transcripts(self, session_id: str) -> Any:
            self._fail("list_transcripts")
            return []

        def save_run(self, record: Any) -> None: ...

        def save_transcript(self, record: Any) -> None: ...

        def _fail(self, name: str) -> None:
            if name == verb:
                raise KeyError("their database is down")

    agent = Agent(model=ScriptedProvider(["x"]), session_store=Theirs())
    with pytest.raises(StoreError, match="their database is down"):
        await agent.session("s").run("go")


def test_the_messages_a_hook_gives_are_the_ones_sent() -> None:
    provider = ScriptedProvider(["done"])
    agent = Agent(model=provider)
    said = [ChatMessage("user", "instead")]  # type: ignore[arg-type]
    agent.on("before_llm", lambda **event: {"arguments": said})
    assert agent.run_sync("go").ok
    assert list(provider.requests[0].messages) == said
