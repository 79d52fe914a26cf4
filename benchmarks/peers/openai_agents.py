"""openai-agents, on its chat completions model; tracing is off (``processes.py``)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, Runner, SQLiteSession, function_tool
from openai import AsyncOpenAI

from ..client import INSTRUCTIONS, KEY, MODEL, Client, Turn

_MANY = 1_000_000


@cache
def _client(base_url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=base_url, api_key=KEY)


class OpenAIAgents(Client):
    """See the module."""

    def tool(self, function: Any, *, together: bool = False, asks: bool = False) -> Any:
        return function_tool(super().tool(function, together=together, asks=asks))

    def agent(self, base_url: str, tools: Sequence[Any]) -> Any:
        model = OpenAIChatCompletionsModel(MODEL, _client(base_url))
        return Agent("benchmark", instructions=INSTRUCTIONS, model=model, tools=list(tools))

    async def run(self, agent: Any, prompt: str) -> str:
        return (await Runner.run(agent, prompt, max_turns=_MANY)).final_output

    async def stream(self, agent: Any, prompt: str) -> AsyncIterator[str]:
        async for event in Runner.run_streamed(agent, prompt, max_turns=_MANY).stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                yield event.data.delta

    @asynccontextmanager
    async def session(self, base_url: str, path: str) -> AsyncIterator[Turn]:
        agent, session = self.agent(base_url, ()), SQLiteSession("benchmark", path)

        async def turn(prompt: str) -> str:
            return (await Runner.run(agent, prompt, session=session)).final_output

        yield turn
        session.close()


CLIENT = OpenAIAgents
