"""The scripted model, in the process and behind a socket."""

import asyncio
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from loom.errors import ProviderError, ProviderUnavailableError, RateLimitError
from loom.llm.base import (
    ContentDeltaEvent,
    ModelSettings,
    ReplyBuilder,
    ThinkingDeltaEvent,
    ToolCallDeltaEvent,
)
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.testing.model_server import ModelServer, served
from loom.testing.scripted import ScriptedProvider, call, interrupted, say, stalled
from loom.types import ChatMessage, ChatResponse, Role, StopReason, ToolCall, ToolSpec, Usage

HELLO = [ChatMessage(Role.USER, "Hello")]


async def test_items_of_all_kinds() -> None:
    whole = say("done", stop_reason=StopReason.LENGTH, usage=Usage(1, 2))
    provider = ScriptedProvider(
        [
            "text",
            call("add", a=1, b=[2]),
            ["both ", "texts", call("add"), call("sub", x="y")],
            whole,
            lambda messages, tools: f"{messages[-1].content} {len(tools)}",
            lambda messages, tools: [call("late")],
            RateLimitError("slow", retry_after=3),
        ]
    )
    replies = [await provider.chat(HELLO, tools=[ToolSpec("t")]) for _ in range(6)]
    assert replies[0].message.text_content == "text"
    assert replies[0].stop_reason is StopReason.STOP
    assert replies[1].message.tool_calls == (ToolCall("call_1", "add", '{"a":1,"b":[2]}'),)
    assert replies[1].stop_reason is StopReason.TOOL_USE
    assert replies[2].message.content == "both texts"
    assert [item.id for item in replies[2].message.tool_calls or ()] == ["call_2", "call_3"]
    assert replies[3] == whole
    assert replies[4].message.content == "Hello 1"
    assert [item.id for item in replies[5].message.tool_calls or ()] == ["call_4"]
    with pytest.raises(RateLimitError, match="slow"):
        await provider.chat(HELLO)
    with pytest.raises(ProviderError, match="has 7 replies and this is request 8"):
        await provider.chat(HELLO)


async def test_requests_are_remembered() -> None:
    provider, settings = ScriptedProvider(["a", "b"]), ModelSettings(temperature=0.1)
    messages = list(HELLO)
    await provider.chat(messages, tools=[ToolSpec("t")], model="m", settings=settings)
    messages.clear()
    _ = [event async for event in provider.chat_stream(HELLO)]
    first, second = provider.requests
    assert (first.messages, first.model, first.settings, first.streamed) == (
        tuple(HELLO),
        "m",
        settings,
        False,
    )
    assert [tool.name for tool in first.tools] == ["t"]
    assert second.streamed
    assert provider.remaining == 0


@pytest.mark.parametrize("chunk", [1, 3, None])
async def test_a_stream_folds_to_its_reply(chunk: int | None) -> None:
    reply = say("Hello there", ToolCall("c", "f", '{"a":1}'), thinking="hm", signature="s", model="")
    provider = ScriptedProvider([reply], chunk=chunk)
    events = [event async for event in provider.chat_stream(HELLO)]
    builder = ReplyBuilder()
    for event in events[:-1]:
        builder.add(event)
    assert events[-1] == reply
    assert builder.build().message == reply.message
    lengths = [len(event.delta) for event in events if isinstance(event, ContentDeltaEvent)]
    assert max(lengths) == (chunk or 11)
    assert isinstance(events[0], ThinkingDeltaEvent)
    assert any(isinstance(event, ToolCallDeltaEvent) for event in events)


async def test_latency_is_slept_and_faults_come_where_they_should() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    script = [interrupted("abcdef", after=2), interrupted("abc", after=0, error=ValueError("odd"))]
    provider = ScriptedProvider(script, chunk=2, latency=1.5, sleep=sleep)
    stream = provider.chat_stream(HELLO)
    assert [await anext(stream), await anext(stream)] == [ContentDeltaEvent("ab"), ContentDeltaEvent("cd")]
    with pytest.raises(ProviderUnavailableError):
        await anext(stream)
    with pytest.raises(ValueError, match="odd"):
        await provider.chat(HELLO)
    assert slept == [1.5, 1.5]


async def test_each_piece_of_a_stream_can_take_its_time() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    provider = ScriptedProvider(["abcdef", "whole"], chunk=2, latency=1.0, chunk_latency=0.25, sleep=sleep)
    assert len([event async for event in provider.chat_stream(HELLO)]) == 4
    assert slept == [1.0, 0.25, 0.25, 0.25]
    await provider.chat(HELLO)
    assert slept[4:] == [1.0]


