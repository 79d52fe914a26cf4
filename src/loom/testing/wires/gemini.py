"""Gemini's generateContent, the server's half. Model and stream are in the path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...errors import (
    AuthenticationError,
    ContextOverflowError,
    LoomError,
    ProviderUnavailableError,
    RateLimitError,
)
from ...llm.untyped import as_dict, as_list
from ...types import CallPart, ChatResponse, OpaquePart, Part, StopReason, TextPart, ThinkingPart, Usage
from ..scripted import pieces
from .base import ServerWire, encode, sse

_STOPS = {
    StopReason.STOP: "STOP",
    StopReason.TOOL_USE: "STOP",
    StopReason.LENGTH: "MAX_TOKENS",
    StopReason.CONTENT_FILTER: "SAFETY",
    StopReason.REFUSAL: "PROHIBITED_CONTENT",
}
_STATUS: tuple[tuple[type[LoomError], str], ...] = (
    (AuthenticationError, "UNAUTHENTICATED"),
    (RateLimitError, "RESOURCE_EXHAUSTED"),
    (ProviderUnavailableError, "UNAVAILABLE"),
)


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    counted = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens,
        "totalTokenCount": usage.total_tokens,
    }
    return counted | ({"cachedContentTokenCount": usage.cache_read_tokens} if usage.cache_read_tokens else {})


def _parts(response: ChatResponse) -> list[dict[str, Any]]:
    """The reply as parts, calls in their places."""
    message = response.message
    calls: list[dict[str, Any]] = [
        {
            "functionCall": {"id": call.id, "name": call.name, "args": _arguments(call.arguments)},
            **({"thoughtSignature": call.signature} if call.signature else {}),
        }
        for call in message.tool_calls or ()
    ]
    content = message.content
    parts: list[dict[str, Any]] = []
    placed: set[int] = set()
    for part in [TextPart(content)] if isinstance(content, str) else content or ():
        if isinstance(part, CallPart):
            placed.add(part.index)
            parts.append(calls[part.index])
        else:
            _add(parts, part)
    return parts + [call for index, call in enumerate(calls) if index not in placed]


def _arguments(text: str) -> msgspec.Raw:
    """Arguments as they are, broken ones too; line ends would end the line of an event."""
    return msgspec.Raw((text or "null").replace("\n", " ").replace("\r", " ").encode())


def _add(parts: list[dict[str, Any]], part: Part) -> None:
    if isinstance(part, TextPart):
        parts.append({"text": part.text})
    elif isinstance(part, ThinkingPart):
        signed = {"thoughtSignature": part.signature} if part.signature else {}
        if part.text:
            parts.append({"text": part.text, "thought": True, **signed})
        elif signed and parts and "text" in parts[-1]:
            parts[-1] |= signed
        else:
            parts.append({"text": "", **signed})
    elif isinstance(part, OpaquePart):
        parts.append(as_dict(msgspec.json.decode(part.data)))
    elif not isinstance(part, CallPart):
        kind, _, data = part.source.removeprefix("data:").partition(";base64,")
        parts.append({"inlineData": {"mimeType": kind, "data": data}})


def _chunk(parts: list[dict[str, Any]], head: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0, **more}], **head}


def whole(response: ChatResponse, number: int) -> bytes:
    """``response`` as a reply to generateContent."""
    head = {
        "usageMetadata": _usage(response.usage),
        "modelVersion": response.model,
        "responseId": f"response-{number}",
    }
    return encode(_chunk(_parts(response), head, finishReason=_STOPS.get(response.stop_reason, "OTHER")))


def stream(response: ChatResponse, number: int, size: int | None) -> Iterator[bytes]:
    """``response`` as server-sent chunks: text in pieces of ``size`` characters, all else in one piece."""
    head = {"modelVersion": response.model, "responseId": f"response-{number}"}
    for part in _parts(response):
        for piece in _pieces(part, size):
            yield sse(_chunk([piece], head))
    end = {"usageMetadata": _usage(response.usage), **head}
    yield sse(_chunk([{"text": ""}], end, finishReason=_STOPS.get(response.stop_reason, "OTHER")))


def _pieces(part: dict[str, Any], size: int | None) -> Iterator[dict[str, Any]]:
    text, signature = part.get("text"), part.get("thoughtSignature")
    if not isinstance(text, str) or not text:
        yield part
        return
    bare = {name: value for name, value in part.items() if name != "thoughtSignature"}
    for piece in pieces(text, size):
        yield {**bare, "text": piece}
    if signature:
        yield {**bare, "text": "", "thoughtSignature": signature}


def _error(error: Exception, status: int) -> dict[str, Any]:
    word = next((word for kind, word in _STATUS if isinstance(error, kind)), "INVALID_ARGUMENT")
    message = str(error)
    if isinstance(error, ContextOverflowError):
        message = f"The input token count exceeds the maximum number of tokens allowed. {message}"
    return {"error": {"code": status, "message": message, "status": word}}


def _refusal(error: LoomError, status: int) -> bytes:
    return encode(_error(error, status))


def _broken(error: Exception) -> bytes:
    # As it is, without the form of an event: that is how the service gives up in the middle of a stream.
    return encode(_error(error, 503)) + b"\n"


def _says_stream(path: str, body: dict[str, Any]) -> bool:
    return path.endswith(":streamGenerateContent")


def _contents_and_tools(body: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    declared = [
        tool
        for tools in as_list(body.get("tools"))
        for tool in as_list(as_dict(tools).get("functionDeclarations"))
    ]
    return as_list(body.get("contents")), declared


GEMINI = ServerWire(
    name="gemini",
    paths=(":generateContent", ":streamGenerateContent"),
    whole=whole,
    stream=stream,
    broken=_broken,
    refusal=_refusal,
    streams=_says_stream,
    asked=_contents_and_tools,
)
