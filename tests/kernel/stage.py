"""What the kernel's tests are played on: tools that obey, stores that fail on time, clocks that stand still.

No assertions here; a test says itself what it expects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loom.agent import Agent
from loom.errors import StoreError
from loom.events import Event
from loom.store.base import Lease, RunRecord, SessionRecord, SessionStore
from loom.store.memory import InMemorySessionStore
from loom.testing.scripted import ScriptedProvider
from loom.tools.base import ToolHandler
from loom.types import ChatMessage, Role, ToolResult, ToolSpec

ANYTHING = {"type": "object", "properties": {}, "additionalProperties": True}
SECONDS = 5.0


async def soon(work: Awaitable[Any], seconds: float = SECONDS) -> Any:
    """``work``, which must be done long before ``seconds`` are over."""
    return await asyncio.wait_for(work, seconds)


class Tool(ToolHandler):
    """A duck of a handler: what ``work(args)`` does, under these facts. Counts how often it was entered."""

    def __init__(
        self,
        name: str,
        work: Callable[[dict[str, Any]], Any] | None = None,
        *,
        parameters: dict[str, Any] = ANYTHING,
        **facts: Any,
    ) -> None:
        self.spec = ToolSpec(name=name, description=name, parameters=parameters, **facts)
        self.entered: list[dict[str, Any]] = []
        self._work = work or (lambda args: f"{name} done")

    @property
    def tool(self) -> ToolSpec:
        return self.spec

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        self.entered.append(args)
        outcome = self._work(args)
        if asyncio.iscoroutine(outcome):
            outcome = await outcome
        return ToolResult(outcome) if isinstance(outcome, str) else outcome


class Gate:
    """A place to wait in: a tool or a model comes to it, a test opens it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.interrupted = 0

    async def __call__(self, *_: Any) -> str:
        self.reached.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.interrupted += 1
            raise
        return "through the gate"


class Clock:
    """Time that passes when told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FailingStore(InMemorySessionStore):
    """Whose ``append`` raises at the n-th call, from 1, and from then on until it is mended."""

    def __init__(self, fails_at: int, error: Exception | None = None) -> None:
        super().__init__()
        self.fails_at = fails_at
        self.error = error or StoreError("the disk is full")
        self.appends = 0

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        self.appends += 1
        if self.fails_at and self.appends >= self.fails_at:
            raise self.error
        await super().append(lease, events, taken=taken)


class SlowStore(InMemorySessionStore):
    """A store that must be waited for, as one on a disk: at ``gate`` for events of a type in ``holds``."""

    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.holds: frozenset[str] = frozenset()

    async def append(self, lease: Lease, events: Sequence[Event], *, taken: Sequence[str] = ()) -> None:
        await asyncio.sleep(0)
        if any(event.type in self.holds for event in events):
            await self.gate()
        await super().append(lease, events, taken=taken)


class RecordsOnly(SessionStore):
    """A user's own store, without a log."""

    def __init__(self) -> None:
        self.rows: dict[str, SessionRecord] = {}
        self.saved: list[RunRecord] = []

    def load_session(self, session_id: str) -> SessionRecord | None:
        return self.rows.get(session_id)

    def save_session(self, record: SessionRecord) -> None:
        self.rows[record.id] = record

    def save_run(self, record: RunRecord) -> None:
        self.saved.append(record)


def agent(replies: Sequence[Any], *tools: Any, **options: Any) -> Agent[Any, Any]:
    """An agent whose model follows a script."""
    return Agent(model=ScriptedProvider(replies), tools=tools, **options)


def types(events: Sequence[Event]) -> list[str]:
    """The words of these events."""
    return [event.type for event in events]


def of_type(events: Sequence[Event], word: str) -> list[Any]:
    """Those of these events that are called ``word``."""
    return [event for event in events if event.type == word]


def strangers() -> set[asyncio.Task[Any]]:
    """The tasks of this loop apart from the one that asks."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()}


async def no_strangers(known: set[asyncio.Task[Any]] | None = None) -> None:
    """Fail when tasks are left over that were not there before."""
    for _ in range(20):
        await asyncio.sleep(0)
    left = strangers() - (known or set())
    assert not left, f"tasks are left over: {left}"


def faults_of_pairing(messages: Sequence[ChatMessage]) -> str | None:
    """What is wrong with the calls and results in this conversation; None when nothing is.

    Each call must have exactly one result, in order, before any other message.
    """
    owed: list[str] = []
    for position, message in enumerate(messages):
        if message.role is Role.TOOL:
            if not owed:
                return f"message {position} is a result nobody asked for: {message.tool_call_id}"
            if message.tool_call_id != owed[0]:
                return f"message {position} answers {message.tool_call_id}, due was {owed[0]}"
            owed.pop(0)
            continue
        if owed:
            return f"message {position} ({message.role}) comes before the results of {owed}"
        if message.role is Role.ASSISTANT:
            owed = [call.id for call in message.tool_calls or ()]
            if len(set(owed)) != len(owed):
                return f"message {position} has calls of the same id: {owed}"
    return f"the calls {owed} have no result" if owed else None
