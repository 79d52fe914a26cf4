"""The Messages wire against what the service said: every recording and every fixture, served from a socket.

Our request must mean what the recorded one means, our reply must say what the recorded one says, wherever the
bytes are cut; what a reply held must go back as it was; and Anthropic's own client must have heard the same.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic_recorded import Replies, Said, goes_back, heard, meaning, said
from heard import Json, by_us, fixtures, in_scope, notes, stale
from official_clients import anthropic_client, by_anthropic, refused_by_anthropic
from recordings import PIECES, Exchange, Recording, recordings, replaying

from loom.errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.llm.anthropic import AnthropicProvider
from loom.llm.base import ModelSettings, ProviderEvent
from loom.types import ChatResponse

OUT_OF_SCOPE: dict[str, str] = {}
CASES = in_scope(fixtures("anthropic") + recordings("anthropic"), OUT_OF_SCOPE)
REFUSED: dict[str, type[LoomError]] = {
    "authentication_error": AuthenticationError,
    "prompt is too long": ContextOverflowError,
    "not_found_error": InvalidRequestError,
    "invalid_request_error": InvalidRequestError,
    "rate_limit_error": RateLimitError,
    "overloaded_error": ProviderUnavailableError,
}


def provider_for(url: str, request: Said, model: str, **more: Any) -> AnthropicProvider:
    options = {"max_retries": 0, **request.options, **more}
    return AnthropicProvider("k", model, base_url=url, **options)


async def ask(url: str, exchange: Exchange, replies: Replies) -> ChatResponse | int:
    """Ask as the recorded request did."""
    request, body = said(exchange.request, replies), exchange.request
    async with provider_for(url, request, body["model"]) as provider:
        options: dict[str, Any] = {"tools": request.tools, "settings": request.settings}
        if exchange.path.partition("?")[0].endswith("/count_tokens"):
            return await provider.count_tokens(request.messages, **options)
        if not body.get("stream"):
            return await provider.chat(request.messages, **options)
        stream: list[ProviderEvent] = [
            event async for event in provider.chat_stream(request.messages, **options)
        ]
    assert isinstance(stream[-1], ChatResponse)
    assert not any(isinstance(event, ChatResponse) for event in stream[:-1])
    return stream[-1]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("recording", CASES)
async def test_what_was_recorded_is_said_and_heard(recording: Recording, piece: int | None) -> None:
    left, replies = list(recording.exchanges), Replies()
    async with replaying(recording.exchanges, piece) as replay:
        while left:
            exchange = left.pop(0)
            if exchange.status != 200 or _breaks(exchange):
                await is_refused(replay.url, exchange)
            elif "/count_tokens" in exchange.path:
                assert await ask(replay.url, exchange, replies) == json.loads(exchange.body)["input_tokens"]
            else:
                response = await ask(replay.url, exchange, replies)
                assert isinstance(response, ChatResponse)
                blocks = await says_what_is_heard(response, [exchange, *_asked_on(exchange, left)])
                replies.add(blocks, response.message)
    for sent, exchange, path in zip(replay.requests, recording.exchanges, replay.paths, strict=True):
        assert path == exchange.path.partition("?")[0]
        assert meaning(sent) == meaning({"stream": False, **exchange.request}) | _unasked(path)


def _unasked(path: str) -> dict[str, Any]:
    return {} if path.endswith("/messages") else {"stream": False}


def _breaks(exchange: Exchange) -> bool:
    return b"event: error" in exchange.body


def _asked_on(exchange: Exchange, left: list[Exchange]) -> list[Exchange]:
    """The exchanges in which one paused reply went on; they are one reply of ours."""
    more: list[Exchange] = []
    while heard(exchange)[0].stop == "paused":
        exchange = left.pop(0)
        more.append(exchange)
    return more


async def says_what_is_heard(response: ChatResponse, exchanges: list[Exchange]) -> list[Json]:
    """Check a reply against its recording; return the blocks it is made of."""
    replies = [heard(exchange) for exchange in exchanges]
    wanted = replies[-1][0]
    for reply, _ in reversed(replies[:-1]):
        wanted.text = reply.text + wanted.text
        wanted.thoughts = reply.thoughts + wanted.thoughts
        wanted.usage = reply.usage + wanted.usage
    assert by_us(response) == wanted
    blocks = [block for _, held in replies for block in held]
    async with AnthropicProvider("k", base_url="http://127.0.0.1:9") as provider:
        outgoing = await provider._request([response.message], None, "m", None, False)
    turns = json.loads(outgoing.body)["messages"]
    assert goes_back([block for turn in turns for block in turn["content"]]) == goes_back(blocks)
    return blocks


async def is_refused(url: str, exchange: Exchange) -> None:
    text = exchange.body.decode()
    kind = next(kind for word, kind in REFUSED.items() if word in text)
    with pytest.raises(kind) as caught:
        await ask(url, exchange, Replies())
    error: Any = caught.value
    assert error.status == (exchange.status if exchange.status != 200 else None)
    in_body = json.loads(text).get("request_id") if exchange.status != 200 else None
    assert error.request_id == exchange.headers.get("request-id", in_body)
    if isinstance(error, ProviderError):
        wait = exchange.headers.get("retry-after")
        assert error.retry_after == (float(wait) if wait and exchange.status != 200 else None)
        assert error.retryable is isinstance(error, RateLimitError | ProviderUnavailableError)


@pytest.mark.parametrize("recording", CASES)
async def test_their_own_client_hears_the_same(recording: Recording) -> None:
    for exchange in recording.exchanges:
        if "/count_tokens" in exchange.path:
            continue
        async with replaying([exchange, exchange], None) as replay:
            if exchange.status != 200 or _breaks(exchange):
                await refused_by_anthropic(replay.url, exchange)
                continue
            theirs = await by_anthropic(replay.url, exchange)
            assert theirs == heard(exchange)[0]


async def test_their_own_client_counts_the_same() -> None:
    exchanges = [
        exchange
        for case in CASES
        for exchange in (case.values[0].exchanges if case.values[0] else ())
        if "/count_tokens" in exchange.path and exchange.status == 200
    ]
    assert exchanges
    for exchange in exchanges:
        async with replaying([exchange]) as replay, anthropic_client(replay.url) as client:
            counted = await client.messages.count_tokens(
                model="m", messages=[{"role": "user", "content": "Hello"}]
            )
        assert counted.input_tokens == json.loads(exchange.body)["input_tokens"]


def asks_for_a_shape(recording: Recording | None) -> bool:
    """Whether a client asked for a shape by a tool of its own, as we do where a model cannot help it."""
    body = recording.exchanges[0].request if recording else {}
    names = [tool["name"] for tool in body.get("tools", [])]
    return "final_result" in names and body.get("tool_choice") == {"type": "any"} and "thinking" not in body


SHAPED = [case for case in recordings("anthropic") if case.marks or asks_for_a_shape(case.values[0])]


@pytest.mark.parametrize("recording", SHAPED)
async def test_asking_for_a_shape_sends_the_tool_that_another_client_made_up(recording: Recording) -> None:
    body = recording.exchanges[0].request
    request = said(body, Replies())
    answer = next(tool for tool in request.tools if tool.name == "final_result")
    others = [tool for tool in request.tools if tool is not answer]
    settings = ModelSettings(
        max_output_tokens=body["max_tokens"], output_schema=answer.parameters, output_name="final_result"
    )
    provider = AnthropicProvider("k", body["model"], structured="tool")
    outgoing = await provider._request(request.messages, others, body["model"], settings, False)
    sent = json.loads(outgoing.body)
    choice = {"type": "any"} if others else {"type": "tool", "name": "final_result"}
    assert sent["tool_choice"] == choice
    assert [tool["input_schema"] for tool in sent["tools"]] == [
        tool["input_schema"] for tool in body["tools"]
    ]


def test_nothing_named_as_out_of_scope_is_gone() -> None:
    assert stale(OUT_OF_SCOPE, "anthropic") == set()


@pytest.mark.parametrize("recording", fixtures("anthropic"))
def test_a_fixture_says_where_it_is_from(recording: Recording) -> None:
    said_of_itself = notes("anthropic", recording.case)
    assert said_of_itself["documented"].startswith("https://")
    assert isinstance(said_of_itself["recorded_elsewhere"], bool)
