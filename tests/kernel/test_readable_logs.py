"""Whatever foreign code hands in, what was written can be read again: one odd value must not cost a session.

Structs do not check their fields, and a log is read strictly. A value that would be refused when it is read
must be refused, or made sound, before it is written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from stage import Tool, agent, soon, types

from loom.agent import Agent
from loom.errors import LoomError, ToolError
from loom.policies.profile import Runtime, RuntimeLimits
from loom.requests import Answer, Request
from loom.safety.hooks import HookOutcome
from loom.signals import RuntimeTask
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import ScriptedProvider, call
from loom.tools.base import Parked, RunContext, ToolContext
from loom.tools.function import tool
from loom.types import (
    ChatMessage,
    ChatResponse,
    ErrorInfo,
    ImagePart,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolResult,
)


class Nothing:
    """A value that is no data, with a name that is the same in every process."""

    def __repr__(self) -> str:
        return "nothing"


NOTHING: Any = Nothing()

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteSessionStore]:
    one = SqliteSessionStore(tmp_path / "s.db")
    yield one
    await one.aclose()


async def readable(store: SqliteSessionStore) -> None:
    """The log can be read, and the session can be used by a fresh process."""
    log = await store.read("s")
    assert not log or types(log)[0] == "run.started"
    await store.open_requests("s")
    fresh = agent(["still here"], session_store=store).session("s")
    assert (await soon(fresh.run("and now?"))).output == "still here"


async def attempt(built: Agent[Any, Any], task: Any = "go", **options: Any) -> Any:
    """The result, or the typed error that kept the run from happening."""
    try:
        return await soon(built.session("s").run(task, **options))
    except (LoomError, TypeError, ValueError) as error:
        return error


def _reply(content: Any, *calls: ToolCall) -> ChatResponse:
    return ChatResponse(ChatMessage(Role.ASSISTANT, content, tool_calls=calls or None))


REPLIES: dict[str, ChatResponse] = {
    "object part": _reply([NOTHING]),
    "text as part": _reply(["words"]),
    "number part": _reply([TextPart("words"), 7]),
    "part without text": _reply([TextPart(None)]),  # type: ignore[arg-type]
    "thinking without text": _reply([ThinkingPart(None), TextPart("words")]),  # type: ignore[arg-type]
    "thinking surrogate": _reply([ThinkingPart("\ud800", "\ud801"), TextPart("words")]),
    "odd signature": _reply([ThinkingPart("hm", 7), TextPart("words")]),  # type: ignore[arg-type]
    "odd image": _reply([ImagePart(7), TextPart("words")]),  # type: ignore[arg-type]
    "odd call signature": _reply(None, ToolCall("c", "t", "{}", 7)),  # type: ignore[arg-type]
    "name of message": ChatResponse(ChatMessage(Role.ASSISTANT, "words", name=7)),  # type: ignore[arg-type]
    "id of message": ChatResponse(ChatMessage(Role.ASSISTANT, "words", tool_call_id=7)),  # type: ignore[arg-type]
    "error flag": ChatResponse(ChatMessage(Role.ASSISTANT, "words", is_error="no")),  # type: ignore[arg-type]
    "bytes": _reply(b"words"),
    "calls are text": ChatResponse(ChatMessage(Role.ASSISTANT, None, tool_calls="t")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("reply", list(REPLIES))
async def test_replies(reply: str, store: SqliteSessionStore) -> None:
    built = Agent(model=ScriptedProvider([REPLIES[reply], "end"]), tools=[Tool("t")], session_store=store)
    await attempt(built)
    await readable(store)


class Odd(ToolError):
    """An error of the application's own, with facts of its own."""

    def __init__(self, **facts: Any) -> None:
        super().__init__("odd")
        for name, value in facts.items():
            setattr(self, name, value)


RESULTS: dict[str, Any] = {
    "object part": ToolResult("x", content_parts=[NOTHING]),  # type: ignore[list-item]
    "text as part": ToolResult("x", content_parts=["words"]),  # type: ignore[list-item]
    "odd part": ToolResult("x", content_parts=[TextPart(7)]),  # type: ignore[arg-type]
    "parts are text": ToolResult("x", content_parts="words"),  # type: ignore[arg-type]
    "text is a number": ToolResult(7),  # type: ignore[arg-type]
    "text is bytes": ToolResult(b"x"),  # type: ignore[arg-type]
    "metadata keys": ToolResult("x", metadata={1: 2}),  # type: ignore[dict-item]
    "metadata is text": ToolResult("x", metadata="m"),  # type: ignore[arg-type]
    "error flag": ToolResult("x", is_error="yes"),  # type: ignore[arg-type]
    "nan": ToolResult("x", data=float("nan")),
    "loop": ToolResult("x", data=[]),
    "big": ToolResult("x", data=10**40),
    "status": Odd(status="four hundred"),
    "retry after": Odd(retry_after="soon"),
    "retryable": Odd(retryable="maybe"),
    "code": Odd(code=7),
}
RESULTS["loop"].data.append(RESULTS["loop"].data)


