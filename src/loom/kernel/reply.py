"""Whether what a provider returned is a reply, and its calls such that each runs once and gets its result.

Providers are foreign code; a reply that is none ends the run as malformed instead of breaking it.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ..errors import MalformedReplyError
from ..safety.calls import one_each
from ..safety.display import encodable, whole_escapes
from ..safety.media import fault_of
from ..types import (
    Attempt,
    ChatMessage,
    ChatResponse,
    OpaquePart,
    Role,
    Source,
    StopReason,
    TextPart,
    ThinkingPart,
    ToolCall,
    Usage,
    sound,
    to_json,
)

MAX_CALLS = 128
"""Tool calls one reply may make; more is taken for a broken model. The services allow about as many."""


def sound_reply(response: Any, iteration: int) -> ChatResponse:
    """A reply fit to be kept and sent back. Raises MalformedReplyError for what is none.

    What is odd beside the message costs nothing but itself: counts that cannot be are none, an unknown reason to
    stop is unknown. A reply speaks for the assistant, whatever it says.
    """
    message: Any = response.message if isinstance(response, ChatResponse) else None
    if not isinstance(message, ChatMessage):
        raise MalformedReplyError(f"the provider returned {type(response).__name__}, which is no reply")
    content, calls = _content(message.content), tuple(message.tool_calls or ())
    if len(calls) > MAX_CALLS:
        raise MalformedReplyError(
            f"the model made {len(calls)} tool calls in one reply; {MAX_CALLS} are the most"
        )
    named = _named([_call(call) for call in calls], iteration) if calls else calls
    sources = _sources(message.sources) if message.sources else ()
    if (
        content is not message.content
        or named != calls
        or not _plain_facts(message)
        or sources != message.sources
    ):
        message = ChatMessage(Role.ASSISTANT, content, tool_calls=named or None, sources=sources)
    message = one_each(message)
    stop: Any = response.stop_reason
    model: Any = response.model
    return ChatResponse(
        message,
        _usage(response.usage),
        stop if isinstance(stop, StopReason) else _STOPS.get(stop, StopReason.UNKNOWN),
        encodable(model) if isinstance(model, str) else "",
        _attempts(response.attempts) if response.attempts else (),
    )


_STOPS: dict[Any, StopReason] = {stop.value: stop for stop in StopReason}
_COUNTS = tuple(name for name in Usage.__struct_fields__ if name != "advisors")
_COUNTABLE = 10**12
"""Tokens no single reply can have; a larger count is a fault of the service."""


def _usage(usage: Any) -> Usage | None:
    """The counts that can be; None for what is no usage at all."""
    if not isinstance(usage, Usage):
        return None
    odd: dict[str, Any] = {
        name: count
        for name in _COUNTS
        if not (isinstance(count := getattr(usage, name), int) and 0 <= count < _COUNTABLE)
    }
    known: Usage = replace(usage, **dict.fromkeys(odd, 0)) if odd else usage
    if not known.advisors:
        return known
    try:
        return sound(known)
    except (TypeError, ValueError):
        return replace(known, advisors=())


def _attempts(attempts: Any) -> tuple[Attempt, ...]:
    """The attempts as they can be kept; none at all when one of them is not what it says."""
    try:
        kept = tuple(sound(attempt) for attempt in attempts)
    except (TypeError, ValueError):
        return ()
    whole = all(isinstance(attempt, Attempt) for attempt in kept)
    return tuple(replace(attempt, usage=_usage(attempt.usage)) for attempt in kept) if whole else ()


def _sources(sources: Any) -> tuple[Source, ...]:
    """The sources as they can be kept; what is none is left out."""
    told: list[Any] = list(sources) if sources.__class__ in (list, tuple) else []
    return tuple(
        Source(*map(encodable, fields))
        for fields in ([s.url, s.title, s.text] for s in told if isinstance(s, Source))
        if all(map(_is_text, fields))
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _plain_facts(message: ChatMessage) -> bool:
    """Whether the message is from the assistant and nothing else is said in it."""
    beside = (message.name, message.tool_call_id)
    return message.role is Role.ASSISTANT and beside == (None, None) and message.is_error is False


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return encodable(content)
    if content is None:
        return None
    try:
        whole = ChatMessage(Role.ASSISTANT, tuple(_part(part) for part in content))
        return sound(whole).content
    except (TypeError, ValueError, AttributeError) as error:
        raise MalformedReplyError(f"the content of the reply is not text or parts: {error}") from error


def _part(part: Any) -> Any:
    if isinstance(part, TextPart):
        return TextPart(encodable(part.text))
    if isinstance(part, ThinkingPart):
        return ThinkingPart(encodable(part.text), *map(_optional, (part.signature, part.data, part.origin)))
    if isinstance(part, OpaquePart):
        return OpaquePart(encodable(part.origin), encodable(part.data))
    if (fault := fault_of(part)) is not None:
        raise ValueError(fault)  # what a model says names no file of this machine
    return part


def _optional(text: Any) -> Any:
    return encodable(text) if isinstance(text, str) else text


def _call(call: Any) -> ToolCall:
    name: Any = call.name if isinstance(call, ToolCall) else None
    if not isinstance(name, str):
        raise MalformedReplyError(f"{call!r} is not a tool call")
    given: Any = call.arguments
    arguments = to_json(given) if isinstance(given, dict) else given or "{}"
    if not isinstance(arguments, str):
        raise MalformedReplyError(
            f"the arguments of {call.name} are {type(arguments).__name__}, not JSON text"
        )
    given_id, signature = _optional(call.id), _optional(call.signature)
    return ToolCall(
        given_id if isinstance(given_id, str) else "",
        encodable(name),
        whole_escapes(encodable(arguments)),
        signature if isinstance(signature, str) else None,
    )


def _named(calls: list[ToolCall], iteration: int) -> tuple[ToolCall, ...]:
    """Every call with an id; those without get a stable one that no other has."""
    taken = {call.id for call in calls}
    if "" not in taken:
        return tuple(calls)
    named: list[ToolCall] = []
    for position, call in enumerate(calls):
        if not call.id:
            number = position
            while (fresh := f"call_{iteration}_{number}") in taken:
                number += len(calls)
            taken.add(fresh)
            call = replace(call, id=fresh)
        named.append(call)
    return tuple(named)
