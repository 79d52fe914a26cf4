"""A run can be stopped wherever it waits, and what it leaves behind is whole: one result for each call, no task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from stage import (
    Gate,
    RecordsOnly,
    SlowStore,
    Tool,
    agent,
    faults_of_pairing,
    no_strangers,
    of_type,
    soon,
    strangers,
    types,
)

from loom.agent import Agent
from loom.errors import RequestClosed
from loom.events import Event
from loom.llm.base import ContentDeltaEvent, LLMProvider, ProviderEvent
from loom.policies.profile import Runtime, RuntimeLimits
from loom.requests import Answer, Request
from loom.runtime.result import RunResult
from loom.runtime.run import Run
from loom.testing.scripted import call
from loom.types import ChatMessage, ChatResponse, RunState

pytestmark = pytest.mark.timeout(20)


class WaitingModel(LLMProvider):
    """Waits at its gate before it says anything, or in the middle of its stream."""

    def __init__(self, *, halfway: bool = False) -> None:
        self.gate = Gate()
        self.halfway = halfway
        self.closed = 0

    async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
        await self.gate()
        raise AssertionError("nobody opens this gate")

    async def chat_stream(
        self, messages: Sequence[ChatMessage], **options: Any
    ) -> AsyncIterator[ProviderEvent]:
        try:
            if self.halfway:
                yield ContentDeltaEvent("once upon")
            await self.gate()
            yield ContentDeltaEvent(" a time")
        finally:
            self.closed += 1


class WaitingHuman:
    """Never gets round to answering."""

    def __init__(self) -> None:
        self.gate = Gate()

    async def ask(self, request: Request) -> Answer | None:
        await self.gate()
        return request.approve()


class Scene:
    """An agent, and the gate at which its run waits."""

    def __init__(self, built: Agent[Any, Any], gate: Gate, calls: int = 0) -> None:
        self.agent = built
        self.gate = gate
        self.calls = calls


def _scene(name: str) -> Scene:
    gate = Gate()
    match name:
        case "model":
            model = WaitingModel()
            return Scene(Agent(model=model), model.gate)
        case "stream":
            model = WaitingModel(halfway=True)
            return Scene(Agent(model=model), model.gate)
        case "tool":
            return Scene(agent([call("t")], Tool("t", gate)), gate, 1)
        case "parallel tools":
            tools = [Tool("a", concurrency_safe=True), Tool("t", gate, concurrency_safe=True)]
            return Scene(agent([[call("a"), call("t"), call("t"), call("a")]], *tools), gate, 4)
        case "tools in a row":
            return Scene(agent([[call("a"), call("t"), call("a")]], Tool("a"), Tool("t", gate)), gate, 3)
        case "human":
            human = WaitingHuman()
            built = agent([[call("t"), call("a")]], Tool("t", destructive=True), Tool("a"), human=human)
            return Scene(built, human.gate, 2)
        case "gate of a tool":
            built = agent([[call("t"), call("t")]], Tool("t"))
            built.on("before_tool", lambda **_: _nothing(gate))
            return Scene(built, gate, 2)
        case "gate of the model":
            built = agent(["end"])
            built.on("before_llm", lambda **_: _nothing(gate))
            return Scene(built, gate)
        case "gate of the run":
            built = agent(["end"])
            built.on("before_run", lambda **_: _nothing(gate))
            return Scene(built, gate)
        case _ if name.startswith("store "):
            store = SlowStore()
            store.gate, store.holds = gate, frozenset({name.removeprefix("store ")})
            return Scene(agent([call("t"), "end"], Tool("t"), session_store=store), gate, 1)
    raise AssertionError(name)


async def _nothing(gate: Gate) -> None:
    await gate()


PLACES = [
    "model",
    "stream",
    "tool",
    "parallel tools",
    "tools in a row",
    "human",
    "gate of a tool",
    "gate of the model",
    "gate of the run",
]
STORE_PLACES = [
    "store model.replied",
    "store tool.decided",
    "store tool.started",
    "store tool.finished",
]


def _is_cancelled(result: RunResult[Any], calls: int) -> None:
    assert result.state is RunState.CANCELLED
    assert types(result.events)[-1] == "run.finished"
    assert result.events[-1].state is RunState.CANCELLED  # type: ignore[attr-defined]
    assert faults_of_pairing(result.messages) is None
    finished = of_type(result.events, "tool.finished")
    assert len(finished) == calls == len({event.call_id for event in finished})
    seqs = [event.seq for event in result.events]
    assert seqs == sorted(set(seqs))


@pytest.mark.parametrize("place", PLACES)
async def test_cancel(place: str) -> None:
    scene = _scene(place)
    before = strangers()
    run = scene.agent.session().start("go")
    follower = asyncio.create_task(_read(run))
    await soon(scene.gate.reached.wait())
    result = await soon(run.cancel("enough"))
    _is_cancelled(result, scene.calls)
    assert of_type(result.events, "run.cancelling")[0].reason == "enough"
    assert types(await soon(follower))[-1] == "run.finished"
    assert scene.gate.interrupted
    await no_strangers(before)
    assert (await soon(run.cancel())).state is RunState.CANCELLED


@pytest.mark.parametrize("place", STORE_PLACES)
async def test_cancel_while_the_store_saves(place: str) -> None:
    """A save that has begun is seen through: what is in the log and what the run believes never differ."""
    scene = _scene(place)
    before = strangers()
    session = scene.agent.session()
    run = session.start("go")
    await soon(scene.gate.reached.wait())
    cancelling = asyncio.create_task(run.cancel())
    await asyncio.sleep(0)
    scene.gate.open.set()
    result = await soon(cancelling)
    _is_cancelled(result, scene.calls)
    assert list(result.events) == await session.store.read(session.id)
    await no_strangers(before)


@pytest.mark.parametrize("place", [*PLACES, *STORE_PLACES])
async def test_the_callers_task_is_cancelled(place: str) -> None:
    scene = _scene(place)
    before = strangers()
    session = scene.agent.session()
    caller = asyncio.create_task(session.run("go"))
    await soon(scene.gate.reached.wait())
    caller.cancel()
    await asyncio.sleep(0)
    scene.gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await soon(caller)
    log = await session.store.read(session.id)
    assert types(log)[-1] == "run.finished"
    assert log[-1].state is RunState.CANCELLED  # type: ignore[attr-defined]
    finished = of_type(log, "tool.finished")
    assert len(finished) == scene.calls == len({event.call_id for event in finished})
    assert await session.store.unfinished_runs(session.id) == []
    await no_strangers(before)


@pytest.mark.parametrize("place", ["stream", "tool", "parallel tools", "human"])
@pytest.mark.parametrize("whose", ["session", "agent"])
async def test_leaving_a_stream_cancels_the_run(place: str, whose: str) -> None:
    """Right after the loop is left through ``aclosing``, everything is settled."""
    scene = _scene(place)
    before = strangers()
    session = scene.agent.session()
    stream = session.stream("go") if whose == "session" else scene.agent.stream("go")
    seen: list[Event] = []
    async with aclosing(stream) as events:
        async for event in events:
            seen.append(event)
            if event.type in ("text.delta", "tool.started", "request.opened"):
                break
    await no_strangers(before)
    if whose == "session":
        log = await session.store.read(session.id)
        assert types(log)[-1] == "run.finished"
        assert log[-1].state is RunState.CANCELLED
        assert len(of_type(log, "tool.finished")) == scene.calls
    assert scene.gate.interrupted <= 1


@pytest.mark.parametrize("after", range(1, 9))
async def test_leaving_a_stream_after_any_event(after: int) -> None:
    built = agent([[call("t"), call("a")], "end"], Tool("t", concurrency_safe=True), Tool("a"))
    session = built.session()
    async with aclosing(session.stream("go")) as events:
        async for event in events:
            if event.seq >= after:
                break
    log = await session.store.read(session.id)
    assert types(log).count("run.finished") == 1
    assert types(log)[-1] == "run.finished"
    again = await soon(built.session(session.id).run("again"))
    assert again.state is not RunState.CANCELLED
    assert faults_of_pairing(_sent(built)) is None


def _sent(built: Agent[Any, Any]) -> Sequence[ChatMessage]:
    provider: Any = built.engine.provider
    messages: Sequence[ChatMessage] = provider.requests[-1].messages
    return messages


async def test_cancel_before_the_run_has_begun() -> None:
    before = strangers()
    session = agent(["end"]).session()
    run = session.start("go")
    result = await run.cancel()  # not through another task, which would let the run begin
    assert result is not None
    _is_cancelled(result, 0)
    assert types(result.events) == ["run.started", "run.cancelling", "run.finished"]
    await no_strangers(before)


async def test_cancel_a_run_that_queues_behind_another() -> None:
    """It must not have to wait for the run in front of it."""
    gate = Gate()
    session = agent([call("t"), "end", "end"], Tool("t", gate)).session()
    first = session.start("one")
    await soon(gate.reached.wait())
    second = session.start("two")
    await asyncio.sleep(0)
    try:
        result = await soon(second.cancel(), 1)
        assert result is not None
        assert result.state is RunState.CANCELLED
    finally:
        gate.open.set()
    assert (await soon(first.wait())).ok


async def test_cancel_after_the_end_changes_nothing() -> None:
    session = agent(["end"]).session()
    run = session.start("go")
    done = await soon(run.wait())
    assert await soon(run.cancel()) == done
    assert types(await session.store.read(session.id))[-1] == "run.finished"


async def test_cancel_while_the_end_is_being_told() -> None:
    """The run is over: nothing may be written after its last event, and it is not waiting for anybody."""
    gate = Gate()
    built = agent(["end"])
    built.on("run.finished", lambda **_: _nothing(gate))
    session = built.session()
    run = session.start("go")
    await soon(gate.reached.wait())
    cancelling = asyncio.create_task(run.cancel())
    await asyncio.sleep(0)
    gate.open.set()
    result = await soon(cancelling)
    assert result.state is RunState.COMPLETED
    assert types(await session.store.read(session.id))[-1] == "run.finished"


async def test_cancel_while_the_end_is_being_saved() -> None:
    store = SlowStore()
    store.holds = frozenset({"run.finished"})
    session = agent(["end"], session_store=store).session()
    run = session.start("go")
    await soon(store.gate.reached.wait())
    cancelling = asyncio.create_task(run.cancel())
    await asyncio.sleep(0)
    store.gate.open.set()
    result = await soon(cancelling)
    assert result.state is RunState.COMPLETED
    log = await session.store.read(session.id)
    assert types(log)[-1] == "run.finished"
    assert list(result.events) == log


async def test_cancel_a_run_that_is_parked() -> None:
    """Nobody is attached, the run waits: cancelling it ends it, and its request is gone."""
    t = Tool("t", destructive=True)
    session = agent([call("t"), "end"], t).session()
    run = session.start("go")
    waiting = await soon(run.wait())
    assert waiting.state is RunState.WAITING
    (request,) = waiting.pending
    result = await soon(run.cancel())
    assert result is not None
    _is_cancelled(result, 1)
    assert await session.pending() == []
    with pytest.raises(RequestClosed):
        await soon(session.resume(run.id, [request.approve()]).wait())
    assert t.entered == []


async def test_cancel_in_the_very_moment_a_run_parks() -> None:
    """Whoever waits for the handle gets a result, whether they are told of the wait or of the cancel."""
    for turns in range(30):
        session = agent([call("t"), "end"], Tool("t", destructive=True), session_store=SlowStore()).session()
        run = session.start("go")
        waiters = [asyncio.create_task(run.wait()) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        result = await soon(run.cancel())
        assert result is not None, turns
        assert result.state is RunState.CANCELLED, turns
        for waiter in waiters:
            assert (await soon(waiter)).state in (RunState.WAITING, RunState.CANCELLED), turns


async def test_cancel_the_resumption_of_a_parked_run() -> None:
    session = agent([call("t"), "end"], Tool("t", destructive=True)).session()
    waiting = await soon(session.run("go"))
    result = await session.resume(waiting.run_id).cancel()
    assert result is not None
    _is_cancelled(result, 1)
    assert await session.pending() == []


async def test_a_tool_that_cancels_its_own_run() -> None:
    runs: list[Run[Any]] = []

    async def give_up(_: Any) -> str:
        await runs[0].cancel("from inside")
        return "not reached"

    before = strangers()
    session = agent([call("t"), "end"], Tool("t", give_up)).session()
    runs.append(session.start("go"))
    result = await soon(runs[0].wait())
    _is_cancelled(result, 1)
    await no_strangers(before)


async def test_a_tool_that_swallows_the_cancellation() -> None:
    """It ends after its own fashion; the run still ends cancelled, and the callers' task is clean."""

    async def stubborn(_: Any) -> str:
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "I do not care"
        return ""

    reached = asyncio.Event()
    session = agent([call("t"), "end"], Tool("t", stubborn)).session()
    run = session.start("go")
    await soon(reached.wait())
    result = await soon(run.cancel())
    _is_cancelled(result, 1)


