"""``loom.loop.Agent``: the harness face, put together by hand. It keeps no sessions and parks nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import loom
from loom.llm.base import ContentDeltaEvent
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.loop import Agent, AgentConfig

from ..client import INSTRUCTIONS, KEY, MODEL, Client

_CONFIG = AgentConfig(system_preamble=INSTRUCTIONS, max_iterations=1_000_000)


class LoomLoop(Client):
    """See the module."""

    def tool(self, function: Any, *, together: bool = False, asks: bool = False) -> Any:
        return loom.tool(concurrency_safe=together)(super().tool(function, asks=asks))

    def agent(self, base_url: str, tools: Sequence[Any]) -> Agent:
        provider = OpenAICompatibleProvider(base_url, KEY, MODEL)
        return Agent(provider=provider, tool_registry=loom.ToolRegistry(tools), config=_CONFIG)

    async def run(self, agent: Agent, prompt: str) -> str:
        turn = await agent.run_turn([loom.ChatMessage(loom.Role.USER, prompt)])
        assert turn.state is loom.RunState.COMPLETED, turn.error
        return turn.reply

    async def stream(self, agent: Agent, prompt: str) -> AsyncIterator[str]:
        async for event in agent.run_turn_stream([loom.ChatMessage(loom.Role.USER, prompt)]):
            if type(event) is ContentDeltaEvent:
                yield event.delta


CLIENT = LoomLoop
