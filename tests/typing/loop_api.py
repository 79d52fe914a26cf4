"""The loop agent in the eyes of a type checker. See ``agent_api.py``."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from loom import tool
from loom.llm.base import LLMProvider
from loom.llm.fallback import Candidate, FallbackProvider
from loom.llm.routed import RoutedProvider
from loom.loop import Agent, AgentConfig, AgentTurn
from loom.tools.registry import ToolRegistry
from loom.types import ChatMessage, Role


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def a_turn(provider: LLMProvider) -> None:
    registry = ToolRegistry([add])
    agent = Agent(provider, tool_registry=registry, config=AgentConfig(max_iterations=3))
    turn = await agent.run_turn([ChatMessage(Role.USER, "hello")])
    assert_type(turn, AgentTurn)
    assert_type(turn.reply, str)
    await agent.run_turn("hello")  # type: ignore[arg-type]


async def several_providers_are_one(first: LLMProvider, second: LLMProvider) -> None:
    fallback = FallbackProvider([Candidate(first, "a"), second])
    routed = RoutedProvider({"a": first, "b": Candidate(fallback)}, lambda messages: "a", default="b")
    assert_type(await Agent(routed).run_turn([ChatMessage(Role.USER, "hello")]), AgentTurn)
    FallbackProvider(["openai:gpt"])  # type: ignore[list-item]
    RoutedProvider({"a": first})  # type: ignore[call-arg]
