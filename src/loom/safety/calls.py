"""The calls of one reply, each once: a service or a stream that repeats itself must not double an effect."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from ..errors import MalformedReplyError
from ..types import CallPart, ChatMessage, ToolCall, canonical_json


def one_each(message: ChatMessage) -> ChatMessage:
    """``message`` with every tool call once: the same id, name and arguments again are the same call.

    Calls without an id are told apart by their place alone. Raises MalformedReplyError when one id stands for
    two different calls, since nobody can tell which of them was meant.
    """
    calls = message.tool_calls or ()
    ids = [call.id for call in calls if call.id]
    if len(set(ids)) == len(ids):
        return message
    kept: list[ToolCall] = []
    places: dict[int, int] = {}
    by_id: dict[str, ToolCall] = {}
    for place, call in enumerate(calls):
        first = by_id.setdefault(call.id, call) if call.id else call
        if first is call:
            places[place] = len(kept)
            kept.append(call)
        # guard: tests/safety/test_one_each.py
        elif not _same(first, call):
            raise MalformedReplyError(
                f"the model made two different calls under one id, {call.id[:80]!r}; none was run",
                retryable=True,
            )
    content = message.content
    if content is not None and not isinstance(content, str):
        content = tuple(
            CallPart(places[part.index]) if isinstance(part, CallPart) else part
            for part in content
            if not isinstance(part, CallPart) or part.index in places
        )
    return replace(message, content=content, tool_calls=tuple(kept))


def _same(one: ToolCall, other: ToolCall) -> bool:
    return one.name == other.name and (
        one.arguments == other.arguments or _meant(one.arguments) == _meant(other.arguments)
    )


def _meant(arguments: str) -> bytes:
    """Arguments without what does not matter: white space and the order of keys."""
    try:
        return canonical_json(msgspec.json.decode(arguments or "{}"))
    except (ValueError, RecursionError):
        return arguments.encode("utf-8", "surrogatepass")
