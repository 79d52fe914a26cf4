"""A tool that swallows every cancellation holds up nothing but itself: it is left behind, and the log says so."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from stage import Gate, Tool, agent, faults_of_pairing, no_strangers, of_type, soon, types

from loom.agent import Agent
from loom.errors import ConfigError
from loom.events import Event
from loom.policies.profile import Runtime, RuntimeLimits
from loom.runtime.result import RunResult
from loom.store.base import SessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import ScriptedProvider, call
from loom.tools.base import ToolContext
from loom.tools.function import tool
from loom.types import Role, RunState

pytestmark = pytest.mark.timeout(20)

GRACE = 0.02
NEVER = 10_000.0


def short(grace: float = GRACE, **limits: Any) -> Runtime:
    return Runtime(limits=RuntimeLimits(cancel_grace=grace, **limits))


class Stubborn:
    """Work that takes no notice of being cancelled until it is let go, or has been told ``patience`` times."""

    def __init__(self, patience: int | None = None) -> None:
        self.reached = asyncio.Event()
        self.free = asyncio.Event()
        self.ended = asyncio.Event()
        self.told = 0
        self._patience = patience

    async def __call__(self, *_: Any) -> str:
        self.reached.set()
        try:
            while not self.free.is_set():
                try:
                    await self.free.wait()
                except asyncio.CancelledError:
                    self.told += 1
                    if self.told == self._patience:
                        raise
            return self.outcome()
        finally:
            self.ended.set()

    def outcome(self) -> str:
        return "at long last"


class Explosive(Stubborn):
    def outcome(self) -> str:
        raise ValueError("much too late")


@pytest.fixture
async def stubborn() -> AsyncIterator[Stubborn]:
    """One, let go at the end: what is left behind must be able to end, or the event loop could not."""
    made = Stubborn()
    yield made
    made.free.set()
    await no_strangers()


@contextmanager
def complaints() -> Iterator[list[dict[str, Any]]]:
    """What the event loop is told of that nobody took care of."""
    loop, told = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, about: told.append(about))
    try:
        yield told
    finally:
        loop.set_exception_handler(None)


def is_settled(result: RunResult[Any] | None, state: RunState, calls: int) -> list[Any]:
    """The ends of the calls, in order; each call of the run has exactly one."""
    assert result is not None
    assert result.state is state
    assert types(result.events)[-1] == "run.finished"
    assert faults_of_pairing(result.messages) is None
    ends = of_type(result.events, "tool.finished")
    assert len(ends) == calls == len({event.call_id for event in ends})
    return ends


def was_left(end: Any, outcome: str = "cancelled") -> None:
    assert end.outcome == outcome
    assert not end.success
    assert end.result.is_error
    assert "did not stop" in end.result.text
    assert "may still" in end.result.text
    assert end.result.metadata["left_behind"] is True


# --- one tool -------------------------------------------------------------------------------------------


def _as_handler(stubborn: Stubborn) -> Any:
    return Tool("t", stubborn)


def _as_function(stubborn: Stubborn) -> Any:
    @tool
    async def t() -> str:
        """Wait."""
        return await stubborn()

    return t


def _with_context(stubborn: Stubborn) -> Any:
    @tool
    async def t(context: ToolContext) -> str:
        """Wait."""
        return await stubborn(context)

    return t


@pytest.mark.parametrize("kind", [_as_handler, _as_function, _with_context])
async def test_cancel_ends_the_run(kind: Any, stubborn: Stubborn) -> None:
    session = agent([call("t"), "never said"], kind(stubborn), runtime=short()).session()
    run = session.start("go")
    await soon(stubborn.reached.wait())
    (end,) = is_settled(await soon(run.cancel("enough")), RunState.CANCELLED, 1)
    was_left(end)
    assert stubborn.told == 1
    assert not stubborn.ended.is_set()
    assert list(run.result.events if run.result else ()) == await session.store.read(session.id)


@pytest.mark.parametrize("kind", [_as_handler, _as_function, _with_context])
async def test_a_limit_on_time_ends_the_run(kind: Any, stubborn: Stubborn) -> None:
    built = agent([call("t"), "never said"], kind(stubborn), runtime=short(max_seconds=0.5))
    (end,) = is_settled(await soon(built.run("go")), RunState.LIMIT_REACHED, 1)
    was_left(end)


@pytest.mark.parametrize("kind", [_as_handler, _as_function, _with_context])
async def test_a_timeout_of_the_tool_is_told_to_the_model_and_the_run_goes_on(
    kind: Any, stubborn: Stubborn
) -> None:
    built = agent([call("t"), "then without"], kind(stubborn), runtime=short(tool_timeout=0.02))
    result = await soon(built.run("go"))
    (end,) = is_settled(result, RunState.COMPLETED, 1)
    was_left(end, "timeout")
    assert end.error.code == "tool_timeout"
    assert "0.02 seconds" in end.result.text
    assert result.output == "then without"


async def test_a_tool_that_only_reads_has_no_effect_to_warn_of(stubborn: Stubborn) -> None:
    run = agent([call("t")], Tool("t", stubborn, read_only=True), runtime=short()).session().start("go")
    await soon(stubborn.reached.wait())
    (end,) = is_settled(await soon(run.cancel()), RunState.CANCELLED, 1)
    assert "did not stop" in end.result.text
    assert "effect" not in end.result.text


async def test_the_callers_task_can_be_cancelled(stubborn: Stubborn) -> None:
    session = agent([call("t"), "never said"], Tool("t", stubborn), runtime=short()).session()
    caller = asyncio.create_task(session.run("go"))
    await soon(stubborn.reached.wait())
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(caller)
    log = await session.store.read(session.id)
    assert types(log)[-1] == "run.finished"
    (end,) = of_type(log, "tool.finished")
    was_left(end)


async def test_a_tool_that_tidies_up_within_its_grace_is_waited_for() -> None:
    """And is no abandoned tool: it ended, and nothing is known of its effect."""
    tidied = asyncio.Event()

    async def tidy(_: Any) -> str:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
            tidied.set()
        return "not reached"

    reached = asyncio.Event()
    run = agent([call("t")], Tool("t", tidy), runtime=short(NEVER)).session().start("go")
    await soon(reached.wait())
    (end,) = is_settled(await soon(run.cancel()), RunState.CANCELLED, 1)
    assert tidied.is_set()
    assert end.outcome == "cancelled"
    assert "unknown" in end.result.text
    assert "left_behind" not in end.result.metadata
    await no_strangers()


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("by", ["cancel", "caller"])
async def test_what_a_tool_still_says_within_its_grace_is_its_result(calls: int, by: str) -> None:
    """Its work is done: to call that cancelled would be wrong, and to go on with the run as well."""

    async def finish(_: Any) -> str:
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it, saved"
        return ""

    reached = asyncio.Event()
    built = agent(
        [[call("t")] * calls, "never said"],
        Tool("t", finish, concurrency_safe=True),
        runtime=short(NEVER),
    )
    session = built.session()
    run = session.start("go")
    await soon(reached.wait())
    await asyncio.sleep(0)
    if by == "cancel":
        await soon(run.cancel())
    else:
        assert run._driver is not None
        run._driver.cancel()
        await soon(asyncio.wait([run._driver]))
    ends = is_settled(run.result, RunState.CANCELLED, calls)
    assert [(end.outcome, end.result.text) for end in ends] == [("ok", "half of it, saved")] * calls
    await no_strangers()


async def test_cancelled_again_a_tool_is_told_again_and_gets_no_second_grace(stubborn: Stubborn) -> None:
    giving_in = Stubborn(patience=3)
    built = agent(
        [[call("never"), call("at_last")]],
        Tool("never", stubborn, concurrency_safe=True),
        Tool("at_last", giving_in, concurrency_safe=True),
        runtime=short(0.5),
    )
    session = built.session()
    caller = asyncio.create_task(session.run("go"))
    await soon(asyncio.gather(stubborn.reached.wait(), giving_in.reached.wait()))
    for _ in range(5):
        caller.cancel()
        await asyncio.sleep(0)
    while not caller.done():
        caller.cancel()
        await asyncio.sleep(0.01)
    assert giving_in.told == 3
    assert stubborn.told > 3
    ends = of_type(await session.store.read(session.id), "tool.finished")
    by_name = {end.name: end for end in ends}
    was_left(by_name["never"])
    assert "unknown" in by_name["at_last"].result.text
    assert len(ends) == 2


async def test_a_second_cancel_reaches_a_tool_that_had_its_time(stubborn: Stubborn) -> None:
    """Its timeout has told it once, then the run is cancelled: the call has one end, a timeout."""
    built = agent([call("t")], Tool("t", stubborn, timeout=0.01), runtime=short(1.0))
    run = built.session().start("go")
    while not stubborn.told:
        await asyncio.sleep(0.005)
    (end,) = is_settled(await soon(run.cancel()), RunState.CANCELLED, 1)
    was_left(end, "timeout")
    assert stubborn.told == 2


# --- what becomes of it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Stubborn, Explosive])
async def test_what_it_says_later_is_heard_by_nobody(kind: type[Stubborn]) -> None:
    stubborn = kind()
    with complaints() as told:
        session = agent([call("t"), "second"], Tool("t", stubborn), runtime=short()).session()
        run = session.start("go")
        await soon(stubborn.reached.wait())
        await soon(run.cancel())
        before = await session.store.read(session.id)
        stubborn.free.set()
        await soon(stubborn.ended.wait())
        await no_strangers()
        assert await session.store.read(session.id) == before
    assert told == []


async def test_it_lives_on_though_nobody_holds_it(stubborn: Stubborn) -> None:
    """The event loop holds tasks weakly: without a reference it would be torn down in the middle of its work."""
    import gc

    with complaints() as told:
        await soon(_cancelled(stubborn))
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        assert not stubborn.ended.is_set()
        stubborn.free.set()
        await soon(stubborn.ended.wait())
    assert told == []


async def _cancelled(stubborn: Stubborn) -> None:
    run = agent([call("t")], Tool("t", stubborn), runtime=short()).session().start("go")
    await stubborn.reached.wait()
    await run.cancel()


async def test_what_it_tells_after_its_end_goes_nowhere() -> None:
    """Neither into the log nor into memory that only grows."""
    import weakref

    class Mark:
        pass

    marks: list[weakref.ref[Mark]] = []
    reached, free, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @tool
    async def chatty(context: ToolContext) -> str:
        """Talk."""
        reached.set()
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        for _ in range(5):
            mark = Mark()
            marks.append(weakref.ref(mark))
            context.emit("still here", mark)
            del mark
        ended.set()
        return "done"

    session = agent([call("chatty"), "over"], chatty, runtime=short(tool_timeout=0.02)).session()
    seen = [event async for event in session.stream("go")]
    assert types(seen)[-1] == "run.finished"
    free.set()
    await soon(ended.wait())
    assert marks
    assert not any(mark() for mark in marks)
    await no_strangers()


async def test_the_session_can_be_used_at_once(stubborn: Stubborn) -> None:
    session = agent([call("t"), "second"], Tool("t", stubborn), runtime=short()).session()
    run = session.start("one")
    await soon(stubborn.reached.wait())
    await soon(run.cancel())
    again = await soon(session.run("two"))
    assert again.output == "second"
    assert faults_of_pairing(again.messages) is None


async def test_a_run_that_was_left_so_is_over_for_every_process(stubborn: Stubborn, tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "s.db")
    session = agent([call("t")], Tool("t", stubborn), runtime=short(), session_store=store).session("s")
    run = session.start("go")
    await soon(stubborn.reached.wait())
    await soon(run.cancel())
    await store.aclose()
    other = SqliteSessionStore(tmp_path / "s.db")
    assert await other.unfinished_runs("s") == []
    (end,) = of_type(await other.read("s"), "tool.finished")
    was_left(end)
    await other.aclose()


# --- beside others --------------------------------------------------------------------------------------


async def test_beside_others_it_alone_is_left(stubborn: Stubborn) -> None:
    gate = Gate()
    tools = [
        Tool("quick", concurrency_safe=True),
        Tool("waits", gate, concurrency_safe=True),
        Tool("t", stubborn, concurrency_safe=True),
        Tool("later"),
    ]
    calls = [call("quick"), call("t"), call("waits"), call("later")]
    session = agent([calls, "never said"], *tools, runtime=short()).session()
    run = session.start("go")
    await soon(asyncio.gather(stubborn.reached.wait(), gate.reached.wait()))
    ends = {end.name: end for end in is_settled(await soon(run.cancel()), RunState.CANCELLED, 4)}
    assert ends["quick"].outcome == "ok"
    was_left(ends["t"])
    assert "unknown" in ends["waits"].result.text
    assert gate.interrupted == 1
    assert "not run" in ends["later"].result.text


async def test_beside_others_its_timeout_is_its_own(stubborn: Stubborn) -> None:
    tools = [
        Tool("quick", concurrency_safe=True),
        Tool("t", stubborn, timeout=0.02, concurrency_safe=True),
        Tool("later"),
    ]
    calls = [call("quick"), call("t"), call("later")]
    result = await soon(agent([calls, "end"], *tools, runtime=short()).run("go"))
    ends = {end.name: end for end in is_settled(result, RunState.COMPLETED, 3)}
    was_left(ends["t"], "timeout")
    assert (ends["quick"].outcome, ends["later"].outcome) == ("ok", "ok")


# --- below ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "limit"])
async def test_inside_a_child_agent(how: str, stubborn: Stubborn) -> None:
    """The child settles its own log first, with a grace of its own; its parent waits for that however long."""
    child = Agent(
        model=ScriptedProvider([call("t"), "never said"]), tools=[Tool("t", stubborn)], runtime=short(0.1)
    )
    parent = agent(
        [call("ask_child", task="do"), "never said"],
        child.as_tool(name="ask_child", description="A child."),
        runtime=short(0.001, max_seconds=0.5 if how == "limit" else None),
    )
    session = parent.session()
    run = session.start("go")
    await soon(stubborn.reached.wait())
    if how == "cancel":
        await soon(run.cancel())
    (end,) = is_settled(
        await soon(run.wait()), RunState.CANCELLED if how == "cancel" else RunState.LIMIT_REACHED, 1
    )
    assert end.outcome == "cancelled"
    (begun,) = of_type(await session.store.read(session.id), "child.started")
    below = await session.store.read(begun.child_session_id)
    assert types(below)[-1] == "run.finished"
    assert below[-1].state is RunState.CANCELLED  # type: ignore[attr-defined]
    (left,) = of_type(below, "tool.finished")
    was_left(left)


async def test_a_timeout_inside_a_child_agent_is_the_childs_business(stubborn: Stubborn) -> None:
    child = Agent(
        model=ScriptedProvider([call("t"), "without it"]),
        tools=[Tool("t", stubborn)],
        runtime=short(tool_timeout=0.02),
    )
    parent = agent(
        [call("ask_child", task="do"), "end"], child.as_tool(name="ask_child", description="A child.")
    )
    result = await soon(parent.run("go"))
    (end,) = is_settled(result, RunState.COMPLETED, 1)
    assert (end.outcome, end.result.text) == ("ok", "without it")


# --- threads --------------------------------------------------------------------------------------------


class Blocking:
    """A synchronous tool that waits on its thread."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.free = threading.Event()

        @tool
        def t() -> str:
            """Wait."""
            self.reached.set()
            assert self.free.wait(15)
            return "done"

        self.tool = t


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    made = Blocking()
    yield made
    made.free.set()