async def test_wall_time_leaves_the_callers_task_as_it_was() -> None:
    async def stubborn(_: Any) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "I do not care"
        return ""

    runtime = Runtime(limits=RuntimeLimits(max_seconds=0.02))
    built = agent([call("t"), "end"], Tool("t", stubborn), runtime=runtime)
    result = await soon(built.run("go"))
    task = asyncio.current_task()
    assert result.state is RunState.LIMIT_REACHED
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_is_not_swallowed_while_a_limit_is_written_down() -> None:
    """Both at once: the time is up, and somebody cancels the task. The task must end cancelled."""
    store = SlowStore()
    store.holds = frozenset({"limit.reached"})
    runtime = Runtime(limits=RuntimeLimits(max_seconds=0.01))
    gate = Gate()
    session = agent([call("t"), "end"], Tool("t", gate), session_store=store, runtime=runtime).session()
    caller = asyncio.create_task(session.run("go"))
    await soon(store.gate.reached.wait())
    caller.cancel()
    await asyncio.sleep(0)
    store.gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await soon(caller)
    assert types(await session.store.read(session.id))[-1] == "run.finished"


@pytest.mark.parametrize("held", ["tool.finished", "run.finished"])
async def test_a_cancellation_from_outside_is_not_swallowed_while_a_limit_is_settled(held: str) -> None:
    store = SlowStore()
    store.holds = frozenset({held})
    runtime = Runtime(limits=RuntimeLimits(max_seconds=0.01))
    gate = Gate()
    session = agent([call("t"), "end"], Tool("t", gate), session_store=store, runtime=runtime).session()
    caller = asyncio.create_task(session.run("go"))
    await soon(store.gate.reached.wait())
    caller.cancel()
    await asyncio.sleep(0)
    store.gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await soon(caller)
    assert types(await session.store.read(session.id))[-1] == "run.finished"


