"""Google's own client as a judge: it reads the same bytes, and it talks to our loopback server.

Only here is google-genai imported; that takes a second, so it happens in the tests and not before.
"""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any

import pytest
from gemini_recorded import asked, cases, model_of
from heard import four_counts
from recordings import Recording, replaying
from test_gemini import ask

from loom.errors import ContextOverflowError, ProviderError
from loom.llm.base import reply_text
from loom.llm.gemini import GeminiProvider
from loom.testing.model_server import ModelServer
from loom.testing.scripted import call, say
from loom.types import ChatMessage, ChatResponse, ImagePart, StopReason, ThinkingPart, ToolCall, Usage

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

STOPS = {
    "STOP": StopReason.STOP,
    "MAX_TOKENS": StopReason.LENGTH,
    "SAFETY": StopReason.CONTENT_FILTER,
    "MODEL_ARMOR": StopReason.CONTENT_FILTER,
    None: StopReason.CONTENT_FILTER,  # a blocked prompt
}


def client(url: str, version: str = "v1beta") -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from google import genai
        from google.genai import types

    return genai.Client(api_key="k", http_options=types.HttpOptions(base_url=url, api_version=version))


async def their_reading(judge: Any, model: str, contents: Any, streamed: bool, **config: Any) -> list[Any]:
    """The reply as the client gives it: its chunks, or the one whole."""
    if not streamed:
        return [await judge.aio.models.generate_content(model=model, contents=contents, **config)]
    stream = await judge.aio.models.generate_content_stream(model=model, contents=contents, **config)
    return [chunk async for chunk in stream]


def parts_of(chunks: list[Any]) -> list[Any]:
    candidates = [candidate for chunk in chunks for candidate in (chunk.candidates or [])[:1]]
    return [part for item in candidates if item.content for part in item.content.parts or []]


def agree(ours: ChatResponse, theirs: list[Any]) -> None:
    message, parts = ours.message, parts_of(theirs)
    assert reply_text(message) == "".join(part.text for part in parts if part.text and not part.thought)
    content = message.content if isinstance(message.content, tuple) else ()
    thinking = [part for part in content if isinstance(part, ThinkingPart)]
    assert "".join(part.text for part in thinking) == "".join(p.text for p in parts if p.thought and p.text)
    assert [base64.urlsafe_b64decode(_padded(part.signature)) for part in thinking if part.signature] == [
        part.thought_signature for part in parts if part.thought_signature and not part.function_call
    ]
    calls = message.tool_calls or ()
    their_calls = [part.function_call for part in parts if part.function_call]
    assert [(item.name, json.loads(item.arguments)) for item in calls] == [
        (item.name, item.args or {}) for item in their_calls
    ]
    assert [item.id for item in calls if not item.id.startswith("call_")] == [
        item.id for item in their_calls if item.id
    ]
    assert [item.signature and base64.urlsafe_b64decode(_padded(item.signature)) for item in calls] == [
        part.thought_signature for part in parts if part.function_call
    ]
    images = [part.source.partition(",")[2] for part in content if isinstance(part, ImagePart)]
    assert [base64.b64decode(image) for image in images] == [
        p.inline_data.data for p in parts if p.inline_data
    ]
    _agree_beside(ours, theirs)


def _padded(signature: str) -> str:
    return signature.replace("+", "-").replace("/", "_")


def _agree_beside(ours: ChatResponse, theirs: list[Any]) -> None:
    counted = [chunk.usage_metadata for chunk in theirs if chunk.usage_metadata][-1]
    assert four_counts(ours) == Usage(
        (counted.prompt_token_count or 0) + (counted.tool_use_prompt_token_count or 0),
        (counted.candidates_token_count or 0) + (counted.thoughts_token_count or 0),
        counted.cached_content_token_count or 0,
    )
    assert ours.model == theirs[-1].model_version
    reasons = [item.finish_reason for chunk in theirs for item in chunk.candidates or []]
    last = next((reason.value for reason in reversed(reasons) if reason), None)
    assert ours.stop_reason is (StopReason.TOOL_USE if ours.message.tool_calls else STOPS[last])


