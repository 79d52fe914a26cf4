"""Runs of one session take turns: over threads, event loops, streams left behind, tools, and cancelled takers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stage import Gate, Tool, agent, soon

from loom.agent import Agent
from loom.errors import ConfigError, SessionBusy
from loom.runtime import SessionConfig
from loom.runtime.owner import has_died, new_owner
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import ScriptedProvider, call
from loom.tools.base import ToolContext
from loom.types import RunState

pytestmark = pytest.mark.timeout(30)


@pytest.mark.parametrize("durable", [False, True])
def test_review_f1_threads_take_turns(durable: bool, tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "s.db") if durable else InMemorySessionStore()
    inside, most = [0], [0]

    async def work(_: Any) -> str:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        await asyncio.sleep(0.01)
        inside[0] -= 1
        return "done"

    built = agent(
        [reply for _ in range(40) for reply in (call("t"), "end")], Tool("t", work), session_store=store
    )
    states: list[Any] = []

    def thread() -> None:
        async def runs() -> None:
            states.extend([(await built.session("s").run("go")).state for _ in range(3)])

        asyncio.run(runs())

    threads = [threading.Thread(target=thread, daemon=True) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert not any(one.is_alive() for one in threads)
    assert states == [RunState.COMPLETED] * 12
    assert most == [1]


def test_review_f1_one_session_after_another_loop() -> None:
    built = agent(["one", "two", "three"])
    session = built.session("s")
    assert [asyncio.run(session.run("go")).output for _ in range(3)] == ["one", "two", "three"]


def test_review_f1_a_loop_that_was_closed_while_it_waited_is_passed_over() -> None:
    session = agent(["end"] * 3).session("s")
    turn, gone = session.turn, asyncio.new_event_loop()
    run: Any = SimpleNamespace(id="r", scope=None, driver=None, reads=0, unread=False, dropped=False)

    async def work() -> Any:
        async with turn.taken(run, 1):
            waiting = threading.Thread(target=gone.run_until_complete, args=(stand_in_line(),))
            waiting.start()
            await asyncio.to_thread(waiting.join)
            gone.close()
        return await session.run("go")

    async def stand_in_line() -> None:
        left.append(turn._take(run, 1))
        left[0].send(None)  # as a task does; its loop will never come back to it

    left: list[Any] = []
    assert asyncio.run(work()).ok
    left[0].close()


def test_review_f1_a_handle_says_that_it_belongs_to_another_loop() -> None:
    gate = Gate()
    built = agent([call("t"), "end"], Tool("t", gate))

    async def first() -> None:
        run = built.session("s").start("go")
        await gate.reached.wait()
        for use in (run.wait, run.cancel, lambda: anext(run.events())):
            with pytest.raises(ConfigError, match="another event loop"):
                await asyncio.to_thread(lambda use=use: asyncio.run(_awaited(use)))
        gate.open.set()
        assert (await run).ok

    asyncio.run(first())


async def _awaited(use: Any) -> Any:
    return await use()


# --- streams ------------------------------------------------------------------------------------------


async def test_review_f2_a_stream_left_in_a_variable_says_so() -> None:
    session = agent([call("t"), "end", "next"], Tool("t")).session("s")
    stream = session.stream("go")
    async for _ in stream:
        break
    with pytest.raises(SessionBusy, match="stream was left"):
        await session.run("next")
    queued = session.start("next")
    with pytest.raises(SessionBusy, match="stream was left"):
        await queued.wait()
    await stream.aclose()
    assert stream.result.state is RunState.CANCELLED
    assert (await soon(queued.wait())).ok


async def test_review_f2_a_task_of_the_reader_does_not_wait_long() -> None:
    session = agent([call("t"), "end", "next"], Tool("t")).session("s")
    stream = session.stream("go")
    await anext(stream)
    with pytest.raises(SessionBusy, match="nobody has read"):
        await asyncio.wait_for(session.run("next"), 10)
    assert [event.type async for event in stream][-1] == "run.finished"


async def test_review_f2_a_stream_left_and_dropped_makes_room() -> None:
    session = agent([call("t"), "end", "next"], Tool("t")).session("s")
    async for _ in session.stream("go"):
        break
    assert (await soon(session.run("next"))).state is RunState.COMPLETED


async def test_review_f2_a_run_inside_its_sessions_own_stream_is_refused() -> None:
    session = agent(["one", "two"]).session("s")
    stream = session.stream("go")
    async for _ in stream:
        with pytest.raises(SessionBusy, match="aclose"):
            await session.run("inside")
    assert stream.result.output == "one"


async def test_review_f2_a_run_inside_its_sessions_own_tool_is_refused() -> None:
    told: list[str] = []

    async def work(_: Any) -> str:
        try:
            await session.run("inside")
        except SessionBusy as error:
            told.append(str(error))
        queued.append(session.start("for later"))
        with pytest.raises(SessionBusy, match="a tool of that run"):
            await queued[0].wait()
        return "done"

    queued: list[Any] = []
    session = agent([call("t"), "end", "later"], Tool("t", work)).session("s")
    assert (await soon(session.run("go"))).ok
    assert "a tool of that run" in told[0]
    assert (await soon(queued[0].wait())).output == "later"


async def test_review_f2_a_run_of_the_parents_session_inside_a_childs_tool_is_refused() -> None:
    async def work(_: Any) -> str:
        with pytest.raises(SessionBusy, match="a tool of that run"):
            await session.run("inside")
        return "done"

    child = agent([call("t"), "below"], Tool("t", work)).as_tool(name="child", description="a child")
    session = agent([call("child", task="x"), "end"], child).session("s")
    assert (await soon(session.run("go"))).messages[2].content == "below"


async def test_review_f2_a_run_inside_a_hook_of_its_session_is_refused() -> None:
    built = agent(["end"])
    session, told = built.session("s"), []

    async def hook(**_: Any) -> None:
        try:
            await session.run("inside")
        except SessionBusy as error:
            told.append(str(error))

    built.on("before_llm", hook)
    assert (await soon(session.run("go"))).ok
    assert "a hook of that run" in told[0]


async def test_review_f2_others_do_not_wait_for_ever_for_a_stream_that_nobody_reads() -> None:
    session = agent([call("t"), "end"], Tool("t")).session(SessionConfig(id="s", busy_wait=0.05))
    stream = session.stream("go")
    await anext(stream)
    with pytest.raises(SessionBusy, match=r"nobody has read its stream for 0\.05 seconds"):
        await soon(asyncio.create_task(session.run("other")))
    await stream.aclose()


async def test_review_f2_others_wait_for_a_stream_that_is_read_slowly() -> None:
    session = agent([*(call("t", n=n) for n in range(6)), "end", "next"], Tool("t")).session(
        SessionConfig(id="s", busy_wait=0.2)
    )
    stream = session.stream("go")
    await anext(stream)
    other = asyncio.create_task(session.run("other"))
    async for _ in stream:
        await asyncio.sleep(0.02)
    assert (await soon(other)).output == "next"


async def test_review_f2_a_stream_is_a_context_manager_with_a_result() -> None:
    built = Agent(model=ScriptedProvider(["one", call("t"), "two"]), tools=[Tool("t")])
    async with built.stream("go") as stream:
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = stream.result
        kinds = [event.type async for event in stream]
    assert kinds[-1] == "run.finished"
    assert stream.result.output == "one"
    session = built.session("s")
    async with session.stream("go") as left:
        async for event in left:
            if event.type == "tool.finished":
                break
    assert left.result.state is RunState.CANCELLED
    assert (await soon(session.run("next"))).ok


# --- takers that are cancelled ------------------------------------------------------------------------


class SlowToTake(SqliteSessionStore):
    """A store whose answer to ``acquire`` comes late, after the session was taken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.took = asyncio.Event()
        self.answer = asyncio.Event()

    async def acquire(self, session_id: str, **options: Any) -> Any:
        lease = await super().acquire(session_id, **options)
        self.took.set()
        await self.answer.wait()
        return lease


