"""langgraph, by langchain's ``create_agent``, with its SQLite checkpointer for sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool as as_tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from ..client import INSTRUCTIONS, KEY, MODEL, Client, Turn

_UNLIMITED: Any = {"recursion_limit": 1_000_000}


class LangGraph(Client):
    """See the module."""

    def tool(self, function: Any, *, together: bool = False, asks: bool = False) -> Any:
        return as_tool(super().tool(function, together=together, asks=asks))

    def agent(self, base_url: str, tools: Sequence[Any], **options: Any) -> Any:
        model = ChatOpenAI(model=MODEL, base_url=base_url, api_key=KEY, stream_usage=True)
        return create_agent(model, list(tools), system_prompt=INSTRUCTIONS, **options)

    async def run(self, agent: Any, prompt: str) -> str:
        state = await agent.ainvoke(_asked(prompt), _UNLIMITED)
        return state["messages"][-1].content

    async def stream(self, agent: Any, prompt: str) -> AsyncIterator[str]:
        async for piece, _ in agent.astream(_asked(prompt), _UNLIMITED, stream_mode="messages"):
            if isinstance(piece, AIMessageChunk) and piece.content:
                yield piece.content

    @asynccontextmanager
    async def session(self, base_url: str, path: str) -> AsyncIterator[Turn]:
        async with AsyncSqliteSaver.from_conn_string(path) as saver:
            agent = self.agent(base_url, (), checkpointer=saver)
            config = {**_UNLIMITED, "configurable": {"thread_id": "benchmark"}}

            async def turn(prompt: str) -> str:
                return (await agent.ainvoke(_asked(prompt), config))["messages"][-1].content

            yield turn


def _asked(prompt: str) -> Any:
    return {"messages": [{"role": "user", "content": prompt}]}


CLIENT = LangGraph