@pytest.mark.parametrize("recording", cases())
async def test_googles_client_reads_the_same_bytes_the_same_way(recording: Recording) -> None:
    exchanges = asked(recording)
    replies: list[ChatMessage] = []
    async with (
        replaying([exchange for exchange in exchanges for _ in range(2)]) as replay,
        GeminiProvider("k", base_url=replay.url, max_retries=0) as provider,
    ):
        judge = client(replay.url)
        for exchange in exchanges:
            model, streamed = model_of(exchange)
            if exchange.status == 200:
                ours = await ask(provider, exchange, replies)
                agree(ours, await their_reading(judge, model, "x", streamed))
                replies.append(ours.message)
                continue
            with pytest.raises((ProviderError, ContextOverflowError)) as caught:
                await ask(provider, exchange, [])
            error: Any = caught.value
            with pytest.raises(Exception, match=str(exchange.status)) as judged:
                await their_reading(judge, model, "x", streamed)
            theirs: Any = judged.value
            assert (error.status, getattr(error, "provider_code", theirs.status)) == (
                theirs.code,
                theirs.status,
            )
            assert theirs.message.split(". ")[0] in str(error)
        await judge.aio.aclose()


@pytest.mark.parametrize("streamed", [False, True])
async def test_googles_client_talks_to_our_server(streamed: bool) -> None:
    signed = ToolCall("c1", "add", '{"a":1,"b":2}', "c2ln")
    script = [
        say("Let me add.", signed, thinking="sum", usage=Usage(12, 5, 4), model="g"),
        "It is three 🌍.",
    ]
    async with ModelServer(script, chunk=3) as server:
        root, _, version = server.base_url.rpartition("/")
        judge = client(root, version)
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
        tool = {"function_declarations": [{"name": "add", "parameters_json_schema": schema}]}
        config = {"tools": [tool], "automatic_function_calling": {"disable": True}}
        first = await their_reading(judge, "g", "Add 1 and 2.", streamed, config=config)
        second = await their_reading(judge, "g", "Thanks.", streamed)
        await judge.aio.aclose()
    said = [part for part in parts_of(first) if part.function_call]
    assert [(p.function_call.id, p.function_call.name, p.function_call.args) for p in said] == [
        ("c1", "add", {"a": 1, "b": 2})
    ]
    assert said[0].thought_signature == b"sig"
    texts = [part for part in parts_of(first) if part.text]
    assert "".join(part.text for part in texts if part.thought) == "sum"
    assert "".join(part.text for part in texts if not part.thought) == "Let me add."
    counted = first[-1].usage_metadata
    assert (counted.prompt_token_count, counted.cached_content_token_count) == (12, 4)
    assert "".join(part.text or "" for part in parts_of(second)) == "It is three 🌍."
    assert second[-1].candidates[0].finish_reason.value == "STOP"
    assert server.requests[0].body["tools"][0]["functionDeclarations"][0]["name"] == "add"


async def test_our_server_shows_a_script_what_googles_client_asked() -> None:
    def look(messages: list[Any], tools: list[Any]) -> Any:
        assert messages[-1] == {"parts": [{"text": "Add."}], "role": "user"}
        return call(tools[0]["name"], a=1)

    async with ModelServer([look]) as server:
        root, _, version = server.base_url.rpartition("/")
        judge = client(root, version)
        config = {"tools": [{"function_declarations": [{"name": "add"}]}]}
        (reply,) = await their_reading(judge, "g", "Add.", False, config=config)
        await judge.aio.aclose()
    (part,) = parts_of([reply])
    assert (part.function_call.name, part.function_call.args) == ("add", {"a": 1})
