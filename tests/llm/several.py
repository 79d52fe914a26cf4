"""What the tests of several models as one share."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from loom.agent import Agent
from loom.errors import ProviderUnavailableError
from loom.events import ModelReplied
from loom.llm.base import LLMProvider
from loom.runtime.result import RunResult
from loom.tools.function import tool
from loom.types import Attempt, ChatMessage, ChatResponse, Role

HELLO = [ChatMessage(Role.USER, "Hello")]
DOWN = ProviderUnavailableError("it is down", status=503)

both = pytest.mark.parametrize("streamed", [False, True])


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Raw(LLMProvider):
    """A provider that yields and returns just what it is told to, reply or not."""

    def __init__(self, *events: Any, whole: Any = None) -> None:
        self.events = events
        self.whole = whole
        self.closed = 0

    async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
        answer: ChatResponse = self.whole
        return answer

    async def chat_stream(self, messages: Sequence[ChatMessage], **options: Any) -> AsyncIterator[Any]:
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed += 1


async def ask(
    provider: LLMProvider, streamed: bool, messages: Sequence[ChatMessage] = HELLO, **options: Any
) -> ChatResponse:
    """The reply of ``provider``, asked for either way."""
    if not streamed:
        return await provider.chat(messages, **options)
    event = [event async for event in provider.chat_stream(messages, **options)][-1]
    assert isinstance(event, ChatResponse)
    return event


async def complete(agent: Agent[Any, Any], task: str, streamed: bool) -> RunResult[Any]:
    """The result of ``task``, run or streamed."""
    if not streamed:
        return await agent.run(task)
    run = agent.session().start(task)
    assert [event async for event in run.events()]
    return await run


def names(attempts: Sequence[Attempt]) -> list[tuple[str, str | None]]:
    """Who was asked, and the code of what came of it."""
    return [(attempt.model, attempt.error.code if attempt.error else None) for attempt in attempts]


def replies(result: RunResult[Any]) -> list[ModelReplied]:
    """The model's replies in the log of a run."""
    return [event for event in result.events if isinstance(event, ModelReplied)]
