"""What was said, seen or asked is not lost: by failures, stops, slow readers, and readers who leave."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from stage import Gate, RecordsOnly, Tool, agent, soon

from loom.agent import Agent
from loom.errors import ProviderUnavailableError, RecordNotFound, RequestClosed
from loom.policies.profile import Runtime
from loom.policies.restore import SessionRestorePolicy
from loom.store.base import SessionStore
from loom.store.file import FileSessionStore
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import ScriptedProvider, call
from loom.tools.base import ToolContext
from loom.types import Role, RunState

pytestmark = pytest.mark.timeout(30)

OUTAGE = ProviderUnavailableError("the service is down", status=503)


def _told(provider: ScriptedProvider, request: int = -1) -> list[tuple[str, str]]:
    return [(m.role.value, m.text_content or "") for m in provider.requests[request].messages]


# --- a run that failed is part of the conversation ----------------------------------------------------


async def test_review_g1_what_was_asked_before_a_failure_is_told_to_the_next_run() -> None:
    provider = ScriptedProvider([OUTAGE, "hello"])
    session = Agent(model=provider).session("s")
    assert (await soon(session.run("My name is Ana."))).state is RunState.FAILED
    assert (await soon(session.run("What is my name?"))).ok
    assert _told(provider) == [
        ("user", "My name is Ana."),
        ("assistant", "[The run failed (provider_unavailable) before it was finished.]"),
        ("user", "What is my name?"),
    ]


@pytest.mark.parametrize("policy", [SessionRestorePolicy.everything(), SessionRestorePolicy.window()])
async def test_review_g1_also_after_a_restart(policy: SessionRestorePolicy, tmp_path: Path) -> None:
    runtime = Runtime(session_restore=policy)
    first = Agent(
        model=ScriptedProvider([call("t"), OUTAGE]),
        tools=[Tool("t")],
        session_store=SqliteSessionStore(tmp_path / "s.db"),
        runtime=runtime,
    )
    await soon(first.session("s").run("My name is Ana."))
    provider = ScriptedProvider(["hello"])
    again = Agent(model=provider, session_store=SqliteSessionStore(tmp_path / "s.db"), runtime=runtime)
    assert (await soon(again.session("s").run("And now?"))).ok
    said = _told(provider)
    assert said[0] == ("user", "My name is Ana.")
    assert "failed (provider_unavailable)" in str(said[1:-1])
    assert said[-1][0] == "user"


async def test_review_g4_records_of_a_users_store_keep_events_and_artifacts_in_the_window() -> None:
    store = RecordsOnly()
    runtime = Runtime(session_restore=SessionRestorePolicy.window())
    first = agent([call("lookup"), "42"], Tool("lookup"), session_store=store, runtime=runtime)
    await soon(first.session("s").run("How many?"))
    provider = ScriptedProvider(["fine"])
    again = Agent(model=provider, session_store=store, runtime=runtime)
    assert (await soon(again.session("s").run("And now?"))).ok
    earlier = _told(provider)[-1][1]
    assert "lookup: ok" in earlier
    assert "artifact: Run output" in earlier


async def test_review_g4_handles_do_not_depend_on_the_garbage_collector() -> None:
    session = agent(["end"] * 70).session("s")
    ids = [(await soon(session.run("go"))).run_id for _ in range(70)]
    gc.collect()
    assert [run.id for run in session.list_runs()] == ids[-64:]
    run = session.get_run(ids[-1])
    assert run is not None
    assert run.result is not None
    assert session.get_run(ids[0]) is None


# --- retry --------------------------------------------------------------------------------------------


def _store(kind: str, tmp_path: Path) -> SessionStore:
    if kind == "sqlite":
        return SqliteSessionStore(tmp_path / "s.db")
    return FileSessionStore(tmp_path / "s.log") if kind == "file" else InMemorySessionStore()


@pytest.mark.parametrize("kind", ["memory", "file", "sqlite"])
async def test_review_g7_a_run_goes_on_after_an_outage_with_its_approvals(kind: str, tmp_path: Path) -> None:
    store, pay = _store(kind, tmp_path), Tool("pay", destructive=True)
    provider = ScriptedProvider([call("pay"), OUTAGE, "paid", "next"])
    session = Agent(model=provider, tools=[pay], session_store=store).session("s")
    waiting = await soon(session.run("pay"))
    failed = await soon(session.resume(answers=waiting.pending[0].approve()).wait())
    assert (failed.state, failed.error.code) == (RunState.FAILED, "provider_unavailable")
    done = await soon(session.retry(failed.run_id).wait())
    assert (done.state, done.output, done.run_id) == (RunState.COMPLETED, "paid", failed.run_id)
    assert len(pay.entered) == 1
    assert [event.seq for event in done.events] == list(range(1, len(done.events) + 1))
    assert [m.role.value for m in done.messages] == ["user", "assistant", "tool", "assistant"]
    record = store.load_run(done.run_id)
    assert record is None or record.state == "completed"
    assert (await soon(session.run("and then?"))).ok
    assert [role for role, _ in _told(provider)] == ["user", "assistant", "tool", "assistant", "user"]
    reopened = Agent(model=ScriptedProvider(["x"]), tools=[pay], session_store=store).session("s")
    if kind == "memory":
        return
    await soon(reopened.run("again"))
    assert "failed" not in str(reopened.history._said[:5])


async def test_review_g7_without_an_id_it_is_the_last_run() -> None:
    provider = ScriptedProvider(["one", OUTAGE, "two"])
    session = Agent(model=provider).session("s")
    await soon(session.run("a"))
    await soon(session.run("b"))
    assert (await soon(session.retry().wait())).output == "two"
    assert _told(provider) == [("user", "a"), ("assistant", "one"), ("user", "b")]


async def test_review_g7_a_cancelled_run_may_go_on() -> None:
    gate = Gate()
    session = agent([call("t"), "after"], Tool("t", gate)).session("s")
    run = session.start("go")
    await soon(gate.reached.wait())
    assert (await soon(run.cancel())).state is RunState.CANCELLED
    again = await soon(session.retry(run.id).wait())
    assert again.output == "after"
    assert again.messages[2].role is Role.TOOL


async def test_review_g7_what_cannot_be_retried_says_why() -> None:
    session = agent(["one", OUTAGE, "two", call("d")], Tool("d", destructive=True)).session("s")
    with pytest.raises(RecordNotFound):
        await soon(session.retry().wait())
    done = await soon(session.run("a"))
    with pytest.raises(RequestClosed, match="ended as completed"):
        await soon(session.retry().wait())
    failed = await soon(session.run("b"))
    await soon(session.run("c"))
    with pytest.raises(RequestClosed, match="a later run was told"):
        await soon(session.retry(failed.run_id).wait())
    waiting = await soon(session.run("d"))
    with pytest.raises(RequestClosed, match="resume it"):
        await soon(session.retry(waiting.run_id).wait())
    with pytest.raises(RequestClosed, match="ended as completed"):
        await soon(session.retry(done.run_id).wait())


# --- readers ------------------------------------------------------------------------------------------


async def test_review_g5_a_second_reader_hears_the_end_when_the_streams_owner_leaves() -> None:
    gate = Gate()
    session = agent([call("t"), "end"], Tool("t", gate)).session("s")
    stream = session.stream("go")
    first = await anext(stream)
    handle = session.get_run(first.run_id)
    assert handle is not None
    heard: list[str] = []

    async def listen() -> None:
        heard.extend([event.type async for event in handle.events()])

    listener = asyncio.create_task(listen())
    async for event in stream:
        if event.type == "tool.requested":
            break
    await stream.aclose()
    await soon(listener)
    assert heard[-2:] == ["tool.finished", "run.finished"]


async def test_review_g5_progress_is_not_lost_under_a_slow_reader() -> None:
    class Tells(Tool):
        async def invoke_in_context(self, args: dict[str, Any], context: ToolContext[Any]) -> str:
            for number in range(10):
                context.emit(str(number))
            return "done"

    seen: list[str] = []
    async with agent([call("t"), "end"], Tells("t")).stream("go") as stream:
        async for event in stream:
            if event.type == "tool.progress":
                seen.append(event.text)
                await asyncio.sleep(0.01)
    assert seen == [str(number) for number in range(10)]


async def test_review_g5_a_flood_of_progress_is_shown_from_both_ends() -> None:
    class Floods(Tool):
        async def invoke_in_context(self, args: dict[str, Any], context: ToolContext[Any]) -> str:
            for number in range(50_000):
                context.emit(str(number))
            return "done"

    stream = agent([call("t"), "end"], Floods("t")).stream("go")
    seen = [event.text async for event in stream if event.type == "tool.progress"]
    assert len(seen) == 1001
    assert (seen[0], seen[499], seen[-1]) == ("0", "499", "49999")
    assert seen[500] == "(49000 updates of running tools were left out)"