async def test_a_thread_cannot_be_stopped_and_the_log_says_so(blocking: Blocking) -> None:
    run = agent([call("t")], blocking.tool, runtime=short(NEVER)).session().start("go")
    await asyncio.to_thread(blocking.reached.wait, 5)
    (end,) = is_settled(await soon(run.cancel()), RunState.CANCELLED, 1)
    was_left(end)
    await no_strangers()


async def test_a_thread_beyond_its_time_was_not_stopped_either(blocking: Blocking) -> None:
    runtime = short(NEVER, tool_timeout=0.05)
    result = await soon(agent([call("t"), "end"], blocking.tool, runtime=runtime).run("go"))
    (end,) = is_settled(result, RunState.COMPLETED, 1)
    was_left(end, "timeout")


# --- streams --------------------------------------------------------------------------------------------


async def test_a_stream_that_is_left_while_the_tool_talks() -> None:
    reached, free = asyncio.Event(), asyncio.Event()

    @tool
    async def t(context: ToolContext) -> str:
        """Talk, and take no notice."""
        reached.set()
        while not free.is_set():
            context.emit("here")
            try:
                await asyncio.wait_for(free.wait(), 0.001)
            except (asyncio.CancelledError, TimeoutError):
                continue
        return "done"

    session = agent([call("t"), "never said"], t, runtime=short()).session()
    try:
        async with aclosing(session.stream("go")) as events:
            async for event in events:
                if event.type == "tool.progress":
                    break
        log = await session.store.read(session.id)
        assert types(log)[-1] == "run.finished"
        assert log[-1].state is RunState.CANCELLED  # type: ignore[attr-defined]
        (end,) = of_type(log, "tool.finished")
        was_left(end)
    finally:
        free.set()
    await no_strangers()


