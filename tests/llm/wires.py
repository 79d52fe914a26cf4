"""What the tests of all wires share: providers that do not wait, and a small conversation."""

from collections.abc import Callable
from typing import Any

from loom.llm.anthropic import AnthropicProvider
from loom.llm.base import ProviderEvent
from loom.llm.gemini import GeminiProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.openai_responses import OpenAIResponsesProvider
from loom.llm.wire import HTTPProvider
from loom.types import ChatMessage, ChatResponse, Role, ToolSpec

KEY = "sk-test-5f3a9c1e7b2d4860aabbccdd"
HELLO = [ChatMessage(Role.SYSTEM, "Be brief."), ChatMessage(Role.USER, "Hello")]
ADD = ToolSpec(
    "add",
    "Adds two numbers.",
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
)


class Waits(list[float]):
    """A sleep that only notes how long it was asked to."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def openai(base_url: str, **options: Any) -> OpenAICompatibleProvider:
    return OpenAICompatibleProvider(base_url, KEY, "m", **{"sleep": Waits(), **options})


def anthropic(base_url: str, **options: Any) -> AnthropicProvider:
    return AnthropicProvider(KEY, "m", base_url=base_url, **{"sleep": Waits(), **options})


def gemini(base_url: str, **options: Any) -> GeminiProvider:
    return GeminiProvider(KEY, "m", base_url=base_url, **{"sleep": Waits(), **options})


def responses(base_url: str, **options: Any) -> OpenAIResponsesProvider:
    return OpenAIResponsesProvider(base_url, KEY, "m", **{"sleep": Waits(), **options})


WIRES: list[Callable[..., HTTPProvider]] = [openai, anthropic, gemini, responses]
CONVERSATION = {openai: "messages", anthropic: "messages", gemini: "contents", responses: "input"}
"""The word of each wire for the conversation."""


async def streamed(provider: HTTPProvider, messages: Any = HELLO, **options: Any) -> list[ProviderEvent]:
    return [event async for event in provider.chat_stream(messages, **options)]


async def last(provider: HTTPProvider, messages: Any = HELLO, **options: Any) -> ChatResponse:
    event = (await streamed(provider, messages, **options))[-1]
    assert isinstance(event, ChatResponse)
    return event


async def keep(events: list[Any], provider: HTTPProvider) -> None:
    """Put the events of a stream into ``events`` as they come, so that they are there when it fails."""
    async for event in provider.chat_stream(HELLO):
        events.append(event)  # noqa: PERF401 - a comprehension would lose them with the error
