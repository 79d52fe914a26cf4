"""Replies of the Gemini wire, made of parts, and the decoder asked about them."""

import json
from typing import Any

from loom.llm.base import ProviderEvent
from loom.llm.failures import FailureReader
from loom.llm.gemini_reply import GeminiReply
from loom.llm.redact import Scrubber
from loom.types import ChatMessage, ChatResponse

FAILURES = FailureReader("test", Scrubber())
Json = dict[str, Any]


def chunk(*parts: Any, finish: str | None = None, **more: Any) -> Json:
    candidate: Json = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **more}


def raw(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def whole(body: Any, history: tuple[ChatMessage, ...] = ()) -> ChatResponse:
    reply = GeminiReply(FAILURES, "m", history)
    reply.whole(raw(body))
    return reply.finish()


def stream(*chunks: Any) -> tuple[list[ProviderEvent], ChatResponse]:
    reply, events = GeminiReply(FAILURES, "m"), list[ProviderEvent]()
    for item in chunks:
        events += reply.feed(b"", raw(item))
    assert not reply.done  # the end of the body is the end: errors have come after the reason to finish
    return events, reply.finish()


def call(name: Any = "f", args: Any = None, **more: Any) -> Json:
    function = {"name": name, **({"args": args} if args is not None else {}), **more}
    return {"functionCall": function}


END = chunk({"text": ""}, finish="STOP")
