"""The services' own clients against our loopback model server: what it serves is what they understand."""

from __future__ import annotations

from typing import Any

import pytest
from official_clients import anthropic_client, openai_client

from loom.testing.model_server import ModelServer
from loom.testing.scripted import say
from loom.types import ChatResponse, ToolCall, Usage

HELLO: Any = [{"role": "user", "content": "Hello"}]
REPLIES: dict[str, ChatResponse] = {
    "text": say("Grüße, 世界 🌍!", usage=Usage(11, 7, 3)),
    "thinking": say("Four.", thinking="two and two", signature="c2ln"),
    "calls": say(
        "Let me see.", ToolCall("call_a", "add", '{"a":1}'), ToolCall("call_b", "add", '{"b":"日本"}')
    ),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_anthropics_client(reply: ChatResponse, streamed: bool) -> None:
    async with (
        ModelServer([reply], chunk=2) as server,
        anthropic_client(server.base_url.removesuffix("/v1")) as client,
    ):
        asked: Any = {"model": "m", "max_tokens": 9, "messages": HELLO}
        if streamed:
            async with client.messages.stream(**asked) as stream:
                message: Any = await stream.get_final_message()
        else:
            message = await client.messages.create(**asked)
    said = [block.text for block in message.content if block.type == "text"]
    assert said == [reply.message.text_content]
    calls = [(block.id, block.name) for block in message.content if block.type == "tool_use"]
    assert calls == [(call.id, call.name) for call in reply.message.tool_calls or ()]
    thoughts = [(b.thinking, b.signature) for b in message.content if b.type == "thinking"]
    assert thoughts == ([("two and two", "c2ln")] if reply is REPLIES["thinking"] else [])
    read = message.usage.cache_read_input_tokens
    assert message.usage.input_tokens + read == reply.usage.input_tokens
    assert message.usage.output_tokens == reply.usage.output_tokens
    assert message.stop_reason == ("tool_use" if calls else "end_turn")


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
async def test_openais_client(reply: ChatResponse) -> None:
    async with ModelServer([reply], chunk=2) as server, openai_client(server.base_url) as client:
        completion: Any = await client.chat.completions.create(model="m", messages=HELLO)
    (choice,) = completion.choices
    assert choice.message.content == reply.message.text_content
    calls = [(call.id, call.function.arguments) for call in choice.message.tool_calls or ()]
    assert calls == [(call.id, call.arguments) for call in reply.message.tool_calls or ()]
    thought = (choice.message.model_extra or {}).get("reasoning_content")
    assert thought == ("two and two" if reply is REPLIES["thinking"] else None)
    assert completion.usage.prompt_tokens == reply.usage.input_tokens
    assert choice.finish_reason == ("tool_calls" if calls else "stop")


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
async def test_openais_client_streamed(reply: ChatResponse) -> None:
    asked: Any = {"model": "m", "messages": HELLO, "stream_options": {"include_usage": True}}
    async with (
        ModelServer([reply], chunk=2) as server,
        openai_client(server.base_url) as client,
        client.chat.completions.stream(**asked) as stream,
    ):
        completion: Any = await stream.get_final_completion()
    (choice,) = completion.choices
    assert choice.message.content == reply.message.text_content
    calls = [(call.id, call.function.arguments) for call in choice.message.tool_calls or ()]
    assert calls == [(call.id, call.arguments) for call in reply.message.tool_calls or ()]
    assert completion.usage.completion_tokens == reply.usage.output_tokens
