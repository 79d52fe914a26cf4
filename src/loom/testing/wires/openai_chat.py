"""OpenAI chat completions, the server's half."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...llm.base import ContentDeltaEvent, ProviderEvent, ThinkingDeltaEvent
from ...types import ChatResponse, StopReason, Usage
from ..scripted import deltas
from .base import ServerWire, common_refusal, encode, error_body, said, sse, thoughts

_STOPS = {
    StopReason.STOP: "stop",
    StopReason.TOOL_USE: "tool_calls",
    StopReason.LENGTH: "length",
    StopReason.CONTENT_FILTER: "content_filter",
    StopReason.REFUSAL: "stop",
    StopReason.CONTEXT_FULL: "model_context_window_exceeded",
    StopReason.PAUSED: "unknown",
    StopReason.UNKNOWN: "unknown",
}


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
    }


def whole(response: ChatResponse, number: int) -> bytes:
    """``response`` as a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": said(response) or None}
    refused = response.stop_reason is StopReason.REFUSAL
    if refused:
        message |= {"content": None, "refusal": said(response)}
    if thought := thoughts(response):
        message["reasoning_content"] = thought
    if response.message.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in response.message.tool_calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": _STOPS[response.stop_reason]}
    return encode(
        {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "model": response.model,
            "choices": [choice],
            "usage": _usage(response.usage),
        }
    )


def stream(response: ChatResponse, number: int, size: int | None) -> Iterator[bytes]:
    """``response`` as server-sent chunks, one a piece of ``size`` characters."""

    def chunk(delta: dict[str, Any], **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish", None)}
        return sse({**head, "choices": [choice], **more})

    head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "model": response.model}
    refused = response.stop_reason is StopReason.REFUSAL
    yield chunk({"role": "assistant", "content": ""})
    for event in deltas(response, size):
        delta = _delta(event, refused)
        if delta:
            yield chunk(delta)
    yield chunk({}, finish=_STOPS[response.stop_reason])
    yield sse({**head, "choices": [], "usage": _usage(response.usage)})
    yield b"data: [DONE]\n\n"


def _delta(event: ProviderEvent, refused: bool) -> dict[str, Any]:
    if isinstance(event, ContentDeltaEvent):
        return {"refusal" if refused else "content": event.delta}
    if isinstance(event, ThinkingDeltaEvent):
        return {"reasoning_content": event.delta} if event.delta else {}
    return {"tool_calls": [_call(event)]}


def _call(event: Any) -> dict[str, Any]:
    function = {"name": event.name, "arguments": event.arguments_delta or ""}
    call = {
        "index": event.index,
        "function": {name: value for name, value in function.items() if value is not None},
    }
    return call | ({"id": event.id, "type": "function"} if event.id else {})


def _broken(error: Exception) -> bytes:
    return sse(error_body("server_error", str(error)))


OPENAI_CHAT = ServerWire(
    name="openai_chat",
    paths=("/chat/completions",),
    whole=whole,
    stream=stream,
    broken=_broken,
    refusal=common_refusal,
)
