"""What a run hands back: an answer of the declared type, or none and the reason."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from loom import (
    Agent,
    InMemorySessionStore,
    RunState,
    Runtime,
    RuntimeLimits,
    tool,
)
from loom.errors import (
    AuthenticationError,
    BudgetExceeded,
    ConfigError,
    LoomError,
    MissingExtra,
    ProviderError,
    RateLimitError,
    RunCancelled,
    RunFailed,
    RunWaiting,
    SessionBusy,
    StoreError,
    ToolError,
    to_exception,
)
from loom.events import ToolFinished
from loom.loop import Agent as LoopAgent
from loom.loop import AgentConfig, AgentTurn
from loom.testing import ScriptedProvider, call
from loom.tools.registry import ToolRegistry
from loom.types import ChatMessage, ErrorInfo, Role

pytestmark = pytest.mark.timeout(20)


class Review(BaseModel):
    title: str


@tool(destructive=True)
def deploy(environment: str) -> str:
    """Deploy."""
    return environment


def reviewer(*script: Any, **options: Any) -> Agent[Review, Any]:
    return Agent(model=ScriptedProvider(script), tools=[deploy], output_type=Review, **options)


NOT_ONE = ["no json", "still none", "title: x"]


async def test_review_d1_a_failed_typed_run_has_no_output() -> None:
    result = await reviewer(*NOT_ONE).run("Review")
    assert (result.state, result.output, result.text) == (RunState.FAILED, None, "title: x")
    with pytest.raises(LoomError, match="does not fit Review") as raised:
        result.unwrap()
    assert raised.value.code == "output_invalid"


async def test_review_d1_a_completed_typed_run_unwraps_to_its_value() -> None:
    result = await reviewer('{"title": "Cats"}').run("Review")
    assert result.unwrap() == result.output == Review(title="Cats")
    assert result.text == '{"title": "Cats"}'


async def test_review_d1_a_waiting_run_has_no_output_and_names_what_it_waits_for() -> None:
    result = await reviewer(call("deploy", environment="prod")).run("Review")
    assert (result.state, result.output, result.error) == (RunState.WAITING, None, None)
    with pytest.raises(RunWaiting, match="deploy") as raised:
        result.unwrap()
    assert raised.value.pending == tuple(result.pending)


async def test_review_d1_a_cancelled_run_says_so_and_why() -> None:
    session = reviewer(call("deploy", environment="prod"), session_store=InMemorySessionStore()).session("s")
    run = session.start("Review")
    assert (await run).state is RunState.WAITING
    result = await run.cancel("changed my mind")
    assert result is not None
    assert (result.state, result.output) == (RunState.CANCELLED, None)
    assert result.error == ErrorInfo("cancelled", "the run was cancelled: changed my mind")
    with pytest.raises(RunCancelled, match="changed my mind"):
        result.unwrap()
    again = await session.resume(run.id)
    assert (again.output, again.error) == (None, result.error), "read back from the log it is the same"


async def test_review_d1_a_run_cancelled_before_its_turn_says_why() -> None:
    session = Agent(model=ScriptedProvider(["a", "b"], latency=0.05)).session("s")
    first, second = session.start("one"), session.start("two")
    await asyncio.sleep(0)
    result = await second.cancel("not needed")
    assert result is not None
    assert result.error == ErrorInfo("cancelled", "the run was cancelled: not needed")
    assert (await first).ok


async def test_review_d1_a_limit_is_budget_exceeded() -> None:
    runtime = Runtime(limits=RuntimeLimits(max_iterations=1))
    tools = [tool(lambda_named)]
    agent = Agent(model=ScriptedProvider([call("lambda_named"), "x"]), tools=tools, runtime=runtime)
    result = await agent.run("go")
    assert (result.state, result.output) == (RunState.LIMIT_REACHED, None)
    with pytest.raises(BudgetExceeded, match="max_iterations"):
        result.unwrap()


def lambda_named() -> str:
    """Do a thing."""
    return "x"


async def test_review_d1_text_runs_follow_the_same_rule() -> None:
    agent = Agent(model=ScriptedProvider([["I will look.", call("gone")], RateLimitError("slow")]))
    result = await agent.run("go")
    assert (result.state, result.output, result.text) == (RunState.FAILED, None, "I will look.")
    assert result.artifacts == (), "what failed left no output behind"
    with pytest.raises(RateLimitError, match="slow") as raised:
        result.unwrap()
    assert raised.value.retryable


async def test_review_d1_a_store_that_fails_keeps_the_text_and_is_not_a_success() -> None:
    class Full(InMemorySessionStore):
        async def append(self, lease: Any, events: Any) -> None:
            if any(event.type == "run.finished" for event in events):
                raise StoreError("the disk is full")
            await super().append(lease, events)

    result = await reviewer('{"title": "Cats"}', session_store=Full()).session("s").run("Review")
    assert (result.state, result.output, result.text) == (RunState.FAILED, None, '{"title": "Cats"}')
    assert result.artifacts == ()
    with pytest.raises(StoreError, match="disk is full"):
        result.unwrap()


async def test_review_d1_handle_and_transcript_tell_the_same() -> None:
    run = reviewer(*NOT_ONE).session("s").start("Review this")
    assert run.output is None
    result = await run
    assert (run.output, run.prompt) == (None, "Review this")
    assert run.created_at == result.events[0].ts
    told = await run.transcript()
    assert (told["output"], told["text"], told["artifacts"]) == (None, "title: x", [])
    done = reviewer('{"title": "Cats"}').session("s").start("Review")
    await done
    assert done.output == Review(title="Cats")


async def test_review_d1_a_child_that_failed_answers_its_parent_with_an_error() -> None:
    child = reviewer(*NOT_ONE).as_tool(name="review", description="Reviews.")
    parent = Agent(model=ScriptedProvider([call("review", task="x"), "It failed."]), tools=[child])
    result = await parent.run("go")
    (finished,) = [event for event in result.events if isinstance(event, ToolFinished)]
    assert finished.outcome == "error"
    assert "output_invalid" in finished.result.text


# --- errors out of data -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["internal", "denied", "output_truncated", "my_own"])
def test_a_code_without_a_class_of_its_own_is_run_failed_and_keeps_its_code(code: str) -> None:
    info = ErrorInfo(code, "what happened", retryable=True, status=503, retry_after=2.0)
    error = to_exception(info)
    assert type(error) is RunFailed
    assert (error.code, error.info()) == (code, info)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a"), MissingExtra("x", "cli"), RateLimitError("a", status=429, retry_after=1.5),
        AuthenticationError("a", status=401), ProviderError("a", retryable=True), SessionBusy("a"),
        RunCancelled("a"), RunWaiting("a"), BudgetExceeded("a"), StoreError("a"),
    ],
)  # fmt: skip
def test_an_error_made_of_data_has_the_data_it_was_made_of(error: LoomError) -> None:
    back = to_exception(error.info())
    assert back.info() == error.info()
    assert type(back) is type(error) or isinstance(error, MissingExtra)


def test_an_error_of_the_application_is_not_called_with_what_it_does_not_take() -> None:
    class Picky(ToolError):
        code = "picky"

        def __init__(self, one: str, two: str) -> None:
            super().__init__(one + two)

    class Borrowed(ProviderError):  # has its parent's code, and must not stand in for it
        pass

    assert type(to_exception(Picky("a", "b").info())) is RunFailed
    assert type(to_exception(ProviderError("x").info())) is ProviderError


# --- the loop face ------------------------------------------------------------------------------------


def loop_agent(*script: Any, **config: Any) -> LoopAgent:
    return LoopAgent(ScriptedProvider(script), tool_registry=ToolRegistry([tool(lambda_named)]),
                     config=AgentConfig(**config))  # fmt: skip


async def a_turn(agent: LoopAgent) -> AgentTurn:
    return await agent.run_turn([ChatMessage(Role.USER, "go")])


async def test_review_d1_a_turn_unwraps_to_its_reply_or_raises() -> None:
    turn = await a_turn(loop_agent("fine"))
    assert (turn.ok, turn.unwrap(), turn.text) == (True, "fine", "fine")
    stopped = await a_turn(loop_agent(["Looking.", call("lambda_named")], max_iterations=1))
    assert (stopped.ok, stopped.text) == (False, "Looking."), "the notice is in reply, not in text"
    with pytest.raises(BudgetExceeded, match="max_iterations"):
        stopped.unwrap()
