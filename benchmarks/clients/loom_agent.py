"""``loom.Agent`` over the real OpenAI-compatible provider, as an application would use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import loom
from loom.events import TextDelta

from ..client import INSTRUCTIONS, KEY, MODEL, Client, Turn

_UNLIMITED = loom.Runtime(limits=loom.RuntimeLimits(max_iterations=None))


class LoomAgent(Client):
    """See the module."""

    def tool(self, function: Any, *, together: bool = False, asks: bool = False) -> Any:
        return loom.tool(concurrency_safe=together, requires_permission=asks or None)(function)

    def model(self, base_url: str) -> loom.Model:
        """The model and with it the wire."""
        return loom.Model.openai(MODEL, base_url=base_url, api_key=KEY)

    def agent(
        self,
        base_url: str,
        tools: Sequence[Any],
        *,
        store: loom.SessionStore | None = None,
        human: loom.Human | None = None,
    ) -> loom.Agent:
        return loom.Agent(
            model=self.model(base_url),
            instructions=INSTRUCTIONS,
            tools=tools,
            runtime=_UNLIMITED,
            session_store=store,
            human=human,
        )

    def ready(self, agent: loom.Agent) -> None:
        agent.engine  # noqa: B018 - built on first use

    async def close(self, agent: loom.Agent) -> None:
        await agent.aclose()

    async def run(self, agent: loom.Agent, prompt: str) -> str:
        result = await agent.run(prompt)
        assert result.ok, result.error
        return result.output

    async def stream(self, agent: loom.Agent, prompt: str) -> AsyncIterator[str]:
        async for event in agent.stream(prompt):
            if type(event) is TextDelta:
                yield event.text

    @asynccontextmanager
    async def session(self, base_url: str, path: str) -> AsyncIterator[Turn]:
        agent = self.agent(base_url, (), store=loom.SqliteSessionStore(path))
        session = agent.session("benchmark")

        async def turn(prompt: str) -> str:
            result = await session.run(prompt)
            assert result.ok, result.error
            return result.output

        yield turn
        await agent.aclose()

    async def park(self, base_url: str, tools: Sequence[Any], count: int, *, attached: bool) -> Any:
        human = Silent() if attached else None
        agent = self.agent(base_url, tools, store=loom.InMemorySessionStore(), human=human)
        parked: list[Any] = []
        # A few at a time: a thousand idle connections would be counted as the memory of waiting runs.
        while len(parked) < count:
            sessions = [agent.session() for _ in range(min(20, count - len(parked)))]
            runs = [session.start("Do it.") for session in sessions]
            if human is None:
                for run in runs:
                    assert (await run).state is loom.RunState.WAITING
                # An application keeps the session's id and no more; its log is in the store.
                parked += [session.id for session in sessions]
            else:
                parked += runs
                while human.asked < len(parked):
                    await asyncio.sleep(0.001)
        return agent, parked


class Silent:
    """A human who has been asked and thinks about it."""

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, request: loom.Request) -> loom.Answer | None:
        """Never answer."""
        self.asked += 1
        return await asyncio.get_running_loop().create_future()


CLIENT = LoomAgent
