"""Port: a model service.

An implementer owes ``chat``; ``chat_stream`` gives deltas as they come. Providers translate to and from
their wire here and nowhere else, raise the errors of ``loom.errors`` and never run tools.
"""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from msgspec import Struct

from ..errors import ConfigError
from ..types import (
    CallPart,
    ChatMessage,
    ChatResponse,
    ErrorInfo,
    Part,
    Role,
    Source,
    StopReason,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolSpec,
    Usage,
)

logger = logging.getLogger("loom.llm")

# --- what a provider's stream is made of ------------------------------------------------------------


class ContentDeltaEvent(Struct, frozen=True, tag_field="type", tag="content_delta"):
    """Some text."""

    type: ClassVar[Literal["content_delta"]] = "content_delta"
    delta: str


class ThinkingDeltaEvent(Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    """Some reasoning. ``signature``, ``data`` and ``origin`` are those of the ``ThinkingPart`` it becomes."""

    type: ClassVar[Literal["thinking_delta"]] = "thinking_delta"
    delta: str = ""
    signature: str | None = None
    data: str | None = None
    origin: str | None = None


class ToolCallDeltaEvent(Struct, frozen=True, tag_field="type", tag="tool_call_delta"):
    """A piece of the tool call at ``index``; ``arguments_delta`` is a fragment of JSON text."""

    type: ClassVar[Literal["tool_call_delta"]] = "tool_call_delta"
    index: int
    id: str | None = None
    name: str | None = None
    arguments_delta: str | None = None


class UsageEvent(Struct, frozen=True, tag_field="type", tag="usage"):
    """What the service counted so far; a later one replaces an earlier one."""

    type: ClassVar[Literal["usage"]] = "usage"
    usage: Usage


class StopEvent(Struct, frozen=True, tag_field="type", tag="stop"):
    """The reply is over."""

    type: ClassVar[Literal["stop"]] = "stop"
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


class Retried(NamedTuple):
    """A request that failed and is made again: which try failed, from 1, the seconds until the next, and why."""

    attempt: int
    delay: float
    error: ErrorInfo


RETRIED: ContextVar[list[Retried] | None] = ContextVar("loom_retried", default=None)
"""Where a provider tells whoever asks it that it asks again; None when nobody wants to know."""


GOAL: ContextVar[str] = ContextVar("loom_goal", default="")
"""The task of the run that asks, as the user gave it: without the context that a message holds beside it."""


class LLMProvider(ABC):
    """A model service. Subclassing is optional: any object with ``chat`` will do, see ``as_provider``.

    ``settings`` is passed only when there is something to say, so an implementation without that
    parameter works for agents that set nothing. ``heeds_cancel`` promises that a call stops when it is cancelled;
    one of a provider that does not is left behind after a grace.
    """

    heeds_cancel: ClassVar[bool] = False

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

    def secrets(self) -> list[str]:
        """What must be in no text that others see, such as its key; for those who scrub and record around it."""
        return []

    @property
    def unmetered(self) -> bool:
        """True for what asks no service: usage of zero is then zero, not unknown."""
        return False

    async def aclose(self) -> None:
        """Let go of connections. Safe to call twice."""
        return


class SupportsChat(Protocol):
    """The least a model service is: an object with an async ``chat``. What else a provider has, it need not."""

    def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
    ) -> Awaitable[ChatResponse]:
        """See LLMProvider."""
        ...


class _Completed(LLMProvider):
    """An object that has ``chat`` and lacks something else of the port, with that added.

    Without ``chat_stream`` its whole reply is one delta, without ``secrets`` it has none, and without
    ``aclose`` there is nothing to close.
    """

    def __init__(self, given: Any) -> None:
        self.given = given
        for name in ("chat_stream", "secrets", "aclose"):
            own = getattr(given, name, None)
            if callable(own):
                setattr(self, name, own)

    @property
    def default_model(self) -> Any:
        """The name of its model, where it says one."""
        return getattr(self.given, "default_model", None)

    @property
    def unmetered(self) -> bool:
        """See LLMProvider."""
        return bool(getattr(self.given, "unmetered", False))

    async def chat(self, messages: Sequence[ChatMessage], **options: Any) -> ChatResponse:
        """See LLMProvider. Raises what the object raises."""
        reply: Any = self.given.chat(messages, **options)
        response: ChatResponse = await reply if inspect.isawaitable(reply) else reply
        return response

    def __repr__(self) -> str:
        return repr(self.given)


