"""The program that is killed. Run it with one JSON specification, or with ``serve`` and one a line on stdin.

Under ``serve`` each specification is performed by a fork of its own, which may die; the reply is one line of
JSON: what the fork reported, or the signal that ended it. The fields of a specification:

``do`` run (or resume and go on) or inspect; ``store`` sqlite or file, at ``path``; ``effects`` the file that
effects are appended to; ``kill`` null or [before|after, n]: die by SIGKILL around the n-th append; ``die_at``
null or seconds after which to die wherever one is; ``skew`` seconds to add to the store's clock, so that the
lease of a dead process has expired; ``recovery`` what to say about calls of unknown fate: approve, deny, answer,
or ask (stop there).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from loom.agent import Agent
from loom.events import Event
from loom.llm.base import LLMProvider
from loom.requests import Answer, Request
from loom.runtime.result import RunResult
from loom.store.base import Lease, SessionStore
from loom.store.file import FileSessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing.scripted import call, say
from loom.tools.base import ToolHandler
from loom.types import ChatMessage, ChatResponse, Role, RunState, ToolCall, ToolResult, ToolSpec

Spec = dict[str, Any]
SCRIPT = (("read", "note", "send"), ("post", "post", "read"), ("wipe", "child"), ("send", "note"))
CHILD = (("read", "send"), ("wipe",))


def die() -> None:
    """As if the power went: no handler, no buffer, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """Counts appends and dies where it was told to."""

    def __init__(self, kill: Sequence[Any] | None) -> None:
        self.when, self.at = (kill[0], kill[1]) if kill else ("", 0)
        self.appends = 0

    def before(self) -> None:
        self.appends += 1
        if self.when == "before" and self.appends == self.at:
            die()

    def after(self) -> None:
        if self.when == "after" and self.appends == self.at:
            die()


class DeadlySqlite(SqliteSessionStore):
    deadly: Deadly

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        self.deadly.before()
        await super().append(lease, events, taken=taken)
        self.deadly.after()


class DeadlyFile(FileSessionStore):
    deadly: Deadly

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        self.deadly.before()
        await super().append(lease, events, taken=taken)
        self.deadly.after()


class Doing(ToolHandler):
    """A tool whose effect is one line in a file, on the disk before it returns."""

    def __init__(self, spec: Spec, name: str, **facts: Any) -> None:
        self._path = spec["effects"]
        self._slow = spec.get("slow", 0.0)
        self._spec = ToolSpec(
            name=name,
            parameters={
                "type": "object",
                "properties": {"n": {"type": "integer"}, "task": {"type": "string"}},
            },
            **facts,
        )

    @property
    def tool(self) -> ToolSpec:
        return self._spec

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        await asyncio.sleep(self._slow)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{self._spec.name} {args['n']}\n".encode())
        os.fsync(descriptor)
        os.close(descriptor)
        await asyncio.sleep(self._slow)
        return ToolResult(f"{self._spec.name} {args['n']}")


class Reciting(LLMProvider):
    """Says what is due by what was said, so that every process has the same model."""

    def __init__(self, script: Sequence[Sequence[str]], base: int) -> None:
        self.script, self.base = script, base

    async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
        turn = sum(m.role is Role.ASSISTANT for m in messages)
        if turn >= len(self.script):
            return say("the end")
        calls = []
        for n, name in enumerate(self.script[turn]):
            arguments: dict[str, Any] = {"task": "sub"}
            if name != "child":
                arguments["n"] = self.base + turn * 10 + n
            calls.append(ToolCall(f"c{turn}_{n}", name, call("x", **arguments).arguments))
        return say(f"turn {turn}", *calls)


