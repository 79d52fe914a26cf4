"""A whole agent against one hostile reply: what ran, how it ended, and whether what it asked next was sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clients import CLIENTS, KEY
from conversation import BY_NAME
from raw_server import Reply, http, raw_server

import loom
from loom.llm.untyped import as_dict, as_list
from loom.runtime.result import RunResult
from loom.testing.scripted import say
from loom.types import RunState


@dataclass
class Outcome:
    """What came of it. ``ran`` are the arguments of every execution of the tool."""

    result: RunResult[str]
    ran: list[tuple[Any, Any]]
    requests: list[Any] = field(default_factory=list[Any])


async def hostile_run(wire: str, body: bytes, *, streamed: bool) -> Outcome:
    """Run an agent whose model first answers ``body``, and then always "Done."."""
    ran: list[tuple[Any, Any]] = []

    @loom.tool
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        ran.append((a, b))
        return a + b

    spoken = BY_NAME[wire]
    requests: list[bytes] = []

    def reply(request: bytes) -> Reply:
        requests.append(request.partition(b"\r\n\r\n")[2])
        kind = "text/event-stream" if streamed else "application/json"
        if len(requests) == 1:
            return http(body, kind=kind)
        done = say("Done.")
        told = b"".join(spoken.stream(done, 2, None)) if streamed else spoken.whole(done, 2)
        return http(told, kind=kind)

    async with raw_server(reply) as server, CLIENTS[wire](server.url) as provider:
        agent = loom.Agent(model=provider, tools=[add])
        session = agent.session()
        result = await (session.start("Add 1 and 2") if streamed else session.run("Add 1 and 2"))
    return Outcome(result, ran, [json.loads(request) for request in requests])


def check_sound(outcome: Outcome, wire: str) -> None:
    """What holds whatever the reply was."""
    result = outcome.result
    assert result.state in (RunState.COMPLETED, RunState.FAILED), result
    if result.state is RunState.COMPLETED:
        assert result.output, "an empty success"
        assert result.error is None
    else:
        assert result.error is not None
        assert result.error.code
        assert result.error.message
        assert KEY not in result.error.message
    for a, b in outcome.ran:
        assert type(a) is int
        assert type(b) is int
    for request in outcome.requests:
        PAIRED[wire](request)


def _chat_paired(request: Any) -> None:
    waiting: list[str] = []
    for message in request["messages"]:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert waiting == [], "a call without its result"
        for call in message.get("tool_calls") or ():
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            assert call["id"]
            assert call["function"]["name"]
            assert call["id"] not in waiting
            waiting.append(call["id"])
    assert waiting == []


def _anthropic_paired(request: Any) -> None:
    waiting: list[str] = []
    for message in request["messages"]:
        blocks = [as_dict(block) for block in as_list(message["content"])]
        for block in blocks:
            if block["type"] == "tool_result":
                waiting.remove(block["tool_use_id"])
        assert waiting == [], "a call without its result"
        for block in blocks:
            if block["type"] == "tool_use":
                assert isinstance(block["input"], dict)
                assert block["id"] not in waiting
                assert block["name"]
                waiting.append(block["id"])
    assert waiting == []


def _gemini_paired(request: Any) -> None:
    waiting: list[tuple[str, str]] = []
    for content in request["contents"]:
        for part in content["parts"]:
            if "functionResponse" in part:
                answered = part["functionResponse"]
                assert isinstance(answered["response"], dict)
                waiting.remove((answered["id"], answered["name"]))
        assert waiting == [], "a call without its result"
        for part in content["parts"]:
            if "functionCall" in part:
                call = part["functionCall"]
                assert isinstance(call["args"], dict)
                assert call["name"]
                assert (call["id"], call["name"]) not in waiting
                waiting.append((call["id"], call["name"]))
    assert waiting == []


def _responses_paired(request: Any) -> None:
    waiting: list[str] = []
    for item in request["input"]:
        if item.get("type") == "function_call_output":
            waiting.remove(item["call_id"])
        elif item.get("type") == "function_call":
            assert isinstance(json.loads(item["arguments"]), dict)
            assert item["name"]
            assert item["call_id"]
            assert item["call_id"] not in waiting
            waiting.append(item["call_id"])
        elif item.get("role") != "assistant":
            assert waiting == [], "a call without its result"
    assert waiting == []


PAIRED: dict[str, Callable[[Any], None]] = {
    "anthropic": _anthropic_paired,
    "gemini": _gemini_paired,
    "openai_chat": _chat_paired,
    "openai_responses": _responses_paired,
}
