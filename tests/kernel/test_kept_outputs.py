"""What was cut from a conversation can be read on from wherever the session is: another process, after a crash."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from stage import RecordsOnly, SlowStore, Tool, agent, of_type, soon, types

from loom.errors import StoreError
from loom.events import Event
from loom.policies.profile import Runtime, RuntimeLimits
from loom.runtime.session import Session
from loom.store.base import Lease, SessionStore
from loom.store.file import FileSessionStore
from loom.store.memory import InMemorySessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import call
from loom.types import ChatMessage, ImagePart, Role, RunState, TextPart, ToolResult

pytestmark = pytest.mark.timeout(30)

SUBJECT = Path(__file__).parent / "output_subject.py"
LINES = "".join(f"line {n} of the log\n" for n in range(5000))
MARK = re.compile(r'read_output\(reference="(\w+)", offset=(\d+)\)')


def open_store(kind: str, folder: Path) -> SessionStore:
    if kind == "memory":
        return InMemorySessionStore()
    if kind == "records only":
        return RecordsOnly()
    if kind == "sqlite":
        return SqliteSessionStore(folder / "s.db")
    return FileSessionStore(folder / "s.jsonl")


DURABLE = ["sqlite", "file"]
ALL = ["memory", "records only", *DURABLE]


def giant(name: str = "giant", text: str = LINES, **facts: Any) -> Tool:
    return Tool(name, lambda _: text, **facts)


def reads_on(messages: Sequence[ChatMessage], tools: Any) -> Any:
    """What a model does that wants the rest of the newest cut output."""
    found = [MARK.search(str(message.content)) for message in messages if message.role is Role.TOOL]
    mark = [match for match in found if match][-1]
    return call("read_output", reference=mark[1], offset=int(mark[2]))


def tool_texts(session_events: Sequence[Event], name: str) -> list[str]:
    return [e.result.text for e in of_type(session_events, "tool.finished") if e.name == name]


async def read_whole(session: Session[Any, Any], text: str, store: SessionStore) -> None:
    """The head in the conversation and what the store keeps are the text, and fit together where it was cut."""
    (shown,) = set(tool_texts(await store.read(session.id), "giant"))
    mark = MARK.search(shown)
    assert mark
    assert await store.read_output(session.id, mark[1]) == text
    assert text.startswith(shown.rpartition("\n")[0])


@pytest.mark.parametrize("kind", ALL)
async def test_the_model_reads_on_in_the_same_process(kind: str, tmp_path: Path) -> None:
    store = open_store(kind, tmp_path)
    session = agent([call("giant"), reads_on, "end"], giant(), session_store=store).session("s")
    result = await soon(session.run("go"))
    assert result.ok
    await read_whole(session, LINES, store)
    (page,) = tool_texts(result.events, "read_output")
    assert page.splitlines()[0] in LINES.splitlines()
    assert page.splitlines()[0] not in result.messages[2].content  # type: ignore[operator]
    await store.aclose()


@pytest.mark.parametrize("limit", [500, 1000, 12_000])
async def test_pages_fit_where_results_must_be_small(limit: int) -> None:
    """A page that were cut again would be kept again, under another reference, in the place of what is read."""

    def read_all(messages: Sequence[ChatMessage], tools: Any) -> Any:
        texts = [str(message.content) for message in messages if message.role is Role.TOOL]
        mark = MARK.search(texts[0])
        more = re.search(r"Read on with offset=(\d+)", texts[-1])
        if "This is the end" in texts[-1]:
            return "all read"
        assert mark
        return call("read_output", reference=mark[1], offset=int(more[1] if more else mark[2]), limit=16_000)

    store = Watchful()
    runtime = Runtime(limits=RuntimeLimits(max_result_chars=limit))
    text = LINES[:15_000]
    session = agent(
        [call("giant"), *[read_all] * 95], giant(text=text), session_store=store, runtime=runtime
    ).session("s")
    result = await soon(session.run("go"))
    assert result.output == "all read"
    assert store.keeps == 1
    pages = [page[: page.rindex("\n[")] for page in tool_texts(result.events, "read_output")]
    mark = MARK.search(tool_texts(result.events, "giant")[0])
    assert mark
    assert text[: int(mark[2])] + "".join(pages) == text


async def test_one_off_runs_read_on_and_leave_nothing() -> None:
    built = agent([call("giant"), reads_on, "end"], giant())
    result = await soon(built.run("go"))
    assert result.ok
    (page,) = tool_texts(result.events, "read_output")
    assert "of the log" in page
    store: Any = built._scratch
    assert store.log._sessions == {}


@pytest.mark.parametrize("kind", DURABLE)
async def test_another_process_reads_on_after_the_resume(kind: str, tmp_path: Path) -> None:
    """The first one cut the output and waits for a human; the second resumes and pages through all of it."""
    store = open_store(kind, tmp_path)
    session = agent(
        [call("giant"), call("wipe")], giant(), Tool("wipe", destructive=True), session_store=store
    ).session("s")
    waiting = await soon(session.run("go"))
    assert waiting.state is RunState.WAITING
    await store.aclose()
    said = perform(kind, tmp_path, "resume")
    assert said["state"] == "completed"
    (shown,) = said["giant"]
    head = shown[: shown.rindex("\n[Cut:")]
    pages = [page[: page.rindex("\n[")] for page in said["pages"]]
    offset = int(MARK.search(shown)[2])  # type: ignore[index]
    assert LINES[:offset].startswith(head)
    assert LINES[:offset] + "".join(pages) == LINES
    assert "This is the end" in said["pages"][-1]


@pytest.mark.parametrize("kind", DURABLE)
@pytest.mark.parametrize("repeatable", [True, False])
async def test_killed_between_keeping_and_the_log(kind: str, repeatable: bool, tmp_path: Path) -> None:
    """The text is kept, the call has no result: the run is recovered as ever, and what it cuts can be read."""
    said = perform(kind, tmp_path, "die", repeatable=repeatable, dies=True)
    assert said == {}
    store = open_store(kind, tmp_path)
    log = await store.read("s")
    assert types(log)[-1] == "tool.started"
    assert await store.unfinished_runs("s") == [log[0].run_id]
    tool = giant(read_only=repeatable)
    session = agent([reads_on, "end"], tool, session_store=store).session("s")
    result = await soon(session.resume().wait())
    if not repeatable:
        assert result.state is RunState.WAITING
        assert tool.entered == []
        result = await soon(session.resume(result.run_id, [result.pending[0].approve()]).wait())
    assert result.state is RunState.COMPLETED, result.error
    assert len(tool.entered) == 1
    await read_whole(session, LINES, store)
    await store.aclose()


@pytest.mark.parametrize("kind", DURABLE)
async def test_killed_right_after_the_log_has_it(kind: str, tmp_path: Path) -> None:
    perform(kind, tmp_path, "die after", dies=True)
    store = open_store(kind, tmp_path)
    log = await store.read("s")
    assert types(log)[-1] == "tool.finished"
    session = agent([reads_on, "end"], giant(), session_store=store).session("s")
    result = await soon(session.resume().wait())
    assert result.ok
    await read_whole(session, LINES, store)
    await store.aclose()


class Watchful(InMemorySessionStore):
    """Looks, at every append of a reference, whether its text is there already."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []
        self.keeps = 0

    async def keep_output(self, session_id: str, reference: str, text: str, *, room: int = 10**7) -> None:
        self.keeps += 1
        await asyncio.sleep(0)
        await super().keep_output(session_id, reference, text, room=room)

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        for event in of_type(events, "tool.finished"):
            for mark in MARK.finditer(event.result.text):
                self.seen.append(await self.read_output(lease.session_id, mark[1]) is not None)
        await super().append(lease, events, taken=taken)