async def test_a_stream_left_in_the_moment_the_tool_ends_keeps_its_result() -> None:
    """The last word of the tool and its result are there together, and whoever listens leaves at the word."""

    @tool
    async def t(context: ToolContext) -> str:
        """Talk and end."""
        context.emit("nearly")
        return "done"

    session = agent([call("t"), "never said"], t, runtime=short(NEVER)).session()
    async with aclosing(session.stream("go")) as events:
        async for event in events:
            if event.type == "tool.progress":
                break
    (end,) = of_type(await session.store.read(session.id), "tool.finished")
    assert (end.outcome, end.result.text) == ("ok", "done")


async def test_cancelled_while_a_stream_is_closed_the_run_is_still_settled(stubborn: Stubborn) -> None:
    @tool
    async def t(context: ToolContext) -> str:
        """Talk, and take no notice."""
        context.emit("here")
        return await stubborn()

    session = agent([call("t"), "never said"], t, runtime=short(0.5)).session()
    stream = session.stream("go")

    async def leave() -> None:
        async for event in stream:
            if event.type == "tool.progress":
                await stubborn.reached.wait()
                await stream.aclose()

    leaving = asyncio.create_task(leave())
    while not stubborn.told:
        await asyncio.sleep(0.005)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(leaving)
    log = await session.store.read(session.id)
    assert types(log)[-1] == "run.finished"
    (end,) = of_type(log, "tool.finished")
    was_left(end)


