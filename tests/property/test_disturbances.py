"""Random scripts in a disturbed world: cancels, deaths and full disks at random turns of the event loop.

Whatever happens, in the end there is one log that folds, each call has one result, nothing that must not be
repeated was repeated without a question, and nobody is told a success that was none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage import faults_of_pairing, no_strangers, of_type
from world import REPEATABLE, Recording, Script, World, answer, build

from loom.errors import RequestClosed, StoreError
from loom.events import Event
from loom.folds.changes import fold
from loom.types import RunState

pytestmark = pytest.mark.timeout(60)

TOOLS = ["read", "note", "send", "post", "fail", "wipe", "shut", "ask", "nope", "child"]
scripts = st.lists(st.lists(st.sampled_from(TOOLS), min_size=1, max_size=3), min_size=1, max_size=3)
disturbances = st.lists(
    st.tuples(st.sampled_from(["cancel", "task", "death", "disk", "stream"]), st.integers(0, 60)), max_size=4
)


class Disturbed:
    """One run under way, and what is done to it."""

    def __init__(self, script: Script, slow: int) -> None:
        self.script = script
        self.child: Script = [["send", "wipe"]]
        self.world = World(Recording(slow))
        self.cancelled = False
        self.full = False
        self.ended: Any = None

    async def live(self, what: str, turns: int) -> None:
        """Let a process work for some turns of the loop, then let ``what`` happen to it."""
        session = build(self.world, self.script, self.child).session("s")
        work = asyncio.create_task(self._work(session, streaming=what == "stream"))
        for _ in range(turns):
            await asyncio.sleep(0)
        if what == "death":
            length, effects = len(self.world.store.order), list(self.world.effects)
            store = self.world.store
            await self._stop(session, work)
            self.world = World(store.cut(length), effects)
        elif what == "disk":
            self.full, self.world.store.failing = True, 2
            await asyncio.wait_for(asyncio.wait([work]), 10)
            self.world.store.failing = 0
        elif what in ("task", "stream"):
            self.cancelled = self.cancelled or not work.done()
            await self._stop(session, work)
        elif what == "cancel":
            self.cancelled = self.cancelled or not work.done()
            await self._cancel(session)
            await self._stop(session, work)
        else:
            await asyncio.wait_for(asyncio.wait([work]), 10)
        # A full disk may keep a run from beginning or going on, a cancel may come before an answer.
        expected = StoreError if what == "disk" else RequestClosed
        error = None if work.cancelled() else work.exception()
        if error is not None and not isinstance(error, expected):
            raise error

    async def _stop(self, session: Any, work: asyncio.Task[Any]) -> None:
        work.cancel()
        await asyncio.wait_for(asyncio.wait([work]), 10)
        await self._cancel(session)

    async def _cancel(self, session: Any) -> None:
        """Cancelling who waits for a run leaves the run alone; here it is stopped as well."""
        for run in session.list_runs():
            with suppress(RequestClosed):  # the handle that waited was cancelled before the one that answers
                await asyncio.wait_for(run.cancel(), 10)

    async def _work(self, session: Any, *, streaming: bool) -> None:
        known = await session.store.read("s")
        if known:
            result = await session.resume(known[0].run_id)
        elif streaming:
            async for _ in session.stream("go"):
                pass
            known = await session.store.read("s")
            result = await session.resume(known[0].run_id)
        else:
            result = await session.run("go")
        for _ in range(40):
            if result.state is not RunState.WAITING:
                self.ended = result
                return
            assert result.pending, "the run waits for nothing"
            result = await session.resume(result.run_id, [answer(r, "approve") for r in result.pending])
        raise AssertionError("the run never ends")


def check(one: Disturbed) -> None:
    """What must be true of the world when all is over."""
    store, result = one.world.store, one.ended
    logs: dict[str, list[Event]] = {}
    for session_id, event in store.order:
        logs.setdefault(session_id, []).append(event)
    asked: Counter[tuple[str, str]] = Counter()
    for session_id, log in logs.items():
        state = fold(log)
        if session_id != "s" and one.full and not state.status.terminal:
            continue  # a child that could not be saved; its parent was told that it failed
        assert log[-1].type == "run.finished", (session_id, log[-1].type)
        assert [event.type for event in log].count("run.finished") == 1
        assert state.status.terminal
        assert faults_of_pairing(list(state.transcript)) is None
        called = sum(len(event.message.tool_calls or ()) for event in of_type(log, "model.replied"))
        assert len(of_type(log, "tool.finished")) == called
        assert [event.seq for event in log] == list(range(1, len(log) + 1))
        for event in of_type(log, "request.opened"):
            if event.request.origin == "recovery" and event.request.run_id == log[0].run_id:
                asked[event.request.tool_name, str(msgspec.json.decode(event.request.arguments)["n"])] += 1
    done = Counter((name, arguments) for name, arguments, _ in one.world.effects)
    if "child" not in [name for calls in one.script for name in calls]:  # children do the same things again
        for effect, count in done.items():
            assert effect[0] in REPEATABLE or count <= 1 + asked[effect], (effect, count, asked)
    if result is not None:
        last = logs["s"][-1]
        assert result.state is last.state  # type: ignore[attr-defined]
        assert list(result.events) == logs["s"]
        if not one.cancelled:
            assert result.state is not RunState.CANCELLED


async def disturbed(script: Script, what: list[tuple[str, int]], slow: int) -> None:
    one = Disturbed(script, slow)
    for name, turns in what:
        await one.live(name, turns)
        if one.world.store.order:
            fold([event for session_id, event in one.world.store.order if session_id == "s"])
    await one.live("nothing", 0)
    check(one)
    await no_strangers()


@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(scripts, disturbances, st.integers(0, 2))
def test_a_disturbed_world(script: list[list[str]], what: list[tuple[str, int]], slow: int) -> None:
    asyncio.run(disturbed(script, what, slow))
