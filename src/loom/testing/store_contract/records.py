"""Promises about rows: sessions, runs and transcripts, saved or folded from the log, and deletion."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ...errors import LeaseLost
from ...events import ModelReplied, QualityJudged, RunResumed, RunStarted, ToolFinished
from ...signals import RuntimeSignal, RuntimeTask
from ...store.base import RunRecord, SessionRecord, TranscriptRecord
from ...types import ChatMessage, Role, RunState, ToolCall, ToolResult
from .base import TTL, Promises, refused, write
from .samples import AWKWARD, NESTED, answered, finished, opened, placed, said, started

_THEN = datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=UTC)


def a_run(run_id: str, session_id: str = "s", state: str = "running") -> RunRecord:
    """A run's row with every field filled."""
    error = {"code": "store", "message": AWKWARD}
    return RunRecord(run_id, session_id, state, AWKWARD, error, _THEN, _THEN, {"prompt": AWKWARD, **NESTED})


def a_transcript(run_id: str, session_id: str = "s") -> TranscriptRecord:
    """A transcript with every field filled."""
    said_so = [{"role": "user", "content": AWKWARD}]
    return TranscriptRecord(
        run_id,
        session_id,
        AWKWARD,
        "out",
        said_so,
        NESTED,
        [NESTED],
        [NESTED],
        _THEN,
        _THEN,
        {"state": "done"},
    )


