"""Whose a session is: children are listed, deleted and forgotten with their parents; forks keep what they refer to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loom import Agent
from loom.store.base import RunRecord, SessionRecord, SessionStore
from loom.store.file import FileSessionStore
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing import ScriptedProvider
from loom.types import ToolCall


class Rows(SessionStore):
    """A user's store of three methods, which inherits its log."""

    def load_session(self, session_id: str) -> SessionRecord | None:
        return None

    def save_session(self, record: SessionRecord) -> None:
        assert record.parent is None, "a user's store is not bothered with children"

    def save_run(self, record: RunRecord) -> None:
        return


STORES = {
    "memory": lambda folder: InMemorySessionStore(),
    "file": lambda folder: FileSessionStore(folder / "s.json"),
    "sqlite": lambda folder: SqliteSessionStore(folder / "s.db"),
    "rows": lambda folder: Rows(),
}


def parent_of_parent(store: SessionStore | None, times: int = 1) -> Agent[Any, Any]:
    ask = '{"task": "go on"}'
    grand = Agent(model=ScriptedProvider(["below"] * times)).as_tool(name="grand", description="g")
    middle = Agent(model=ScriptedProvider([ToolCall("a", "grand", ask), "middle"] * times), tools=[grand])
    tool = middle.as_tool(name="middle", description="m")
    model = ScriptedProvider([ToolCall("b", "middle", ask), "end"] * times)
    return Agent(model=model, tools=[tool], session_store=store)


@pytest.mark.parametrize("kind", STORES)
async def test_review_e9_a_forgotten_session_takes_its_children_along(kind: str, tmp_path: Path) -> None:
    store = STORES[kind](tmp_path)
    agent = parent_of_parent(store)
    session = agent.session("s")
    result = await session.run("go")
    assert result.ok
    (child,) = [event.child_session_id for event in result.events if event.type == "child.started"]
    (grand,) = [e.child_session_id for e in await store.read(child) if e.type == "child.started"]
    assert await store.head(grand) > 0
    if kind != "rows":
        assert [row.id for row in store.list_sessions()] == ["s"]
        assert [(row.id, row.parent) for row in store.list_sessions(parent="s")] == [(child, "s")]
        assert [(row.id, row.parent) for row in store.list_sessions(parent=child)] == [(grand, child)]
        row = store.load_session(grand)
        assert row is not None
        assert row.parent == child
    session.forget()
    assert [await store.head(name) for name in ("s", child, grand)] == [0, 0, 0]
    assert [await store.find_run(f"run_{name.rpartition('/')[2]}") for name in (child, grand)] == [None, None]
    assert store.list_sessions(children=True) == store.list_runs() == []
    await store.aclose()


async def test_review_e9_one_off_runs_leave_nothing_in_memory() -> None:
    agent = parent_of_parent(None, times=3)
    for _ in range(3):
        assert (await agent.run("go")).ok
    scratch = agent._scratch_store()
    assert isinstance(scratch, InMemorySessionStore)
    assert (scratch.log.sessions(), scratch.log.runs(), scratch.sessions) == ([], [], {})
    assert (scratch.log._sessions, scratch.log._parents) == ({}, {})


async def test_review_e9_a_file_of_before_tells_children_by_the_log(tmp_path: Path) -> None:
    """Rows had no parent then; the log of the parent has always named its children."""
    store = FileSessionStore(tmp_path / "s.json")
    session = parent_of_parent(store).session("s")
    result = await session.run("go")
    (child,) = [event.child_session_id for event in result.events if event.type == "child.started"]
    store.save_session(SessionRecord(child))
    await store.aclose()
    assert [(row.id, row.parent) for row in store.list_sessions(parent="s")] == [(child, "s")]
    assert [row.id for row in store.list_sessions()] == ["s"]
    store.delete_session("s")
    assert store.list_sessions(children=True) == []
    await store.aclose()


@pytest.mark.parametrize("kind", STORES)
async def test_review_e9_a_fork_keeps_the_outputs_it_refers_to(kind: str, tmp_path: Path) -> None:
    store = STORES[kind](tmp_path)
    session = Agent(model=ScriptedProvider(["hi"]), session_store=store).session("s")
    await session.run("hello")
    await store.keep_output("s", "out_1", "the whole text")
    fork = await session.fork("f")
    session.forget()
    assert await store.read_output(fork.id, "out_1") == "the whole text"
    await store.aclose()
