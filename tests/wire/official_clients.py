"""The services' own clients, asked over the same bytes: what they heard is what a reply says.

They are oracles of tests and nothing else; the package never imports them.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from anthropic_recorded import STOPS as ANTHROPIC_STOPS
from anthropic_recorded import paid
from heard import Heard
from recordings import Exchange

from loom.types import Usage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what their modules say while they are imported is no concern of ours
    import anthropic
    import openai

_HELLO: Any = [{"role": "user", "content": "Hello"}]


def anthropic_client(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0)


async def by_anthropic(url: str, exchange: Exchange) -> Heard:
    """What Anthropic's client hears in the reply of ``exchange``, which is served at ``url``."""
    asked: Any = {"model": "m", "max_tokens": 9, "messages": _HELLO}
    async with anthropic_client(url) as client:
        if exchange.streamed:
            async with client.beta.messages.stream(**asked) as stream:
                message: Any = await stream.get_final_message()
        else:
            message = await client.beta.messages.create(**asked)
    return Heard(
        text="".join(block.text for block in message.content if block.type == "text"),
        thoughts="".join(block.thinking for block in message.content if block.type == "thinking"),
        calls=[(block.name, block.input) for block in message.content if block.type == "tool_use"],
        usage=paid(message.usage.model_dump()),
        stop=ANTHROPIC_STOPS[message.stop_reason],
        model=message.model,
    )


async def refused_by_anthropic(url: str, exchange: Exchange) -> None:
    """Their client must fail where we do, with the same status and request id."""
    with pytest.raises(anthropic.APIStatusError) as caught:
        await by_anthropic(url, exchange)
    assert caught.value.status_code == exchange.status
    if (request_id := exchange.headers.get("request-id")) is not None:
        assert caught.value.request_id == request_id


def openai_client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0)


async def by_openai(url: str, exchange: Exchange) -> Heard:
    """What OpenAI's client hears in the reply of ``exchange``; ``stop`` stays in the service's words."""
    asked: Any = {"model": "m", "messages": _HELLO}
    async with openai_client(url) as client:
        if not exchange.streamed:
            completion: Any = await client.chat.completions.create(**asked)
            return _completion(completion)
        heard, calls = Heard(), dict[int, list[str]]()
        stream: Any = await client.chat.completions.create(**asked, stream=True)
        async for chunk in stream:
            _take(chunk, heard, calls)
    heard.calls = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return heard


async def refused_by_openai(url: str, exchange: Exchange) -> None:
    """Their client must fail where we do, with the same status and request id."""
    with pytest.raises(openai.APIError) as caught:
        await by_openai(url, exchange)
    if exchange.status != 200:
        assert isinstance(caught.value, openai.APIStatusError)
        assert caught.value.status_code == exchange.status
        assert caught.value.request_id == exchange.headers.get("x-request-id")


def _completion(completion: Any) -> Heard:
    choice = completion.choices[0]
    message = choice.message
    calls = (message.tool_calls or ()) if message else ()
    return Heard(
        text=(message.content or message.refusal or "") if message else "",
        thoughts=_thought(message),
        calls=[(call.function.name, json.loads(call.function.arguments)) for call in calls],
        usage=_usage(completion.usage),
        stop=choice.finish_reason,
        model=completion.model,
    )


def _take(chunk: Any, heard: Heard, calls: dict[int, list[str]]) -> None:
    heard.model = chunk.model or heard.model
    if chunk.usage:
        heard.usage = _usage(chunk.usage)
    if not chunk.choices:
        return
    choice = chunk.choices[0]
    delta = choice.delta
    heard.stop = choice.finish_reason or heard.stop
    heard.thoughts += _thought(delta)
    if isinstance(delta.content, list):
        for part in delta.content:
            heard.text += part.get("text", "")
            heard.thoughts += "".join(inner["text"] for inner in part.get("thinking", []))
    else:
        heard.text += delta.content or delta.refusal or ""
    for piece in delta.tool_calls or ():
        call = calls.setdefault(piece.index, ["", ""])
        call[0] += piece.function.name or ""
        call[1] += piece.function.arguments or ""


def _thought(message: Any) -> str:
    """Reasoning is no field of OpenAI's own; their client keeps it among what it does not know."""
    extra = (message.model_extra or {}) if message else {}
    return extra.get("reasoning_content") or extra.get("reasoning") or ""


def _usage(usage: Any) -> Usage:
    details = usage.prompt_tokens_details
    extra = usage.model_extra or {}
    cached = details.cached_tokens if details else extra.get("prompt_cache_hit_tokens")
    return Usage(usage.prompt_tokens, usage.completion_tokens, cached or 0)
