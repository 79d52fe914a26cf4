"""A small world to be disturbed: a store that can be cut, a model that recites, tools with effects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from stage import Tool, faults_of_pairing

from loom.agent import Agent
from loom.errors import StoreError
from loom.events import Event
from loom.llm.base import LLMProvider
from loom.policies.governance import GovernancePolicy
from loom.requests import Answer, Request
from loom.safety.permissions import PermissionRule
from loom.store.base import Lease
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import call, say
from loom.tools.base import ToolContext
from loom.tools.function import tool
from loom.types import ChatMessage, ChatResponse, Role, ToolCall

Script = Sequence[Sequence[str]]
"""The replies of a model, each the tools it calls; after the last it answers."""

REPEATABLE = frozenset({"read", "note", "ask", "child"})


@dataclass
class World:
    """What outlives a process: the store, and what was done outside."""

    store: Recording
    effects: list[tuple[str, str, int]] = field(default_factory=list)
    """(tool, arguments, events kept at that time)"""


class Recording(InMemorySessionStore):
    """Remembers the order in which all its sessions' events came.

    ``slow`` is how many turns of the loop an append takes, ``failing`` how many of the next ones fail.
    """

    def __init__(self, slow: int = 0) -> None:
        super().__init__()
        self.order: list[tuple[str, Event]] = []
        self.slow = slow
        self.durable = bool(slow)  # type: ignore[misc]  # one that must be waited for, as those on a disk
        self.failing = 0

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        for _ in range(self.slow):
            await asyncio.sleep(0)
        if self.failing:
            self.failing -= 1
            raise StoreError("the disk is full")
        await super().append(lease, events, taken=taken)
        self.order += [(lease.session_id, event) for event in events]

    def cut(self, length: int) -> Recording:
        """A store that holds the first ``length`` events and no lease, as after the death of the process."""
        fresh = Recording(self.slow)
        for session_id, event in self.order[:length]:
            lease = fresh.log.acquire(session_id, owner="dead", ttl=60)
            fresh.log.append(lease, [event])
            fresh.log.release(lease)
        fresh.order = self.order[:length]
        return fresh


class Reciting(LLMProvider):
    """Says what is due by what was said: the same in every process."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
        assert faults_of_pairing(messages) is None
        assert messages[-1].role is not Role.ASSISTANT
        turn = sum(m.role is Role.ASSISTANT for m in messages)
        await asyncio.sleep(0)
        if turn >= len(self.script):
            return say("the end")
        calls = [
            ToolCall(f"c{turn}_{n}", name, call("x", n=turn * 10 + n, task="sub").arguments)
            for n, name in enumerate(self.script[turn])
        ]
        return say(f"turn {turn}", *calls)


def build(world: World, script: Script, child: Script = ()) -> Agent[Any, Any]:
    """An agent as each process builds it."""

    def does(name: str, turns: int = 0, fails: bool = False) -> Any:
        async def work(args: dict[str, Any]) -> str:
            for _ in range(turns):
                await asyncio.sleep(0)
            world.effects.append((name, str(args["n"]), len(world.store.order)))
            if fails:
                raise ValueError(f"{name} fails")
            return f"{name} {args['n']}"

        return work

    @tool(idempotent=True)
    def ask(n: int, task: str, context: ToolContext) -> str:
        """Ask twice."""
        one = context.ask(f"first {n}?")
        return f"{one} and {context.ask(f'second {n}?')}"

    tools: list[Any] = [
        Tool("read", does("read", 2), read_only=True, concurrency_safe=True),
        Tool("note", does("note", 1), idempotent=True, concurrency_safe=True),
        Tool("send", does("send", 1)),
        Tool("post", does("post", 3), concurrency_safe=True),
        Tool("fail", does("fail", fails=True)),
        Tool("wipe", does("wipe"), destructive=True),
        Tool("shut", does("shut")),
        ask,
    ]
    if child:
        inner = Agent(model=Reciting(child), tools=tools[:-1], governance=_POLICY)
        tools.append(Loose(inner))
    return Agent(model=Reciting(script), tools=tools, session_store=world.store, governance=_POLICY)


class Loose(Tool):
    """An agent as a tool that does not mind the arguments all tools here get."""

    def __init__(self, inner: Agent[Any, Any]) -> None:
        self.child = inner.as_tool(name="child", description="a child")
        super().__init__("child", idempotent=True, concurrency_safe=True, timeout=float("inf"))

    async def invoke_in_context(self, args: dict[str, Any], context: ToolContext) -> Any:
        return await self.child.invoke_in_context({"task": args["task"]}, context)

    async def withdraw(self, session_id: str, key: str, scope: Any) -> None:
        await self.child.withdraw(session_id, key, scope)


_POLICY = GovernancePolicy.default(rules=[PermissionRule.deny("shut", reason="closed")])


def answer(request: Request, recovery: str) -> Answer:
    """What everybody answers, always the same; ``recovery`` is what to say about calls of unknown fate."""
    if request.origin == "recovery":
        if recovery == "approve" or request.tool_name == "fail":
            return request.approve()
        number = msgspec.json.decode(request.arguments)["n"]
        return request.answer(f"{request.tool_name} {number}")
    if request.kind == "question":
        return request.answer(f"<{request.prompt}>")
    number = msgspec.json.decode(request.arguments)["n"]
    return request.approve(by="ana") if number % 2 == 0 else request.deny("odd", by="ana")
