"""What the loopback server has to know of a wire, and what several wires say alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from ...errors import ContextOverflowError, LoomError
from ...llm.untyped import as_dict, as_list
from ...types import ChatResponse, TextPart, ThinkingPart

encode = msgspec.json.encode


def _says_stream(path: str, body: dict[str, Any]) -> bool:
    return body.get("stream") is True


def _messages_and_tools(body: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    return as_list(body.get("messages")), as_list(body.get("tools"))


class ServerWire(NamedTuple):
    """One wire as a server speaks it.

    ``paths`` are the ends of the paths it posts to; ``streams`` tells from path and body whether a request
    wants a stream. ``whole`` and ``stream`` put a reply into bytes, given its number and, for streams, the
    length of pieces in characters. ``broken`` is the error of a stream that fails, ``refusal`` the body of a
    reply that is none. ``asked`` finds messages and tools in the body of a request.
    """

    name: str
    paths: tuple[str, ...]
    whole: Callable[[ChatResponse, int], bytes]
    stream: Callable[[ChatResponse, int, int | None], Iterator[bytes]]
    broken: Callable[[Exception], bytes]
    refusal: Callable[[LoomError, int], bytes]
    streams: Callable[[str, dict[str, Any]], bool] = _says_stream
    asked: Callable[[dict[str, Any]], tuple[list[Any], list[Any]]] = _messages_and_tools


def sse(body: Any) -> bytes:
    """One server-sent event without a name."""
    return b"data: " + encode(body) + b"\n\n"


def named_event(kind: str, **fields: Any) -> bytes:
    """One server-sent event that says its kind twice, as name and as type."""
    return f"event: {kind}\n".encode() + sse({"type": kind, **fields})


def error_body(kind: str, message: str, **fields: Any) -> dict[str, Any]:
    """An error as most services tell it."""
    return {"type": "error", "error": {"type": kind, "message": message, **fields}}


def common_refusal(error: LoomError, status: int) -> bytes:
    """The body of a refusal in that form."""
    kind = "context_length_exceeded" if isinstance(error, ContextOverflowError) else str(error.code)
    return encode(error_body(kind, str(error), code=kind))


def thoughts(response: ChatResponse) -> str:
    """The reasoning in a reply, joined."""
    content = response.message.content
    parts = () if content is None or isinstance(content, str) else content
    return "".join(part.text for part in parts if isinstance(part, ThinkingPart))


def said(response: ChatResponse) -> str:
    """The text in a reply, joined."""
    content = response.message.content
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content if isinstance(part, TextPart))


def arguments_of(body: str) -> dict[str, Any]:
    """Tool arguments as the object that some wires send instead of text."""
    return as_dict(msgspec.json.decode(body))