@pytest.mark.parametrize("returned", list(RESULTS))
async def test_results(returned: str, store: SqliteSessionStore) -> None:
    def work(_: Any) -> Any:
        if isinstance(RESULTS[returned], Exception):
            raise RESULTS[returned]
        return RESULTS[returned]

    result = await attempt(agent([call("t"), "end"], Tool("t", work), session_store=store))
    assert getattr(result, "output", "") == "end", "one odd result costs its own call only"
    await readable(store)


@pytest.mark.parametrize("raised", ["status", "retryable", "code"])
async def test_errors_of_a_provider(raised: str, store: SqliteSessionStore) -> None:
    def fail(messages: Any, tools: Any) -> Any:
        raise RESULTS[raised]

    result = await attempt(agent([fail], session_store=store))
    assert isinstance(result.error, ErrorInfo)
    await readable(store)


@pytest.mark.parametrize("by", [7, None, ["ana"], "\ud800", b"ana"], ids=str)
@pytest.mark.parametrize("how", ["resume", "human"])
async def test_who_answered(by: Any, how: str, store: SqliteSessionStore) -> None:
    """An id out of somebody's database is rarely text."""
    human = (lambda request: request.approve(by=by)) if how == "human" else None
    built = agent([call("d"), "end"], Tool("d", destructive=True), session_store=store, human=human)
    waiting = await attempt(built)
    if how == "resume":
        try:
            await soon(built.session("s").resume(None, [waiting.pending[0].approve(by=by)]).wait())
        except (LoomError, TypeError):
            assert len(await store.open_requests("s")) == 1
    await readable(store)


@pytest.mark.parametrize("reason", [7, None, ["no"], "\ud800"], ids=str)
async def test_why_it_was_refused(reason: Any, store: SqliteSessionStore) -> None:
    human = lambda request: request.deny(reason)  # noqa: E731
    await attempt(agent([call("d"), "end"], Tool("d", destructive=True), session_store=store, human=human))
    await readable(store)


@pytest.mark.parametrize(
    "value", [NOTHING, {1, 2}, float("nan"), b"x", "\ud800", Decimal(1), 10**40], ids=repr
)
async def test_what_was_answered(value: Any, store: SqliteSessionStore) -> None:
    @tool(idempotent=True)
    def ask(context: ToolContext) -> str:
        """Ask."""
        return str(context.ask("what?"))

    await attempt(agent([call("ask"), "end"], ask, session_store=store, human=lambda r: r.answer(value)))
    await readable(store)


@pytest.mark.parametrize("prompt", [7, None, "\ud800", ["a"]], ids=str)
@pytest.mark.parametrize("choices", [(), [1, 2, 3], ["a", None], "yes"], ids=str)
async def test_what_a_tool_asks(prompt: Any, choices: Any, store: SqliteSessionStore) -> None:
    @tool(idempotent=True)
    def ask(context: ToolContext) -> str:
        """Ask."""
        return str(context.ask(prompt, choices=choices))

    await attempt(agent([call("ask"), "end"], ask, session_store=store))
    await readable(store)


@pytest.mark.parametrize(
    "request_",
    [
        Request(7, "question", "?"),  # type: ignore[arg-type]
        Request("q", "nonsense", "?"),  # type: ignore[arg-type]
        Request("q", "question", "?", expires_at="tomorrow"),  # type: ignore[arg-type]
        Request("q", "question", "?", arguments={"x": 1}),  # type: ignore[arg-type]
        "not a request",
    ],
    ids=["id", "kind", "expiry", "arguments", "text"],
)
async def test_what_a_tool_parks_for(request_: Any, store: SqliteSessionStore) -> None:
    def park(_: Any) -> Any:
        raise Parked([request_])

    await attempt(agent([call("t"), "end"], Tool("t", park, idempotent=True), session_store=store))
    await readable(store)