async def test_a_task_that_was_cancelled_before_can_still_run_an_agent() -> None:
    """A task cleaning up after its own cancellation runs an agent: limits and foreign cancellations still work."""
    gate = Gate()
    runtime = Runtime(limits=RuntimeLimits(max_seconds=0.02))
    built = agent([call("t"), "end"], Tool("t", gate), runtime=runtime)

    async def clean_up() -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await built.run("clean up")

    task = asyncio.create_task(clean_up())
    await asyncio.sleep(0)
    task.cancel()
    result = await soon(task)
    assert result.state is RunState.LIMIT_REACHED


async def test_cancel_while_an_inner_failure_is_written_down() -> None:
    store = SlowStore()
    store.holds = frozenset({"error"})
    built = agent(["end"], session_store=store)

    def broken(usage: Any) -> float:
        raise ZeroDivisionError

    built.engine.price = broken
    session = built.session()
    run = session.start("go")
    await soon(store.gate.reached.wait())
    cancelling = asyncio.create_task(run.cancel())
    await asyncio.sleep(0)
    store.gate.open.set()
    result = await soon(cancelling)
    assert result.state in (RunState.FAILED, RunState.CANCELLED)
    assert types(await store.read(session.id))[-1] == "run.finished"


async def test_cancel_while_another_process_holds_the_session() -> None:
    store = SlowStore()
    await store.acquire("s", owner="another process", ttl=1000.0)
    run = agent(["end"], session_store=store).session("s").start("go")
    await asyncio.sleep(0.02)
    result = await soon(run.cancel(), 2)
    assert result is None or result.state is RunState.CANCELLED
    assert await store.read("s") == []