@pytest.mark.parametrize("after", [0, 2])
async def test_a_stalled_reply_says_nothing_more_until_it_is_given_up(after: int) -> None:
    provider = ScriptedProvider([stalled("abcdef", after=after), stalled()], chunk=2)
    stream: Any = provider.chat_stream(HELLO)
    assert [await anext(stream) for _ in range(after)] == [ContentDeltaEvent("ab"), ContentDeltaEvent("cd")][
        :after
    ]
    for waiting in (anext(stream), provider.chat(HELLO)):
        task = asyncio.ensure_future(waiting)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("item", [7, None, {"a": 1}, ["x", 3], lambda m, t: 5])
async def test_what_no_script_can_hold_says_so(item: Any) -> None:
    with pytest.raises(TypeError, match="script"):
        await ScriptedProvider([item]).chat(HELLO)


# --- the server ---------------------------------------------------------------------------------------


def post(base_url: str, path: str, body: Any) -> tuple[int, dict[str, str], bytes]:
    """A request by the standard library, so that the server is not only tried by our own client."""
    parts = urlsplit(base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("POST", parts.path + path, json.dumps(body), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    result = reply.status, dict(reply.getheaders()), reply.read()
    connection.close()
    return result


def test_the_server_speaks_both_wires_to_anybody() -> None:
    script = [say("Hi", call("f", a=1)), "whole", "stream", "stream"]
    with ModelServer.in_thread(script, chunk=3) as server:
        status, headers, raw = post(server.base_url, "/chat/completions", {"messages": []})
        message = json.loads(raw)["choices"][0]["message"]
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
        _, _, raw = post(server.base_url, "/messages", {"messages": []})
        assert json.loads(raw)["content"] == [{"type": "text", "text": "whole"}]
        _, headers, raw = post(server.base_url, "/chat/completions", {"stream": True})
        assert headers["Content-Type"] == "text/event-stream"
        assert raw.count(b"data: ") == 6
        assert raw.endswith(b"data: [DONE]\n\n")
        _, _, raw = post(server.base_url, "/messages", {"stream": True})
        assert b'event: message_stop\ndata: {"type":"message_stop"}' in raw
        assert [request.path for request in server.requests] == [
            "/v1/chat/completions", "/v1/messages", "/v1/chat/completions", "/v1/messages",
        ]  # fmt: skip
        assert server.requests[2].body == {"stream": True}


def test_the_server_tells_errors_the_way_services_do() -> None:
    script = [RateLimitError("slow", retry_after=4), served(status=418, body=b"tea", headers={"X-A": "b"})]
    with ModelServer.in_thread(script) as server:
        status, headers, raw = post(server.base_url, "/chat/completions", {})
        assert (status, headers["Retry-After"]) == (429, "4")
        assert json.loads(raw)["error"]["message"] == "slow"
        status, headers, raw = post(server.base_url, "/chat/completions", {})
        assert (status, headers["X-A"], raw) == (418, "b", b"tea")
        status, _, raw = post(server.base_url, "/chat/completions", {})
        assert status == 400
        assert b"this is request 3" in raw


def test_the_server_survives_what_is_no_json() -> None:
    with ModelServer.in_thread(["fine"]) as server:
        parts = urlsplit(server.base_url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("POST", "/v1/chat/completions", b"\xff not json")
        assert connection.getresponse().status == 200
        connection.close()
        assert server.requests[0].body is None
        assert server.requests[0].raw == b"\xff not json"


async def test_a_stalled_reply_stalls_on_the_socket_too() -> None:
    script = [stalled("abcdef", after=3), stalled("abcdef")]
    async with (
        ModelServer(script, chunk=2) as server,
        OpenAICompatibleProvider(server.base_url, timeout=0.05, max_retries=0) as provider,
    ):
        said: list[str] = []
        with pytest.raises(ProviderUnavailableError, match="did not answer in time"):
            await keep(said, provider)
        assert said == ["ab", "cd"]
        with pytest.raises(ProviderUnavailableError, match="did not answer in time"):
            await provider.chat(HELLO)
        for request in server.requests:
            await asyncio.wait_for(request.abandoned.wait(), 5)


async def keep(said: list[str], provider: OpenAICompatibleProvider) -> None:
    async for event in provider.chat_stream(HELLO):
        if isinstance(event, ContentDeltaEvent):
            said.append(event.delta)  # noqa: PERF401 - a comprehension would lose them with the error


async def test_one_script_in_process_and_over_the_socket() -> None:
    script = ["Let me see.", [call("f", x=1), call("g")], "Done."]
    scripted = ScriptedProvider(script)
    async with ModelServer(script) as server, OpenAICompatibleProvider(server.base_url) as provider:
        for _ in script:
            near: ChatResponse = await scripted.chat(HELLO)
            far = await provider.chat(HELLO)
            assert near == far
