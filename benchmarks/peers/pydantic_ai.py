"""pydantic-ai. It has no store for sessions, so the durable turn is not offered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any

from pydantic_ai import Agent, UsageLimits
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from ..client import INSTRUCTIONS, KEY, MODEL, Client

_UNLIMITED = UsageLimits(request_limit=None)


@cache
def _provider(base_url: str) -> OpenAIProvider:
    return OpenAIProvider(base_url=base_url, api_key=KEY)


class PydanticAI(Client):
    """See the module."""

    def agent(self, base_url: str, tools: Sequence[Any]) -> Any:
        return Agent(
            OpenAIChatModel(MODEL, provider=_provider(base_url)), instructions=INSTRUCTIONS, tools=tools
        )

    async def run(self, agent: Any, prompt: str) -> str:
        return (await agent.run(prompt, usage_limits=_UNLIMITED)).output

    async def stream(self, agent: Any, prompt: str) -> AsyncIterator[str]:
        async with agent.run_stream(prompt) as run:
            async for piece in run.stream_text(delta=True, debounce_by=None):
                yield piece


CLIENT = PydanticAI
