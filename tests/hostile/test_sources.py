"""What a reply says it rests on is ``sources``, on every wire, streamed and whole, in results and in stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clients import CLIENTS
from raw_server import http, raw_server
from test_withheld import sse

import loom
from loom.safety.sources import each_once
from loom.testing.scripted import ScriptedProvider
from loom.types import ChatMessage, ChatResponse, Role, Source, StopReason

A, B = "https://a.example/1", "https://b.example/2"


def chat(streamed: bool, message: Any, **beside: Any) -> bytes:
    if not streamed:
        said = {"role": "assistant", "content": "Well", **message}
        return json.dumps({**beside, "choices": [{"message": said, "finish_reason": "stop"}]}).encode()
    first = {"choices": [{"index": 0, "delta": {"content": "Well"}}], **beside}
    last = {"choices": [{"index": 0, "delta": message, "finish_reason": "stop"}], **beside}
    return sse(first, last) + b"data: [DONE]\n\n"


def gemini(streamed: bool, **candidate: Any) -> bytes:
    content = {"role": "model", "parts": [{"text": "Well"}]}
    if not streamed:
        return json.dumps(
            {"candidates": [{"content": content, "finishReason": "STOP", **candidate}]}
        ).encode()
    return sse(
        {"candidates": [{"content": content}]}, {"candidates": [{"finishReason": "STOP", **candidate}]}
    )


def anthropic(streamed: bool, *blocks: Any) -> bytes:
    head: dict[str, Any] = {"type": "message", "role": "assistant", "model": "m", "content": []}
    if not streamed:
        return json.dumps({**head, "content": blocks, "stop_reason": "end_turn"}).encode()
    events: list[Any] = [{"type": "message_start", "message": head}]
    for index, block in enumerate(blocks):
        begun = {name: value for name, value in block.items() if name != "citations"}
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [
            {
                "type": "content_block_delta",
                "index": index,
                "delta": {"type": "citations_delta", "citation": cited},
            }
            for cited in block.get("citations", ())
        ]
        events.append({"type": "content_block_stop", "index": index})
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    return sse(*events, end, {"type": "message_stop"})


def responses(streamed: bool, *annotations: Any, **beside: Any) -> bytes:
    piece = {"type": "output_text", "text": "Well", "annotations": list(annotations)}
    message = {"type": "message", "id": "m1", "role": "assistant", "content": [piece]}
    action = {"type": "search", "sources": [{"type": "url", "url": B}]}
    search = {"type": "web_search_call", "id": "ws", "status": "completed", "action": action}
    whole = {"id": "r", "status": "completed", "output": [search, message], **beside}
    return sse({"type": "response.completed", "response": whole}) if streamed else json.dumps(whole).encode()


CITED = {
    "type": "web_search_result_location",
    "url": A,
    "title": "One",
    "cited_text": "cited",
    "encrypted_index": "x",
}
FOUND = {
    "type": "web_search_result",
    "url": B,
    "title": "Two",
    "encrypted_content": "secret",
    "page_age": None,
}
SEARCHED = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [FOUND]}
PAGE = {"type": "web_fetch_result", "url": B, "content": {"type": "document", "title": "Two"}}
FETCHED = {"type": "web_fetch_tool_result", "tool_use_id": "f", "content": PAGE}
WELL = {"type": "text", "text": "Well"}
TWO = (Source(A, "One"), Source(B, "Two"))
PLAIN = (Source(A), Source(B))

CASES: dict[str, tuple[str, Any, tuple[Source, ...]]] = {
    "chat citations": ("openai_chat", lambda s: chat(s, {}, citations=[A, B]), PLAIN),
    "chat citations of a message": ("openai_chat", lambda s: chat(s, {"citations": [A, B]}), PLAIN),
    "chat search results": (
        "openai_chat",
        lambda s: chat(
            s,
            {},
            citations=[A, B],
            search_results=[
                {"title": "One", "url": A, "snippet": "s", "date": None},
                {"title": "Two", "url": B},
            ],
        ),
        (Source(A, "One", "s"), Source(B, "Two")),
    ),
    "chat annotations": (
        "openai_chat",
        lambda s: chat(
            s,
            {
                "annotations": [
                    {"type": "url_citation", "url_citation": {"url": A, "title": "One", "start_index": 0}},
                    {"type": "url_citation", "url": B, "title": "Two"},
                ]
            },
        ),
        TWO,
    ),
    "chat web search": (
        "openai_chat",
        lambda s: chat(s, {}, web_search=[{"title": "One", "link": A, "content": "c"}]),
        (Source(A, "One", "c"),),
    ),
    "chat search info": (
        "openai_chat",
        lambda s: chat(s, {}, search_info={"search_results": [{"title": "One", "url": A}]}),
        (Source(A, "One"),),
    ),
    "chat tools run there": (
        "openai_chat",
        lambda s: chat(
            s,
            {
                "executed_tools": [
                    {"search_results": {"results": [{"title": "One", "url": A, "content": "c"}]}}
                ]
            },
        ),
        (Source(A, "One", "c"),),
    ),
    "chat references": (
        "openai_chat",
        lambda s: chat(
            s,
            {
                "content": [
                    {"type": "text", "text": "" if s else "Well"},
                    {"type": "tool_reference", "tool": "web_search", "title": "One", "url": A},
                ]
            },
        ),
        (Source(A, "One"),),
    ),
    "gemini grounding": (
        "gemini",
        lambda s: gemini(
            s,
            groundingMetadata={
                "groundingChunks": [
                    {"web": {"uri": A, "title": "One"}},
                    {"retrievedContext": {"uri": B, "title": "Two", "text": "t"}},
                ]
            },
        ),
        (Source(A, "One"), Source(B, "Two", "t")),
    ),
    "gemini citations": (
        "gemini",
        lambda s: gemini(s, citationMetadata={"citationSources": [{"uri": A, "startIndex": 1}, {"uri": B}]}),
        PLAIN,
    ),
    "gemini pages": (
        "gemini",
        lambda s: gemini(
            s, urlContextMetadata={"urlMetadata": [{"retrievedUrl": A, "urlRetrievalStatus": "x"}]}
        ),
        (Source(A),),
    ),
    "anthropic citations": (
        "anthropic",
        lambda s: anthropic(s, SEARCHED, {**WELL, "citations": [CITED]}),
        (Source(B, "Two"), Source(A, "One", "cited")),
    ),
    "anthropic documents": (
        "anthropic",
        lambda s: anthropic(
            s,
            {
                **WELL,
                "citations": [{"type": "char_location", "document_title": "Book", "cited_text": "line"}],
            },
        ),
        (Source("", "Book", "line"),),
    ),
    "anthropic pages": ("anthropic", lambda s: anthropic(s, FETCHED, WELL), (Source(B, "Two"),)),
    "responses annotations": (
        "openai_responses",
        lambda s: responses(
            s, {"type": "url_citation", "url": A, "title": "One", "start_index": 0, "end_index": 3}
        ),
        (Source(B), Source(A, "One")),
    ),
    "responses files": (
        "openai_responses",
        lambda s: responses(s, {"type": "file_citation", "file_id": "f", "filename": "a.pdf", "index": 0}),
        (Source(B), Source("", "a.pdf")),
    ),
    "responses citations": (
        "openai_responses",
        lambda s: responses(s, citations=[A, B]),
        (Source(B), Source(A)),
    ),
    "nothing to cite": (
        "openai_chat",
        lambda s: chat(s, {"annotations": [None, 7, {}]}, citations=[None, {}, ""]),
        (),
    ),
    "words nobody knows": (
        "gemini",
        lambda s: gemini(s, groundingMetadata={"groundingChunks": [None, {"web": 1}]}),
        (),
    ),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_review_g8_sources_of_a_reply(case: Any, streamed: bool, tmp_path: Path) -> None:
    wire, write, expected = case
    kind = "text/event-stream" if streamed else "application/json"
    store = loom.SqliteSessionStore(tmp_path / "s.db")
    async with (
        raw_server(lambda _: http(write(streamed), kind=kind)) as server,
        CLIENTS[wire](server.url) as provider,
    ):
        session = loom.Agent(model=provider, session_store=store).session("s")
        result = await (session.start("Hello") if streamed else session.run("Hello"))
    assert (result.output, result.sources) == ("Well", expected)
    assert result.messages[-1].sources == expected
    again = loom.SqliteSessionStore(tmp_path / "s.db").load_transcript(result.run_id)
    assert again is not None
    assert msgspec.convert(again.messages[-1], ChatMessage).sources == expected


def test_a_source_is_told_once_with_all_that_is_known_of_it() -> None:
    told = [
        Source(A),
        Source("", "Book"),
        Source(A, "One"),
        Source(A, "Other", "text"),
        Source("", "Book", "line"),
    ]
    assert each_once(told) == (Source(A, "One", "text"), Source("", "Book", "line"))


async def test_sources_of_any_provider_are_kept_when_they_can_be() -> None:
    odd: Any = (Source("https://a.example/\ud83d"), "text", Source(7), Source(B))  # type: ignore[arg-type]
    reply = ChatResponse(ChatMessage(Role.ASSISTANT, "Well", sources=odd), stop_reason=StopReason.STOP)
    result = await loom.Agent(model=ScriptedProvider([reply])).run("Hello")
    assert result.sources == (Source("https://a.example/\ufffd"), Source(B))


async def test_sources_are_sent_to_no_service() -> None:
    reply = ChatMessage(Role.ASSISTANT, "Well", sources=(Source(A, "One"),))
    for wire, client in CLIENTS.items():
        bodies: list[bytes] = []

        def answer(request: bytes, wire: str = wire, bodies: list[bytes] = bodies) -> Any:
            bodies.append(request)
            return http(b"{}", kind="application/json")

        async with raw_server(answer) as server, client(server.url) as provider:
            with pytest.raises(loom.errors.LoomError):
                await provider.chat([ChatMessage(Role.USER, "u"), reply, ChatMessage(Role.USER, "v")])
        assert A.encode() not in bodies[0]