async def test_cancelling_the_handle_that_waited_reaches_the_run_that_goes_on() -> None:
    """Two handles of one run: the one that parked, and the one that resumed it."""
    gate = Gate()
    session = agent([call("d"), call("t"), "end"], Tool("d", destructive=True), Tool("t", gate)).session()
    parked = session.start("go")
    waiting = await soon(parked.wait())
    resumed = session.resume(parked.id, [waiting.pending[0].approve()])
    await soon(gate.reached.wait())
    try:
        result = await soon(parked.cancel(), 1)
        assert result is not None
        assert result.state is RunState.CANCELLED
        assert (await soon(resumed.wait())).state is RunState.CANCELLED
    finally:
        gate.open.set()


async def test_a_task_cancelled_twice_leaves_a_session_that_can_be_used() -> None:
    """The second cancel comes while the first is being settled, at every turn of the loop."""
    for first in range(3, 45, 6):
        for second in range(1, 20):
            store = SlowStore()
            tools = [Tool("a", concurrency_safe=True), Tool("b"), Tool("d", destructive=True)]
            built = agent(
                [[call("a"), call("a"), call("b")], [call("d"), call("a")], "end", "again"],
                *tools,
                session_store=store,
                human=lambda request: True,
            )
            session = built.session("s")
            caller = asyncio.create_task(session.run("go"))
            for _ in range(first):
                await asyncio.sleep(0)
            caller.cancel()
            for _ in range(second):
                await asyncio.sleep(0)
            caller.cancel()
            await soon(asyncio.wait([caller]))
            where = (first, second)
            if await store.unfinished_runs("s"):
                ended = await soon(session.resume().wait())
                assert ended.state is RunState.CANCELLED, where
            log = await store.read("s")
            if not log:
                continue  # cancelled while the session was being taken: nothing had begun
            assert types(log)[-1] == "run.finished", where
            assert len(of_type(log, "tool.finished")) == len(of_type(log, "tool.requested")), where
            assert (await store.acquire("s", owner="other", ttl=1)).owner == "other", where
    await no_strangers()


