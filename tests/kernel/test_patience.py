"""Providers, hooks and people that do not stop when they are told to, and what of a reply is kept when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from stage import Gate, Tool, agent, of_type, soon, types

from loom.agent import Agent
from loom.llm.base import ContentDeltaEvent, LLMProvider, ProviderEvent, StopEvent
from loom.policies.profile import Runtime, RuntimeLimits
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import ScriptedProvider, call, say
from loom.types import ChatMessage, ChatResponse, RunState

pytestmark = pytest.mark.timeout(30)


def _short(**limits: Any) -> dict[str, Any]:
    return {"runtime": Runtime(limits=RuntimeLimits(cancel_grace=0.05, **limits))}


async def _stubborn(until: asyncio.Event) -> None:
    """Wait, whoever cancels it."""
    while not until.is_set():
        try:
            await until.wait()
        except asyncio.CancelledError:
            continue


class Stubborn(LLMProvider):
    """A model service's client that swallows every cancellation."""

    def __init__(self, streams: bool) -> None:
        self.streams, self.done, self.asked = streams, asyncio.Event(), asyncio.Event()

    async def chat(self, messages: Sequence[ChatMessage], **_: Any) -> ChatResponse:
        self.asked.set()
        await _stubborn(self.done)
        return say("late")

    async def chat_stream(self, messages: Sequence[ChatMessage], **_: Any) -> AsyncIterator[ProviderEvent]:
        yield ContentDeltaEvent("half of ")
        self.asked.set()
        await _stubborn(self.done)
        yield ContentDeltaEvent("late")


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("how", ["limit", "cancel"])
async def test_review_f5_a_provider_that_swallows_cancellation_does_not_hold_the_run(
    how: str, streams: bool
) -> None:
    provider = Stubborn(streams)
    options = _short(max_seconds=0.05) if how == "limit" else _short()
    session = Agent(model=provider, **options).session("s")
    if streams or how == "cancel":
        run = session.start("go")
        await soon(provider.asked.wait())
        cancelling = asyncio.ensure_future(run.cancel()) if how == "cancel" else None
        result = await soon(run.wait())
        if cancelling:
            await soon(cancelling)
    else:
        result = await soon(session.run("go"))
    assert result.state is (RunState.LIMIT_REACHED if how == "limit" else RunState.CANCELLED)
    provider.done.set()
    again = Agent(model=ScriptedProvider(["fine"]))
    assert (await soon(again.run("x"))).ok


async def test_review_f5_a_limit_that_rang_wins_over_a_reply_that_came_after_it() -> None:
    class Late(LLMProvider):
        async def chat(self, messages: Sequence[ChatMessage], **_: Any) -> ChatResponse:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return say("too late")
            raise AssertionError

    runtime = Runtime(limits=RuntimeLimits(max_seconds=0.02))
    result = await soon(Agent(model=Late(), runtime=runtime).run("go"))
    assert result.state is RunState.LIMIT_REACHED
    assert result.text == "too late"
    assert types(result.events)[-3:] == ["limit.reached", "model.replied", "run.finished"]


@pytest.mark.parametrize("name", ["before_llm", "before_tool", "tool.finished", "model.replied"])
async def test_review_f5_a_hook_that_swallows_cancellation_does_not_hold_the_run(name: str) -> None:
    done, entered = asyncio.Event(), asyncio.Event()

    async def hook(**_: Any) -> None:
        entered.set()
        await _stubborn(done)

    built = agent([call("t"), "end"], Tool("t"), **_short())
    built.on(name, hook)
    run = built.session("s").start("go")
    await soon(entered.wait())
    assert (await soon(run.cancel())).state is RunState.CANCELLED
    done.set()


async def test_review_f5_a_human_who_swallows_cancellation_does_not_hold_the_run() -> None:
    done, entered = asyncio.Event(), asyncio.Event()

    async def human(request: Any) -> bool:
        entered.set()
        await _stubborn(done)
        return True

    d = Tool("d", destructive=True)
    run = agent([call("d"), "end"], d, human=human, **_short()).session("s").start("go")
    await soon(entered.wait())
    assert (await soon(run.cancel())).state is RunState.CANCELLED
    assert d.entered == []
    done.set()


# --- a reply that was broken off ----------------------------------------------------------------------


class Speaks(LLMProvider):
    """Says something and then waits, or fails; then answers."""

    def __init__(self, gate: Any) -> None:
        self.gate, self.requests = gate, []

    async def chat(self, messages: Sequence[ChatMessage], **_: Any) -> ChatResponse:
        self.requests.append(list(messages))
        return say("whole")

    async def chat_stream(self, messages: Sequence[ChatMessage], **_: Any) -> AsyncIterator[ProviderEvent]:
        self.requests.append(list(messages))
        if len(self.requests) > 1:
            yield ContentDeltaEvent("whole")
            yield StopEvent("stop")
            return
        yield ContentDeltaEvent("Once upon ")
        yield ContentDeltaEvent("a time")
        await self.gate()


@pytest.mark.parametrize("how", ["cancel", "leave", "limit", "failure"])
async def test_review_g1_text_streamed_before_a_stop_is_kept_and_told(how: str, tmp_path: Any) -> None:
    gate: Any = Gate()
    if how == "failure":

        async def gate() -> None:
            raise RuntimeError("gone")

    provider, store = Speaks(gate), SqliteSessionStore(tmp_path / "s.db")
    cancelling: list[Any] = []
    options = _short(max_seconds=0.05) if how == "limit" else {}
    session = Agent(model=provider, session_store=store, **options).session("s")
    async with session.stream("Tell me a story") as stream:
        async for event in stream:
            if event.type == "text.delta" and event.text == "a time":
                if how == "cancel":
                    handle = session.get_run(event.run_id)
                    assert handle is not None
                    cancelling.append(asyncio.ensure_future(handle.cancel()))
                    await asyncio.sleep(0)
                elif how == "leave":
                    break
    result = stream.result
    assert result.state is not RunState.COMPLETED
    assert result.text == "Once upon a time"
    [cut] = of_type(result.events, "model.cut")
    assert cut.text == "Once upon a time"
    assert result.usage.estimated
    assert result.usage.total_tokens > 0
    assert "Once upon a time" in str(store.load_transcript(result.run_id))
    again = Agent(model=provider, session_store=store).session("s")
    assert (await soon(again.run("Go on"))).ok
    said = [m.text_content or "" for m in provider.requests[-1]]
    assert said[0] == "Tell me a story"
    assert said[1].startswith("Once upon a time\n\n[The run ")
    assert said[2] == "Go on"


async def test_review_g1_a_cut_reply_is_gone_on_with_by_retry() -> None:
    async def gate() -> None:
        raise RuntimeError("gone")

    provider = Speaks(gate)
    session = Agent(model=provider).session("s")
    async with session.stream("Tell me a story") as stream:
        _ = [event async for event in stream]
    done = await soon(session.retry(stream.run_id).wait())
    assert done.output == "whole"
    assert [m.role.value for m in provider.requests[-1]] == ["user", "assistant", "user"]
    assert done.iterations == 2