def as_provider(given: object) -> LLMProvider:
    """``given`` as a whole provider: itself when it is one, else an object with ``chat`` and the rest added.

    Raises ConfigError for what has no ``chat``, for a class, and for a ``chat`` that cannot be asked with
    ``messages``, ``tools`` and ``model``.
    """
    if isinstance(given, LLMProvider):
        return given
    chat = getattr(given, "chat", None)
    if isinstance(given, type) or not callable(chat):
        said = f"the class {given.__name__}, not an object of it" if isinstance(given, type) else repr(given)
        raise ConfigError(f"a provider is an object with an async method chat; this is {said}")
    if (fault := _refuses(chat, {"tools": None, "model": None})) is not None:
        raise ConfigError(f"chat of {given!r} is asked with (messages, tools=, model=), and {fault}")
    return _Completed(given)


def kind_of(provider: LLMProvider) -> str:
    """The name of its class: of the class that was given, where ``as_provider`` added to it."""
    return type(provider.given if isinstance(provider, _Completed) else provider).__name__


def takes_settings(provider: LLMProvider) -> bool:
    """Whether the provider can be told how to sample and in what shape to answer."""
    asked = provider.given if isinstance(provider, _Completed) else provider
    return _refuses(asked.chat, {"tools": None, "model": None, "settings": None}) is None


def _refuses(function: Callable[..., Any], options: dict[str, Any]) -> str | None:
    """Why a function cannot be called so; None when it can, and when nobody can know."""
    try:
        inspect.signature(function).bind([], **options)
    except ValueError:
        return None  # a function of C says nothing of its parameters
    except TypeError as error:
        return str(error)
    return None


async def close_stream(stream: object) -> None:
    """Close a provider's stream, if any of its kind can be. A reply is not lost because its stream was not closed."""
    close: Callable[[], Awaitable[None]] | None = getattr(stream, "aclose", None)
    if close is not None:
        try:
            await close()
        except Exception:
            logger.exception("the stream of a provider could not be closed")


def secrets_of(provider: object) -> list[str]:
    """The secrets a provider says it has; a provider need not say anything."""
    tell: Callable[[], Iterable[str]] | None = getattr(provider, "secrets", None)
    return [secret for secret in tell() if secret] if tell is not None else []


class _CallParts:
    __slots__ = ("arguments", "id", "name", "signature")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.arguments: list[str] = []
        self.signature: str | None = None


class _Growing:
    """A text or thinking part that more may be added to."""

    __slots__ = ("data", "kind", "origin", "pieces", "signature")

    def __init__(self, kind: type[TextPart | ThinkingPart], origin: str | None = None) -> None:
        self.kind = kind
        self.origin = origin
        self.pieces: list[str] = []
        self.signature: list[str] = []
        self.data: str | None = None

    def part(self) -> TextPart | ThinkingPart:
        text = "".join(self.pieces)
        if self.kind is TextPart:
            return TextPart(text)
        return ThinkingPart(text, "".join(self.signature) or None, self.data, self.origin)


