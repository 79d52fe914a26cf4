"""Whatever a model service, a tool, a hook or a human does, it is a typed outcome of this run and no other."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from stage import Gate, Tool, agent, faults_of_pairing, no_strangers, of_type, soon, types

from loom.agent import Agent
from loom.errors import LoomError, ProviderError
from loom.folds.stops import CUT_SHORT
from loom.llm.base import LLMProvider, ProviderEvent
from loom.policies.profile import Runtime, RuntimeLimits
from loom.runtime.grounds import SessionConfig
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import ScriptedProvider, call, interrupted, say
from loom.tools.base import Parked
from loom.tools.function import tool
from loom.types import ChatMessage, ChatResponse, Role, RunState, StopReason, ToolCall, ToolResult, Usage

pytestmark = pytest.mark.timeout(20)


class OddProvider(LLMProvider):
    """Returns or raises whatever it was made with."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
        if isinstance(self.reply, BaseException):
            raise self.reply
        return self.reply  # type: ignore[no-any-return]

    async def chat_stream(
        self, messages: Sequence[ChatMessage], **options: Any
    ) -> AsyncIterator[ProviderEvent]:
        yield await self.chat(messages)


class Weird(Exception):
    pass


# --- providers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ProviderError("no"),
        RuntimeError("no"),
        ValueError(),
        KeyError("x"),
        Weird("no"),
        StopAsyncIteration(),
        RecursionError(),
        MemoryError(),
        TimeoutError("slow"),
        OSError(5, "io"),
        AssertionError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_provider_that_raises_fails_the_run(error: Exception, streamed: bool) -> None:
    session = Agent(model=OddProvider(error)).session()
    result = await soon(session.start("go").wait() if streamed else session.run("go"))
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code
    assert types(result.events)[-1] == "run.finished"


