"""Microsoft's agent-framework on its chat completions client. Its sessions have no SQLite store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any

from agent_framework import Agent
from agent_framework.openai import OpenAIChatCompletionClient

from ..client import INSTRUCTIONS, KEY, MODEL, Client


@cache
def _client(base_url: str) -> Any:
    client = OpenAIChatCompletionClient(model=MODEL, api_key=KEY, base_url=base_url)
    client.function_invocation_configuration["max_iterations"] = 1_000_000
    return client


class AgentFramework(Client):
    """See the module."""

    def agent(self, base_url: str, tools: Sequence[Any]) -> Any:
        return Agent(client=_client(base_url), instructions=INSTRUCTIONS, tools=list(tools))

    async def run(self, agent: Any, prompt: str) -> str:
        return (await agent.run(prompt)).text

    async def stream(self, agent: Any, prompt: str) -> AsyncIterator[str]:
        async for update in agent.run(prompt, stream=True):
            if update.text:
                yield update.text


CLIENT = AgentFramework
