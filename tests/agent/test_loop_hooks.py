"""Functions of the application on a loop agent: none of them loses what a turn has done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from loom import Answer, Request, RunState, tool
from loom.errors import ConfigError, HookFailed, LoomError, RateLimitError
from loom.loop import Agent, AgentConfig, AgentTurn
from loom.loop_events import DoneEvent, ErrorEvent, ToolExecResultEvent
from loom.testing import ScriptedProvider, call
from loom.tools.registry import ToolRegistry
from loom.types import ChatMessage, Role

pytestmark = pytest.mark.timeout(20)

PAID: list[str] = []


@tool
def pay(to: str) -> str:
    """Pay."""
    PAID.append(to)
    return f"paid {to}"


@tool(destructive=True)
def wipe() -> str:
    """Wipe."""
    PAID.append("wiped")
    return "wiped"


@pytest.fixture(autouse=True)
def _nobody_is_paid() -> None:  # pyright: ignore[reportUnusedFunction]
    PAID.clear()


def fails(*arguments: Any) -> Any:
    raise ZeroDivisionError("theirs")


async def fails_later(*arguments: Any) -> Any:
    await asyncio.sleep(0)
    raise ZeroDivisionError("theirs")


def asks_to_stop(*arguments: Any) -> Any:
    raise asyncio.CancelledError


def agent(*script: Any, human: Any = None, **config: Any) -> Agent[Any]:
    return Agent(
        ScriptedProvider(script or [call("pay", to="ana"), "Ana is paid."]),
        tool_registry=ToolRegistry([pay, wipe]),
        config=AgentConfig(**config),
        human=human,
    )


SAID = [ChatMessage(Role.USER, "go")]


async def streamed(agent: Agent[Any]) -> list[Any]:
    return [event async for event in agent.run_turn_stream(SAID)]


def told(turn: AgentTurn) -> list[str | None]:
    return [message.text_content for message in turn.messages or ()]


@pytest.mark.parametrize("hook", ["on_after_turn", "on_event", "on_tool_result"])
@pytest.mark.parametrize("how", [fails, fails_later, asks_to_stop])
async def test_review_i_a_watcher_that_fails_changes_nothing(
    hook: str, how: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "loom.hooks"):
        turn = await agent(**{hook: how}).run_turn(SAID)
    assert (turn.state, turn.reply, PAID) == (RunState.COMPLETED, "Ana is paid.", ["ana"])
    assert caplog.records, "and somebody is told"
    PAID.clear()
    events = await streamed(agent(**{hook: how}))
    assert isinstance(events[-1], DoneEvent)
    assert (events[-1].context["messages"][-1]["content"], PAID) == ("Ana is paid.", ["ana"])


@pytest.mark.parametrize("hook", ["on_before_turn", "choose_model", "before_llm_call"])
@pytest.mark.parametrize("how", [fails, fails_later, asks_to_stop])
async def test_review_i_a_hook_that_decides_ends_the_turn_by_name(hook: str, how: Callable[..., Any]) -> None:
    with pytest.raises(HookFailed, match=f"the {hook} hook failed") as raised:
        await agent(**{hook: how}).run_turn(SAID)
    assert raised.value.code == "hook_error"


@pytest.mark.parametrize(
    ("hook", "odd"),
    [
        ("on_before_turn", "text"),
        ("on_before_turn", [{"role": "user", "content": "hi"}]),
        ("before_llm_call", [None]),
        ("before_llm_call", 7),
        ("choose_model", 7),
    ],
)
async def test_review_i_a_hook_that_returns_what_means_nothing_ends_the_turn(hook: str, odd: Any) -> None:
    with pytest.raises(HookFailed, match=f"the {hook} hook returned"):
        await agent(**{hook: lambda messages: odd}).run_turn(SAID)


async def test_review_i_hooks_that_decide_may_be_async() -> None:
    async def choose(messages: list[ChatMessage]) -> str:
        return "m"

    async def add(messages: list[ChatMessage]) -> list[ChatMessage]:
        return [*messages, ChatMessage(Role.USER, "more")]

    turn = await agent("fine", choose_model=choose, on_before_turn=add).run_turn(SAID)
    assert told(turn) == ["go", "more", "fine"]


async def test_review_i_what_was_done_before_a_hook_failed_is_not_lost() -> None:
    calls = iter([None, ZeroDivisionError("theirs")])

    def second_time(messages: list[ChatMessage]) -> None:
        if (error := next(calls)) is not None:
            raise error

    with pytest.raises(HookFailed, match="before_llm_call") as raised:
        await agent(before_llm_call=second_time).run_turn(SAID)
    turn = raised.value.turn
    assert isinstance(turn, AgentTurn)
    assert (told(turn), turn.tool_calls, PAID) == (["go", None, "paid ana"], 1, ["ana"])
    assert turn.state is RunState.FAILED


async def test_review_i_what_was_done_before_a_service_failed_is_not_lost() -> None:
    with pytest.raises(RateLimitError) as raised:
        await agent(call("pay", to="ana"), RateLimitError("slow")).run_turn(SAID)
    assert told(raised.value.turn) == ["go", None, "paid ana"]


async def test_review_i_a_stream_tells_of_a_failed_hook_and_ends() -> None:
    events = await streamed(agent(before_llm_call=fails))
    assert [type(event) for event in events] == [ErrorEvent, DoneEvent]
    assert (events[0].reason, "before_llm_call" in events[0].message) == ("hook_error", True)


@pytest.mark.parametrize("kind", [ToolExecResultEvent, DoneEvent])
async def test_review_i_an_event_that_cannot_be_serialized_does_not_lose_the_turn(kind: type) -> None:
    finished: list[AgentTurn] = []

    def serialize(event: Any) -> Any:
        return fails() if isinstance(event, kind) else event

    with pytest.raises(HookFailed, match="serialize_event") as raised:
        await streamed(agent(serialize_event=serialize, on_after_turn=finished.append))
    said = told(raised.value.turn)
    assert said[:3] == ["go", None, "paid ana"]
    if kind is DoneEvent:
        assert said[-1] == "Ana is paid."
        assert finished == [raised.value.turn], "whoever watches has been told before"


@pytest.mark.parametrize("build", [fails, lambda count: 7, lambda count: None])
async def test_review_i_a_notice_that_cannot_be_worded_is_the_usual_one(build: Any) -> None:
    turn = await agent(limit_message_builder=build, max_iterations=1).run_turn(SAID)
    assert (turn.state, turn.reply) == (RunState.LIMIT_REACHED, "[iteration limit reached]")
    assert turn.tool_calls == 1


# --- people ---------------------------------------------------------------------------------------------


class Person:
    def __init__(self, answer: Callable[[Request], Any]) -> None:
        self.answer = answer

    def ask(self, request: Request) -> Any:
        return self.answer(request)


@pytest.mark.parametrize("answer", [fails, fails_later, asks_to_stop, lambda request: None])
async def test_review_i_a_person_who_cannot_be_asked_has_said_no(answer: Any) -> None:
    turn = await agent(call("wipe"), "not wiped", human=Person(answer)).run_turn(SAID)
    assert (turn.state, turn.reply, PAID) == (RunState.COMPLETED, "not wiped", [])


async def test_review_i_a_person_may_answer_at_once() -> None:
    def answer(request: Request) -> Answer:
        return request.approve(by="ana")

    turn = await agent(call("wipe"), "wiped", human=Person(answer)).run_turn(SAID)
    assert (turn.reply, PAID) == ("wiped", ["wiped"])


# --- a provider that only has chat ------------------------------------------------------------------------


def test_a_provider_without_chat_is_refused_when_the_agent_is_made() -> None:
    for wrong in (object(), ScriptedProvider, 7):
        with pytest.raises(ConfigError, match="async method chat"):
            Agent(wrong)  # type: ignore[arg-type]


def test_errors_carry_no_turn_unless_one_raised_them() -> None:
    assert LoomError("x").turn is None


# --- what a newcomer is told --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages", ["hello", "", [{"role": "user"}], ChatMessage(Role.USER, "hello"), ["hello"], 7]
)
async def test_review_guide_what_is_no_conversation_is_refused_by_name(messages: Any) -> None:
    with pytest.raises(ConfigError, match="ChatMessage"):
        await agent("hi").run_turn(messages)
    with pytest.raises(ConfigError, match="ChatMessage"):
        _ = [event async for event in agent("hi").run_turn_stream(messages)]


async def test_review_guide_a_failing_watcher_is_logged_in_its_own_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        assert (await agent(on_tool_result=fails).run_turn([ChatMessage(Role.USER, "pay")])).ok
    (record,) = caplog.records
    assert "on_tool_result" in record.getMessage()
    assert repr(fails) in record.getMessage()


async def test_review_guide_nobody_has_not_refused_as_a_human() -> None:
    turn = await agent(call("wipe"), "It was refused.").run_turn([ChatMessage(Role.USER, "wipe")])
    (told,) = (message.text_content or "" for message in turn.messages or () if message.role is Role.TOOL)
    assert "human" not in told
    assert told.endswith("refused by the loop agent: nobody is attached who could approve it")
