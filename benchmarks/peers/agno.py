"""agno, on its SQLite store with the whole history in the context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from agno.agent import Agent
from agno.db.sqlite import SqliteDb
from agno.models.openai.like import OpenAILike

from ..client import INSTRUCTIONS, KEY, MODEL, Client, Turn

_ALL = 1_000_000


class Agno(Client):
    """See the module."""

    def agent(self, base_url: str, tools: Sequence[Any], **options: Any) -> Any:
        model = OpenAILike(id=MODEL, api_key=KEY, base_url=base_url)
        return Agent(model=model, tools=list(tools), instructions=INSTRUCTIONS, telemetry=False, **options)

    async def run(self, agent: Any, prompt: str) -> str:
        return (await agent.arun(prompt)).content

    async def stream(self, agent: Any, prompt: str) -> AsyncIterator[str]:
        async for event in agent.arun(prompt, stream=True):
            if event.event == "RunContent" and event.content:
                yield event.content

    @asynccontextmanager
    async def session(self, base_url: str, path: str) -> AsyncIterator[Turn]:
        kept = {"db": SqliteDb(db_file=path), "session_id": "benchmark"}
        agent = self.agent(base_url, (), add_history_to_context=True, num_history_runs=_ALL, **kept)

        async def turn(prompt: str) -> str:
            return (await agent.arun(prompt)).content

        yield turn


CLIENT = Agno
