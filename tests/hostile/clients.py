"""The providers under test, by the name of their wire, set up so that nothing waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conversation import ADD, HELLO

from loom.errors import LoomError
from loom.llm.anthropic import AnthropicProvider
from loom.llm.gemini import GeminiProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.openai_responses import OpenAIResponsesProvider
from loom.llm.wire import HTTPProvider
from loom.types import ChatResponse

KEY = "sk-test-5f3a9c1e7b2d4860aabbccdd"


async def no_wait(seconds: float) -> None:
    """A sleep that does not."""


def _options(more: dict[str, Any]) -> dict[str, Any]:
    return {"timeout": 10.0, "max_retries": 0, "sleep": no_wait, **more}


def anthropic(url: str, **more: Any) -> HTTPProvider:
    return AnthropicProvider(KEY, "m", base_url=url, **_options(more))


def openai_chat(url: str, **more: Any) -> HTTPProvider:
    return OpenAICompatibleProvider(url, KEY, "m", **_options(more))


def gemini(url: str, **more: Any) -> HTTPProvider:
    return GeminiProvider(KEY, "m", base_url=url, **_options(more))


def openai_responses(url: str, **more: Any) -> HTTPProvider:
    return OpenAIResponsesProvider(url, KEY, "m", **_options(more))


CLIENTS: dict[str, Callable[..., HTTPProvider]] = {
    "anthropic": anthropic,
    "gemini": gemini,
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
}


async def outcome(provider: HTTPProvider, *, streamed: bool) -> ChatResponse | LoomError:
    """What asking came to: a reply or a typed error. Anything else is raised, which fails the test."""
    failure: LoomError | None = None
    last: Any = None
    try:
        if not streamed:
            return await provider.chat(HELLO, tools=[ADD])
        async for event in provider.chat_stream(HELLO, tools=[ADD]):
            last = event
    except LoomError as error:
        failure = error
    if failure is None:
        assert isinstance(last, ChatResponse)
        return last
    assert KEY not in f"{failure} {failure!r}"
    return failure
