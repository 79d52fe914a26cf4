"""Run, stream and handle are one path; any number of readers see one order, each at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stage import FailingStore, Gate, Tool, agent, no_strangers, of_type, soon, strangers, types

from loom.agent import Agent
from loom.errors import RecordNotFound, RequestClosed, StoreError
from loom.events import Event
from loom.llm.base import ContentDeltaEvent, LLMProvider, ProviderEvent
from loom.runtime.run import Run
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import ScriptedProvider, call, say
from loom.types import ChatMessage, ChatResponse, Role, RunState

pytestmark = pytest.mark.timeout(20)

_OWN = {"run_id", "session_id", "at", "worked", "duration_ms", "idempotency_key"}


def plain(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Kept events without what differs from run to run."""
    rows: list[dict[str, Any]] = []
    for event in events:
        if event.durable:
            row = {k: v for k, v in msgspec.to_builtins(event).items() if k not in _OWN}
            if "request" in row:
                row["request"] = {**row["request"], "id": "", "run_id": "", "session_id": "", "digest": ""}
                row["request"].pop("opened_at", None)
            if "answer" in row:
                row["answer"] = {**row["answer"], "request_id": "", "at": 0}
            row.pop("digest", None)
            rows.append(row)
    return rows


SCRIPTS: dict[str, list[Any]] = {
    "answer": ["hello"],
    "tools": [["thinking", call("a", n=1), call("b"), call("a", n=2)], call("missing"), "end"],
    "approval": [[call("d"), call("a")], "end"],
    "failure": [call("a"), RuntimeError("gone")],
    "stuck": [call("bad")] * 3,
}


def _agent(script: list[Any], **options: Any) -> Agent[Any, Any]:
    def bad(_: Any) -> str:
        raise ValueError("no")

    tools = [Tool("a", concurrency_safe=True), Tool("b"), Tool("d", destructive=True), Tool("bad", bad)]
    return agent(script, *tools, human=lambda request: True, **options)


@pytest.mark.parametrize("script", list(SCRIPTS))
async def test_run_stream_and_start_are_one_path(script: str) -> None:
    ran = await soon(_agent(SCRIPTS[script]).session().run("go"))
    streamed = [event async for event in _agent(SCRIPTS[script]).session().stream("go")]
    from_agent = [event async for event in _agent(SCRIPTS[script]).stream("go")]
    run = _agent(SCRIPTS[script]).session().start("go")
    followed = [event async for event in run.events()]
    result = await soon(run.wait())
    assert (
        plain(ran.events) == plain(streamed) == plain(from_agent) == plain(followed) == plain(result.events)
    )
    for name in ("state", "output", "usage", "iterations", "cost", "error"):
        assert getattr(ran, name) == getattr(result, name), name
    assert list(ran.messages) == list(result.messages)


async def test_deltas_are_not_kept_and_carry_the_seq_before_them() -> None:
    built = Agent(model=ScriptedProvider([say("a long answer", thinking="hmm")], chunk=3))
    session = built.session()
    seen = [event async for event in session.stream("go")]
    deltas = [event for event in seen if not event.durable]
    assert types(deltas)[0] == "model.requested"
    assert "".join(event.text for event in of_type(seen, "text.delta")) == "a long answer"
    assert {event.seq for event in deltas} == {1}
    log = await session.store.read(session.id)
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert all(event.durable for event in log)


async def test_many_followers_from_many_places_see_one_order() -> None:
    gate = Gate()
    session = agent([[call("a"), call("a")], call("t"), "end"], Tool("a"), Tool("t", gate)).session()
    run = session.start("go")
    before = strangers()
    early = [asyncio.create_task(_read(run, after)) for after in range(0, 20, 2)]
    await soon(gate.reached.wait())
    late = [asyncio.create_task(_read(run, after)) for after in range(0, 20, 2)]
    await asyncio.sleep(0)
    gate.open.set()
    result = await soon(run.wait())
    after_the_end = [await soon(_read(run, after)) for after in range(0, 20, 2)]
    for readers in (await soon(asyncio.gather(*early)), await soon(asyncio.gather(*late)), after_the_end):
        for after, seen in zip(range(0, 20, 2), readers, strict=True):
            kept = [event for event in seen if event.durable]
            assert kept == [event for event in result.events if event.seq > after]
    await no_strangers(before)


