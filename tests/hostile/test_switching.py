"""A session that moves from one service to another and back, for every pair of wires, in runs of whole agents.

What the first service said is told to the second in its own words, without anything that only the first can
read; back at the first, the conversation begins byte for byte as it left it.
"""

from __future__ import annotations

import json
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from clients import CLIENTS
from runs import PAIRED

import loom
from loom import media
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.wire import HTTPProvider
from loom.store.sqlite import SqliteSessionStore
from loom.testing.model_server import ModelServer, served
from loom.types import AudioPart, RunState, ToolResult

Json = dict[str, Any]
WORDS = {
    "anthropic": "messages",
    "gemini": "contents",
    "openai_chat": "messages",
    "openai_responses": "input",
}
PNG = media.image(b"\x89PNG\r\n\x1a\n" + bytes(40))
PDF = media.document(b"%PDF-1.7 ...")
WAV = AudioPart("data:audio/wav;base64,UklGRiQAAABXQVZFZm10IA==")
LONG = "call_" + "x" * 294
CALLS: list[tuple[str, str, Any]] = [
    ("functions.add:0", "add", {"a": 1, "b": 2}),
    ("functions_add:0", "add", {"a": 3, "b": 4}),
    (LONG + "a", "show", {}),
    (LONG + "b", "fail", {}),
    ("c/5", "multi tool.use!", {}),
]
BROKEN = ("broken", "add", '{"a":1,')


# --- what each service says: everything of its own that a reply can hold, all of it marked -----------------


def anthropic(mark: str) -> Json:
    calls = [{"type": "tool_use", "id": one, "name": name, "input": said} for one, name, said in CALLS]
    calls[1]["caller"] = {"type": "code_execution", "tool_id": f"{mark}-caller"}
    found = [{"type": "web_search_result", "url": "https://x.example", "encrypted_content": f"{mark}-found"}]
    query = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": f"{mark}-q"}}
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": f"{mark}-signature"},
        {"type": "redacted_thinking", "data": f"{mark}-redacted"},
        query,
        {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": found},
        {"type": "text", "text": "Adding."},
        *calls,
    ]
    return {"type": "message", "role": "assistant", "content": content, "stop_reason": "tool_use"}