async def test_a_provider_whose_own_work_was_cancelled_has_failed() -> None:
    """A cancellation nobody asked for is the provider's failure, not a cancel of the run."""

    class Inner(OddProvider):
        async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
            work = asyncio.ensure_future(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(work.cancel)
            await work
            raise AssertionError

    result = await soon(Agent(model=Inner(None)).run("go"))
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code.startswith("provider")


@pytest.mark.parametrize(
    "reply",
    [None, "text", {"message": "x"}, 7, object(), ChatResponse(None), ChatResponse("x")],  # type: ignore[arg-type]
    ids=["none", "text", "dict", "number", "object", "no message", "text as message"],
)
async def test_a_reply_that_is_none_is_a_typed_failure(reply: Any) -> None:
    result = await soon(Agent(model=OddProvider(reply)).run("go"))
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code in ("malformed_reply", "provider")


@pytest.mark.parametrize(
    "bad",
    [
        ToolCall("1", None, "{}"),  # type: ignore[arg-type]
        ToolCall("1", "t", None),  # type: ignore[arg-type]
        ToolCall("1", "t", {"x": 1}),  # type: ignore[arg-type]
        ToolCall(None, "t", "{}"),  # type: ignore[arg-type]
        ToolCall(["1"], "t", "{}"),  # type: ignore[arg-type]
        ToolCall("1", "", "{}"),
        ToolCall("1", "t", ""),
        ToolCall("1", "\ud800", "{}"),
        ToolCall("1", "t", '{"x": "\ud800"}'),
    ],
    ids=[
        "no name",
        "no arguments",
        "dict",
        "no id",
        "list id",
        "empty name",
        "empty",
        "surrogate",
        "surrogate argument",
    ],
)
async def test_a_call_of_wrong_types_never_breaks_out(bad: ToolCall) -> None:
    scripted = ScriptedProvider([ChatResponse(ChatMessage(Role.ASSISTANT, None, tool_calls=(bad,))), "end"])
    result = await soon(Agent(model=scripted, tools=[Tool("t")]).run("go"))
    assert result.state in (RunState.COMPLETED, RunState.FAILED)
    if result.state is RunState.COMPLETED:
        assert faults_of_pairing(result.messages) is None
    else:
        assert result.error is not None


@pytest.mark.parametrize(
    "text",
    ["\ud800 half a pair", "nul \x00", "\u202e", "x" * 200_000],
    ids=["surrogate", "nul", "bidi", "big"],
)
@pytest.mark.parametrize("where", ["reply", "result", "name"])
async def test_odd_text_survives_a_durable_store(text: str, where: str, tmp_path: Path) -> None:
    """Undecodable bytes of a file name reach us as lone surrogates; they must not cost the run."""
    replies: list[Any] = [call("odd"), "end"]
    if where == "reply":
        replies = [say("", call("odd")), say(text)]
    elif where == "name":
        replies = [ToolCall("c1", text[:64], "{}"), "end"]
    store = SqliteSessionStore(tmp_path / "s.db")
    built = Agent(
        model=ScriptedProvider(replies),
        tools=[Tool("odd", lambda _: text if where == "result" else "ok")],
        session_store=store,
    )
    result = await soon(built.session(SessionConfig(id="s")).run("go"))
    assert result.state is RunState.COMPLETED, result.error
    await store.aclose()


@pytest.mark.parametrize("role", [Role.SYSTEM, Role.USER, Role.TOOL, "assistant", None], ids=str)
async def test_a_reply_speaks_for_the_assistant_only(role: Any) -> None:
    """A service must not be able to put words into the system's or the user's mouth."""
    result = await soon(Agent(model=OddProvider(ChatResponse(ChatMessage(role, "words"), Usage()))).run("go"))
    if result.state is RunState.COMPLETED:
        assert result.messages[-1].role is Role.ASSISTANT
    else:
        assert result.state is RunState.FAILED
        assert result.error is not None
    assert [m.role for m in result.messages][:1] == [Role.USER]
    assert all(m.role is Role.ASSISTANT for m in result.messages[1:])


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": None},
        {"usage": Usage(None, None)},  # type: ignore[arg-type]
        {"usage": Usage(-5, 10**30)},
        {"stop_reason": None},
        {"stop_reason": "stop"},
        {"stop_reason": "something new"},
        {"model": None},
        {"model": 7},
    ],
    ids=str,
)
async def test_odd_facts_beside_a_reply_never_break_out(fields: dict[str, Any], tmp_path: Path) -> None:
    reply = ChatResponse(ChatMessage(Role.ASSISTANT, "words"), **fields)
    store = SqliteSessionStore(tmp_path / "s.db")
    session = Agent(model=OddProvider(reply), session_store=store).session("s")
    result = await soon(session.run("go"))
    assert result.state in (RunState.COMPLETED, RunState.FAILED)
    assert result.iterations <= 1
    log = await store.read("s")
    assert types(log)[-1] == "run.finished"
    await store.aclose()


async def test_a_stream_that_breaks_off_fails_the_run_and_keeps_it_valid() -> None:
    replies = [interrupted("a long answer", after=1)]
    session = agent(replies).session()
    events = [event async for event in session.stream("go")]
    assert types(events)[-2:] == ["error", "run.finished"]
    assert events[-1].state is RunState.FAILED  # type: ignore[attr-defined]
    assert events[-1].error.retryable  # type: ignore[attr-defined]


@pytest.mark.parametrize("stop", sorted(CUT_SHORT), ids=lambda stop: stop.value)
async def test_calls_of_a_reply_that_was_cut_short_are_not_run(stop: StopReason) -> None:
    """The last call of a cut reply may lack its arguments and still read as JSON: a half call must not run."""
    wipe = Tool("wipe")
    result = await soon(agent([say("", call("wipe"), stop_reason=stop), "end"], wipe).run("go"))
    assert wipe.entered == []
    assert faults_of_pairing(result.messages) is None


@pytest.mark.parametrize("stop", sorted(CUT_SHORT), ids=lambda stop: stop.value)
async def test_a_reply_that_was_cut_short_is_no_success(stop: StopReason) -> None:
    result = await soon(agent([say("half an ans", stop_reason=stop)]).run("go"))
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.text == "half an ans"


@pytest.mark.parametrize(
    "reply", [say(""), say("", stop_reason=StopReason.TOOL_USE)], ids=["stop", "tool_use"]
)
async def test_an_empty_reply_is_no_success(reply: ChatResponse) -> None:
    result = await soon(agent([reply]).run("go"))
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "empty_reply"