async def test_a_reader_who_stops_costs_nobody_anything() -> None:
    session = agent([call("a")] * 5 + ["end"], Tool("a")).session()
    run = session.start("go")
    stopped = run.events()
    first = await anext(stopped)
    assert first.type == "run.started"
    patient = asyncio.create_task(_read(run))
    assert (await soon(run.wait())).ok
    assert types(await soon(patient))[-1] == "run.finished"
    assert types([event async for event in stopped])[-1] == "run.finished"
    async with aclosing(run.events()) as events:  # type: ignore[type-var]
        async for _ in events:
            break


class Babbler(LLMProvider):
    """Says very much, in very small pieces."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces

    async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
        return say("x" * self.pieces)

    async def chat_stream(
        self, messages: Sequence[ChatMessage], **options: Any
    ) -> AsyncIterator[ProviderEvent]:
        for _ in range(self.pieces):
            yield ContentDeltaEvent("x")


async def test_a_slow_follower_is_bounded_and_misses_no_kept_event() -> None:
    run = Agent(model=Babbler(20_000)).session().start("go")
    slow = run.events()
    seen = [await anext(slow)]
    result = await soon(run.wait(), 15)
    held = run._followers._readers[0]._events  # what it costs is what is asked here
    assert len(held) < 2_000
    seen += [event async for event in slow]
    assert [event for event in seen if event.durable] == list(result.events)
    assert len(result.output) == 20_000


@pytest.mark.parametrize("kept", ["memory", "disk"])
async def test_following_a_resumed_run_from_the_start(kept: str, tmp_path: Path) -> None:
    """Same run, same stream positions: who follows from 0 sees the whole run, whenever they ask."""
    store = InMemorySessionStore() if kept == "memory" else SqliteSessionStore(tmp_path / "s.db")
    built = agent([call("d"), "end"], Tool("d", destructive=True), session_store=store)
    waiting = await soon(built.session("s").run("go"))
    run = built.session("s").resume(waiting.run_id, [waiting.pending[0].approve()])
    at_once = asyncio.create_task(_read(run))
    from_there = asyncio.create_task(_read(run, waiting.events[-1].seq))
    result = await soon(run.wait())
    log = await store.read("s")
    assert list(result.events) == log
    assert await _kept(_read(run)) == log
    assert await _kept(at_once) == log
    assert await _kept(from_there) == log[len(waiting.events) :]
    await store.aclose()


@pytest.mark.parametrize("kept", ["memory", "disk"])
async def test_following_a_finished_run_that_is_resumed(kept: str, tmp_path: Path) -> None:
    store = InMemorySessionStore() if kept == "memory" else SqliteSessionStore(tmp_path / "s.db")
    built = agent(["end"], session_store=store)
    done = await soon(built.session("s").run("go"))
    run = built.session("s").resume(done.run_id)
    at_once = asyncio.create_task(_read(run))
    again = await soon(run.wait())
    assert again.state is RunState.COMPLETED
    assert again.output == "end"
    assert await _kept(at_once) == list(done.events)
    assert types(await store.read("s"))[-1] == "run.finished"
    await store.aclose()


async def test_followers_end_when_the_run_cannot_go_on() -> None:
    session = agent(["end"], session_store=FailingStore(1)).session()
    run = session.start("go")
    with pytest.raises(StoreError):
        await soon(_read(run))
    with pytest.raises(StoreError):
        await soon(run.wait())
    missing = session.resume("run_unknown")
    with pytest.raises(RecordNotFound):
        await soon(_read(missing))
    await no_strangers()


async def test_two_ways_to_follow_and_to_wait() -> None:
    run = agent(["end"]).session().start("go")
    seen = [event async for event in run]
    assert types(seen)[-1] == "run.finished"
    assert (await run).output == "end"
    assert run.result is not None
    assert run.result.ok
    assert run.state is RunState.COMPLETED


async def test_waiting_can_be_cancelled_without_stopping_the_run() -> None:
    gate = Gate()
    run = agent([call("t"), "end"], Tool("t", gate)).session().start("go")
    waiter = asyncio.create_task(run.wait())
    await soon(gate.reached.wait())
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(waiter)
    gate.open.set()
    assert (await soon(run.wait())).ok


async def test_the_result_answers_attributes_and_keys() -> None:
    built = agent([[call("a"), call("x")], "end"], Tool("a"))
    run = built.session().start("go")
    result = await soon(run.wait())
    for name in (
        "run_id", "state", "output", "artifacts", "events", "messages", "usage", "cost", "iterations",
        "error", "pending", "duration_ms", "session_id",
    ):  # fmt: skip
        assert result[name] == getattr(result, name), name
        assert name in result
    assert result["status"] == "completed"
    assert result.get("nothing") is None
    with pytest.raises(KeyError):
        result["_private"]
    assert result.iterations == 2
    assert result.usage.total_tokens == 30
    assert result.messages[0].role is Role.USER
    assert result.messages[-1].content == "end"
    assert (await run.artifacts())[0].metadata["content"] == "end"
    transcript = await run.transcript()
    assert transcript["state"] == "completed"
    assert transcript["output"] == "end"
    assert msgspec.json.encode(transcript)


async def test_two_sessions_of_one_agent_never_see_each_other() -> None:
    provider = ScriptedProvider([lambda messages, tools: f"{len(messages)}"] * 40)
    built = Agent(model=provider)
    sessions = [built.session() for _ in range(10)]
    for _ in range(3):
        await soon(asyncio.gather(*(session.run(session.id) for session in sessions)))
    for request in provider.requests:
        said = {m.content for m in request.messages if m.role is Role.USER}
        assert len(said) == 1


async def test_runs_of_one_session_take_turns_in_order() -> None:
    provider = ScriptedProvider([f"answer {n}" for n in range(10)])
    built = Agent(model=provider)
    session = built.session()
    runs = [session.start(f"question {n}") for n in range(10)]
    results = await soon(asyncio.gather(*(run.wait() for run in runs)))
    assert [result.output for result in results] == [f"answer {n}" for n in range(10)]
    for n, request in enumerate(provider.requests):
        assert [m.content for m in request.messages][::2] == [f"question {k}" for k in range(n + 1)]
    log = await session.store.read(session.id)
    assert [e.run_id for e in of_type(log, "run.started")] == [run.id for run in runs]
    assert (
        types(log) == ["run.started", "model.replied", "quality.judged", "run.finished"] * 10
        or types(log) == ["run.started", "model.replied", "run.finished"] * 10
    )


async def test_resume_none_takes_the_newest_unfinished_run() -> None:
    built = agent([call("d"), call("d"), "second done", "first done"], Tool("d", destructive=True))
    session = built.session()
    first = await soon(session.run("first"))
    second = await soon(session.run("second"))
    assert first.state is second.state is RunState.WAITING
    assert {request.run_id for request in await session.pending()} == {first.run_id, second.run_id}
    done = await soon(session.resume(None, [second.pending[0].approve()]).wait())
    assert done.run_id == second.run_id
    assert done.output == "second done"
    rest = await soon(session.resume(answers=[first.pending[0].approve()]).wait())
    assert rest.run_id == first.run_id
    assert rest.output == "first done"
    with pytest.raises(RecordNotFound):
        await soon(session.resume().wait())


async def test_an_answer_to_another_run_of_the_session_is_refused() -> None:
    built = agent([call("d"), call("d")], d := Tool("d", destructive=True))
    session = built.session()
    first = await soon(session.run("first"))
    second = await soon(session.run("second"))
    with pytest.raises(RequestClosed):
        await soon(session.resume(second.run_id, [first.pending[0].approve()]).wait())
    assert d.entered == []
    assert len(await session.pending()) == 2


async def _read(run: Run[Any], after: int = 0) -> list[Event]:
    return [event async for event in run.events(after)]


async def _kept(reading: Any) -> list[Event]:
    return [event for event in await soon(reading) if event.durable]