def gemini(mark: str) -> Json:
    calls: list[Json] = [
        {"functionCall": {"id": one, "name": name, "args": said}} for one, name, said in CALLS
    ]
    calls[0]["thoughtSignature"] = f"{mark}-call"
    parts = [
        {"text": "Hm.", "thought": True, "thoughtSignature": f"{mark}-signature"},
        {"executableCode": {"language": "PYTHON", "code": f"print('{mark}-code')"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": f"{mark}-output"}},
        {"text": "Adding.", "thoughtSignature": f"{mark}-text"},
        *calls,
    ]
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}


def openai_chat(mark: str) -> Json:
    calls = [
        {"id": one, "type": "function", "function": {"name": name, "arguments": _text(said)}}
        for one, name, said in [*CALLS, BROKEN]
    ]
    details = [
        {"type": "reasoning.text", "text": "Hm.", "signature": f"{mark}-signature", "index": 0},
        {"type": "reasoning.encrypted", "data": f"{mark}-encrypted", "id": f"{mark}-id", "index": 1},
    ]
    message = {
        "role": "assistant",
        "content": "Adding.",
        "reasoning": "Hm.",
        "reasoning_details": details,
        "tool_calls": calls,
    }
    return {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def openai_responses(mark: str) -> Json:
    said = {"type": "output_text", "text": "Adding.", "annotations": []}
    output: list[Json] = [
        {
            "type": "reasoning",
            "id": f"rs_{mark}",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": f"{mark}-encrypted",
        },
        {"type": "web_search_call", "id": f"ws_{mark}", "status": "completed", "action": {"query": "x"}},
        {
            "type": "message",
            "id": f"msg_{mark}",
            "status": "completed",
            "role": "assistant",
            "content": [said],
        },
        *(
            {
                "type": "function_call",
                "id": f"fc_{mark}_{index}",
                "status": "completed",
                "call_id": one,
                "name": name,
                "arguments": _text(arguments),
            }
            for index, (one, name, arguments) in enumerate([*CALLS, BROKEN])
        ),
    ]
    return {"id": "resp_1", "object": "response", "status": "completed", "output": output, "model": "m"}


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


RICH = {f.__name__: f for f in (anthropic, gemini, openai_chat, openai_responses)}
EMPTY: dict[str, Json] = {
    "anthropic": {"type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn"},
    "gemini": {
        "candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}]
    },
    "openai_chat": {"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]},
    "openai_responses": {"id": "resp_2", "status": "completed", "output": []},
}


# --- the agent ------------------------------------------------------------------------------------------


@loom.tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@loom.tool
def show() -> ToolResult:
    """Shows what there is."""
    return ToolResult("Here it is.", content_parts=(PNG, WAV, PDF))


@loom.tool
def fail() -> str:
    """Fails."""
    raise ValueError("out of paper")


def client(wire: str, url: str) -> HTTPProvider:
    if wire != "openai_chat":
        return CLIENTS[wire](url)
    # A service that wants its reasoning back, so that there is something to come back.
    return OpenAICompatibleProvider(url, "k", "m", max_retries=0, reasoning_as="reasoning_details")


class Talk:
    """One session, and what was asked in it, by turn."""

    def __init__(self, store: SqliteSessionStore) -> None:
        self._store = store

    async def turn(self, wire: str, said: Any, *replies: Any) -> tuple[RunState, list[Json]]:
        """Say something over ``wire``; how it ended, and the requests."""
        script = [served(body=json.dumps(one).encode()) if isinstance(one, dict) else one for one in replies]
        async with ModelServer(script) as server, client(wire, server.base_url) as model:
            agent = loom.Agent(
                model=model, instructions="Be brief.", tools=[add, show, fail], session_store=self._store
            )
            result = await agent.session("s").run(said)
        requests = [request.body for request in server.requests]
        for request in requests:
            PAIRED[wire](request)
            check_words(wire, request)
        return result.state, requests


def check_words(wire: str, request: Json) -> None:
    """Every id and name is one that the service takes."""
    for kind, word in words_of(request[WORDS[wire]]):
        if kind == "name" or wire == "anthropic":
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", word), word
        elif wire == "openai_responses":
            assert len(word) <= 64


def words_of(said: Any) -> list[tuple[str, str]]:
    if isinstance(said, list):
        return [word for one in said for word in words_of(one)]
    if not isinstance(said, dict):
        return []
    found = [word for one in said.values() for word in words_of(one)]
    if said.get("type") == "tool_use":
        found += [("id", said["id"]), ("name", said["name"])]
    if said.get("type") == "function_call":
        found += [("id", said["call_id"]), ("name", said["name"])]
    for key in ("function", "functionCall", "functionResponse"):
        if isinstance(said.get(key), dict):
            found.append(("name", said[key]["name"]))
    return found


def marks(said: Any) -> set[str]:
    return set(re.findall(r"[a-z_]*HOME[a-z0-9_-]*", json.dumps(said)))


@pytest.mark.parametrize(("home", "away"), list(permutations(WORDS, 2)))
async def test_a_session_moves_away_and_back(home: str, away: str, tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "s.db")
    talk = Talk(store)
    heard = () if home == "anthropic" else (WAV,)
    task = loom.RuntimeTask("Add these", attachments=[PNG, PDF, *heard])
    state, first = await talk.turn(home, task, RICH[home]("HOME"), "Three and seven.")
    assert state is RunState.COMPLETED
    assert (await talk.turn(home, "Go on", EMPTY[home], EMPTY[home], EMPTY[home]))[0] is RunState.FAILED

    state, second = await talk.turn(away, "And now?", RICH[away]("AWAY"), "Still three.")
    assert state is RunState.COMPLETED
    for request in second:
        assert "HOME" not in json.dumps(request)
        assert "out of paper" in json.dumps(request)
    assert "AWAY" in json.dumps(second[-1])

    state, third = await talk.turn(home, "And here?", "Three.")
    assert state is RunState.COMPLETED
    left, found = first[-1][WORDS[home]], third[-1][WORDS[home]]
    assert marks(RICH[home]("HOME")) <= marks(left)
    assert found[: len(left)] == left
    assert "AWAY" not in json.dumps(found)
    await store.aclose()
