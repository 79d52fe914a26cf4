"""The other process of ``test_kept_outputs``: it resumes a session and reads on, or dies around the log's entry.

Run with one JSON specification; answers with one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loom.agent import Agent
from loom.events import Event
from loom.store.base import Lease
from loom.store.file import FileSessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import ScriptedProvider, call
from loom.tools.base import ToolHandler
from loom.types import ChatMessage, Role, ToolResult, ToolSpec

LINES = "".join(f"line {n} of the log\n" for n in range(5000))
NEXT = re.compile(r"Read on with offset=(\d+)")
MARK = re.compile(r'read_output\(reference="(\w+)", offset=(\d+)\)')


class Deadly:
    """Kills its process before or after the result of a tool is in the log."""

    when = ""

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        ends = any(event.type == "tool.finished" for event in events)
        if ends and self.when == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        await super().append(lease, events, taken=taken)  # type: ignore[misc]
        if ends and self.when == "die after":
            os.kill(os.getpid(), signal.SIGKILL)


class DeadlySqlite(Deadly, SqliteSessionStore):
    pass


class DeadlyFile(Deadly, FileSessionStore):
    pass


class Giant(ToolHandler):
    def __init__(self, name: str, **facts: Any) -> None:
        self._spec = ToolSpec(name=name, parameters={"type": "object", "properties": {}}, **facts)

    @property
    def tool(self) -> ToolSpec:
        return self._spec

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        return ToolResult(LINES)


def reads_on(messages: Sequence[ChatMessage], tools: Any) -> Any:
    """Read page after page to the end, as a model would: by what stands in the conversation alone."""
    texts = [str(message.content) for message in messages if message.role is Role.TOOL]
    mark = next(match for text in texts if (match := MARK.search(text)))
    more = NEXT.search(texts[-1])
    if "This is the end" in texts[-1]:
        return "all read"
    return call("read_output", reference=mark[1], offset=int(more[1] if more else mark[2]))


async def main(spec: dict[str, Any]) -> None:
    folder = Path(spec["folder"])
    store = DeadlySqlite(folder / "s.db") if spec["store"] == "sqlite" else DeadlyFile(folder / "s.jsonl")
    store.when = spec["do"]
    repeatable = spec.get("repeatable", False)
    dying = spec["do"].startswith("die")
    script = [call("giant"), "end"] if dying else [reads_on] * 100
    agent = Agent(
        model=ScriptedProvider(script),
        tools=[Giant("giant", read_only=repeatable), Giant("wipe", destructive=True)],
        session_store=store,
    )
    session = agent.session("s")
    if dying:
        await session.run("go")
        return
    (request,) = await session.pending()
    result = await session.resume(None, [request.deny("no", by="ana")])
    ends = [event for event in await store.read("s") if event.type == "tool.finished"]
    named = {name: [e.result.text for e in ends if e.name == name] for name in ("giant", "read_output")}  # type: ignore[attr-defined]
    print(json.dumps({"state": result.status, "giant": named["giant"], "pages": named["read_output"]}))
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
