"""A model that says what a script tells it to. Public, so that users test agents the way we do.

The items of a script mean the same here and in ``model_server``, which serves them over a socket:

* a string is a reply of text; ``say`` makes one with more to it;
* ``call("tool", x=1)`` is a tool call, a list of strings and calls is one reply;
* a ``ChatResponse`` is itself;
* an exception is raised: ``RateLimitError("slow", retry_after=3)``, ``ContextOverflowError(...)``, any other;
* a function of ``(messages, tools)`` returns any of these;
* ``interrupted(item, after=2, error=...)`` breaks off in the middle of its stream;
* ``stalled(item, after=2)`` says nothing more, without an end, until whoever asked gives up.

How fast a model answers is the provider's affair: ``ScriptedProvider(latency=, chunk=, chunk_latency=)``. Faults
of the transport (cut connections, odd bytes, statuses) are ``model_server.served``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NoReturn

from ..errors import ProviderError, ProviderUnavailableError
from ..llm.base import (
    ContentDeltaEvent,
    LLMProvider,
    ModelSettings,
    ProviderEvent,
    ThinkingDeltaEvent,
    ToolCallDeltaEvent,
)
from ..llm.untyped import is_list
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
    to_json,
)

DEFAULT_USAGE = Usage(input_tokens=10, output_tokens=5)

ScriptItem = Any
"""An item of a script, as the module says; it is checked when its turn comes."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A reply whose stream fails after ``after`` events, or stalls without an ``error``.

    Asked for in one piece, it only fails or stalls.
    """

    reply: ScriptItem
    after: int
    error: Exception | None


def say(
    text: str = "",
    *calls: ToolCall,
    thinking: str | None = None,
    signature: str | None = None,
    usage: Usage | None = DEFAULT_USAGE,
    stop_reason: StopReason | None = None,
    model: str = "scripted",
) -> ChatResponse:
    """A reply of text, with thinking before it and calls after it if given; ``usage`` None: not reported."""
    content: str | tuple[Part, ...] | None = text or None
    if thinking is not None:
        content = (ThinkingPart(thinking, signature), *((TextPart(text),) if text else ()))
    stop = stop_reason or (StopReason.TOOL_USE if calls else StopReason.STOP)
    message = ChatMessage(Role.ASSISTANT, content, tool_calls=calls or None)
    return ChatResponse(message, usage, stop, model)


def call(tool: str, /, **arguments: Any) -> ToolCall:
    """A call of ``tool``. Its id is given when it is served: ``call_1``, ``call_2``, ... in order."""
    return ToolCall("", tool, to_json(arguments))


def interrupted(reply: ScriptItem, *, after: int, error: Exception | None = None) -> Interrupted:
    """``reply``, broken off after ``after`` events of its stream."""
    return Interrupted(reply, after, error or ProviderUnavailableError("the scripted model broke off"))


def stalled(reply: ScriptItem = "", *, after: int = 0) -> Interrupted:
    """``reply``, of which nothing comes after ``after`` events of its stream; it ends when it is cancelled."""
    return Interrupted(reply, after, None)


class Script:
    """The items in order, and the numbering of their calls. Running out is an error that says so."""

    def __init__(self, items: Iterable[ScriptItem]) -> None:
        self._items = list(items)
        self.position = 0
        self._numbered = 0

    @property
    def remaining(self) -> int:
        """How many items were not served yet."""
        return len(self._items) - self.position

    def take(self) -> ScriptItem:
        """The next item as it was written. Raises ProviderError when there is none left."""
        if self.position >= len(self._items):
            raise ProviderError(
                f"the script has {len(self._items)} replies and this is request {self.position + 1}; "
                "give it more, or find out why the model is asked again"
            )
        item = self._items[self.position]
        self.position += 1
        return item

    def read(
        self, item: ScriptItem, messages: Sequence[ChatMessage] = (), tools: Sequence[ToolSpec] = ()
    ) -> ChatResponse | Interrupted:
        """``item`` as a reply. Raises it when it is an exception."""
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, Interrupted):
            return Interrupted(self.whole(item.reply, messages, tools), item.after, item.error)
        return self.whole(item, messages, tools)

    def whole(
        self, item: ScriptItem, messages: Sequence[ChatMessage] = (), tools: Sequence[ToolSpec] = ()
    ) -> ChatResponse:
        """``item`` as the reply it stands for. Raises TypeError for what no script can hold."""
        if callable(item):
            item = item(messages, tools)
            if isinstance(item, BaseException):
                raise item
        if isinstance(item, str):
            item = say(item)
        elif isinstance(item, ToolCall):
            item = say("", item)
        elif is_list(item):
            item = _joined(item)
        if not isinstance(item, ChatResponse):
            raise TypeError(f"a script cannot hold {type(item).__name__}; see loom.testing.scripted")
        return self._with_ids(item)

    def _with_ids(self, response: ChatResponse) -> ChatResponse:
        message = response.message
        if not message.tool_calls or all(item.id for item in message.tool_calls):
            return response
        calls = tuple(self._with_id(item) for item in message.tool_calls)
        named = ChatMessage(message.role, message.content, tool_calls=calls)
        return ChatResponse(named, response.usage, response.stop_reason, response.model)

    def _with_id(self, item: ToolCall) -> ToolCall:
        self._numbered += 1
        return (
            item if item.id else ToolCall(f"call_{self._numbered}", item.name, item.arguments, item.signature)
        )


def _joined(items: Sequence[ScriptItem]) -> ChatResponse:
    texts = [item for item in items if isinstance(item, str)]
    calls = [item for item in items if isinstance(item, ToolCall)]
    if len(texts) + len(calls) != len(items):
        raise TypeError("a reply in a script is a list of strings and calls, nothing else")
    return say("".join(texts), *calls)


def deltas(response: ChatResponse, size: int | None = None) -> Iterator[ProviderEvent]:
    """``response`` as the events of a stream, in pieces of ``size`` characters (None: whole pieces)."""
    content = response.message.content
    parts = [TextPart(content)] if isinstance(content, str) else list(content or ())
    for part in parts:
        if isinstance(part, ThinkingPart):
            for piece in pieces(part.text, size):
                yield ThinkingDeltaEvent(piece, origin=part.origin)
            if part.signature or part.data:
                yield ThinkingDeltaEvent(signature=part.signature, data=part.data, origin=part.origin)
        elif isinstance(part, TextPart):
            for piece in pieces(part.text, size):
                yield ContentDeltaEvent(piece)
    for index, item in enumerate(response.message.tool_calls or ()):
        yield ToolCallDeltaEvent(index, item.id, item.name)
        for piece in pieces(item.arguments, size):
            yield ToolCallDeltaEvent(index, None, None, piece)


def pieces(text: str, size: int | None) -> list[str]:
    """``text`` cut into pieces of ``size`` characters."""
    if size is None or not text:
        return [text] if text else []
    return [text[start : start + size] for start in range(0, len(text), size)]


async def _break_off(item: Interrupted) -> NoReturn:
    if item.error is not None:
        raise item.error
    while True:
        await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class ScriptedRequest:
    """What the model was asked."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...] = ()
    model: str | None = None
    settings: ModelSettings | None = None
    streamed: bool = field(default=False, compare=False)


