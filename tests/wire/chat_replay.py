"""One recording of a chat completions service, asked again by our adapter and by OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from heard import Heard, by_us
from official_clients import by_openai, refused_by_openai
from openai_recorded import STOPS, Replies, heard, meaning, said
from recordings import Exchange, Recording, replaying

from loom.errors import LoomError, ProviderError
from loom.llm.base import ProviderEvent
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.types import ChatResponse

Make = Callable[..., OpenAICompatibleProvider]


def chat_only(cases: list[Any]) -> list[Any]:
    """The cases with what they asked of this wire alone; some asked another service in between."""
    return [pytest.param(_chat_only(case.values[0]), id=case.id, marks=case.marks) for case in cases]


def _chat_only(recording: Recording | None) -> Recording | None:
    if recording is None:
        return None
    asked = tuple(exchange for exchange in recording.exchanges if "/chat/completions" in exchange.path)
    assert asked, f"{recording} asks nothing of this wire; name it as out of scope"
    return replace(recording, exchanges=asked)


def vendor(**quirks: Any) -> Make:
    """The adapter with the quirks of a vendor; what a recorded request shows of its own goes before them."""

    def make(url: str, model: str, options: Mapping[str, Any]) -> OpenAICompatibleProvider:
        return OpenAICompatibleProvider(url, "k", model, max_retries=0, **{**quirks, **options})

    return make


async def replay_and_compare(
    recording: Recording,
    piece: int | None,
    make: Make,
    refused: Mapping[str, type[LoomError]],
    wait: float | None = None,
) -> list[ChatResponse]:
    """Say and hear a recording again.

    ``refused`` are words of a body and the error they stand for, ``wait`` the seconds that a refusal without
    ``retry-after`` asks to wait.
    """
    replies, heard_by_us = Replies(), list[ChatResponse]()
    async with replaying(recording.exchanges, piece) as replay:
        for exchange in recording.exchanges:
            if _fails(exchange):
                await _is_refused(replay.url, exchange, make, refused, wait)
                continue
            response = await _ask(replay.url, exchange, make, replies)
            assert by_us(response) == heard(exchange)
            replies.add(heard(exchange), response.message)
            heard_by_us.append(response)
    for sent, exchange, path in zip(replay.requests, recording.exchanges, replay.paths, strict=True):
        assert path == exchange.path.partition("#")[0]
        assert meaning(sent) == meaning(exchange.request)
    return heard_by_us


async def hear_as_they_do(recording: Recording) -> None:
    """OpenAI's own client, over the same bytes, hears what the recorded reply says."""
    for exchange in recording.exchanges:
        async with replaying([exchange], None) as replay:
            url = replay.url + exchange.path.partition("?")[0].removesuffix("/chat/completions")
            if _fails(exchange):
                await refused_by_openai(url, exchange)
                continue
            theirs, wanted = await by_openai(url, exchange), heard(exchange)
        refusal = wanted.stop == "refusal"
        theirs.stop = "refusal" if refusal else STOPS[theirs.stop]
        assert _without_hidden_tokens(theirs) == _without_hidden_tokens(wanted)


def _without_hidden_tokens(reply: Heard) -> Heard:
    """``reply`` without its output count, which their client takes as told; ours counts hidden thinking."""
    usage = type(reply.usage)(reply.usage.input_tokens, 0, reply.usage.cache_read_tokens)
    return Heard(reply.text, reply.thoughts, reply.calls, usage, reply.stop, reply.model)


def _fails(exchange: Exchange) -> bool:
    return exchange.status != 200 or b'"error":{' in exchange.body.replace(b" ", b"") or _gave_up(exchange)


def _gave_up(exchange: Exchange) -> bool:
    return b"insufficient_system_resource" in exchange.body


async def _ask(url: str, exchange: Exchange, make: Make, replies: Replies) -> ChatResponse:
    request = said(exchange.request, replies)
    path, _, query = exchange.path.partition("#")[0].partition("?")
    base = url + path.removesuffix("/chat/completions") + (f"?{query}" if query else "")
    options: dict[str, Any] = {"tools": request.tools, "settings": request.settings}
    async with make(base, exchange.request["model"], request.options) as provider:
        if not exchange.request.get("stream"):
            return await provider.chat(request.messages, **options)
        stream: list[ProviderEvent] = [e async for e in provider.chat_stream(request.messages, **options)]
    assert isinstance(stream[-1], ChatResponse)
    return stream[-1]


async def _is_refused(
    url: str, exchange: Exchange, make: Make, refused: Mapping[str, type[LoomError]], wait: float | None
) -> None:
    text = exchange.body.decode()
    kind = next(kind for word, kind in refused.items() if word in text)
    with pytest.raises(LoomError) as caught:
        await _ask(url, exchange, make, Replies())
    error: Any = caught.value
    assert type(error) is kind
    assert error.status == (exchange.status if exchange.status != 200 else _status_in(text))
    assert error.request_id == exchange.headers.get("x-request-id")
    if isinstance(error, ProviderError) and exchange.status != 200:
        assert error.retry_after == _wait(exchange.headers, wait)


def _wait(headers: Mapping[str, str], otherwise: float | None) -> float | None:
    if "retry-after-ms" in headers:
        return float(headers["retry-after-ms"]) / 1000
    return float(headers["retry-after"]) if "retry-after" in headers else otherwise


def _status_in(text: str) -> int | None:
    """The status that an error tells in the middle of a stream."""
    events = [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data: {")]
    codes = [event["error"].get("code") for event in events if "error" in event]
    return next((code for code in codes if isinstance(code, int)), None)