class ReplyBuilder:
    """Folds a provider's stream into the one ``ChatResponse`` it amounts to."""

    def __init__(self, model: str = "") -> None:
        self.model = model
        self.usage: Usage | None = None
        self.stop_reason: StopReason | None = None
        self.sources: Sequence[Source] = ()
        self._parts: list[_Growing | Part] = []
        self._calls: dict[int, _CallParts] = {}
        self._marked: set[int] = set()
        self._text: list[str] | None = None  # the pieces of the text part that is last, if one is

    def text(self, delta: str) -> None:
        """Add text."""
        if self._text is None:
            self._text = self._grow(TextPart, None).pieces
        self._text.append(delta)

    def thinking(
        self,
        delta: str = "",
        *,
        signature: str | None = None,
        data: str | None = None,
        origin: str | None = None,
    ) -> None:
        """Add reasoning. A signature or ``data`` closes the block that the text before it began."""
        self._text = None
        part = self._grow(ThinkingPart, origin)
        if delta:
            part.pieces.append(delta)
        if signature:
            part.signature.append(signature)
        if data is not None:
            part.data = data

    def part(self, part: Part) -> None:
        """Add a part that comes whole: media, or what only the service understands."""
        self._text = None
        self._mark_calls()
        self._parts.append(part)

    def call(
        self,
        index: int,
        id: str | None = None,  # noqa: A002 - the wire's word
        name: str | None = None,
        arguments: str | None = None,
        signature: str | None = None,
    ) -> None:
        """Add a piece of the tool call at ``index``."""
        call = self._calls.get(index)
        if call is None:
            self._text = None
            call = self._calls[index] = _CallParts()
        if id:
            call.id = id
        if name:
            call.name = name
        if arguments:
            call.arguments.append(arguments)
        if signature:
            call.signature = signature

    def drop_call(self, index: int) -> None:
        """Forget the tool call at ``index``, as if it had never begun."""
        self._calls.pop(index, None)

    def add(self, event: ProviderEvent) -> None:
        """Add any event of the family but the whole response."""
        if isinstance(event, ContentDeltaEvent):
            self.text(event.delta)
        elif isinstance(event, ToolCallDeltaEvent):
            self.call(event.index, event.id, event.name, event.arguments_delta)
        elif isinstance(event, ThinkingDeltaEvent):
            self.thinking(event.delta, signature=event.signature, data=event.data, origin=event.origin)
        elif isinstance(event, UsageEvent):
            self.usage = event.usage
        elif isinstance(event, StopEvent):
            self.stop_reason = event.stop_reason

    def build(self) -> ChatResponse:
        """The reply so far. Calls without an id get a stable one; empty arguments are an empty object."""
        ordered = sorted(self._calls.items())
        calls = tuple(
            ToolCall(call.id or f"call_{index}", call.name, "".join(call.arguments) or "{}", call.signature)
            for index, call in ordered
        )
        stop = self.stop_reason or (StopReason.TOOL_USE if calls else StopReason.UNKNOWN)
        content = self._content([index for index, _ in ordered])
        message = ChatMessage(Role.ASSISTANT, content, tool_calls=calls or None, sources=tuple(self.sources))
        return ChatResponse(message, self.usage, stop, self.model)

    def _grow(self, kind: type[TextPart | ThinkingPart], origin: str | None) -> _Growing:
        last = self._parts[-1] if self._parts else None
        if self._calls.keys() <= self._marked and isinstance(last, _Growing):
            closed = kind is ThinkingPart and (last.signature or last.data is not None)
            if last.kind is kind and not closed:
                return last
        self._mark_calls()
        part = _Growing(kind, origin)
        self._parts.append(part)
        return part

    def _mark_calls(self) -> None:
        """Something follows the calls made so far: keep their places."""
        for index in sorted(self._calls.keys() - self._marked):
            self._parts.append(CallPart(index))
            self._marked.add(index)

    def _content(self, indexes: list[int]) -> str | tuple[Part, ...] | None:
        if all(isinstance(part, _Growing) and part.kind is TextPart for part in self._parts):
            growing = [part for part in self._parts if isinstance(part, _Growing)]
            return "".join("".join(part.pieces) for part in growing) or None
        parts: list[Part] = []
        for part in self._parts:
            if isinstance(part, CallPart):
                if part.index in indexes:
                    parts.append(CallPart(indexes.index(part.index)))
            else:
                parts.append(part.part() if isinstance(part, _Growing) else part)
        return tuple(parts)


def reply_text(message: ChatMessage) -> str:
    """What the model said to the reader: the text parts joined, without reasoning."""
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text for part in message.content or () if isinstance(part, TextPart))