async def test_the_text_is_there_before_its_reference() -> None:
    store = Watchful()
    tools = [giant(), giant("beside", LINES[::-1], concurrency_safe=True)]
    calls = [[call("giant")], [call("beside"), call("beside")], "end"]
    result = await soon(agent(calls, *tools, session_store=store).session().run("go"))
    assert result.ok
    assert store.seen == [True, True, True]


async def test_what_fits_never_gets_near_the_store() -> None:
    store = Watchful()
    small = Tool("t", lambda _: ToolResult("x" * 20_000, data={"a": 1}))
    result = await soon(agent([call("t"), "end"], small, session_store=store).session().run("go"))
    assert result.ok
    assert store.keeps == 0


@pytest.mark.parametrize("kind", DURABLE)
async def test_the_log_does_not_grow_by_what_was_cut(kind: str, tmp_path: Path) -> None:
    store = open_store(kind, tmp_path)
    text = LINES * 100
    session = agent([call("giant"), "end"], giant(text=text), session_store=store).session("s")
    assert (await soon(session.run("go"))).ok
    await read_whole(session, text, store)
    log = await store.read("s")
    assert sum(len(str(event)) for event in log) < 100_000
    if kind == "file":
        assert (tmp_path / "s.jsonl").stat().st_size < 100_000
    await store.aclose()