async def test_cancel_while_a_watcher_is_told() -> None:
    """A watcher of the application that never returns must not make the run unstoppable."""
    gate = Gate()
    built = agent([call("t"), "end"], Tool("t"))
    built.on("after_tool", lambda **_: _nothing(gate))
    run = built.session().start("go")
    await soon(gate.reached.wait())
    try:
        result = await soon(run.cancel(), 1)
        assert result.state is RunState.CANCELLED
    finally:
        gate.open.set()


async def test_cancel_is_told_to_the_watchers_and_the_records() -> None:
    """A cancelled run is a finished run: whoever keeps account of runs hears of it, however it was cancelled."""
    gate = Gate()
    store = RecordsOnly()
    built = agent([call("t"), call("t")], Tool("t", gate), session_store=store)
    told: list[str] = []
    built.on("run.finished", lambda **payload: told.append(payload["state"]))
    caller = asyncio.create_task(built.session().run("go"))
    await soon(gate.reached.wait())
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(caller)
    assert told == ["cancelled"]
    assert [record.state for record in store.saved][-1:] == ["cancelled"]


async def test_everything_can_be_cancelled_at_every_turn_of_the_loop() -> None:
    """Cancel after the n-th turn of the event loop, for all n: always one whole, valid, settled run."""
    for turns in range(120):
        store = SlowStore()
        tools = [Tool("a", concurrency_safe=True), Tool("b"), Tool("d", destructive=True)]
        replies = [[call("a"), call("a"), call("b")], [call("d"), call("a")], "end"]
        built = agent(replies, *tools, session_store=store, human=lambda request: True)
        session = built.session()
        run = session.start("go")
        for _ in range(turns):
            await asyncio.sleep(0)
        result = await soon(run.cancel())
        log = await store.read(session.id)
        assert result.state in (RunState.CANCELLED, RunState.COMPLETED), (turns, result)
        if not log:  # cancelled while the session was being taken: nothing had begun
            assert (result.state, turns < 10) == (RunState.CANCELLED, True)
            continue
        assert types(log)[-1] == "run.finished", turns
        assert types(log).count("run.finished") == 1, turns
        assert list(result.events) == log, turns
        assert faults_of_pairing(result.messages) is None, turns
        started = [event.call_id for event in of_type(log, "tool.started")]
        assert len(started) == len(set(started)), turns
        if result.state is RunState.COMPLETED:
            assert turns > 20
            break
    else:
        pytest.fail("the run never came to its end by itself")
    await no_strangers()


async def test_a_callers_task_can_be_cancelled_at_every_turn_of_the_loop() -> None:
    for turns in range(1, 150):
        store = SlowStore()
        tools = [Tool("a", concurrency_safe=True), Tool("b"), Tool("d", destructive=True)]
        replies = [[call("a"), call("a"), call("b")], [call("d"), call("a")], "end"]
        built = agent(replies, *tools, session_store=store, human=lambda request: True)
        session = built.session()
        caller = asyncio.create_task(session.run("go"))
        for _ in range(turns):
            await asyncio.sleep(0)
        finished = caller.done()
        caller.cancel()
        await soon(asyncio.wait([caller]))
        log = await store.read(session.id)
        if finished:
            break
        if log:
            assert types(log)[-1] == "run.finished", (turns, types(log))
            assert types(log).count("run.finished") == 1, turns
            calls = of_type(log, "tool.requested")
            assert len(of_type(log, "tool.finished")) == len(calls), turns
        assert (await store.acquire(session.id, owner="other", ttl=1)).owner == "other", turns
    else:
        pytest.fail("the run never came to its end by itself")
    await no_strangers()


async def _read(run: Run[Any]) -> list[Event]:
    return [event async for event in run.events()]