@pytest.mark.parametrize(
    "message", [7, None, ["no"], "\ud800", NOTHING], ids=["7", "None", "list", "half", "object"]
)
@pytest.mark.parametrize("hook", ["before_tool", "before_llm", "before_run"])
@pytest.mark.parametrize("decision", ["deny", "ask"])
async def test_what_a_gate_says(message: Any, hook: str, decision: str, store: SqliteSessionStore) -> None:
    built = agent([call("t"), "end"], Tool("t"), session_store=store)
    built.on(hook, lambda **_: getattr(HookOutcome, decision)(message))
    await attempt(built)
    await readable(store)


@pytest.mark.parametrize(
    "arguments",
    [{"x": NOTHING}, {1: 2}, "text", [1], {"x": float("nan")}, {"x": "\ud800"}, {"x": {1, 2}}],
    ids=repr,
)
async def test_what_a_gate_edits(arguments: Any, store: SqliteSessionStore) -> None:
    built = agent([call("t"), "end"], Tool("t"), session_store=store)
    built.on("before_tool", lambda **_: HookOutcome(arguments=arguments))
    await attempt(built)
    await readable(store)


@pytest.mark.parametrize("reason", [7, None, "\ud800"], ids=str)
async def test_why_it_was_cancelled(reason: Any, store: SqliteSessionStore) -> None:
    session = agent([call("d")], Tool("d", destructive=True), session_store=store).session("s")
    run = session.start("go")
    await soon(run.wait())
    try:
        await soon(run.cancel(reason))
    except (LoomError, TypeError):
        await soon(run.cancel())
    await readable(store)


@pytest.mark.parametrize(
    "price", [Decimal("0.1"), "0.1", float("nan"), float("inf"), True, NOTHING], ids=repr
)
async def test_what_it_costs(price: Any, store: SqliteSessionStore) -> None:
    built = agent(["end"], session_store=store)
    built.engine.price = lambda usage: price
    await attempt(built)
    await readable(store)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_tokens": 1e6},
        {"max_iterations": 2.5},
        {"max_iterations": 3.0},
        {"max_seconds": float("inf")},
        {"max_tool_calls": float("inf")},
        {"max_depth": 1.5},
        {"max_iterations": True},
        {"max_seconds": Decimal(5)},
    ],
    ids=str,
)
async def test_what_it_may_spend(limits: dict[str, Any], store: SqliteSessionStore) -> None:
    try:
        built = agent(["end"], session_store=store, runtime=Runtime(limits=RuntimeLimits(**limits)))
    except LoomError:
        return
    await attempt(built)
    await readable(store)


@pytest.mark.parametrize(
    "task",
    [
        RuntimeTask(goal="go", input={"x": NOTHING}),
        RuntimeTask(goal="go", input={1: 2}),  # type: ignore[dict-item]
        RuntimeTask(goal="go", criteria=[1]),  # type: ignore[list-item]
        RuntimeTask(goal="\ud800"),
        RuntimeTask(goal="go", metadata={"x": {1, 2}}),
        7,
        b"go",
    ],
    ids=["object", "key", "criteria", "half", "set", "number", "bytes"],
)
async def test_what_is_asked_for(task: Any, store: SqliteSessionStore) -> None:
    await attempt(agent(["end", "end"], session_store=store), task)
    await readable(store)


@pytest.mark.parametrize(
    "inputs", [{1: 2}, {"x": float("nan")}, {"x": "\ud800"}, {"x": 10**40}, {"x": b"y"}], ids=repr
)
async def test_what_is_given_beside_it(inputs: Any, store: SqliteSessionStore) -> None:
    await attempt(agent(["end"], session_store=store), "go", context=RunContext(inputs=inputs))
    await readable(store)


async def test_an_answer_of_odd_fields_is_refused_whole(store: SqliteSessionStore) -> None:
    built = agent([call("d"), "end"], d := Tool("d", destructive=True), session_store=store)
    waiting = await attempt(built)
    for odd in (
        Answer(waiting.pending[0].id, "approve", reason=7),  # type: ignore[arg-type]
        Answer(waiting.pending[0].id, "approve", at="now"),  # type: ignore[arg-type]
        Answer(7, "approve"),  # type: ignore[arg-type]
    ):
        try:
            await soon(built.session("s").resume(None, [odd]).wait())
        except (LoomError, TypeError):
            continue
        break
    assert len(d.entered) <= 1
    await readable(store)
