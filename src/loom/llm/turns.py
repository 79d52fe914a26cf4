"""A reply that its service pauses, asked on until it is whole.

A service that runs tools of its own may stop in the middle of its work and wait to be asked again, with what
it said so far at the end of the conversation. For the caller that is one reply: one message, the usage summed.
Asking on is bounded; a reply that is still paused then says so (``StopReason.PAUSED``).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..safety.calls import one_each
from ..safety.sources import each_once
from ..types import (
    CallPart,
    ChatMessage,
    ChatResponse,
    Part,
    Role,
    Source,
    StopReason,
    TextPart,
    ToolCall,
    Usage,
)

MAX_PAUSES = 8
"""How often one reply is asked on. Services pause after about ten steps of theirs, so this is many."""


class Turn:
    """One reply in the making. ``shaped`` says that it is to be JSON, with no text before it."""

    __slots__ = ("_asked", "_replies", "_shaped")

    def __init__(self, messages: Sequence[ChatMessage], *, shaped: bool = False) -> None:
        self._asked = messages
        self._shaped = shaped
        self._replies: list[ChatResponse] = []

    @property
    def messages(self) -> Sequence[ChatMessage]:
        """The conversation to ask with: what was asked, then what the reply holds so far."""
        if not self._replies:
            return self._asked
        return [*self._asked, *(reply.message for reply in self._replies)]

    def add(self, reply: ChatResponse) -> ChatResponse | None:
        """The whole reply, now that ``reply`` has come; None when the service is to be asked on."""
        self._replies.append(reply)
        if reply.stop_reason is StopReason.PAUSED and len(self._replies) <= MAX_PAUSES:
            return None
        return reply if len(self._replies) == 1 else self._joined(reply)

    def _joined(self, last: ChatResponse) -> ChatResponse:
        parts: list[Part] = []
        calls: list[ToolCall] = []
        usage: Usage | None = Usage()
        sources: list[Source] = []
        for reply in self._replies:
            sources += reply.message.sources
            silent = self._shaped and reply is not last
            for part in _parts(reply.message):
                if isinstance(part, CallPart):
                    parts.append(CallPart(part.index + len(calls)))
                elif not isinstance(part, TextPart):
                    parts.append(part)
                elif not silent:
                    _say(part, parts)
            calls += reply.message.tool_calls or ()
            usage = None if usage is None or reply.usage is None else usage + reply.usage
        message = ChatMessage(
            Role.ASSISTANT, _content(parts), tool_calls=tuple(calls) or None, sources=each_once(sources)
        )
        return ChatResponse(one_each(message), usage, last.stop_reason, last.model)


def _parts(message: ChatMessage) -> Sequence[Part]:
    if isinstance(message.content, str):
        return (TextPart(message.content),)
    return message.content or ()


def _say(part: TextPart, parts: list[Part]) -> None:
    """Add text to the end of ``parts``, to the text that is there if one is."""
    if parts and isinstance(parts[-1], TextPart):
        parts[-1] = TextPart(parts[-1].text + part.text)
    else:
        parts.append(part)


def _content(parts: list[Part]) -> str | tuple[Part, ...] | None:
    if not parts:
        return None
    first = parts[0]
    return first.text if len(parts) == 1 and isinstance(first, TextPart) else tuple(parts)
