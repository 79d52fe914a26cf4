"""Port: a model service.

An implementer owes ``chat``; ``chat_stream`` gives deltas as they come. Providers translate to and from
their wire here and nowhere else, raise the errors of ``loom.errors`` and never run tools.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec import Struct

from ..types import (
    ChatMessage,
    ChatResponse,
    Part,
    Role,
    StopReason,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolSpec,
    Usage,
)

# --- what a provider's stream is made of ------------------------------------------------------------


class ContentDeltaEvent(Struct, frozen=True, tag_field="type", tag="content_delta"):
    """Some text."""

    delta: str


class ThinkingDeltaEvent(Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    """Some reasoning. ``signature`` and ``data`` are the service's own and go back to it untouched."""

    delta: str = ""
    signature: str | None = None
    data: str | None = None


class ToolCallDeltaEvent(Struct, frozen=True, tag_field="type", tag="tool_call_delta"):
    """A piece of the tool call at ``index``; ``arguments_delta`` is a fragment of JSON text."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments_delta: str | None = None


class UsageEvent(Struct, frozen=True, tag_field="type", tag="usage"):
    """What the service counted so far; a later one replaces an earlier one."""

    usage: Usage


class StopEvent(Struct, frozen=True, tag_field="type", tag="stop"):
    """The reply is over."""

    stop_reason: StopReason


ProviderEvent = (
    ContentDeltaEvent | ThinkingDeltaEvent | ToolCallDeltaEvent | UsageEvent | StopEvent | ChatResponse
)


class ModelSettings(Struct, frozen=True, omit_defaults=True):
    """How to sample, and what shape to answer in. None leaves it to the service.

    ``output_schema`` asks for text that is JSON of this JSON Schema. ``extensions`` go into the request
    body as they are.
    """

    temperature: float | None = None
    max_output_tokens: int | None = None
    output_schema: dict[str, Any] | None = None
    output_name: str = "output"
    extensions: dict[str, Any] = {}


class LLMProvider(ABC):
    """A model service. Subclassing is optional: anything with these two methods will do.

    ``settings`` is passed only when there is something to say, so an implementation without that
    parameter works for agents that set nothing.
    """

    @abstractmethod
    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """Ask once and return the whole reply. Raises ProviderError or ContextOverflowError."""

    def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> AsyncIterator[ProviderEvent]:
        """Ask once and yield the reply as it comes; the last event may be the whole ``ChatResponse``.

        This default asks ``chat`` and yields its reply in one piece.
        """
        return self._whole(messages, tools=tools, model=model, settings=settings)

    async def _whole(self, messages: Sequence[ChatMessage], **options: Any) -> AsyncIterator[ProviderEvent]:
        if options["settings"] is None:
            del options["settings"]
        response = await self.chat(messages, **options)
        if response.message.text_content:
            yield ContentDeltaEvent(response.message.text_content)
        yield response

    async def aclose(self) -> None:
        """Let go of connections. Safe to call twice."""
        return


class _CallParts:
    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.arguments: list[str] = []


class ReplyBuilder:
    """Folds a provider's stream into the one ``ChatResponse`` it amounts to."""

    def __init__(self, model: str = "") -> None:
        self.model = model
        self.usage = Usage()
        self.stop_reason: StopReason | None = None
        self._parts: list[tuple[str, list[str], list[str], str | None]] = []
        self._calls: dict[int, _CallParts] = {}

    def text(self, delta: str) -> None:
        """Add text."""
        self._open("text")[1].append(delta)

    def thinking(self, delta: str = "", *, signature: str | None = None, data: str | None = None) -> None:
        """Add reasoning; a signature closes the block it belongs to, ``data`` is a block of its own."""
        if data is not None:
            self._parts.append(("redacted", [], [], data))
            return
        part = self._open("thinking")
        if delta:
            part[1].append(delta)
        if signature:
            part[2].append(signature)

    def call(
        self,
        index: int,
        id: str | None = None,  # noqa: A002 - the wire's word
        name: str | None = None,
        arguments: str | None = None,
    ) -> None:
        """Add a piece of the tool call at ``index``."""
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = _CallParts()
        if id:
            call.id = id
        if name:
            call.name = name
        if arguments:
            call.arguments.append(arguments)

    def add(self, event: ProviderEvent) -> None:
        """Add any event of the family but the whole response."""
        if isinstance(event, ContentDeltaEvent):
            self.text(event.delta)
        elif isinstance(event, ToolCallDeltaEvent):
            self.call(event.index, event.id, event.name, event.arguments_delta)
        elif isinstance(event, ThinkingDeltaEvent):
            self.thinking(event.delta, signature=event.signature, data=event.data)
        elif isinstance(event, UsageEvent):
            self.usage = event.usage
        elif isinstance(event, StopEvent):
            self.stop_reason = event.stop_reason

    def build(self) -> ChatResponse:
        """The reply so far. Calls without an id get a stable one; empty arguments are an empty object."""
        calls = tuple(
            ToolCall(call.id or f"call_{index}", call.name, "".join(call.arguments) or "{}")
            for index, call in sorted(self._calls.items())
        )
        stop = self.stop_reason or (StopReason.TOOL_USE if calls else StopReason.UNKNOWN)
        message = ChatMessage(Role.ASSISTANT, self._content(), tool_calls=calls or None)
        return ChatResponse(message, self.usage, stop, self.model)

    def _open(self, kind: str) -> tuple[str, list[str], list[str], str | None]:
        if not self._parts or self._parts[-1][0] != kind or self._parts[-1][2]:
            self._parts.append((kind, [], [], None))
        return self._parts[-1]

    def _content(self) -> str | tuple[Part, ...] | None:
        if all(kind == "text" for kind, *_ in self._parts):
            return "".join("".join(pieces) for _, pieces, _, _ in self._parts) or None
        parts: list[Part] = []
        for kind, pieces, signature, data in self._parts:
            if kind == "text":
                parts.append(TextPart("".join(pieces)))
            else:
                parts.append(ThinkingPart("".join(pieces), "".join(signature) or None, data))
        return tuple(parts)


def reply_text(message: ChatMessage) -> str:
    """What the model said to the reader: the text parts joined, without reasoning."""
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text for part in message.content or () if isinstance(part, TextPart))