async def test_leaving_a_stream_stops_the_tools_before_it_is_said_that_they_are_stopped() -> None:
    gate = Gate()
    seen: list[tuple[str, int]] = []

    class Store(SqliteSessionStore):
        durable = False

        async def append(self, lease: Any, events: Any, *, taken: Any = ()) -> None:
            seen.extend((event.type, gate.interrupted) for event in events)
            await super().append(lease, events, taken=taken)

    @tool
    async def t(context: ToolContext) -> str:
        """Talk, then wait."""
        context.emit("here")
        return await gate()

    store: SessionStore = Store(":memory:")
    session = agent([call("t"), "never said"], t, session_store=store, runtime=short(NEVER)).session()
    async with aclosing(session.stream("go")) as events:
        async for event in events:
            if event.type == "tool.progress":
                await gate.reached.wait()
                break
    assert ("tool.finished", 1) in seen
    await store.aclose()


async def test_a_reader_of_a_stream_is_cancelled(stubborn: Stubborn) -> None:
    session = agent([call("t"), "never said"], Tool("t", stubborn), runtime=short()).session()

    async def read() -> list[Event]:
        async with aclosing(session.stream("go")) as events:
            return [event async for event in events]

    reader = asyncio.create_task(read())
    await soon(stubborn.reached.wait())
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(reader)
    (end,) = of_type(await session.store.read(session.id), "tool.finished")
    was_left(end)


