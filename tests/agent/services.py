"""Both wires of a model service on loopback, for tests that want to see what is really sent."""

from __future__ import annotations

from collections.abc import Callable

from loom.llm.anthropic import AnthropicProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.wire import HTTPProvider
from loom.testing import ModelServer


def openai(server: ModelServer) -> HTTPProvider:
    """Chat completions."""
    return OpenAICompatibleProvider(server.base_url, "key", "m")


def anthropic(server: ModelServer) -> HTTPProvider:
    """Messages."""
    return AnthropicProvider("key", "m", base_url=server.base_url)


Wire = Callable[[ModelServer], HTTPProvider]
WIRES: list[Wire] = [openai, anthropic]