async def test_text_parts_beside_media_are_kept_too() -> None:
    store = InMemorySessionStore()
    parts = (TextPart(LINES), ImagePart("data:image/png;base64,iVBORw0KGgo="), TextPart("tail"))
    tool = Tool("t", lambda _: ToolResult(content_parts=parts))
    session = agent([call("t"), "end"], tool, session_store=store).session("s")
    result = await soon(session.run("go"))
    (end,) = of_type(result.events, "tool.finished")
    mark = MARK.search(end.result.content_parts[0].text)
    assert mark
    assert await store.read_output("s", mark[1]) == LINES


async def test_a_giant_error_is_kept_too() -> None:
    def fail(_: Any) -> str:
        raise ValueError(LINES)

    store = InMemorySessionStore()
    session = agent([call("t"), reads_on, "end"], Tool("t", fail), session_store=store).session("s")
    result = await soon(session.run("go"))
    end, page = of_type(result.events, "tool.finished")
    assert end.outcome == "error"
    assert page.outcome == "ok"


async def test_another_session_cannot_read_it() -> None:
    known: list[str] = []
    built = agent(
        [call("giant"), "end", lambda messages, tools: call("read_output", reference=known[0]), "end"],
        giant(),
    )
    one, two = built.session(), built.session()
    result = await soon(one.run("go"))
    mark = MARK.search(tool_texts(result.events, "giant")[0])
    assert mark
    known.append(mark[1])
    (end,) = of_type((await soon(two.run("read"))).events, "tool.finished")
    assert end.outcome == "error"
    assert "no output" in end.result.text


@pytest.mark.parametrize(
    "reference", ["../x", "out_0123456789abcdef", "", "..\\..\\x", "out_\x00", "O" * 500]
)
async def test_a_reference_that_means_nothing_is_told_to_the_model(reference: str, tmp_path: Path) -> None:
    store = FileSessionStore(tmp_path / "s.jsonl")
    session = agent([call("read_output", reference=reference), "end"], giant(), session_store=store).session()
    result = await soon(session.run("go"))
    assert result.ok
    (end,) = of_type(result.events, "tool.finished")
    assert end.outcome == "error"
    assert "Call the tool again" in end.result.text
    await store.aclose()


class FullStore(InMemorySessionStore):
    """Has room for the log and for nothing else."""

    async def keep_output(self, session_id: str, reference: str, text: str, *, room: int = 10**7) -> None:
        raise StoreError("the disk is full")


async def test_what_cannot_be_kept_is_shown_without_a_reference(caplog: pytest.LogCaptureFixture) -> None:
    """The tool has done its work: its result must not be lost for want of room."""
    session = agent([call("giant"), "end"], giant(), session_store=FullStore()).session("s")
    result = await soon(session.run("go"))
    assert result.ok
    (shown,) = tool_texts(result.events, "giant")
    assert shown.startswith("line 0 of the log")
    assert "could not be kept" in shown
    assert "read_output" not in shown
    assert "the disk is full" in caplog.text


