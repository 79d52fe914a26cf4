"""Replies of a script in the words of the two wires, whole and streamed: the server's half."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..llm.base import ContentDeltaEvent, ProviderEvent, ThinkingDeltaEvent
from ..types import ChatResponse, StopReason, TextPart, ThinkingPart, Usage
from .scripted import deltas

_encode = msgspec.json.encode
_OPENAI_STOPS = {
    StopReason.STOP: "stop",
    StopReason.TOOL_USE: "tool_calls",
    StopReason.LENGTH: "length",
    StopReason.CONTENT_FILTER: "content_filter",
    StopReason.REFUSAL: "stop",
    StopReason.UNKNOWN: "unknown",
}
_ANTHROPIC_STOPS = {
    StopReason.STOP: "end_turn",
    StopReason.TOOL_USE: "tool_use",
    StopReason.LENGTH: "max_tokens",
    StopReason.CONTENT_FILTER: "refusal",
    StopReason.REFUSAL: "refusal",
    StopReason.UNKNOWN: "unknown",
}


def _thoughts(response: ChatResponse) -> str:
    content = response.message.content
    parts = () if content is None or isinstance(content, str) else content
    return "".join(part.text for part in parts if isinstance(part, ThinkingPart))


def _said(response: ChatResponse) -> str:
    content = response.message.content
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content if isinstance(part, TextPart))


# --- OpenAI chat completions ------------------------------------------------------------------------


def _openai_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
    }


def openai_whole(response: ChatResponse, number: int) -> bytes:
    """``response`` as a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": _said(response) or None}
    refused = response.stop_reason is StopReason.REFUSAL
    if refused:
        message |= {"content": None, "refusal": _said(response)}
    if thoughts := _thoughts(response):
        message["reasoning_content"] = thoughts
    if response.message.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in response.message.tool_calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": _OPENAI_STOPS[response.stop_reason]}
    return _encode(
        {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "model": response.model,
            "choices": [choice],
            "usage": _openai_usage(response.usage),
        }
    )


def openai_stream(response: ChatResponse, number: int, size: int | None) -> Iterator[bytes]:
    """``response`` as server-sent chunks, one a piece of ``size`` characters."""

    def chunk(delta: dict[str, Any], **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish", None)}
        return _sse({**head, "choices": [choice], **more})

    head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "model": response.model}
    refused = response.stop_reason is StopReason.REFUSAL
    yield chunk({"role": "assistant", "content": ""})
    for event in deltas(response, size):
        delta = _openai_delta(event, refused)
        if delta:
            yield chunk(delta)
    yield chunk({}, finish=_OPENAI_STOPS[response.stop_reason])
    yield _sse({**head, "choices": [], "usage": _openai_usage(response.usage)})
    yield b"data: [DONE]\n\n"


def _openai_delta(event: ProviderEvent, refused: bool) -> dict[str, Any]:
    if isinstance(event, ContentDeltaEvent):
        return {"refusal" if refused else "content": event.delta}
    if isinstance(event, ThinkingDeltaEvent):
        return {"reasoning_content": event.delta} if event.delta else {}
    return {"tool_calls": [_openai_call(event)]}


def _openai_call(event: Any) -> dict[str, Any]:
    function = {"name": event.name, "arguments": event.arguments_delta or ""}
    call = {
        "index": event.index,
        "function": {name: value for name, value in function.items() if value is not None},
    }
    return call | ({"id": event.id, "type": "function"} if event.id else {})


# --- Anthropic messages -----------------------------------------------------------------------------


def _anthropic_usage(usage: Usage) -> dict[str, Any]:
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


def anthropic_whole(response: ChatResponse, number: int) -> bytes:
    """``response`` as a message."""
    return _encode(
        {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": response.model,
            "content": _blocks(response),
            "stop_reason": _ANTHROPIC_STOPS[response.stop_reason],
            "usage": _anthropic_usage(response.usage),
        }
    )


def anthropic_stream(response: ChatResponse, number: int, size: int | None) -> Iterator[bytes]:
    """``response`` as server-sent events, one a piece of ``size`` characters."""
    usage = _anthropic_usage(response.usage)
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": response.model}
    begun: dict[str, Any] = {
        **message,
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": 1},
    }
    yield _event("message_start", message=begun)
    yield _event("ping")
    for index, block in enumerate(_blocks(response)):
        yield from _anthropic_block(index, block, size)
    stop = {"stop_reason": _ANTHROPIC_STOPS[response.stop_reason], "stop_sequence": None}
    yield _event("message_delta", delta=stop, usage={"output_tokens": response.usage.output_tokens})
    yield _event("message_stop")


def _anthropic_block(index: int, block: dict[str, Any], size: int | None) -> Iterator[bytes]:
    kind = block["type"]
    field = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}.get(kind)
    text: str = bytes(block["input"]).decode() if kind == "tool_use" else block.get(kind, "")
    empty: dict[str, dict[str, Any]] = {
        "tool_use": {"input": {}},
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
    }
    yield _event("content_block_start", index=index, content_block={**block, **empty.get(kind, {})})
    name = "input_json_delta" if kind == "tool_use" else f"{kind}_delta"
    for start in range(0, len(text), size or len(text) or 1) if field else ():
        delta = {"type": name, field: text[start : start + (size or len(text))]}
        yield _event("content_block_delta", index=index, delta=delta)
    if block.get("signature"):
        signed = {"type": "signature_delta", "signature": block["signature"]}
        yield _event("content_block_delta", index=index, delta=signed)
    yield _event("content_block_stop", index=index)


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\n".encode() + _sse({"type": kind, **fields})


def _sse(body: Any) -> bytes:
    return b"data: " + _encode(body) + b"\n\n"
