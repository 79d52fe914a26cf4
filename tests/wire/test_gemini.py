"""The Gemini wire against what the service said: every recording and every fixture, served from a socket.

Our request must mean what the recorded one means, and our reply must say what the recorded one says, wherever
the bytes are cut. A conversation goes on with our own reading of its earlier replies, so that what a reply
holds is what the next request gives back.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from gemini_recorded import Heard, asked, cases, heard, meaning, model_of, said
from heard import four_counts
from recordings import PIECES, Exchange, Recording, Replay, replaying

from loom.errors import (
    AuthenticationError,
    ContextOverflowError,
    LoomError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.llm.base import reply_text
from loom.llm.gemini import GeminiProvider
from loom.types import AudioPart, ChatMessage, ChatResponse, ImagePart, StopReason, ThinkingPart, Usage

REFUSED: dict[str, type[LoomError]] = {
    "API_KEY_INVALID": AuthenticationError,
    "The input token count": ContextOverflowError,
    "RESOURCE_EXHAUSTED": RateLimitError,
    "UNAVAILABLE": ProviderUnavailableError,
}
STOPS = {
    "STOP": StopReason.STOP,
    "MAX_TOKENS": StopReason.LENGTH,
    "SAFETY": StopReason.CONTENT_FILTER,
    "MODEL_ARMOR": StopReason.CONTENT_FILTER,
}


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("recording", cases())
async def test_what_was_recorded_is_said_and_heard(recording: Recording, piece: int | None) -> None:
    exchanges = asked(recording)
    assert exchanges
    replies: list[ChatMessage] = []
    async with (
        replaying(exchanges, piece) as replay,
        GeminiProvider("k", base_url=replay.url, max_retries=0) as provider,
    ):
        for exchange in exchanges:
            if exchange.status == 200:
                response = await ask(provider, exchange, replies)
                says_what_is_heard(response, heard(exchange))
                replies.append(response.message)
            else:
                await is_refused(provider, exchange)
    asked_as_recorded(replay, exchanges)


async def ask(provider: GeminiProvider, exchange: Exchange, replies: list[ChatMessage]) -> ChatResponse:
    model, streamed = model_of(exchange)
    request = said(exchange.request, replies)
    options: dict[str, Any] = {"tools": request.tools, "model": model, "settings": request.settings}
    if not streamed:
        return await provider.chat(request.messages, **options)
    events = [event async for event in provider.chat_stream(request.messages, **options)]
    assert isinstance(events[-1], ChatResponse)
    return events[-1]


async def is_refused(provider: GeminiProvider, exchange: Exchange) -> None:
    text = exchange.body.decode()
    kind = next(kind for words, kind in REFUSED.items() if words in text)
    with pytest.raises(kind) as caught:
        await ask(provider, exchange, [])
    error: Any = caught.value
    assert error.status == exchange.status
    if isinstance(error, RateLimitError):
        details = json.loads(text)["error"]["details"]
        (delay,) = [detail["retryDelay"] for detail in details if "retryDelay" in detail]
        assert error.retry_after == float(delay.removesuffix("s"))
        assert error.provider_code == "RESOURCE_EXHAUSTED"


def says_what_is_heard(response: ChatResponse, reply: Heard) -> None:
    message = response.message
    parts = () if message.content is None or isinstance(message.content, str) else message.content
    thinking = [part for part in parts if isinstance(part, ThinkingPart)]
    assert reply_text(message) == reply.text
    assert "".join(part.text for part in thinking) == reply.thoughts
    assert [part.signature for part in thinking if part.signature] == reply.signatures
    assert {part.origin for part in thinking} <= {"gemini"}
    calls = [(call.name, json.loads(call.arguments), call.signature) for call in message.tool_calls or ()]
    assert calls == reply.calls
    assert len({call.id for call in message.tool_calls or ()}) == len(calls)
    media = [part.source for part in parts if isinstance(part, ImagePart | AudioPart)]
    assert media == [f"data:{kind};base64,{data}" for kind, data in reply.media]
    counted = reply.usage
    assert four_counts(response) == Usage(
        counted.get("promptTokenCount", 0) + counted.get("toolUsePromptTokenCount", 0),
        counted.get("candidatesTokenCount", 0) + counted.get("thoughtsTokenCount", 0),
        counted.get("cachedContentTokenCount", 0),
    )
    assert response.model == reply.model
    if reply.blocked:
        assert (response.stop_reason, message.content) == (StopReason.CONTENT_FILTER, None)
    else:
        wanted = STOPS[reply.finish or ""]
        assert response.stop_reason is (StopReason.TOOL_USE if calls else wanted)


def asked_as_recorded(replay: Replay, exchanges: list[Exchange]) -> None:
    for path, headers, request, exchange in zip(
        replay.paths, replay.headers, replay.requests, exchanges, strict=True
    ):
        model, streamed = model_of(exchange)
        method = "streamGenerateContent?alt=sse" if streamed else "generateContent"
        assert path == f"/v1beta/{model}:{method}"
        assert {name.lower(): value for name, value in headers.items()}["x-goog-api-key"] == "k"
        assert meaning(request) == meaning(exchange.request)
