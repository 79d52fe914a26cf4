"""A session and its runs in the hand of an application: resuming by answers, closing, what a handle tells."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from loom import Agent, Answer, RunState, Session, SqliteSessionStore, tool
from loom.errors import ConfigError, RecordNotFound, RequestClosed
from loom.testing import ScriptedProvider, call

pytestmark = pytest.mark.timeout(20)

DONE: list[str] = []


@tool(destructive=True)
def deploy(environment: str) -> str:
    """Deploy."""
    DONE.append(environment)
    return f"{environment} is up"


@tool(idempotent=True)
async def wait_for_it() -> str:
    """Take for ever."""
    await asyncio.Event().wait()
    return "never"


@pytest.fixture(autouse=True)
def _nothing_is_done() -> None:  # pyright: ignore[reportUnusedFunction]
    DONE.clear()


def agent(*script: Any, store: Any = None) -> Agent[str, Any]:
    return Agent(model=ScriptedProvider(script), tools=[deploy, wait_for_it], session_store=store)


async def two_that_wait(store: Any = None) -> Session[str, Any]:
    one, two = call("deploy", environment="one"), call("deploy", environment="two")
    session = agent(one, two, "first up", "second up", store=store).session("release")
    for goal in ("Deploy one", "Deploy two"):
        assert (await session.run(goal)).state is RunState.WAITING
    return session


# --- resume -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
async def test_review_j_the_run_comes_from_the_answers(durable: bool, tmp_path: Path) -> None:
    session = await two_that_wait(SqliteSessionStore(tmp_path / "s.db") if durable else None)
    requests = await session.pending()
    result = await session.resume(answers=[requests[0].approve(by="ana")])
    assert (result.run_id, result.unwrap(), DONE) == (requests[0].run_id, "first up", ["one"])
    assert (await session.resume(answers=requests[1].approve())).unwrap() == "second up"
    await session.store.aclose()


async def test_review_j_without_answers_it_is_the_newest() -> None:
    session = await two_that_wait()
    requests = await session.pending()
    assert (await session.resume()).run_id == requests[1].run_id


async def test_review_j_a_forwarded_request_resumes_the_parent_it_was_forwarded_to() -> None:
    child = agent(call("deploy", environment="below"), "below is up").as_tool(
        name="below", description="Deploys."
    )
    script = [call("below", task="x"), call("deploy", environment="here"), "all is well"]
    parent = Agent(model=ScriptedProvider(script), tools=[child, deploy])
    session = parent.session("s")
    first = await session.run("one")
    assert (await session.run("two")).state is RunState.WAITING
    result = await session.resume(answers=first.pending[0].approve())
    assert (result.run_id, DONE) == (first.run_id, ["below"])


async def test_review_j_one_answer_or_several_are_taken() -> None:
    session = agent(call("deploy", environment="x"), "up").session("s")
    waiting = await session.run("go")
    assert (await session.resume(waiting.run_id, waiting.pending[0].approve())).unwrap() == "up"
    assert DONE == ["x"]


@pytest.mark.parametrize("wrong", [True, "yes", ["yes"], [None], {"a": 1}, 7, b"x"])
async def test_review_j_what_is_no_answer_is_refused_at_once(wrong: Any) -> None:
    session = agent().session("s")
    with pytest.raises(ConfigError, match="is no answer"):
        session.resume("run_1", wrong)


async def test_review_j_answers_in_the_place_of_the_id_are_refused_at_once() -> None:
    session = agent().session("s")
    for wrong in (Answer("r", "approve"), [Answer("r", "approve")], 7):
        with pytest.raises(ConfigError, match="run_id is the id of a run"):
            session.resume(wrong)  # type: ignore[arg-type]


async def test_review_j_answers_to_two_runs_or_to_none_change_nothing() -> None:
    session = await two_that_wait()
    requests = await session.pending()
    with pytest.raises(RequestClosed, match="of another run"):
        await session.resume(answers=[request.approve() for request in requests])
    with pytest.raises(RequestClosed):
        await session.resume(answers=Answer("req_unknown", "approve"))
    assert (await session.pending(), DONE) == (requests, [])
    with pytest.raises(RecordNotFound):
        await agent().session("other").resume(answers=requests[0].approve())


# --- closing ----------------------------------------------------------------------------------------------


async def test_review_j_a_closed_session_stops_its_run_and_takes_nothing_on() -> None:
    desk = agent(call("wait_for_it"), "again")
    session = desk.session("s")
    run = session.start("go")
    async for event in run.events():
        if event.type == "tool.started":
            break
    await session.close()
    result = await run
    assert (result.state, str(result.error)) == (
        RunState.CANCELLED,
        "cancelled: the run was cancelled: the session was closed",
    )
    for use in (session.start, session.stream, session.resume):
        with pytest.raises(ConfigError, match="was closed"):
            use("x")
    with pytest.raises(ConfigError, match="was closed"):
        await session.run("x")
    await session.aclose()
    fresh = desk.session("s")
    assert fresh is not session
    assert (await fresh.run("more")).unwrap() == "again"


async def test_review_j_what_waits_goes_on_waiting_when_its_session_is_closed(tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "s.db")
    desk = agent(call("deploy", environment="x"), "up", store=store)
    async with desk.session("s") as session:
        run = session.start("go")
        waiting = await run
    assert session.closed
    assert run.state is RunState.WAITING
    result = await desk.session("s").resume(answers=waiting.pending[0].approve())
    assert (result.unwrap(), DONE) == ("up", ["x"])
    await store.aclose()


async def test_review_j_a_one_off_run_that_waits_can_be_closed_and_found_again() -> None:
    desk = agent(call("deploy", environment="x"), "up")
    waiting = await desk.run("go")
    await desk.session(waiting.session_id).close()
    result = await desk.session(waiting.session_id).resume(answers=waiting.pending[0].approve())
    assert result.unwrap() == "up"


# --- what they tell ---------------------------------------------------------------------------------------


async def test_review_j_a_session_tells_when_it_began(tmp_path: Path) -> None:
    store, before = SqliteSessionStore(tmp_path / "s.db"), datetime.now(UTC) - timedelta(seconds=1)
    session = agent("hello", store=store).session("s")
    assert session.created_at is None
    await session.run("go")
    assert session.created_at is not None
    assert before < session.created_at < datetime.now(UTC) + timedelta(seconds=1)
    assert agent(store=store).session("s").created_at == session.created_at
    fleeting = agent("hello").session("s")
    await fleeting.run("go")
    assert fleeting.created_at is not None
    await store.aclose()


def test_review_j_a_session_shows_what_it_is_for() -> None:
    shown = dir(agent().session("s"))
    assert {"run", "start", "stream", "resume", "close", "created_at", "id", "pending"} <= set(shown)
    assert not {"turn", "owner", "rates", "note_start", "catch_up", "opened_log", "begin"} & set(shown)
    for name in shown:
        assert hasattr(Session, name) or name in vars(agent().session("s")), name
