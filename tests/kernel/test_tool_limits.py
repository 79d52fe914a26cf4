"""``@tool(max_calls=, retries=)``: a limit of calls that survives a crash, and failures that are tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loom import Agent, RunState
from loom.errors import ConfigError, ProviderUnavailableError, ToolError
from loom.events import Event, ToolDecided, ToolFinished, ToolRetried, ToolStarted
from loom.store.file import FileSessionStore
from loom.testing import ScriptedProvider, call, say
from loom.tools.base import ToolContext, ToolHandler
from loom.tools.function import FunctionTool, tool
from loom.tools.registry import ToolRegistry
from loom.types import Role, ToolResult, ToolRetries, ToolSpec


def counting(**options: Any) -> tuple[FunctionTool[[], str], list[int]]:
    made: list[int] = []

    @tool(name="act", **options)
    async def act() -> str:
        made.append(1)
        return f"call {len(made)}"

    return act, made


def said(result: Any) -> list[str]:
    return [str(m.content) for m in result.messages if m.role is Role.TOOL]


# --- max_calls ------------------------------------------------------------------------------------------


async def test_a_call_beyond_the_limit_is_refused_and_told() -> None:
    act, made = counting(max_calls=2)
    model = ScriptedProvider([call("act"), call("act"), call("act"), "ok"])
    result = await Agent(model=model, tools=[act]).run("go")
    assert (result.state, len(made)) == (RunState.COMPLETED, 2)
    assert said(result)[2] == "Call limit: act may be called 2 times in a run, and was; go on without it"
    decided = [e for e in result.events if isinstance(e, ToolDecided)]
    assert [(e.verdict, e.source) for e in decided][-1] == ("deny", "max_calls")
    assert [e.outcome for e in result.denied] == ["denied"]


@pytest.mark.parametrize("safe", [False, True])
async def test_calls_of_one_reply_count_too(safe: bool) -> None:
    act, made = counting(max_calls=2, concurrency_safe=safe)
    other, others = counting()
    model = ScriptedProvider([say("", *[call("act")] * 5), "ok"])
    result = await Agent(model=model, tools=[act]).run("go")
    assert len(made) == 2
    assert [text.startswith("Call limit") for text in said(result)] == [False, False, True, True, True]
    await Agent(model=ScriptedProvider([say("", *[call("act")] * 5), "ok"]), tools=[other]).run("go")
    assert len(others) == 5


async def test_refused_calls_do_not_count_and_each_run_begins_anew() -> None:
    act, made = counting(max_calls=1)
    agent = Agent(model=ScriptedProvider([call("act"), "ok", call("act"), "ok"]), tools=[act])
    session = agent.session("s")
    agent.on("before_tool", deny := (lambda **_: False))
    await session.run("go")
    agent.off("before_tool", deny)
    await session.run("go")
    assert len(made) == 1


async def test_the_limit_holds_for_what_a_human_approves() -> None:
    act, made = counting(max_calls=1, destructive=True)
    session = Agent(model=ScriptedProvider([say("", call("act"), call("act")), "ok"]), tools=[act]).session(
        "s"
    )
    waiting = await session.run("go")
    result = await session.resume(waiting.run_id, [request.approve() for request in waiting.pending])
    assert (result.state, len(made)) == (RunState.COMPLETED, 1)
    assert said(result)[1].startswith("Call limit: act may be called once in a run")


async def test_the_limit_survives_the_process(tmp_path: Path) -> None:
    act, made = counting(max_calls=1)

    @tool(destructive=True)
    def wait() -> str:
        return "waited"

    store = FileSessionStore(tmp_path / "log")
    first = Agent(model=ScriptedProvider([call("act"), call("wait")]), tools=[act, wait], session_store=store)
    waiting = await first.session("s").run("go")
    await store.aclose()
    store = FileSessionStore(tmp_path / "log")
    second = Agent(model=ScriptedProvider([call("act"), "ok"]), tools=[act, wait], session_store=store)
    result = await second.session("s").resume(waiting.run_id, [waiting.pending[0].approve()])
    assert (result.state, len(made)) == (RunState.COMPLETED, 1)
    await store.aclose()


# --- retries --------------------------------------------------------------------------------------------


def failing(times: int, error: BaseException, **options: Any) -> tuple[FunctionTool[..., str], list[int]]:
    attempts: list[int] = []

    @tool(name="act", **{"idempotent": True, **options})
    async def act(context: ToolContext[Any]) -> str:
        attempts.append(context.attempt)
        if len(attempts) <= times:
            raise error
        return f"done at {context.attempt}"

    return act, attempts


NOW = ToolRetries(2, delay=0)


@pytest.mark.parametrize("facts", [{"idempotent": True}, {"idempotent": False, "read_only": True}])
async def test_a_failure_is_tried_again_and_seen(facts: dict[str, bool]) -> None:
    act, attempts = failing(2, OSError("busy"), retries=NOW, **facts)
    agent = Agent(model=ScriptedProvider([call("act"), "ok"]), tools=[act])
    seen: list[Event] = [event async for event in agent.stream("go")]
    assert attempts == [1, 2, 3]
    retried = [e for e in seen if isinstance(e, ToolRetried)]
    assert [(e.attempt, e.delay, e.error.code) for e in retried] == [
        (1, 0, "tool_failed"),
        (2, 0, "tool_failed"),
    ]
    assert "OSError: busy" in retried[0].error.message
    assert [e.attempt for e in seen if isinstance(e, ToolStarted)] == [1, 2, 3]
    (finished,) = [e for e in seen if isinstance(e, ToolFinished)]
    assert (finished.outcome, finished.result.text) == ("ok", "done at 3")


async def test_after_the_last_attempt_the_failure_stands() -> None:
    act, attempts = failing(9, OSError("busy"), retries=NOW)
    result = await Agent(model=ScriptedProvider([call("act"), "sorry"]), tools=[act]).run("go")
    assert (attempts, said(result)) == ([1, 2, 3], ["Error: OSError: busy"])


@pytest.mark.parametrize("error", [ToolError("no"), SystemExit(1)], ids=lambda e: type(e).__name__)
async def test_what_is_the_tool_s_own_word_is_not_tried_again(error: BaseException) -> None:
    act, attempts = failing(9, error, retries=NOW)
    await Agent(model=ScriptedProvider([call("act"), "sorry"]), tools=[act]).run("go")
    assert attempts == [1]


async def test_an_error_that_says_it_may_pass_is_tried_again() -> None:
    act, attempts = failing(1, ProviderUnavailableError("overloaded"), retries=NOW)
    result = await Agent(model=ScriptedProvider([call("act"), "ok"]), tools=[act]).run("go")
    assert (attempts, said(result)) == ([1, 2], ["done at 2"])


async def test_without_retries_a_failure_is_told_at_once() -> None:
    act, attempts = failing(1, OSError("busy"))
    await Agent(model=ScriptedProvider([call("act"), "sorry"]), tools=[act]).run("go")
    assert attempts == [1]


async def test_tools_beside_each_other_are_tried_again_alone() -> None:
    act, attempts = failing(1, OSError("busy"), retries=NOW, concurrency_safe=True)

    @tool(read_only=True, concurrency_safe=True)
    async def look() -> str:
        return "seen"

    model = ScriptedProvider([say("", call("act"), call("look")), "ok"])
    result = await Agent(model=model, tools=[act, look]).run("go")
    assert (attempts, said(result)) == ([1, 2], ["done at 2", "seen"])


async def test_a_retry_counts_as_one_call_of_a_limit() -> None:
    act, attempts = failing(1, OSError("busy"), retries=NOW, max_calls=1)
    result = await Agent(model=ScriptedProvider([call("act"), call("act"), "ok"]), tools=[act]).run("go")
    assert attempts == [1, 2]
    assert said(result)[1].startswith("Call limit")


async def test_a_run_that_is_cancelled_while_a_retry_waits_ends() -> None:
    act, attempts = failing(9, OSError("busy"), retries=ToolRetries(2, delay=3600, longest=3600))
    session = Agent(model=ScriptedProvider([call("act"), "ok"]), tools=[act]).session("s")
    run = session.start("go")
    async for event in run:
        if isinstance(event, ToolStarted) and event.attempt == 2:
            break
    result = await run.cancel()
    assert result is not None
    assert (result.state, attempts) == (RunState.CANCELLED, [1])


@pytest.mark.parametrize(
    ("policy", "pauses"),
    [
        (ToolRetries(3), [0.5, 1.0, 2.0]),
        (ToolRetries(3, delay=10, factor=10, longest=60), [10, 60, 60]),
        (ToolRetries(3, delay=0), [0, 0, 0]),
        (ToolRetries(3, delay=1, factor=1e308, longest=5), [1, 5, 5]),
    ],
)
def test_the_pauses_grow_to_a_bound(policy: ToolRetries, pauses: list[float]) -> None:
    assert [policy.pause(failed) for failed in (1, 2, 3)] == pauses


# --- declarations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_calls": 0}, "max_calls"),
        ({"max_calls": -1}, "max_calls"),
        ({"max_calls": True}, "max_calls"),
        ({"max_calls": "3"}, "max_calls"),
        ({"max_calls": 1.5}, "max_calls"),
        ({"retries": 2}, "read_only or idempotent"),
        ({"retries": 2, "destructive": True}, "read_only or idempotent"),
        ({"retries": -1, "idempotent": True}, "retries"),
        ({"retries": True, "idempotent": True}, "retries"),
        ({"retries": "2", "idempotent": True}, "retries"),
        ({"retries": ToolRetries(0), "idempotent": True}, "retries"),
        ({"retries": ToolRetries(1, delay=-1), "idempotent": True}, "retries"),
        ({"retries": ToolRetries(1, factor=float("nan")), "idempotent": True}, "retries"),
        ({"retries": ToolRetries(1, longest=float("inf")), "idempotent": True}, "retries"),
    ],
    ids=str,
)
def test_limits_that_mean_nothing_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        tool(**options)
    if isinstance(options.get("retries"), ToolRetries) or "max_calls" in options:

        class Handler(ToolHandler):
            @property
            def tool(self) -> ToolSpec:
                return ToolSpec(**{"name": "x", **options})

            async def invoke(self, args: dict[str, Any]) -> ToolResult:
                return ToolResult()

        with pytest.raises(ConfigError, match=says):
            ToolRegistry([Handler()])


def test_limits_are_facts_of_the_tool() -> None:
    act, _ = counting(max_calls=3, retries=2, idempotent=True)
    assert (act.max_calls, act.retries) == (3, ToolRetries(2))
    plain, _ = counting()
    assert (plain.max_calls, plain.retries, plain.tool.retries) == (None, None, None)