async def test_review_f3_a_taker_that_is_cancelled_leaves_no_lease(tmp_path: Path) -> None:
    store = SlowToTake(tmp_path / "s.db")
    taker = asyncio.create_task(agent(["end"], session_store=store).session("s").run("go"))
    await store.took.wait()
    taker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taker
    store.answer.set()
    other = agent(["end"], session_store=SqliteSessionStore(tmp_path / "s.db"))
    session = other.session(SessionConfig(id="s", busy_wait=5))
    assert (await soon(session.run("go"))).ok


async def test_review_f3_forking_that_is_cancelled_leaves_no_lease(tmp_path: Path) -> None:
    store = SlowToTake(tmp_path / "s.db")
    store.answer.set()
    session = agent(["end"] * 3, session_store=store).session("s")
    await session.run("go")
    store.answer.clear()
    store.took.clear()
    forking = asyncio.create_task(session.fork("f"))
    await store.took.wait()
    forking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forking
    store.answer.set()
    fork = await soon(session.fork("f"))
    assert (await soon(fork.run("go"))).ok


async def test_review_f4_cancelling_a_resume_that_waits_for_a_busy_session_is_heeded(tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "s.db")
    session = agent([call("d")], Tool("d", destructive=True), session_store=store).session("s")
    waiting = await soon(session.run("go"))
    lease = await store.acquire("s", owner="somebody/else:1:2:3", ttl=60)
    resumed = session.resume(waiting.run_id, [waiting.pending[0].approve()])
    await asyncio.sleep(0.1)
    with pytest.raises(SessionBusy, match="in use by somebody"):
        await soon(resumed.cancel())
    await store.release(lease)
    assert [request.id for request in await session.pending()] == [waiting.pending[0].id]
    again = await soon(session.resume(waiting.run_id).cancel())
    assert again.state is RunState.CANCELLED


