"""Sessions: what one remembers, what two processes agree on, forks, and answers of a declared type."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any, TypedDict

import pydantic
import pytest
from stage import RecordsOnly, Tool, agent, faults_of_pairing, of_type, soon, types

from loom.agent import Agent
from loom.errors import ConfigError
from loom.policies.profile import Runtime, RuntimeLimits
from loom.runtime.grounds import SessionConfig
from loom.store.base import SessionStore
from loom.store.file import FileSessionStore
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import ScriptedProvider, call, say
from loom.tools.base import RunContext, ToolContext
from loom.tools.function import tool
from loom.types import ChatMessage, Role, RunState, StopReason

pytestmark = pytest.mark.timeout(20)


@pytest.fixture(params=["memory", "sqlite", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SessionStore:
    if request.param == "memory":
        return InMemorySessionStore()
    return (
        SqliteSessionStore(tmp_path / "s.db")
        if request.param == "sqlite"
        else FileSessionStore(tmp_path / "s")
    )


class Process:
    """An agent as another process would build it over the same store, and what its model was shown."""

    def __init__(self, store: SessionStore, *replies: Any, **options: Any) -> None:
        self.provider = ScriptedProvider(replies)
        tools = [Tool("d", destructive=True), Tool("t")]
        self.agent: Agent[Any, Any] = Agent(model=self.provider, tools=tools, session_store=store, **options)
        self.session = self.agent.session("s")

    def shown(self) -> list[Any]:
        return [m.content for m in self.provider.requests[-1].messages if m.content]


async def test_two_processes_remember_the_same(store: SessionStore) -> None:
    one, two = Process(store, "a1", "a3"), Process(store, "a2", "a4")
    for n, process in enumerate([one, two, one, two], start=1):
        assert (await soon(process.session.run(f"q{n}"))).ok
    assert two.shown() == ["q1", "a1", "q2", "a2", "q3", "a3", "q4"]
    await store.aclose()


async def test_a_run_parked_here_and_finished_there_is_remembered_here(store: SessionStore) -> None:
    """The first process saw its beginning, the second its end; both must know all of it from then on."""
    one, two = Process(store, call("d"), "a2"), Process(store, "a1", "a3")
    waiting = await soon(one.session.run("q1"))
    done = await soon(two.session.resume(None, [waiting.pending[0].approve()]).wait())
    assert done.output == "a1"
    await soon(one.session.run("q2"))
    assert one.shown() == ["q1", "d done", "a1", "q2"]
    await soon(two.session.run("q3"))
    assert two.shown() == ["q1", "d done", "a1", "q2", "a2", "q3"]
    await store.aclose()


async def test_a_run_resumed_anywhere_sees_what_it_saw_at_its_start(store: SessionStore) -> None:
    """Runs that ended after it began are not suddenly in front of it."""
    one = Process(store, "a1", call("d"), "a3")
    await soon(one.session.run("q1"))
    waiting = await soon(one.session.run("q2"))
    await soon(one.session.run("q3"))
    assert one.shown() == ["q1", "a1", "q3"]
    two = Process(store, "a2", "a4")
    done = await soon(two.session.resume(waiting.run_id, [waiting.pending[0].approve()]).wait())
    assert done.ok
    assert two.shown() == ["q1", "a1", "q2", "d done"]
    await soon(two.session.run("q4"))
    assert faults_of_pairing(two.provider.requests[-1].messages) is None
    three = Process(store, "a5")
    await soon(three.session.run("q5"))
    assert three.shown()[: len(two.shown())] == two.shown()
    await store.aclose()


@pytest.mark.parametrize("ending", ["failed", "cancelled", "limit", "stuck", "truncated", "denied"])
async def test_whatever_ended_the_last_run_the_next_window_is_valid(ending: str, store: SessionStore) -> None:
    replies: list[Any] = [[call("t"), call("d")]]
    replies += {
        "failed": [RuntimeError("gone")],
        "cancelled": [],
        "limit": [call("t", n=1)],
        "stuck": [call("nope")] * 3,
        "truncated": [say("half", stop_reason=StopReason.LENGTH)],
        "denied": ["ok then"],
    }[ending]
    runtime = Runtime(limits=RuntimeLimits(max_iterations=2 if ending == "limit" else 9))
    human = (lambda request: False) if ending == "denied" else (lambda request: True)
    one = Process(store, *replies, runtime=runtime, human=None if ending == "cancelled" else human)
    if ending == "cancelled":
        run = one.session.start("q1")
        await soon(run.wait())
        result = await one.session.resume(run.id).cancel()
    else:
        result = await soon(one.session.run("q1"))
    assert result is not None
    assert result.ok == (ending == "denied")
    two = Process(store, "a2")
    assert (await soon(two.session.run("q2"))).ok
    messages = two.provider.requests[-1].messages
    assert faults_of_pairing(messages) is None
    assert messages[-1].content == "q2"
    assert len(messages) >= 5
    assert all(m.content or m.tool_calls for m in messages)
    await store.aclose()


async def test_a_reply_of_nothing_is_not_said_again() -> None:
    """Services refuse a conversation that holds an empty message."""
    one = Process(InMemorySessionStore(), say(""), "a2")
    assert (await soon(one.session.run("q1"))).state is RunState.FAILED
    await soon(one.session.run("q2"))
    assert all(m.content or m.tool_calls for m in one.provider.requests[-1].messages)


async def test_a_run_that_failed_before_the_model_spoke_is_told_to_the_next() -> None:
    one = Process(InMemorySessionStore(), RuntimeError("down"), "a2")
    await soon(one.session.run("q1"))
    await soon(one.session.run("q2"))
    assert one.shown() == ["q1", "[The run failed (provider) before it was finished.]", "q2"]


# --- forks ----------------------------------------------------------------------------------------------


async def test_fork(store: SessionStore) -> None:
    one = Process(store, "a1", "a2", "b2", "c2")
    first = await soon(one.session.run("q1"))
    await soon(one.session.run("q2"))
    by_now = await soon(one.session.fork("by-now"))
    earlier = await soon(one.session.fork("earlier", at=first.events[-1].seq))
    await soon(by_now.run("q3"))
    assert one.shown() == ["q1", "a1", "q2", "a2", "q3"]
    await soon(earlier.run("q3"))
    assert one.shown() == ["q1", "a1", "q3"]
    with pytest.raises(ConfigError):
        await soon(one.session.fork("earlier"))
    assert types(await store.read("s")).count("run.started") == 2
    fresh = Process(store, "a4")
    fresh.session = fresh.agent.session("earlier")
    await soon(fresh.session.run("q4"))
    assert fresh.shown() == ["q1", "a1", "q3", "c2", "q4"]
    await store.aclose()


async def test_forks_of_a_session_nobody_has_read_yet(store: SessionStore) -> None:
    """Two readers at once must not take in the same events twice."""
    await soon(Process(store, "a1").session.run("q1"))
    other = Process(store, "x", "y")
    forks = await soon(asyncio.gather(*(other.session.fork(f"f{n}") for n in range(4))))
    for fork in forks:
        (event,) = await store.read(fork.id)
        assert [m.content for m in event.messages] == ["q1", "a1"]  # type: ignore[attr-defined]
    await soon(other.session.run("q2"))
    assert other.shown() == ["q1", "a1", "q2"]
    await store.aclose()


async def test_fork_while_a_run_goes_on(store: SessionStore) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait(_: Any) -> str:
        reached.set()
        await go.wait()
        return "ok"

    provider = ScriptedProvider(["a1", call("t"), "a2", "b", "a3"])
    built: Agent[Any, Any] = Agent(model=provider, tools=[Tool("t", wait)], session_store=store)
    session = built.session("s")
    await soon(session.run("q1"))
    run = session.start("q2")
    await soon(reached.wait())
    fork = await soon(session.fork("f"))
    go.set()
    assert (await soon(run.wait())).ok
    await soon(fork.run("q"))
    assert [m.content for m in provider.requests[-1].messages] == ["q1", "a1", "q"]
    await soon(session.run("q3"))
    shown = [m.content for m in provider.requests[-1].messages if m.content]
    assert shown == ["q1", "a1", "q2", "ok", "a2", "q3"]
    await store.aclose()


async def test_a_fork_copies_no_open_request_and_no_approval() -> None:
    store = InMemorySessionStore()
    one = Process(store, call("d"), call("d"))
    waiting = await soon(one.session.run("q1"))
    fork = await soon(one.session.fork("f"))
    assert await fork.pending() == []
    again = await soon(fork.run("q1"))
    assert again.state is RunState.WAITING
    assert again.pending[0].id != waiting.pending[0].id
    assert again.pending[0].digest != waiting.pending[0].digest


# --- context ------------------------------------------------------------------------------------------


async def test_inputs_are_shown_and_dependencies_only_reach_tools() -> None:
    got: list[Any] = []

    @tool
    def look(context: ToolContext) -> str:
        """Look at the context."""
        got.append((context.deps, context.inputs))
        return "ok"

    provider = ScriptedProvider([call("look"), "end"])
    built: Agent[Any, Any] = Agent(model=provider, tools=[look])
    secret = object()
    await soon(built.run("go", context=RunContext(inputs={"x": 1}), deps=secret))
    assert got == [(secret, {"x": 1})]
    assert '"x":1' in str(provider.requests[0].messages[-1].content)
    assert repr(secret) not in str(provider.requests)


async def test_inputs_that_are_not_plain_fail_before_anything_is_written() -> None:
    session = agent(["end"]).session("s")
    with pytest.raises((ConfigError, TypeError, ValueError)):
        await soon(session.run("go", context=RunContext(inputs={"x": object()})))
    assert await session.store.read("s") == []
    assert (await soon(session.run("go"))).ok


@pytest.mark.parametrize("task", ["", " ", "\n"])
async def test_an_empty_task_is_refused(task: str) -> None:
    session = agent(["end"]).session("s")
    with pytest.raises(ValueError, match=r"."):
        await session.run(task)
    assert await session.store.head("s") == 0


# --- records ------------------------------------------------------------------------------------------


async def test_a_store_of_records_hears_of_starts_waits_and_ends() -> None:
    """As its port says: called when a run starts, waits and ends."""
    store = RecordsOnly()
    built = agent([call("d"), "end"], Tool("d", destructive=True), session_store=store)
    session = built.session("s")
    waiting = await soon(session.run("go"))
    assert [record.state for record in store.saved] == ["running", "waiting"]
    await soon(session.resume(None, [waiting.pending[0].approve()]).wait())
    assert store.saved[-1].state == "completed"
    assert store.saved[-1].output == "end"


@pytest.mark.parametrize("fails_at", [1, 2])
async def test_records_that_cannot_be_saved_do_not_destroy_the_answer(fails_at: int) -> None:
    class Full(RecordsOnly):
        saves = 0

        def save_run(self, record: Any) -> None:
            self.saves += 1
            if self.saves >= fails_at:
                raise RuntimeError("their database is down")
            super().save_run(record)

    result = await soon(agent(["the answer"], session_store=Full()).session("s").run("go"))
    assert result.text == "the answer"
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "store"


# --- output of a declared type --------------------------------------------------------------------------


class Point(pydantic.BaseModel):
    x: int
    y: int


@dataclasses.dataclass
class Pair:
    x: int
    y: int


class Row(TypedDict):
    x: int
    y: int


@pytest.mark.parametrize("kind", [Point, Pair, Row])
async def test_the_output_is_a_value_of_its_type(kind: Any) -> None:
    result = await soon(agent(['{"x": 1, "y": 2}'], output_type=kind).run("go"))
    assert result.ok
    assert (result.output == {"x": 1, "y": 2}) if kind is Row else result.output == kind(x=1, y=2)


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
async def test_asking_again_is_bounded(attempts: int) -> None:
    provider = ScriptedProvider(["no"] * 9)
    built: Agent[Any, Any] = Agent(
        model=provider, output_type=Point, runtime=Runtime(output_attempts=attempts)
    )
    result = await soon(built.run("go"))
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "output_invalid"
    assert len(provider.requests) == attempts
    assert result.text == "no"
    judged = of_type(result.events, "quality.judged")
    assert [event.attempt for event in judged] == list(range(1, attempts + 1))
    assert not any(event.passed for event in judged)


async def test_the_critique_reaches_the_model_and_tools_may_be_called_between() -> None:
    provider = ScriptedProvider(['{"x": 1}', call("t"), '{"x": 1, "y": 2}'])
    built: Agent[Any, Any] = Agent(model=provider, tools=[Tool("t")], output_type=Point)
    result = await soon(built.run("go"))
    assert result.ok
    assert result.output == Point(x=1, y=2)
    critique = provider.requests[1].messages[-1]
    assert critique.role is Role.USER
    assert "y" in str(critique.content)
    assert faults_of_pairing(result.messages) is None


async def test_asking_again_is_counted_over_a_pause() -> None:
    provider = ScriptedProvider(["no", call("d"), "no", "no", "no"])
    built: Agent[Any, Any] = Agent(
        model=provider,
        tools=[Tool("d", destructive=True)],
        output_type=Point,
        runtime=Runtime(output_attempts=3),
    )
    session = built.session("s")
    waiting = await soon(session.run("go"))
    result = await soon(session.resume(None, [waiting.pending[0].approve()]).wait())
    assert result.state is RunState.FAILED
    assert len(provider.requests) == 4


async def test_the_budget_holds_while_asking_again() -> None:
    built = agent(
        ["no"] * 9,
        output_type=Point,
        runtime=Runtime(limits=RuntimeLimits(max_iterations=2), output_attempts=5),
    )
    result = await soon(built.run("go"))
    assert result.state is RunState.LIMIT_REACHED
    assert result.iterations == 2


async def test_a_waiting_run_has_text_and_no_output() -> None:
    built = agent([["thinking", call("d")]], Tool("d", destructive=True), output_type=Point)
    result = await soon(built.run("go"))
    assert result.state is RunState.WAITING
    assert result.text == "thinking"


async def test_sessions_of_the_same_id_in_one_process_are_one(store: SessionStore) -> None:
    built = agent(["a1", "a2"], session_store=store)
    one, two = built.session("s"), built.session(SessionConfig(id="s"))
    assert one is two
    results = await soon(asyncio.gather(one.run("q1"), two.run("q2")))
    assert [result.output for result in results] == ["a1", "a2"]
    await store.aclose()


async def test_two_agents_in_one_session_wait_for_each_other(store: SessionStore) -> None:
    one, two = Process(store, "a1"), Process(store, "a2")
    results = await soon(asyncio.gather(one.session.run("q1"), two.session.run("q2")))
    assert all(result.ok for result in results)
    log = await store.read("s")
    runs = [event.run_id for event in log]
    assert runs == sorted(runs, key=runs.index), "the two runs are mixed up in the log"
    await store.aclose()


def test_messages_of_a_result_are_those_of_its_run() -> None:
    built = agent(["a1", "a2"])

    async def main() -> list[ChatMessage]:
        session = built.session("s")
        await session.run("q1")
        return list((await session.run("q2")).messages)

    assert [m.content for m in asyncio.run(main())] == ["q2", "a2"]
