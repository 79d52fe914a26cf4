"""OpenAI's Responses API, the server's half."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec

from ...llm.untyped import as_list
from ...types import CallPart, ChatResponse, OpaquePart, StopReason, TextPart, ThinkingPart, ToolCall, Usage
from ..scripted import pieces
from .base import ServerWire, common_refusal, encode, named_event

_ORIGIN = "openai_responses"
_CUTS = {
    StopReason.LENGTH: "max_output_tokens",
    StopReason.CONTENT_FILTER: "content_filter",
}
_STATUS = {StopReason.UNKNOWN: "unknown"}
# How a piece of an item grows: its deltas, the name of its text, and what its part is called.
_EVENTS = {
    "output_text": ("response.output_text", "text", "response.content_part"),
    "refusal": ("response.refusal", "refusal", "response.content_part"),
    "summary_text": ("response.reasoning_summary_text", "text", "response.reasoning_summary_part"),
}


def _items(response: ChatResponse, number: int) -> list[dict[str, Any]]:
    content = response.message.content
    parts = [TextPart(content)] if isinstance(content, str) else list(content or ())
    calls = list(enumerate(response.message.tool_calls or ()))
    placed = {part.index for part in parts if isinstance(part, CallPart)}
    order = [*parts, *(CallPart(index) for index, _ in calls if index not in placed)]
    refused = response.stop_reason is StopReason.REFUSAL
    items: list[dict[str, Any]] = []
    for part in order:
        name = f"{number}_{len(items)}"
        if isinstance(part, TextPart):
            items.append(_message(name, part.text, refused))
        elif isinstance(part, ThinkingPart):
            items.append(_reasoning(name, part))
        elif isinstance(part, CallPart):
            items.append(_call(name, calls[part.index][1]))
        elif isinstance(part, OpaquePart) and part.origin == _ORIGIN:
            items.append(msgspec.json.decode(part.data))
    return items


def _message(name: str, text: str, refused: bool) -> dict[str, Any]:
    piece: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    if refused:
        piece = {"type": "refusal", "refusal": text}
    return {
        "id": f"msg_{name}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [piece],
    }


def _reasoning(name: str, part: ThinkingPart) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    item: dict[str, Any] = {"id": part.signature or f"rs_{name}", "type": "reasoning", "summary": summary}
    return item if part.data is None else {**item, "encrypted_content": part.data}


def _call(name: str, call: ToolCall) -> dict[str, Any]:
    told = {"arguments": call.arguments, "call_id": call.id, "name": call.name}
    return {"id": f"fc_{name}", "type": "function_call", "status": "completed", **told}


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    details = {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": details,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }


def _whole(response: ChatResponse, number: int) -> dict[str, Any]:
    cut = _CUTS.get(response.stop_reason)
    return {
        **_begun(response, number),
        "status": "incomplete" if cut else _STATUS.get(response.stop_reason, "completed"),
        "incomplete_details": {"reason": cut} if cut else None,
        "output": _items(response, number),
        "usage": _usage(response.usage),
    }


def _begun(response: ChatResponse, number: int) -> dict[str, Any]:
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 0,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": response.model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def whole(response: ChatResponse, number: int) -> bytes:
    """``response`` as a response."""
    return encode(_whole(response, number))


def stream(response: ChatResponse, number: int, size: int | None) -> Iterator[bytes]:
    """``response`` as server-sent events, one a piece of ``size`` characters."""
    order = count()

    def event(kind: str, **fields: Any) -> bytes:
        return named_event(kind, sequence_number=next(order), **fields)

    begun, end = _begun(response, number), _whole(response, number)
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for place, item in enumerate(end["output"]):
        yield event("response.output_item.added", output_index=place, item=_empty(item))
        for kind, fields in _growth(item, size):
            yield event(kind, item_id=item.get("id"), output_index=place, **fields)
        yield event("response.output_item.done", output_index=place, item=item)
    yield event(f"response.{'incomplete' if end['incomplete_details'] else 'completed'}", response=end)


def _empty(item: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, dict[str, Any]] = {
        "message": {"content": [], "status": "in_progress"},
        "reasoning": {"summary": []},
        "function_call": {"arguments": "", "status": "in_progress"},
    }
    return {**item, **fields.get(item["type"], {})}


def _growth(item: dict[str, Any], size: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events between the beginning of an item and its end."""
    if item["type"] == "function_call":
        kind = "response.function_call_arguments"
        for piece in pieces(item["arguments"], size):
            yield f"{kind}.delta", {"delta": piece}
        yield f"{kind}.done", {"arguments": item["arguments"], "name": item["name"]}
    for name, index in (("summary", "summary_index"), ("content", "content_index")):
        for position, part in enumerate(as_list(item.get(name))):
            kind, text, container = _EVENTS[part["type"]]
            at = {index: position}
            yield f"{container}.added", {**at, "part": {**part, text: ""}}
            for piece in pieces(part[text], size):
                yield f"{kind}.delta", {**at, "delta": piece, **_odds(part)}
            yield f"{kind}.done", {**at, text: part[text], **_odds(part)}
            yield f"{container}.done", {**at, "part": part}


def _odds(part: dict[str, Any]) -> dict[str, Any]:
    return {"logprobs": []} if part["type"] == "output_text" else {}


def _asked(body: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    return as_list(body.get("input")), as_list(body.get("tools"))


def _broken(error: Exception) -> bytes:
    return named_event("error", code="server_error", message=str(error), param=None, sequence_number=0)


OPENAI_RESPONSES = ServerWire(
    name="openai_responses",
    paths=("/responses",),
    whole=whole,
    stream=stream,
    broken=_broken,
    refusal=common_refusal,
    asked=_asked,
)