def test_review_f4_an_owner_that_is_a_zombie_has_died() -> None:
    script = "import sys; from loom.runtime.owner import new_owner; print(new_owner(), flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    owner = child.stdout.readline().strip()
    assert not has_died(owner)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is over, and nobody has waited for it
    assert has_died(owner)
    child.wait()
    child.stdout.close()
    assert has_died(owner)


def test_review_f4_an_owner_of_another_boot_is_not_of_this_machine() -> None:
    mine = new_owner()
    node, boot, rest = mine.split("/")
    forged = f"{node}/{boot[::-1]}/{rest}".replace(f":{os.getpid()}:", ":999999:")
    assert not has_died(forged)
    assert has_died(mine.replace(f":{os.getpid()}:", ":999999:"))


async def test_a_tool_still_starts_runs_in_other_sessions() -> None:
    inner = agent(["inner"] * 2)

    class Starts(Tool):
        async def invoke_in_context(self, args: dict[str, Any], context: ToolContext[Any]) -> str:
            return str((await inner.session("other").run("x")).output)

    result = await soon(agent([call("t"), "end"], Starts("t")).session("s").run("go"))
    assert result.messages[2].content == "inner"


class KeepsAndIsSlow(InMemorySessionStore):
    """A store that has written before it answers, as one with a thread of its own."""

    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.wrote = asyncio.Event()

    async def append(self, lease: Any, events: Any, **options: Any) -> None:
        await super().append(lease, events, **options)
        if any(event.type == "model.replied" for event in events):
            self.wrote.set()
            await asyncio.Event().wait()


def test_review_f3_an_append_that_is_cancelled_at_the_end_of_the_loop_is_settled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = KeepsAndIsSlow()
    running: list[Any] = []

    async def main() -> None:
        session = agent([call("t"), "end"], Tool("t"), session_store=store).session("s")
        running.append(asyncio.create_task(session.run("go")))
        await store.wrote.wait()

    asyncio.run(main())
    log = store.log.read("s")
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert [event.type for event in log][-1] == "run.finished"
    assert [event.type for event in log].count("model.replied") == 1
    assert "could not be settled" not in caplog.text