async def test_more_calls_than_any_service_allows_are_a_broken_reply() -> None:
    t = Tool("t")
    result = await soon(agent([[call("t") for _ in range(129)]], t).run("go"))
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "malformed_reply"
    assert t.entered == []


async def test_as_many_calls_as_services_allow_all_run() -> None:
    t = Tool("t", concurrency_safe=True)
    result = await soon(agent([[call("t", n=n) for n in range(128)], "end"], t).run("go"))
    assert result.ok
    assert len(t.entered) == 128
    assert faults_of_pairing(result.messages) is None


@pytest.mark.parametrize(
    "ids", [["", ""], ["a", "a"], ["", "call_1_0"], ["x", "x", "call_1_1"], ["call_1_1", ""]], ids=repr
)
async def test_each_call_has_an_id_of_its_own(ids: list[str]) -> None:
    calls = tuple(ToolCall(name, "t", "{}") for name in ids)
    reply = ChatResponse(ChatMessage(Role.ASSISTANT, None, tool_calls=calls))
    result = await soon(Agent(model=OddThenEnd(reply), tools=[Tool("t")]).run("go"))
    assert result.ok
    assert faults_of_pairing(result.messages) is None
    # An id that is there twice is the same call told twice.
    assert len(of_type(result.events, "tool.finished")) == ids.count("") + len(set(ids) - {""})


class OddThenEnd(OddProvider):
    """The given reply once, then the end."""

    async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
        return say("end") if messages[-1].role is Role.TOOL else self.reply


# --- arguments ------------------------------------------------------------------------------------------

MALFORMED = [
    "[]",
    "[1, 2]",
    "null",
    "3",
    '"text"',
    "{",
    "{'x': 1",
    '{"x": 1} trailing',
    "",
    " ",
    '{"x": NaN}',
    '{"x": Infinity}',
    '{"x": -Infinity}',
    '{"x":' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"x":' * 5_000 + "1" + "}" * 5_000,
    '{"x": 1, "wrong": 2}',
    '{"y": 1}',
    "{}",
    '{"x": "one"}',
    '{"x": true}',
    '{"x": ' + "9" * 5_000 + "}",
    "\x00",
    "\ufeff{}",
]


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: text[:24].encode("unicode_escape").decode())
@pytest.mark.parametrize("kind", ["function", "handler"])
async def test_arguments_that_do_not_fit_are_told_to_the_model(text: str, kind: str) -> None:
    ran: list[Any] = []

    @tool(name="t")
    def function(x: int) -> str:
        """Take one number."""
        ran.append(x)
        return "ran"

    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    handler: Any = function
    if kind == "handler":
        handler = Tool("t", lambda args: ran.append(args) or "ran", parameters=schema)
    result = await soon(agent([ToolCall("c1", "t", text), "end"], handler).run("go"))
    assert result.ok
    (finished,) = of_type(result.events, "tool.finished")
    assert finished.outcome == "error"
    assert finished.error.code == "tool_arguments"
    assert ran == []
    assert faults_of_pairing(result.messages) is None


async def test_not_a_number_is_refused_before_a_human_is_asked() -> None:
    """Shown as null and run as nan would be two different calls."""
    anything = Tool("t", destructive=True)
    result = await soon(agent([ToolCall("c1", "t", '{"x": NaN}'), "end"], anything).run("go"))
    assert result.ok
    assert anything.entered == []


async def test_an_unknown_tool_is_told_to_the_model() -> None:
    result = await soon(agent([call("nope"), "end"], Tool("t")).run("go"))
    (finished,) = of_type(result.events, "tool.finished")
    assert result.ok
    assert finished.outcome == "error"
    assert finished.error.code == "tool_not_found"


# --- tools ----------------------------------------------------------------------------------------------


