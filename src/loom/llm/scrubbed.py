"""A provider that is sent no secrets: whatever a conversation holds, they are cut out of what goes to a model.

Only what goes out is scrubbed. The log, the store and what tools get stay as they were: they say what happened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from msgspec.structs import replace

from ..types import ChatMessage, ChatResponse, OpaquePart, Part, TextPart, ThinkingPart, ToolCall, ToolSpec
from .base import LLMProvider, ModelSettings, ProviderEvent, as_provider, secrets_of
from .redact import Scrubber

_KEY = "scrubbed"


class ScrubbedProvider(LLMProvider):
    """``provider``, asked with messages from which ``scrubber`` took the secrets.

    Scrubbed are text, reasoning, tool results and the arguments of tool calls; declared tools and settings are
    the application's own words and go as they are. A message without secrets goes as the same object, a scrubbed
    one is kept with its original, so each is looked through once and encoded once. Reasoning that had to be
    changed loses its signature, since no service would accept it.
    """

    def __init__(self, provider: LLMProvider, scrubber: Scrubber | None = None) -> None:
        self.provider = as_provider(provider)
        self._scrubber = scrubber or Scrubber(secrets_of(provider))

    def secrets(self) -> list[str]:
        """What the provider beneath would not have in any text."""
        return secrets_of(self.provider)

    @property
    def unmetered(self) -> bool:
        """See LLMProvider."""
        return self.provider.unmetered

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """Ask with scrubbed messages. Raises what the provider raises."""
        return await self.provider.chat(self._scrub(messages), **given(tools, model, settings))

    def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> AsyncIterator[ProviderEvent]:
        """Ask with scrubbed messages and hand on the stream. Raises what the provider raises."""
        return self.provider.chat_stream(self._scrub(messages), **given(tools, model, settings))

    async def aclose(self) -> None:
        """Close the provider beneath."""
        await close(self.provider)

    def _scrub(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        return [self._scrubbed(message) for message in messages]

    def _scrubbed(self, message: ChatMessage) -> ChatMessage:
        kept: tuple[Scrubber, ChatMessage | None] | None = vars(message).get(_KEY)
        if kept is None or kept[0] is not self._scrubber:
            cleaned = scrub_message(message, self._scrubber)
            kept = vars(message)[_KEY] = (self._scrubber, None if cleaned is message else cleaned)
        return message if kept[1] is None else kept[1]


def scrubbed(provider: LLMProvider) -> ScrubbedProvider:
    """``provider`` behind a scrubber that knows its secrets and what secrets look like; itself if it is one."""
    return provider if isinstance(provider, ScrubbedProvider) else ScrubbedProvider(provider)


def scrub_message(message: ChatMessage, scrub: Scrubber) -> ChatMessage:
    """``message`` without secrets; the same object when there is none."""
    content = message.content
    if isinstance(content, str):
        content = scrub(content)
    elif content is not None:
        content = _unless_same(content, [_scrub_part(part, scrub) for part in content])
    calls = message.tool_calls
    if calls:
        calls = _unless_same(calls, [scrub_call(call, scrub) for call in calls])
    if content is message.content and calls is message.tool_calls:
        return message
    return ChatMessage(
        message.role, content, calls, message.tool_call_id, message.name, is_error=message.is_error
    )


def scrub_call(call: ToolCall, scrub: Scrubber) -> ToolCall:
    """``call`` with arguments without secrets; the same object when there is none."""
    arguments = scrub.json(call.arguments)
    return call if arguments is call.arguments else replace(call, arguments=arguments)


def _scrub_part(part: Part, scrub: Scrubber) -> Part:
    if isinstance(part, TextPart):
        text = scrub(part.text)
        return part if text is part.text else TextPart(text)
    if isinstance(part, ThinkingPart):
        text = scrub(part.text)
        return part if text is part.text else ThinkingPart(text, origin=part.origin)
    if isinstance(part, OpaquePart):
        data = scrub.json(part.data)
        return part if data is part.data else OpaquePart(part.origin, data)
    return part


def _unless_same(before: Sequence[Any], after: list[Any]) -> Sequence[Any]:
    return before if all(a is b for a, b in zip(before, after, strict=True)) else after


def given(
    tools: Sequence[ToolSpec] | None, model: str | None, settings: ModelSettings | None
) -> dict[str, Any]:
    """The options of a question as the port wants them: settings only when there is something to say."""
    options: dict[str, Any] = {"tools": tools, "model": model}
    return options if settings is None else {**options, "settings": settings}


async def close(provider: object) -> None:
    """Close ``provider`` if it can be closed: two methods make a provider, and closing is none of them."""
    aclose: Callable[[], Awaitable[None]] | None = getattr(provider, "aclose", None)
    if aclose is not None:
        await aclose()