class ScriptedProvider(LLMProvider):
    """A provider that follows a script and remembers what it was asked.

    ``chunk`` is the length of streamed pieces in characters (None: one piece a part). ``latency`` is the
    seconds before each reply, ``chunk_latency`` those before each piece of a stream, both spent in ``sleep``.
    ``requests`` holds every request in order.
    """

    default_model = "scripted"

    def __init__(
        self,
        replies: Iterable[ScriptItem] = (),
        *,
        chunk: int | None = None,
        latency: float = 0.0,
        chunk_latency: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.requests: list[ScriptedRequest] = []
        self.closed = False
        self._script = Script(replies)
        self._chunk = chunk
        self._latency = latency
        self._chunk_latency = chunk_latency
        self._sleep = sleep

    @property
    def remaining(self) -> int:
        """How many replies were not asked for yet."""
        return self._script.remaining

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """The next reply of the script, or its exception."""
        item = await self._next(ScriptedRequest(tuple(messages), tuple(tools or ()), model, settings))
        if isinstance(item, Interrupted):
            await _break_off(item)
        return item

    async def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> AsyncIterator[ProviderEvent]:
        """The next reply of the script in pieces, the whole ``ChatResponse`` last."""
        item = await self._next(ScriptedRequest(tuple(messages), tuple(tools or ()), model, settings, True))
        whole: ChatResponse = item.reply if isinstance(item, Interrupted) else item
        events = deltas(whole, self._chunk)
        for event in islice(events, item.after) if isinstance(item, Interrupted) else events:
            if self._chunk_latency:
                await self._sleep(self._chunk_latency)
            yield event
        if isinstance(item, Interrupted):
            await _break_off(item)
        yield whole

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    async def _next(self, request: ScriptedRequest) -> ChatResponse | Interrupted:
        self.requests.append(request)
        if self._latency:
            await self._sleep(self._latency)
        return self._script.read(self._script.take(), request.messages, request.tools)