async def test_an_output_larger_than_the_room_says_what_was_lost() -> None:
    store = InMemorySessionStore()
    text = "é" * 9_000_000
    session = agent([call("giant"), "end"], giant(text=text), session_store=store).session("s")
    (shown,) = tool_texts((await soon(session.run("go"))).events, "giant")
    mark = MARK.search(shown)
    assert mark
    assert "Only the first" in shown
    kept = await store.read_output("s", mark[1])
    assert kept is not None
    assert len(kept.encode()) <= 16_000_000
    assert re.search(r"\[The last \d+ characters were not kept\.\]$", kept)


class SlowKeeper(SlowStore):
    """Waits at its gate before it keeps an output."""

    async def keep_output(self, session_id: str, reference: str, text: str, *, room: int = 10**7) -> None:
        await self.gate()
        await super().keep_output(session_id, reference, text, room=room)


@pytest.mark.parametrize("calls", [1, 3])
async def test_cancelled_while_an_output_is_kept_no_result_is_lost(calls: int) -> None:
    """The tools had done their work: what they said is in the log, with what was cut of it."""
    store = SlowKeeper()
    tool = giant(concurrency_safe=True)
    quick = Tool("quick", concurrency_safe=True)
    session = agent(
        [[call("quick"), *[call("giant")] * calls], "never said"], tool, quick, session_store=store
    ).session("s")
    run = session.start("go")
    await soon(store.gate.reached.wait())
    cancelling = asyncio.create_task(run.cancel())
    await asyncio.sleep(0)
    store.gate.open.set()
    result = await soon(cancelling)
    assert result is not None
    assert result.state is RunState.CANCELLED
    ends = of_type(await store.read("s"), "tool.finished")
    assert [end.outcome for end in ends] == ["ok"] * (calls + 1)
    for end in ends[1:]:
        mark = MARK.search(end.result.text)
        assert mark
        assert await store.read_output("s", mark[1]) == LINES


async def test_cancelled_again_and_again_while_an_output_is_kept() -> None:
    store = SlowKeeper()
    session = agent([call("giant"), "never said"], giant(), session_store=store).session("s")
    caller = asyncio.create_task(session.run("go"))
    await soon(store.gate.reached.wait())
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
    store.gate.open.set()
    await soon(asyncio.wait([caller]))
    if await store.unfinished_runs("s"):
        await soon(session.resume().cancel())
    log = await store.read("s")
    assert types(log)[-1] == "run.finished"
    assert len(of_type(log, "tool.finished")) == 1


async def test_a_tool_can_read_what_was_cut() -> None:
    """By its context, within its session."""
    from loom.tools.base import ToolContext
    from loom.tools.function import tool

    @tool
    async def count(reference: str, context: ToolContext) -> str:
        """Count."""
        text = await context.read_output(reference)
        return "nothing there" if text is None else f"{len(text.splitlines())} lines"

    def counts(messages: Sequence[ChatMessage], tools: Any) -> Any:
        mark = MARK.search(str(messages[-1].content))
        assert mark
        return [call("count", reference=mark[1]), call("count", reference="out_none")]

    result = await soon(agent([call("giant"), counts, "end"], giant(), count).run("go"))
    assert tool_texts(result.events, "count") == ["5000 lines", "nothing there"]


def perform(kind: str, folder: Path, what: str, *, dies: bool = False, **more: Any) -> dict[str, Any]:
    """Let a process of its own do it, with the store in that folder."""
    spec = {"store": kind, "folder": str(folder), "do": what, **more}
    done = subprocess.run(
        [sys.executable, str(SUBJECT), json.dumps(spec)],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if dies else 0), done.stderr
    return json.loads(done.stdout) if done.stdout else {}  # type: ignore[no-any-return]