class RecordPromises(Promises):
    """The records half. What a store without rows does not keep is not asked of it."""

    async def test_a_session_row_comes_back_equal(self, tmp_path: Path) -> None:
        """And is replaced by the next with its id."""
        async with self.opened(tmp_path) as store:
            assert store.load_session("s") is None
            first = SessionRecord("s", NESTED, _THEN, _THEN)
            store.save_session(first)
            assert store.load_session("s") == first
            second = SessionRecord("s", {"new": True}, _THEN, _THEN)
            store.save_session(second)
            store = await self.reopen(store, tmp_path)
            assert store.load_session("s") == second
            store.save_run(a_run("run_1"))
            await store.aclose()

    async def test_rows_come_back_equal(self, tmp_path: Path) -> None:
        """Runs and transcripts, one and all, of one session and of all, oldest first."""
        async with self.opened(tmp_path) as store:
            if not self.keeps_rows:
                return
            for number, session_id in enumerate(["s", "s2", "s"]):
                store.save_session(SessionRecord(session_id, {}, _THEN, _THEN))
                store.save_run(a_run(f"run_{number}", session_id))
                store.save_transcript(a_transcript(f"run_{number}", session_id))
            store.save_run(a_run("run_0", state="completed"))
            store = await self.reopen(store, tmp_path)
            assert [row.id for row in store.list_sessions()] == ["s", "s2"]
            assert store.load_run("run_0") == a_run("run_0", state="completed")
            assert store.load_run("nobody") is None
            assert [row.id for row in store.list_runs()] == ["run_0", "run_1", "run_2"]
            assert store.list_runs("s") == [a_run("run_0", state="completed"), a_run("run_2")]
            assert store.load_transcript("run_1") == a_transcript("run_1", "s2")
            assert store.load_transcript("nobody") is None
            assert store.list_transcripts("s") == [a_transcript("run_0"), a_transcript("run_2")]
            assert len(store.list_transcripts()) == 3
            assert store.list_runs("nobody") == []
            assert store.list_transcripts("nobody") == []
            await store.aclose()

    async def test_a_row_in_hand_is_a_copy(self, tmp_path: Path) -> None:
        """Writing to it changes nothing in the store until it is saved."""
        async with self.opened(tmp_path) as store:
            row = SessionRecord("s", {"a": 1})
            store.save_session(row)
            row.metadata["b"] = 2
            found = store.load_session("s")
            assert found is not None
            assert found.metadata == {"a": 1}
            found.metadata["c"] = 3
            again = store.load_session("s")
            assert again is not None
            assert again.metadata == {"a": 1}

    async def test_a_durable_log_keeps_the_runs_row(self, tmp_path: Path) -> None:
        """Without anybody saving one: running, waiting, running again, ended."""
        async with self.opened(tmp_path) as store:
            if not store.durable:
                return
            lease = await store.acquire("s", owner="a", ttl=TTL)
            first = (await write(store, lease, started("the goal")))[0]
            row = store.load_run("run_1")
            assert row is not None
            assert (row.state, row.session_id, row.metadata) == ("running", "s", {"prompt": "the goal"})
            assert (row.created_at, row.updated_at) == (first.ts, first.ts)
            for events, state in (
                ([opened("r1"), opened("r2")], "waiting"),
                ([answered("r1")], "waiting"),
                ([answered("r2")], "running"),
                ([opened("r3")], "waiting"),
                ([RunResumed(from_state=RunState.WAITING)], "running"),
            ):
                await write(store, lease, *events)
                assert [row.state for row in store.list_runs("s")] == [state], events
            last = (await write(store, lease, finished(RunState.FAILED, "so far")))[0]
            store = await self.reopen(store, tmp_path)
            row = store.load_run("run_1")
            assert row is not None
            assert (row.state, row.output, row.updated_at) == ("failed", "so far", last.ts)
            await store.aclose()

    async def test_a_saved_row_and_the_log_agree(self, tmp_path: Path) -> None:
        """What was saved last or happened last counts; the metadata of a saved row stay."""
        async with self.opened(tmp_path) as store:
            if not store.durable:
                return
            store.save_run(RunRecord("run_1", "s", "queued", metadata={"mine": 1}))
            lease = await store.acquire("s", owner="a", ttl=TTL)
            await write(store, lease, started("goal"))
            row = store.load_run("run_1")
            assert row is not None
            assert (row.state, row.metadata) == ("running", {"mine": 1, "prompt": "goal"})
            store.save_run(a_run("run_1", state="waiting"))
            assert store.load_run("run_1") == a_run("run_1", state="waiting")
            await write(store, lease, finished())
            row = store.load_run("run_1")
            assert row is not None
            assert (row.state, row.output) == ("completed", "done")
            assert len(store.list_runs()) == 1

    async def test_a_durable_log_is_a_transcript(self, tmp_path: Path) -> None:
        """Folded from the events of the run alone; a saved one comes first."""
        async with self.opened(tmp_path) as store:
            if not store.durable:
                return
            lease = await store.acquire("s", owner="a", ttl=TTL)
            await write(store, lease, started("other"), said("no"), run_id="run_0")
            asked = ModelReplied(
                iteration=1,
                message=ChatMessage(
                    Role.ASSISTANT,
                    "let me see",
                    tool_calls=(ToolCall("c", "t", "{}"), ToolCall("d", "t", "{}")),
                ),
            )
            late = ToolFinished(call_id="d", name="t", outcome="ok", result=ToolResult("43"))
            result = ToolFinished(call_id="c", name="t", outcome="ok", result=ToolResult("42"))
            task = RuntimeTask("goal", input={"who": "ana"})
            begun = RunStarted(task=task, inputs={"n": 1})
            await write(store, lease, begun, asked, late, result, said("yes?"))
            await write(store, lease, QualityJudged(passed=False, critique="sure?", attempt=1), said("yes"))
            await write(store, lease, finished(output="yes"))
            found = store.load_transcript("run_1")
            assert found is not None
            assert (found.prompt, found.output, found.metadata["state"]) == ("goal", "yes", "completed")
            contents = ["goal", "let me see", "42", "43", "yes?", "sure?", "yes"]
            assert [m["content"] for m in found.messages] == contents
            assert [one["metadata"]["content"] for one in found.artifacts] == ["yes"]
            assert found.context == {"n": 1}
            assert found.events[0]["type"] == "run.started"
            assert set(found.events[0]) == {"id", "run_id", "type", "ts", "visibility", "payload"}
            assert [one.id for one in store.list_transcripts("s")] == ["run_0", "run_1"]
            store.save_transcript(a_transcript("run_1"))
            assert store.load_transcript("run_1") == a_transcript("run_1")
            assert [one.id for one in store.list_transcripts("s")] == ["run_0", "run_1"]

    async def test_a_deleted_session_is_gone(self, tmp_path: Path) -> None:
        """All of it, at once and after reopening, and nothing else; its name can be used anew."""
        async with self.opened(tmp_path) as store:
            if not self.keeps_rows:
                return
            store.delete_session("nobody")
            for number, name in enumerate(["s", "other"]):
                store.save_session(SessionRecord(name))
                lease = await store.acquire(name, owner="a", ttl=TTL)
                await write(store, lease, started(), opened("r"), run_id=f"run_{number}")
                store.save_run(a_run(f"run_{number}", name))
                store.save_transcript(a_transcript(f"run_{number}", name))
                await store.offer(name, RuntimeSignal.create("x", dedupe_key="k"))
            old = await store.acquire("s", owner="a", ttl=TTL)
            store.delete_session("s")
            await refused(LeaseLost, store.append(old, placed([said("late")], head=2)))
            for _ in range(2):
                assert store.load_session("s") is None
                assert store.load_run("run_0") is None
                assert store.load_transcript("run_0") is None
                assert [row.id for row in store.list_runs()] == ["run_1"]
                assert [row.id for row in store.list_transcripts()] == ["run_1"]
                assert await store.read("s") == []
                assert await store.head("s") == 0
                assert await store.inbox("s") == []
                assert await store.open_requests("s") == []
                assert await store.unfinished_runs("s") == []
                assert await store.find_run("run_0") is None
                assert await store.head("other") == 2
                assert len(await store.inbox("other")) == 1
                store = await self.reopen(store, tmp_path)
            lease = await store.acquire("s", owner="b", ttl=TTL)
            await write(store, lease, started("anew"))
            assert await store.offer("s", RuntimeSignal.create("y", dedupe_key="k"))
            assert await store.head("s") == 1
            await store.aclose()