class Abort(BaseException):
    """As test frameworks and trio have them."""


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
@pytest.mark.parametrize(
    "raised",
    [
        ValueError("x"),
        Weird(),
        StopIteration(),
        StopAsyncIteration(),
        RecursionError(),
        MemoryError(),
        asyncio.CancelledError(),
        SystemExit(3),
        GeneratorExit(),
        Abort("out"),
        TimeoutError("the database"),
    ],
    ids=lambda raised: type(raised).__name__,
)
def test_what_a_tool_raises_is_its_own_result(raised: BaseException, beside: bool) -> None:
    """In a loop on a thread of its own, so that whatever breaks out is seen here and stops nothing else."""

    def explode(_: Any) -> str:
        raise raised

    tools = [Tool("bad", explode, concurrency_safe=True), Tool("good", concurrency_safe=True)]
    calls = [call("good"), call("bad")] if beside else [call("bad")]

    async def main() -> Any:
        return await soon(agent([calls, "end"], *tools).run("go"))

    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(asyncio.run(main()))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    result = outcome[0]
    assert not isinstance(result, BaseException), f"{result!r} broke out of the run"
    assert result.state is RunState.COMPLETED
    bad = next(e for e in of_type(result.events, "tool.finished") if e.name == "bad")
    assert bad.outcome == "error"
    assert bad.error is not None
    assert faults_of_pairing(result.messages) is None


async def test_a_tools_own_timeout_is_not_ours() -> None:
    """Saying that it took 300 seconds when its database timed out at once would be a lie."""

    def impatient(_: Any) -> str:
        raise TimeoutError("the database did not answer")

    result = await soon(agent([call("t"), "end"], Tool("t", impatient)).run("go"))
    (finished,) = of_type(result.events, "tool.finished")
    assert "300" not in finished.result.text
    assert "the database did not answer" in finished.result.text


async def test_a_tool_beyond_its_timeout_is_stopped_alone() -> None:
    gate = Gate()
    slow = Tool("slow", gate, timeout=0.02, concurrency_safe=True)
    result = await soon(
        agent([[call("slow"), call("t")], "end"], slow, Tool("t", concurrency_safe=True)).run("x")
    )
    assert result.ok
    assert gate.interrupted == 1
    slow_end, fast_end = sorted(of_type(result.events, "tool.finished"), key=lambda e: e.name)
    assert slow_end.outcome == "timeout"
    assert slow_end.error.code == "tool_timeout"
    assert fast_end.outcome == "ok"
    await no_strangers()


class Loop(dict[str, Any]):
    """Something that holds itself."""

    def __init__(self) -> None:
        super().__init__()
        self["me"] = self


@pytest.mark.parametrize(
    "returned",
    [object(), Loop(), {1: object()}, ToolResult(None), lambda: 1],  # type: ignore[arg-type]
    ids=["object", "loop", "object in dict", "no text", "function"],
)
async def test_what_a_tool_returns_is_a_result_or_its_error(returned: Any) -> None:
    result = await soon(agent([call("t"), "end"], Tool("t", lambda _: returned)).run("go"))
    assert result.state is RunState.COMPLETED
    assert faults_of_pairing(result.messages) is None
    (finished,) = of_type(result.events, "tool.finished")
    assert isinstance(finished.result.text, str)


@pytest.mark.parametrize(
    "returned",
    [
        ToolResult("ok", data=object()),
        ToolResult("ok", metadata={"x": object()}),
        ToolResult("ok", data={"x": {1, 2}}),
        ToolResult("ok", data=b"\xff"),
    ],
    ids=["data", "metadata", "set", "bytes"],
)
async def test_a_result_that_cannot_be_kept_costs_that_call_only(
    returned: ToolResult, tmp_path: Path
) -> None:
    store = SqliteSessionStore(tmp_path / "s.db")
    built = agent([call("t"), "end"], Tool("t", lambda _: returned), session_store=store)
    result = await soon(built.session().run("go"))
    assert result.state is RunState.COMPLETED, result.error
    await store.aclose()


@pytest.mark.parametrize("limit", [1, 100, 500, 20_000])
async def test_a_giant_output_is_capped(limit: int) -> None:
    giant = Tool("t", lambda _: "x" * 1_000_000)
    runtime = Runtime(limits=RuntimeLimits(max_result_chars=limit))
    result = await soon(agent([call("t"), "end"], giant, runtime=runtime).run("go"))
    assert result.state is RunState.COMPLETED, result.error
    shown = next(m for m in result.messages if m.role is Role.TOOL)
    assert len(shown.text_content or "") <= max(limit, 1000)


