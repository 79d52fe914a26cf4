"""A reply that its service pauses is asked on until it is whole: one message, one usage, within bounds."""

import json
from typing import Any

import pytest
from wires import HELLO, Waits, anthropic, last, streamed

from loom import Agent, Model, RunState
from loom.errors import ProviderUnavailableError
from loom.llm.base import ContentDeltaEvent, ModelSettings, reply_text
from loom.llm.turns import MAX_PAUSES
from loom.testing.model_server import ModelServer, served
from loom.testing.scripted import interrupted, say
from loom.types import ChatResponse, OpaquePart, StopReason, TextPart, Usage

USE = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}


def whole(*blocks: Any, stop: str = "pause_turn", **more: Any) -> Any:
    body = {
        "type": "message",
        "model": "claude",
        "content": [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks],
        "stop_reason": stop,
        "usage": {"input_tokens": 10, "output_tokens": 5},
        **more,
    }
    return served(body=json.dumps(body).encode())


def pause(text: str) -> ChatResponse:
    return say(text, stop_reason=StopReason.PAUSED, usage=Usage(10, 5))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_paused_reply_is_one_reply(stream: bool) -> None:
    script = [pause("One, "), pause("two, "), say("three.", usage=Usage(30, 7))]
    async with ModelServer(script, chunk=3) as server, anthropic(server.base_url) as provider:
        if stream:
            events = await streamed(provider)
            response = events[-1]
            assert "".join(e.delta for e in events if isinstance(e, ContentDeltaEvent)) == "One, two, three."
            assert sum(isinstance(event, ChatResponse) for event in events) == 1
        else:
            response = await provider.chat(HELLO)
        sent = [request.body["messages"] for request in server.requests]
    assert isinstance(response, ChatResponse)
    assert (response.message.content, response.usage) == ("One, two, three.", Usage(50, 17))
    assert response.stop_reason is StopReason.STOP
    assert [[turn["role"] for turn in messages] for messages in sent] == [
        ["user"], ["user", "assistant"], ["user", "assistant"],
    ]  # fmt: skip
    assert [block["text"] for block in sent[2][1]["content"]] == ["One, ", "two, "]


async def test_what_the_service_did_before_the_pause_stays_in_its_place() -> None:
    script = [
        whole("Searching.", USE),
        whole(
            {"type": "web_search_tool_result", "tool_use_id": "srv", "content": []}, "Found.", stop="end_turn"
        ),
    ]
    async with ModelServer(script) as server, anthropic(server.base_url) as provider:
        response = await provider.chat(HELLO)
        again = server.requests[1].body["messages"][-1]
    assert again == {"role": "assistant", "content": [{"type": "text", "text": "Searching."}, USE]}
    parts = response.message.content
    assert isinstance(parts, tuple)
    assert [part.text if isinstance(part, TextPart) else "..." for part in parts] == [
        "Searching.", "...", "...", "Found.",
    ]  # fmt: skip
    assert isinstance(parts[1], OpaquePart)
    assert json.loads(parts[1].data) == USE


@pytest.mark.parametrize("stream", [False, True])
async def test_asking_on_is_bounded(stream: bool) -> None:
    script = [pause(f"{number} ") for number in range(MAX_PAUSES + 3)]
    async with ModelServer(script) as server, anthropic(server.base_url) as provider:
        response = await (last(provider) if stream else provider.chat(HELLO))
        assert len(server.requests) == MAX_PAUSES + 1
    assert response.stop_reason is StopReason.PAUSED
    assert response.usage == Usage(10 * (MAX_PAUSES + 1), 5 * (MAX_PAUSES + 1))


async def test_a_run_whose_reply_stays_paused_is_no_success() -> None:
    async with ModelServer([pause("x ")] * (MAX_PAUSES + 1)) as server:
        agent = Agent(model=Model.anthropic("claude-x", base_url=server.base_url, api_key="k"))
        result = await agent.run("go")
    assert result.state is RunState.FAILED
    assert result.error is not None
    assert result.error.code == "reply_paused"
    assert result.usage.output_tokens == 5 * (MAX_PAUSES + 1)


async def test_an_answer_of_a_shape_is_not_mixed_with_what_was_said_before_the_pause() -> None:
    answer = {"type": "tool_use", "id": "t", "name": "output", "input": {"n": 4}}
    settings = ModelSettings(output_schema={"type": "object", "properties": {"n": {"type": "integer"}}})
    async with ModelServer([whole("Let me see.", USE), whole(answer, stop="tool_use")]) as server:
        async with anthropic(server.base_url) as provider:
            response = await provider.chat(HELLO, settings=settings)
        assert server.requests[1].body["tool_choice"] == server.requests[0].body["tool_choice"]
    assert response.message.text_content == '{"n": 4}'
    assert response.stop_reason is StopReason.STOP


async def test_the_container_goes_on_and_is_let_go_of() -> None:
    box = {"container": {"id": "box", "expires_at": "2026-01-01T00:00:00Z"}}
    script = [whole("a", **box), whole("b", stop="end_turn", **box)]
    async with ModelServer(script) as server, anthropic(server.base_url) as provider:
        response = await provider.chat(HELLO)
        assert server.requests[1].body["container"] == "box"
        assert "container" not in server.requests[0].body
    assert reply_text(response.message) == "ab"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_after_the_pause_is_tried_again_before_its_first_event_only(stream: bool) -> None:
    waits = Waits()
    script: list[Any] = [pause("One, "), served(status=500), say("two.")]
    async with ModelServer(script) as server, anthropic(server.base_url, sleep=waits) as provider:
        response = await (last(provider) if stream else provider.chat(HELLO))
    assert (response.message.content, len(waits)) == ("One, two.", 1)
    script = [pause("One, "), interrupted("two and more", after=6), "never"]
    async with ModelServer(script, chunk=2) as server, anthropic(server.base_url) as provider:
        with pytest.raises(ProviderUnavailableError):
            await last(provider)
        assert len(server.requests) == 2