# --- the process ----------------------------------------------------------------------------------------


def test_a_process_ends_as_soon_as_what_was_left_gives_in() -> None:
    """``asyncio.run`` cancels what is left once more and waits for it; that is asyncio's, and no more than that."""
    script = """
        import asyncio
        from loom.agent import Agent
        from loom.policies.profile import Runtime, RuntimeLimits
        from loom.testing.scripted import ScriptedProvider, call
        from loom.tools.function import tool

        told = 0
        reached = asyncio.Event()

        @tool
        async def t() -> str:
            "Give in when told twice."
            global told
            reached.set()
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    told += 1
                    if told == 2:
                        raise

        async def main():
            runtime = Runtime(limits=RuntimeLimits(cancel_grace=0.01))
            agent = Agent(model=ScriptedProvider([call("t"), "end"]), tools=[t], runtime=runtime)
            run = agent.session().start("go")
            await reached.wait()
            result = await run.cancel()
            print(result.status, told)

        asyncio.run(main())
        print("gone", told)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.stdout.splitlines() == ["cancelled 1", "gone 2"], done.stderr
    assert done.stderr.splitlines() == ["t (call call_1) did not stop and is left behind"]


# --- the limit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grace", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_grace_is_a_positive_number_of_seconds(grace: Any) -> None:
    with pytest.raises(ConfigError, match="cancel_grace"):
        RuntimeLimits(cancel_grace=grace)


async def test_the_declared_grace_reaches_the_engine() -> None:
    assert agent(["end"], runtime=short(0.5)).engine.cancel_grace == 0.5
    assert agent(["end"]).engine.cancel_grace == 5.0


async def test_messages_after_a_timeout_are_what_the_model_reads(stubborn: Stubborn) -> None:
    built = agent([call("t"), "end"], Tool("t", stubborn, timeout=0.01), runtime=short())
    result = await soon(built.run("go"))
    (told,) = [message for message in result.messages if message.role is Role.TOOL]
    assert told.is_error
    assert "may still take effect" in str(told.content)
