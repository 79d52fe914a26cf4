"""Anthropic messages, the server's half."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...types import ChatResponse, StopReason, TextPart, ThinkingPart, Usage
from .base import ServerWire, common_refusal, encode, error_body, named_event, sse

_STOPS = {
    StopReason.STOP: "end_turn",
    StopReason.TOOL_USE: "tool_use",
    StopReason.LENGTH: "max_tokens",
    StopReason.CONTENT_FILTER: "refusal",
    StopReason.REFUSAL: "refusal",
    StopReason.CONTEXT_FULL: "model_context_window_exceeded",
    StopReason.PAUSED: "pause_turn",
    StopReason.UNKNOWN: "unknown",
}


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }


def _blocks(response: ChatResponse) -> list[dict[str, Any]]:
    content = response.message.content
    parts = [TextPart(content)] if isinstance(content, str) else list(content or ())
    blocks: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, TextPart):
            blocks.append({"type": "text", "text": part.text})
        elif isinstance(part, ThinkingPart) and part.data is not None:
            blocks.append({"type": "redacted_thinking", "data": part.data})
        elif isinstance(part, ThinkingPart):
            blocks.append({"type": "thinking", "thinking": part.text, "signature": part.signature or ""})
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": msgspec.Raw(call.arguments.encode())}
        for call in response.message.tool_calls or ()
    ]
    return blocks


def whole(response: ChatResponse, number: int) -> bytes:
    """``response`` as a message."""
    return encode(
        {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": response.model,
            "content": _blocks(response),
            "stop_reason": _STOPS[response.stop_reason],
            "usage": _usage(response.usage),
        }
    )


def stream(response: ChatResponse, number: int, size: int | None) -> Iterator[bytes]:
    """``response`` as server-sent events, one a piece of ``size`` characters."""
    usage = _usage(response.usage)
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": response.model}
    begun: dict[str, Any] = {
        **message,
        "content": [],
        "stop_reason": None,
        "usage": usage and {**usage, "output_tokens": 1},
    }
    yield named_event("message_start", message=begun)
    yield named_event("ping")
    for index, block in enumerate(_blocks(response)):
        yield from _block_events(index, block, size)
    stop = {"stop_reason": _STOPS[response.stop_reason], "stop_sequence": None}
    yield named_event("message_delta", delta=stop, usage=usage and {"output_tokens": usage["output_tokens"]})
    yield named_event("message_stop")


def _block_events(index: int, block: dict[str, Any], size: int | None) -> Iterator[bytes]:
    kind = block["type"]
    field = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}.get(kind)
    text: str = bytes(block["input"]).decode() if kind == "tool_use" else block.get(kind, "")
    empty: dict[str, dict[str, Any]] = {
        "tool_use": {"input": {}},
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
    }
    yield named_event("content_block_start", index=index, content_block={**block, **empty.get(kind, {})})
    name = "input_json_delta" if kind == "tool_use" else f"{kind}_delta"
    for start in range(0, len(text), size or len(text) or 1) if field else ():
        delta = {"type": name, field: text[start : start + (size or len(text))]}
        yield named_event("content_block_delta", index=index, delta=delta)
    if block.get("signature"):
        signed = {"type": "signature_delta", "signature": block["signature"]}
        yield named_event("content_block_delta", index=index, delta=signed)
    yield named_event("content_block_stop", index=index)


def _broken(error: Exception) -> bytes:
    return b"event: error\n" + sse(error_body("server_error", str(error)))


ANTHROPIC = ServerWire(
    name="anthropic",
    paths=("/messages",),
    whole=whole,
    stream=stream,
    broken=_broken,
    refusal=common_refusal,
)
