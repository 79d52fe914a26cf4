"""Both wires of a model service on loopback, for tests that want to see what is really sent."""

from __future__ import annotations

from collections.abc import Callable

from loom.llm.anthropic import AnthropicProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.wire import HTTPProvider
from loom.testing import ModelServer
from loom.types import ChatMessage, ChatResponse, Part, Role, StopReason


def openai(server: ModelServer) -> HTTPProvider:
    """Chat completions."""
    return OpenAICompatibleProvider(server.base_url, "key", "m")


def anthropic(server: ModelServer) -> HTTPProvider:
    """Messages."""
    return AnthropicProvider("key", "m", base_url=server.base_url)


Wire = Callable[[ModelServer], HTTPProvider]
WIRES: list[Wire] = [openai, anthropic]


def reply(*parts: Part) -> ChatResponse:
    """A final reply of these parts."""
    return ChatResponse(ChatMessage(Role.ASSISTANT, parts), stop_reason=StopReason.STOP)