def build(spec: Spec, store: SessionStore) -> Agent[Any, Any]:
    """The agent, as every process builds it."""
    tools = [
        Doing(spec, "read", read_only=True, concurrency_safe=True),
        Doing(spec, "note", idempotent=True),
        Doing(spec, "send"),
        Doing(spec, "post", concurrency_safe=True),
        Doing(spec, "wipe", destructive=True),
    ]
    child: Agent[Any, Any] = Agent(model=Reciting(CHILD, 100), tools=tools)
    as_tool = child.as_tool(name="child", description="a child")
    return Agent(model=Reciting(SCRIPT, 0), tools=[*tools, as_tool], session_store=store)


def open_store(spec: Spec) -> SessionStore:
    """The store of the specification, with a clock that runs ahead."""
    skew = spec.get("skew", 0.0)

    def clock() -> float:
        return time.time() + float(skew)

    kinds: dict[str, type[DeadlySqlite] | type[DeadlyFile]] = {"sqlite": DeadlySqlite, "file": DeadlyFile}
    store = kinds[spec["store"]](spec["path"], clock=clock)
    store.deadly = Deadly(spec.get("kill"))
    return store


def answer(request: Request, recovery: str) -> Answer:
    """What everybody always answers."""
    if request.origin != "recovery":
        return request.approve(by="ana")
    if recovery == "approve":
        return request.approve(by="ana")
    if recovery == "deny":
        return request.deny("leave it", by="ana")
    return request.answer(f"{request.tool_name} {json.loads(request.arguments)['n']}", by="ana")


async def go_on(spec: Spec, store: SessionStore) -> RunResult[Any]:
    """Start the run or take it up again, and answer what is asked."""
    session = build(spec, store).session("s")
    log = await store.read("s")
    result = await (session.resume(log[0].run_id) if log else session.run("go"))
    while result.state is RunState.WAITING:
        if spec["recovery"] == "ask" and any(request.origin == "recovery" for request in result.pending):
            break
        result = await session.resume(
            result.run_id, [answer(request, spec["recovery"]) for request in result.pending]
        )
    return result


async def inspect(store: SessionStore) -> dict[str, Any]:
    """The logs of the session and of those below it, as plain data."""
    logs = {"s": await store.read("s")}
    for event in logs["s"]:
        if event.type == "child.started":
            below = event.child_session_id  # type: ignore[attr-defined]
            logs[below] = await store.read(below)
    plain = [
        [json.loads(msgspec.json.encode(event)) for event in log]
        for _, log in sorted(logs.items(), key=lambda item: len(item[0]))
    ]
    return {"logs": plain, "unfinished": [await store.unfinished_runs(sid) for sid in logs]}


async def perform(spec: Spec) -> dict[str, Any]:
    """Do what the specification says and report."""
    store = open_store(spec)
    report: dict[str, Any] = {}
    if spec["do"] == "run":
        began = time.perf_counter()
        result = await go_on(spec, store)
        report = {
            "seconds": time.perf_counter() - began,
            "state": result.state.value,
            "error": str(result.error) if result.error else None,
            "output": result.output,
            "messages": json.loads(msgspec.json.encode(list(result.messages))),
            "pending": json.loads(msgspec.json.encode(list(result.pending))),
            "usage": result.usage.total_tokens,
            "appends": store.deadly.appends,  # type: ignore[attr-defined]
        }
    report |= await inspect(store)
    await store.aclose()
    return report


def main(spec: Spec) -> dict[str, Any]:
    """Perform in a fresh event loop, with death waiting if it is to come by time."""
    if spec.get("die_at") is not None:
        killer = threading.Timer(spec["die_at"], die)
        killer.daemon = True
        killer.start()
    return asyncio.run(perform(spec))


def serve() -> None:
    """One fork for each line: this process has imported everything and holds nothing open."""
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            with os.fdopen(writing, "w") as out:
                try:
                    json.dump(main(json.loads(line)), out)
                except BaseException as error:
                    json.dump({"raised": f"{type(error).__name__}: {error}"}, out)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answers:
            said = answers.read()
        _, status = os.waitpid(child, 0)
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        print(json.dumps({"killed": killed}) if killed else said, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        print(json.dumps(main(json.loads(sys.argv[1]))))
