"""What a store says of a run is what the run said of itself, whichever store it is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_stores import ThreeMethods

from loom import Agent, tool
from loom.folds.records import plain
from loom.runtime import RunContext
from loom.signals import RuntimeTask
from loom.store.base import RunRecord, SessionStore, TranscriptRecord
from loom.store.file import FileSessionStore
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing import ScriptedProvider
from loom.types import ToolCall


class RowsOnly(ThreeMethods):
    """A user's store that keeps transcripts, too, and no log."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, TranscriptRecord] = {}

    def save_transcript(self, record: TranscriptRecord) -> None:
        self.said[record.id] = msgspec.convert(plain(record), TranscriptRecord)

    def load_transcript(self, run_id: str) -> TranscriptRecord | None:
        return self.said.get(run_id)

    def load_run(self, run_id: str) -> RunRecord | None:
        return [row for row in self.saved if row.id == run_id][-1]


STORES = {
    "memory": lambda folder: InMemorySessionStore(),
    "file": lambda folder: FileSessionStore(folder / "s.json"),
    "sqlite": lambda folder: SqliteSessionStore(folder / "s.db"),
    "rows only": lambda folder: RowsOnly(),
}


class Verdict(msgspec.Struct):
    n: int


def typed_agent(store: SessionStore) -> Agent[Any, Any]:
    first = asyncio.Event()

    @tool(read_only=True, concurrency_safe=True)
    async def slow() -> str:
        """Slow."""
        await first.wait()
        return "slow"

    @tool(read_only=True, concurrency_safe=True)
    async def quick() -> str:
        """Quick."""
        first.set()
        return "quick"

    calls = [ToolCall("a", "slow", "{}"), ToolCall("b", "quick", "{}")]
    provider = ScriptedProvider([calls, "no object", '{"n": 4}'])
    return Agent(model=provider, tools=[slow, quick], output_type=Verdict, session_store=store)


@pytest.mark.parametrize("kind", STORES)
async def test_review_g3_the_transcript_is_that_of_the_result(kind: str, tmp_path: Path) -> None:
    """With results that came out of order, a critique, and context beside the task."""
    store = STORES[kind](tmp_path)
    session = typed_agent(store).session("s")
    task = RuntimeTask("How many?", input={"colour": "red"})
    run = session.start(task, context=RunContext(inputs={"who": "ana"}))
    result = await asyncio.wait_for(run.wait(), 20)
    assert result.ok
    said = await run.transcript()
    record = store.load_transcript(run.id)
    assert record is not None
    assert record.messages == said["messages"] == plain(result.messages)
    assert [message.get("content") for message in record.messages][:1] == ["How many?"]
    assert [message["content"] for message in record.messages if message["role"] == "tool"] == [
        "slow",
        "quick",
    ]
    assert [message["role"] for message in record.messages][-3:] == ["assistant", "user", "assistant"]
    assert record.artifacts == said["artifacts"] == plain(result.artifacts) != []
    assert record.events == said["events"]
    assert [event["type"] for event in record.events] == [event.type for event in result.events]
    assert record.context == said["context"]
    assert "ana" in str(record.context)
    assert (record.prompt, record.output) == (said["prompt"], '{"n": 4}') == ("How many?", '{"n": 4}')
    assert record.metadata == {"state": "completed"}
    assert (record.created_at, record.updated_at) == (result.events[0].ts, result.events[-1].ts)
    row = store.load_run(run.id)
    assert row is not None
    assert (row.state, row.output, row.error) == ("completed", '{"n": 4}', None)
    assert row.metadata["prompt"] == "How many?"
    assert (row.created_at, row.updated_at) == (record.created_at, record.updated_at)
    await store.aclose()


@pytest.mark.parametrize("kind", STORES)
async def test_review_g3_a_run_that_waits_has_its_prompt_and_no_output_yet(kind: str, tmp_path: Path) -> None:
    @tool(requires_permission=True)
    def pay() -> str:
        """Pay."""
        return "paid"

    store = STORES[kind](tmp_path)
    provider = ScriptedProvider([["I will pay", ToolCall("a", "pay", "{}")], "done"])
    agent = Agent(model=provider, tools=[pay], session_store=store)
    session = agent.session("s")
    result = await session.run("Pay it")
    assert result.status == "waiting"
    row = store.load_run(result.run_id)
    assert row is not None
    assert (row.state, row.output, row.metadata["prompt"]) == ("waiting", "", "Pay it")
    record = store.load_transcript(result.run_id)
    if kind != "rows only":
        assert record is not None
        assert record.messages == plain(result.messages)
        assert record.metadata == {"state": "waiting"}
        assert record.artifacts == []
    done = await session.resume(result.run_id, [result.pending[0].approve(by="ana")])
    row = store.load_run(result.run_id)
    assert row is not None
    assert (row.state, row.output, row.metadata["prompt"]) == ("completed", "done", "Pay it")
    assert row.created_at == done.events[0].ts
    record = store.load_transcript(result.run_id)
    assert record is not None
    assert record.messages == plain(done.messages)
    await store.aclose()
