"""Parts of a kind that a wire knows, with content that cannot be: the reply fails, and nothing of it comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clients import CLIENTS
from conversation import BY_NAME
from raw_server import Reply, http, raw_server
from test_withheld import sse

import loom
from loom.testing.scripted import say
from loom.types import ChatMessage, OpaquePart, Role, RunState, TextPart

GEMINI: dict[str, Any] = {
    "a call that is null": {"functionCall": None},
    "text that is null": {"text": None},
    "text and a signature": {"text": None, "thoughtSignature": "c2ln"},
    "text that is a number": {"text": 5},
    "a thought that is null": {"text": None, "thought": True},
    "media that are null": {"inlineData": None},
    "a call and text that are null": {"functionCall": None, "text": None},
    "a thought picture without data": {"inlineData": {"mimeType": "image/png"}, "thought": True},
    "a file that is null": {"fileData": None},
    "a file without an address": {"fileData": {"mimeType": "image/png"}},
    "code that is null": {"executableCode": None},
    "code that is text": {"executableCode": "print(1)"},
    "code without code": {"executableCode": {"language": "PYTHON"}},
    "a result that is null": {"codeExecutionResult": None},
    "a result without outcome": {"codeExecutionResult": {"output": "1"}},
    "a response that is null": {"functionResponse": None},
    "a tool call that is a list": {"toolCall": []},
    "a tool response that is null": {"toolResponse": None},
}
ANTHROPIC: dict[str, Any] = {
    "text that is null": {"type": "text", "text": None},
    "text that is a number": {"type": "text", "text": 5},
    "citations that are text": {"type": "text", "text": "a", "citations": "b"},
    "a citation that is null": {"type": "text", "text": "a", "citations": [None]},
    "thinking that is null": {"type": "thinking", "thinking": None, "signature": "s"},
    "a signature that is a number": {"type": "thinking", "thinking": "a", "signature": 5},
    "hidden thinking that is null": {"type": "redacted_thinking", "data": None},
    "a call without name": {"type": "tool_use", "id": "a", "name": None, "input": {}},
    "a search without id": {"type": "server_tool_use", "id": None, "name": "web_search", "input": {}},
    "a search without name": {"type": "server_tool_use", "id": "a", "name": None, "input": {}},
    "a search without input": {"type": "server_tool_use", "id": "a", "name": "web_search", "input": None},
    "a foreign call without input": {"type": "mcp_tool_use", "id": "a", "name": "b", "input": "c"},
    "a result of nothing": {"type": "web_search_tool_result", "tool_use_id": None, "content": []},
    "a result without content": {"type": "web_search_tool_result", "tool_use_id": "a", "content": None},
    "a result of tomorrow": {"type": "hologram_tool_result", "tool_use_id": None, "content": []},
    "an upload without a file": {"type": "container_upload", "file_id": None},
}
CHAT: dict[str, Any] = {
    "text that is null": {"content": [{"type": "text", "text": None}]},
    "text that is a number": {"content": [{"type": "text", "text": 5}]},
    "a part that is null": {"content": [None]},
    "thinking that is null": {"content": [{"type": "thinking", "thinking": None}]},
    "thinking of nothing": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": None}]}]},
    "a picture without address": {"content": "a", "images": [{"type": "image_url", "image_url": None}]},
    "sound that is a number": {"content": "a", "audio": {"data": 5}},
    "a refusal that is a list": {"content": "a", "refusal": ["No."]},
    "a detail that is null": {"content": "a", "reasoning_details": [None]},
    "a detail without text": {
        "content": "a",
        "reasoning_details": [{"type": "reasoning.text", "text": None}],
    },
    "a detail without data": {"content": "a", "reasoning_details": [{"type": "reasoning.encrypted"}]},
    "a call without function": {"tool_calls": [{"id": "a", "type": "function", "function": None}]},
    "a call without name": {"tool_calls": [{"id": "a", "type": "function", "function": {"name": None}}]},
}


def message(*pieces: Any, **fields: Any) -> Any:
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": list(pieces), **fields}


HELLO = {"type": "output_text", "text": "Hello", "annotations": []}
RESPONSES: dict[str, Any] = {
    "no content": message(content=None),
    "text that is null": message({"type": "output_text", "text": None}),
    "text beside text that is null": message(HELLO, {"type": "output_text", "text": None}),
    "a refusal that is null": message({"type": "refusal", "refusal": None}),
    "a piece that is null": message(HELLO, None),
    "a summary that is text": {"type": "reasoning", "id": "rs_1", "summary": "a"},
    "a summary that is null": {
        "type": "reasoning",
        "id": "r",
        "summary": [{"type": "summary_text", "text": None}],
    },
    "hidden reasoning that is a number": {
        "type": "reasoning",
        "id": "r",
        "summary": [],
        "encrypted_content": 5,
    },
    "a call without name": {
        "type": "function_call",
        "id": "fc",
        "call_id": "c",
        "name": None,
        "arguments": "{}",
    },
    "a search without id": {"type": "web_search_call", "id": None, "status": "completed"},
    "a file search without id": {"type": "file_search_call", "queries": []},
    "a picture that is a number": {"type": "image_generation_call", "id": "ig", "result": 5},
    "an item without type": {"id": "x", "content": [HELLO]},
    "a compaction of nothing": {"type": "compaction", "id": "c", "encrypted_content": None},
}
MARK = "zq7marker"


def gemini(part: Any, streamed: bool) -> bytes:
    content = {"role": "model", "parts": [{"text": MARK}, part]}
    whole = {"candidates": [{"content": content, "finishReason": "STOP"}]}
    return sse(whole) if streamed else json.dumps(whole).encode()


def anthropic(block: Any, streamed: bool) -> bytes:
    head: dict[str, Any] = {"type": "message", "role": "assistant", "model": "m", "content": []}
    blocks = [{"type": "text", "text": MARK}, block]
    if not streamed:
        return json.dumps({**head, "content": blocks, "stop_reason": "end_turn"}).encode()
    events: list[Any] = [{"type": "message_start", "message": head}]
    for index, told in enumerate(blocks):
        events += [
            {"type": "content_block_start", "index": index, "content_block": told},
            {"type": "content_block_stop", "index": index},
        ]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    return sse(*events, end, {"type": "message_stop"})


def chat(said: Any, streamed: bool) -> bytes:
    said = {"role": "assistant", "reasoning_content": MARK, **said}
    if not streamed:
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        return json.dumps({"choices": [choice]}).encode()
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return sse({"choices": [{"index": 0, "delta": said}]}, end) + b"data: [DONE]\n\n"


def responses(item: Any, streamed: bool) -> bytes:
    spoken = message({"type": "output_text", "text": MARK, "annotations": []})
    whole = {"id": "r1", "status": "completed", "output": [spoken, item]}
    return sse({"type": "response.completed", "response": whole}) if streamed else json.dumps(whole).encode()


TABLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gemini": (gemini, GEMINI),
    "anthropic": (anthropic, ANTHROPIC),
    "openai_chat": (chat, CHAT),
    "openai_responses": (responses, RESPONSES),
}


async def two_runs(wire: str, body: bytes, streamed: bool) -> tuple[Any, Any, bytes]:
    """Two runs of one session, the first answered with ``body``: their results, and what was asked last."""
    spoken, requests = BY_NAME[wire], list[bytes]()
    done = say("Done.")

    def reply(request: bytes) -> Reply:
        requests.append(request.partition(b"\r\n\r\n")[2])
        kind = "text/event-stream" if streamed else "application/json"
        if len(requests) == 1:
            return http(body, kind=kind)
        return http(b"".join(spoken.stream(done, 2, None)) if streamed else spoken.whole(done, 2), kind=kind)

    async with raw_server(reply) as server, CLIENTS[wire](server.url) as provider:
        session = loom.Agent(model=provider).session()
        ask = session.start if streamed else session.run
        return await ask("Hello"), await ask("And now?"), requests[-1]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("wire", "name"), [(wire, name) for wire, (_, table) in TABLES.items() for name in table]
)
async def test_review_d5_a_broken_part_of_a_known_kind_fails_its_reply(
    wire: str, name: str, streamed: bool
) -> None:
    write, table = TABLES[wire]
    first, second, asked = await two_runs(wire, write(table[name], streamed), streamed)
    assert first.state is RunState.FAILED
    assert first.error.code == "malformed_reply"
    assert second.state is RunState.COMPLETED
    assert MARK.encode() not in asked


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("wire", "part"),
    [
        ("gemini", {"hologram": {"shape": [1, 2]}}),
        ("gemini", {"text": None, "hologram": {"shape": [1, 2]}}),
        ("gemini", {"executableCode": {"language": "PYTHON", "code": "print('shape')"}}),
        ("anthropic", {"type": "hologram", "shape": None}),
        ("anthropic", {"type": "server_tool_use", "id": "a", "name": "web_search", "input": {"shape": 1}}),
        ("openai_responses", {"type": "hologram", "shape": None, "id": "h"}),
        ("openai_responses", {"type": "web_search_call", "id": "ws", "status": "shape"}),
    ],
)
async def test_unknown_kinds_and_sound_ones_go_back(wire: str, part: Any, streamed: bool) -> None:
    write, _ = TABLES[wire]
    first, second, asked = await two_runs(wire, write(part, streamed), streamed)
    assert (first.state, second.state) == (RunState.COMPLETED, RunState.COMPLETED)
    assert MARK.encode() in asked
    kind = "shape" if wire != "openai_responses" or part["type"] != "hologram" else "hologram"
    assert kind.encode() in asked


@pytest.mark.parametrize(
    ("wire", "origin", "data"),
    [
        ("gemini", "gemini", {"functionCall": None}),
        ("gemini", "gemini", {"text": None}),
        ("anthropic", "anthropic", {"type": "server_tool_use", "id": "zqbad", "name": None, "input": {}}),
        ("openai_responses", "openai_responses", {"type": "web_search_call", "id": None, "status": "zqbad"}),
    ],
)
async def test_review_d5_a_log_that_was_poisoned_before_is_mended(wire: str, origin: str, data: Any) -> None:
    spoken = BY_NAME[wire]
    asked: list[bytes] = []

    def reply(request: bytes) -> Reply:
        asked.append(request.partition(b"\r\n\r\n")[2])
        return http(spoken.whole(say("Done."), 1), kind="application/json")

    poisoned = ChatMessage(Role.ASSISTANT, (TextPart("Well"), OpaquePart(origin, json.dumps(data))))
    history = [ChatMessage(Role.USER, "Hello"), poisoned, ChatMessage(Role.USER, "And now?")]
    async with raw_server(reply) as server, CLIENTS[wire](server.url) as provider:
        await provider.chat(history)
    assert b"Well" in asked[0]
    assert b"null" not in asked[0]
    assert b"zqbad" not in asked[0]