async def test_parked_by_a_tool_that_may_not_be_entered_again_is_a_clear_error() -> None:
    def park(_: Any) -> str:
        raise Parked([])

    result = await soon(agent([call("t"), "end"], Tool("t", park)).run("go"))
    (finished,) = of_type(result.events, "tool.finished")
    assert result.ok
    assert finished.outcome == "error"
    assert "idempotent" in finished.result.text


async def test_parked_for_nothing_does_not_spin() -> None:
    """A repeatable tool that leaves without a question would be entered again for ever."""

    def park(_: Any) -> str:
        raise Parked([])

    t = Tool("t", park, idempotent=True)
    result = await soon(agent([call("t"), "end"], t).run("go"), 2)
    assert len(t.entered) < 5
    assert result.state in (RunState.COMPLETED, RunState.FAILED, RunState.WAITING)


# --- hooks and humans -------------------------------------------------------------------------------------


async def test_a_human_who_raises_does_not_cancel_the_run() -> None:
    """Nobody cancelled: the run waits, or has failed, and its request is still there or told."""

    def broken(request: Any) -> bool:
        raise RuntimeError("the form is broken")

    session = agent([call("t"), "end"], Tool("t", destructive=True), human=broken).session()
    try:
        result = await soon(session.run("go"))
    except LoomError:
        result = None
    assert result is None or result.state in (RunState.FAILED, RunState.WAITING)
    log = await session.store.read(session.id)
    assert "run.cancelling" not in types(log)


async def test_a_wrong_answer_of_the_human_does_not_cancel_the_run() -> None:
    session = agent(
        [call("t"), "end"], Tool("t", destructive=True), human=lambda request: request.answer("maybe")
    ).session()
    try:
        result = await soon(session.run("go"))
    except LoomError:
        result = None
    assert result is None or result.state in (RunState.FAILED, RunState.WAITING)
    assert "run.cancelling" not in types(await session.store.read(session.id))


async def test_what_breaks_inside_is_told_as_a_failure_not_as_a_cancel() -> None:
    """A price table of the application that raises is nobody's cancel."""
    built = agent(["end"])

    def broken(usage: Usage) -> float:
        raise ZeroDivisionError

    built.engine.price = broken
    session = built.session()
    try:
        result = await soon(session.run("go"))
        assert result.state is RunState.FAILED
    except ZeroDivisionError:
        pass
    assert "run.cancelling" not in types(await session.store.read(session.id))


async def test_watchers_that_raise_change_nothing() -> None:
    built = agent([call("t"), "end"], Tool("t"))

    def broken(**_: Any) -> None:
        raise RuntimeError("watching went wrong")

    for name in ("after_tool", "after_llm", "after_run", "tool.started", "run.finished"):
        built.on(name, broken)
    assert (await soon(built.run("go"))).ok


async def test_a_watcher_of_everything_that_raises_denies_nothing() -> None:
    built = agent([call("t"), "end"], t := Tool("t"))

    def broken(**_: Any) -> None:
        raise RuntimeError("watching went wrong")

    built.on("*", broken)
    assert (await soon(built.run("go"))).ok
    assert len(t.entered) == 1


async def test_a_watcher_of_everything_sees_each_event_once() -> None:
    built = agent([call("t"), "end"], Tool("t"))
    seen: list[str] = []
    built.on("*", lambda **payload: seen.append(payload["event_name"]))
    built.on("tool.started", lambda **_: None)
    result = await soon(built.run("go"))
    words = set(types(result.events))
    assert words <= {{"after_llm": "model.replied", "after_tool": "tool.finished"}.get(w, w) for w in seen}
    assert seen.count("tool.started") == 1


def test_the_malformed_arguments_of_this_file_are_what_they_say() -> None:
    fine = [text for text in MALFORMED if _reads(text)]
    assert fine == ['{"x": 1, "wrong": 2}', '{"y": 1}', "{}", '{"x": "one"}', '{"x": true}']


def _reads(text: str) -> bool:
    try:
        read = json.loads(text, parse_constant=lambda word: 1 / 0)
    except (ValueError, RecursionError, ZeroDivisionError):
        return False
    return isinstance(read, dict) and "9" * 9 not in text and len(text) < 10_000
